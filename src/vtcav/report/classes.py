"""The part of the report on a class: its summary, with verdicts and levels."""

from __future__ import annotations

from dataclasses import dataclass

from vtcav.diagnostics.levels import BAD
from vtcav.report.trust import Trust
from vtcav.results.explanation import GlobalExplanation
from vtcav.results.words import NOT_SEPARATED, SIGNIFICANTLY, as_much, interval, value, verdict

__all__ = ["ClassPart", "ClassRow", "class_part"]


@dataclass(frozen=True)
class ClassRow:
    """The attribution of a concept at a layer to a class."""

    class_number: int
    class_name: str
    layer: str
    concept: str
    n: int
    mean: float
    ci: tuple[float, float]
    cav: tuple[float, float]
    null_mean: float
    effect: float
    p: float
    q: float
    verdict: str
    as_much: str
    level: str
    reason: str
    note: str
    images: tuple[float, ...]

    @property
    def significant(self) -> bool:
        """Whether it stands out from the CAVs of random images."""
        return self.verdict == SIGNIFICANTLY

    @property
    def claimed(self) -> bool:
        """Whether the report states it as a finding: significant, and not ruled out."""
        return self.significant and self.level != BAD

    @property
    def certainty(self) -> str:
        """How certain the mean is, in words."""
        images, examples = interval(*self.ci), interval(*self.cav)
        parts = [
            f"{self.as_much} (q = {value(self.q)})",
            images and f"95 % interval for other images {images}",
            examples and f"for other examples {examples}",
            f"concepts of random images get {value(self.null_mean)}",
        ]
        return "; ".join(filter(None, parts))

    @property
    def in_words(self) -> str:
        """The chart of the row, in words."""
        if self.verdict == NOT_SEPARATED:
            return f"{self.concept}: not separated from its negatives at this layer"
        images, examples = interval(*self.ci), interval(*self.cav)
        parts = [
            f"{self.concept}: mean {value(self.mean)}, {self.verdict}",
            self.as_much if self.as_much != self.verdict else "",
            images and f"for other images {images}",
            examples and f"for other examples {examples}",
        ]
        return "; ".join(filter(None, parts))


@dataclass(frozen=True)
class ClassPart:
    """A class explained.

    Attributes:
        number: Its position in the report, from 0.
        name: Its name in the report.
        layers: Layer names.
        used: How many images were used.
        skipped: The images that could not be read, and why.
        otherwise: How many images the network predicts as another class.
        rows: One per layer and concept.
    """

    number: int
    name: str
    layers: tuple[str, ...]
    used: int
    skipped: tuple[tuple[str, str], ...]
    otherwise: int
    rows: tuple[ClassRow, ...]


def class_part(number: int, name: str, explained: GlobalExplanation, trust: Trust) -> ClassPart:
    """Return the part of the report on a class.

    Args:
        number: Its position among the classes of the report, from 0.
        name: Its name in the report.
        explained: Its explanation.
        trust: In the concepts.
    """
    trust = trust.about(explained.provenance)
    table = explained.attributions
    values = {
        key: tuple(group["attribution"].tolist())
        for key, group in table.groupby(["layer", "concept"], sort=False)
    }
    summary = explained.summary()
    tests = int(summary["p_value"].notna().sum())
    rows = tuple(
        ClassRow(
            class_number=number,
            class_name=name,
            layer=(layer := row["layer"]),
            concept=(concept := row["concept"]),
            n=int(row["n"]),
            mean=float(row["mean"]),
            ci=(float(row["ci_low"]), float(row["ci_high"])),
            cav=(float(row["cav_low"]), float(row["cav_high"])),
            null_mean=float(row["null_mean"]),
            effect=float(row["effect"]),
            p=float(row["p_value"]),
            q=float(row["q_value"]),
            verdict=verdict(row["q_value"], separated=bool(row["separated"])),
            as_much=as_much(
                row["p_value"],
                row["q_value"],
                explained.provenance.null_cavs,
                tests,
                row["note"],
            ),
            level=trust.level(layer, concept),
            reason=trust.reason(layer, concept),
            note=str(row["note"]),
            images=values[layer, concept],
        )
        for row in summary.to_dict("records")
    )
    images = explained.images
    used = images[images["used"].astype(bool)]
    return ClassPart(
        number=number,
        name=name,
        layers=explained.layers,
        used=len(used),
        skipped=tuple((skip.name, skip.reason) for skip in explained.skipped),
        otherwise=int((used["predicted_class"] != explained.class_name).sum()),
        rows=rows,
    )
