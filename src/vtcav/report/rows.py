"""What the report says of a concept at a layer: the summary of a class, and its verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vtcav.diagnostics.levels import BAD, FINE
from vtcav.results.explanation import GlobalExplanation
from vtcav.results.provenance import Provenance
from vtcav.results.words import SIGNIFICANTLY, interval, value, verdict

if TYPE_CHECKING:
    import pandas as pd

    from vtcav.diagnostics.result import Diagnostics

__all__ = ["NOT_DIAGNOSED", "ClassPart", "Row", "Trust", "class_part", "records"]

NOT_DIAGNOSED = "not diagnosed"


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table, missing numbers as NaN."""
    return [{str(key): cell for key, cell in row.items()} for row in table.to_dict("records")]


class Trust:
    """The level of every concept at every layer, and the sentence that decides it.

    Args:
        diagnostics: None where nobody has looked.

    Attributes:
        rows: The summary of the diagnostics.
    """

    def __init__(self, diagnostics: Diagnostics | None) -> None:
        self.rows = [] if diagnostics is None else records(diagnostics.summary())
        self._of = None if diagnostics is None else diagnostics.provenance
        self._found = {(row["layer"], row["concept"]): row for row in self.rows}

    def about(self, provenance: Provenance) -> Trust:
        """Return the trust in the concepts of an explanation.

        Diagnostics say nothing of a concept of the same name that was learned from other images,
        or by another network.
        """
        if self._of is None or self._of.model["fingerprint"] != provenance.model["fingerprint"]:
            return Trust(None)
        learned = {c.name: (c.examples, c.negatives) for c in self._of.concepts}
        same = {
            c.name for c in provenance.concepts if learned.get(c.name) == (c.examples, c.negatives)
        }
        own = Trust(None)
        own.rows = [row for row in self.rows if row["concept"] in same]
        own._found = {key: row for key, row in self._found.items() if key[1] in same}
        return own

    def level(self, layer: str, concept: str) -> str:
        """Return "fine", "look", "do not use" or "not diagnosed"."""
        row = self._found.get((layer, concept))
        return NOT_DIAGNOSED if row is None else str(row["level"])

    def reason(self, layer: str, concept: str) -> str:
        """Return the sentence that decides the level; empty where all is fine or unknown."""
        row = self._found.get((layer, concept))
        return "" if row is None or row["level"] == FINE else str(row["meaning"])

    def count(self, level: str) -> int:
        """Return how many concepts, over all layers, are of a level."""
        return sum(row["level"] == level for row in self.rows)


@dataclass(frozen=True)
class Row:
    """A concept at a layer, for a class."""

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
    level: str
    reason: str
    note: str
    images: tuple[float, ...]

    @property
    def significant(self) -> bool:
        """Whether it stands out from CAVs of random images."""
        return self.verdict == SIGNIFICANTLY

    @property
    def claimed(self) -> bool:
        """Whether the report states it as a finding: significant, and usable as far as is known."""
        return self.significant and self.level != BAD

    @property
    def certainty(self) -> str:
        """How certain the mean is, in words."""
        parts = [f"q = {value(self.q)}"]
        if others := interval(*self.ci):
            parts.append(f"95 % interval for other images {others}")
        if others := interval(*self.cav):
            parts.append(f"for other examples {others}")
        parts.append(f"concepts of random images get {value(self.null_mean)}")
        return "; ".join(parts)


@dataclass(frozen=True)
class ClassPart:
    """A class explained: its rows, and what its images say."""

    number: int
    name: str
    layers: tuple[str, ...]
    concepts: tuple[str, ...]
    used: int
    skipped: tuple[tuple[str, str], ...]
    otherwise: int
    rows: tuple[Row, ...]


def class_part(number: int, name: str, explained: GlobalExplanation, trust: Trust) -> ClassPart:
    """Return what the report shows of a class.

    Args:
        number: Its place among the classes of the report, from 0.
        name: As it is called in the report.
        explained: Its explanation.
        trust: In the concepts.
    """
    trust = trust.about(explained.provenance)
    table = explained.attributions
    values = {
        key: tuple(group["attribution"].tolist())
        for key, group in table.groupby(["layer", "concept"], sort=False)
    }
    rows = tuple(
        Row(
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
            level=trust.level(layer, concept),
            reason=trust.reason(layer, concept),
            note=str(row["note"]),
            images=values[layer, concept],
        )
        for row in records(explained.summary())
    )
    images = explained.images
    used = images[images["used"].astype(bool)]
    return ClassPart(
        number=number,
        name=name,
        layers=explained.layers,
        concepts=explained.concepts,
        used=len(used),
        skipped=tuple((skip.name, skip.reason) for skip in explained.skipped),
        otherwise=int((used["predicted_class"] != explained.class_name).sum()),
        rows=rows,
    )
