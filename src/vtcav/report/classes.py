"""The part of the report on a class: its summary, with verdicts and levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vtcav.report.pairs import PairRow, pair_rows
from vtcav.report.rows import AttributionRow, attribution_rows
from vtcav.report.trust import Trust
from vtcav.results.explanation import GlobalExplanation
from vtcav.results.figures.data_uri import data_uri
from vtcav.results.figures.overlay import outlined
from vtcav.results.reading import class_verdicts, misclassified, read_first, reading_order
from vtcav.results.verdicts import Verdict
from vtcav.results.words import distinct_names, short_names

_SIDE = 224


@dataclass(frozen=True)
class ClassPart:
    """An explained class.

    Attributes:
        number: Its position in the report, from 0.
        name: Its name in the report.
        layers: Layer names, those to read first in front.
        read_first: Which layer to read first for each concept, as a sentence; empty for none.
        used: The number of images used.
        skipped: The images that could not be read, and why.
        otherwise: The number of images that the network predicts as another class.
        caution: What is said before the verdicts where these are many; else empty.
        rows: One per layer and concept: the summary, with class_number, class_name, images (the
            attribution of each image, or of 500 drawn at random) and first (whether the layer is
            read first for the concept).
        verdicts: What erasing each concept says; none where nothing was erased.
        erased: Pictures without the concepts, in the order of the verdicts.
        not_apart: Concepts that a layer does not tell apart and a verdict depends on.
    """

    number: int
    name: str
    layers: tuple[str, ...]
    read_first: str
    used: int
    skipped: tuple[tuple[str, str], ...]
    otherwise: int
    caution: str
    rows: tuple[AttributionRow, ...]
    verdicts: tuple[Verdict, ...]
    erased: tuple[ErasedPart, ...]
    not_apart: tuple[PairRow, ...]


@dataclass(frozen=True)
class ErasedPart:
    """What was erased for one verdict.

    Attributes:
        verdict: The verdict.
        images: Name, change of the score, and data URIs of the picture with the region outlined
            and of the picture without it.
    """

    verdict: Verdict
    images: tuple[tuple[str, str, str, str], ...]


def class_part(number: int, name: str, explained: GlobalExplanation, trust: Trust) -> ClassPart:
    """Return the part of the report on a class.

    Args:
        number: Its position among the classes of the report, from 0.
        name: Its name in the report.
        explained: Its explanation.
        trust: The trust in the concepts.
    """
    groups = explained.shown_attributions().groupby(["layer", "concept"])["attribution"]
    by_image = {key: tuple(values) for key, values in groups}
    summary = explained.summary()
    pairs = zip(summary["layer"], summary["concept"], strict=True)
    images: Any = [by_image[pair] for pair in pairs]  # pandas' stubs know no column of tuples
    best = explained.best_layers
    first = (summary["layer"] == summary["concept"].map(dict(best))) & (len(explained.layers) > 1)
    summary = summary.assign(class_number=number, class_name=name, images=images, first=first)
    effects = explained.class_effects()
    found = class_verdicts(explained, name)
    predicted = {
        name if other == explained.class_name else other: n
        for other, n in explained.predicted.items()
    }
    pairs_not_apart = trust.about(explained.provenance).not_apart()
    return ClassPart(
        number=number,
        name=name,
        layers=reading_order(explained.layers, best),
        read_first=read_first(best, explained.layers),
        used=explained.used,
        skipped=tuple((skip.name, skip.reason) for skip in explained.skipped),
        otherwise=sum(n for other, n in predicted.items() if other != name),
        caution=misclassified(name, predicted),
        rows=attribution_rows(summary, explained.provenance, trust),
        verdicts=tuple(found),
        erased=tuple(part for verdict in found if (part := _erased(verdict, explained)).images),
        not_apart=tuple(pair_rows(pairs_not_apart, name, effects, found)),
    )


def _erased(verdict: Verdict, explained: GlobalExplanation) -> ErasedPart:
    shown = [picture for picture in explained.erased if picture.concept == verdict.concept]
    names = distinct_names(short_names([picture.image for picture in shown]))
    images = [
        (
            name,
            ", ".join(filter(None, [picture.change, picture.slice])),
            data_uri(outlined(picture.before, picture.region), _SIDE),
            data_uri(picture.after, _SIDE),
        )
        for name, picture in zip(names, shown, strict=True)
    ]
    return ErasedPart(verdict, tuple(images))
