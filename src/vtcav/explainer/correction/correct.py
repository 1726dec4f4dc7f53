"""Correcting a network: what is taken out of it, learned in rounds, and what that changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import isnan
from typing import NamedTuple

import pandas as pd

from vtcav.diagnostics.diagnosis import diagnose
from vtcav.diagnostics.levels import BAD
from vtcav.errors import CavError, ModelError
from vtcav.explainer.attributor import Attributor
from vtcav.explainer.correction.attributed_task import AttributedTask
from vtcav.explainer.correction.corrected_network import CorrectedNetwork
from vtcav.explainer.correction.corrected_task import INSIDE, CorrectedTask, corrected_classifier
from vtcav.explainer.correction.projections import ConceptRemoval, Direction
from vtcav.explainer.correction.report import CorrectedRow, CorrectionReport, Doubt
from vtcav.explainer.learning.example_passes import Pass
from vtcav.explainer.learning.learn import learn
from vtcav.explainer.runs.image_table import compute_images
from vtcav.explainer.settings import CorrectionSettings, FitSettings
from vtcav.images.concepts import Concept
from vtcav.images.references import ImageRef
from vtcav.method.erasure.joined_map import SEEN, below_seen
from vtcav.method.erasure.place_filter import PlaceFilters
from vtcav.models.base import Model
from vtcav.models.classifier import Classifier
from vtcav.results.bank.cav_bank import CavBank
from vtcav.results.tables.image_groups import with_groups

_NO_PLACES = "what a correction takes out is not in these CAVs: fit again, with a fill"


class Labelled(NamedTuple):
    """Images to measure with.

    Attributes:
        refs: The images, under names that differ.
        classes: The index of each one's class.
        groups: The group of each image by its name; empty where every image is its own.
    """

    refs: Sequence[ImageRef]
    classes: Sequence[int]
    groups: Mapping[str, str]


def correct_network(
    attributor: Attributor,
    concepts: Sequence[str],
    settings: CorrectionSettings,
    examples: Mapping[str, Concept],
    images: Labelled | None,
    *,
    progress: bool | None = None,
) -> CorrectedNetwork:
    """Return a network without concepts.

    Args:
        attributor: The network, and all of its concepts.
        concepts: Those to take out.
        settings: How.
        examples: The images of the concepts, for rounds after the first.
        images: Images to measure with; None measures nothing.
        progress: Whether to show progress bars.

    Raises:
        CavError: For a concept that is unknown, not seen, or not to be used.
        ModelError: For a network that cannot be copied.
    """
    layer = settings.layer or _best_layer(attributor.cavs, concepts)
    doubts = tuple(_doubts(attributor.cavs, concepts, layer, anyway=settings.anyway))
    places = _places(attributor.cavs, concepts, layer)
    if settings.rounds > 1 and (unknown := [name for name in concepts if name not in examples]):
        raise CavError(
            f"rounds after the first learn from the examples of {_named(unknown)}, which saved "
            "CAVs do not hold: give examples and negatives, call fit in this process, or ask for "
            "rounds=1"
        )
    own = {"concepts": list(concepts), **vars(settings), "layer": layer}
    report = CorrectionReport(
        concepts=tuple(concepts),
        layer=layer,
        when=settings.when,
        seen=(_seen(places, concepts),),
        doubts=doubts,
        skipped=(),
        provenance=attributor.provenance({"correction": own}),
        _rows=pd.DataFrame(columns=CorrectedRow._fields),
    )
    fixed = _fixed(attributor.model, report, [Direction.of(places)])
    for _ in range(settings.rounds - 1):
        again = _again(attributor, fixed, [examples[name] for name in concepts], progress)
        if again is None:
            break
        fixed = again
    if images is None:
        return fixed
    return _measured(attributor, fixed, images, progress, attributions=settings.attributions)


def _best_layer(cavs: CavBank, concepts: Sequence[str]) -> str:
    """Return the layer that sees the concepts best: by the least of them, the later of equals."""
    ks = [cavs.names.index(name) for name in concepts]
    seen = {layer: float(found.seen[ks].amin()) for layer, found in cavs.layers.items()}
    known = {layer: value for layer, value in seen.items() if not isnan(value)}
    if not known:
        raise CavError(_NO_PLACES)
    return max(reversed(known), key=known.__getitem__)


def _doubts(cavs: CavBank, concepts: Sequence[str], layer: str, *, anyway: bool) -> Iterator[Doubt]:
    """Yield what diagnostics say of the concepts.

    Raises:
        CavError: For a concept that is not to be used, unless it is taken out anyway.
    """
    table = diagnose(cavs.select([layer])).summary().set_index("concept")
    for name in concepts:
        level, meaning = table.loc[name, ["level", "meaning"]]
        if level == BAD and not anyway:
            raise CavError(
                f"diagnostics say of {name!r} at layer {layer!r}: do not use. {meaning} What would "
                "be taken out might be something else: give better examples or another layer, or "
                "anyway=True (--anyway) takes it out all the same, which the report then says"
            )
        yield Doubt(name, str(level), str(meaning))


def _places(cavs: CavBank, concepts: Sequence[str], layer: str) -> PlaceFilters:
    """Return the place filters of concepts, which the layer sees.

    Raises:
        CavError: When it does not see one, or the bank has none.
    """
    places = cavs.of_concepts(concepts).layers[layer].places
    if places is None or places.pattern is None:
        raise CavError(_NO_PLACES)
    for name, seen in _seen(places, concepts).items():
        if seen < SEEN:
            others = [
                repr(other)
                for other, found in cavs.layers.items()
                if float(found.seen[cavs.names.index(name)]) >= SEEN
            ]
            raise CavError(
                f"layer {layer!r} does not see {name!r} ({below_seen(seen)}), "
                "so it cannot be taken out there; "
                + (f"choose {' or '.join(others)}" if others else "give more and better examples")
            )
    return places


def _seen(places: PlaceFilters, concepts: Sequence[str]) -> dict[str, float]:
    return dict(zip(concepts, places.seen.tolist(), strict=True))


def _fixed(model: Model, report: CorrectionReport, rounds: list[Direction]) -> CorrectedNetwork:
    """Return a corrected network."""
    if not isinstance(model, Classifier):
        raise ModelError(f"expected a vtcav.Classifier to correct, got {type(model).__name__}")
    removal = ConceptRemoval(rounds, report.when, model.layout(report.layer))
    return CorrectedNetwork(model.module, report.layer, removal, report)


def _again(
    attributor: Attributor,
    fixed: CorrectedNetwork,
    examples: Sequence[Concept],
    progress: bool | None,
) -> CorrectedNetwork | None:
    """Return a network corrected once more; None where its layer sees no concept any more.

    What is left of a concept is learned from the corrected network as the concept was.
    """
    name = INSIDE + fixed.layer
    run = Pass(
        corrected_classifier(attributor.model, fixed),
        [name],
        attributor.settings.images,
        erasure=True,
    )
    # learned from images, also where the direction was given
    concepts = [replace(one, directions={}, redrawn={}, origin="", texts=()) for one in examples]
    fit = FitSettings(min_examples=1, null_cavs=0, bootstraps=0)
    bank = learn(run, concepts, fit, shown=progress)
    places = bank.layers[name].places
    assert places is not None
    left = [one.name for one, seen in zip(concepts, places.seen, strict=True) if seen >= SEEN]
    if not left:
        return None
    places = bank.of_concepts(left).layers[name].places
    assert places is not None
    report = replace(fixed.report, seen=(*fixed.report.seen, _seen(places, left)))
    return _fixed(attributor.model, report, [*fixed.removal.directions, Direction.of(places)])


def _measured(
    attributor: Attributor,
    fixed: CorrectedNetwork,
    images: Labelled,
    progress: bool | None,
    *,
    attributions: bool,
) -> CorrectedNetwork:
    """Return a corrected network whose report says what changes for some images."""
    classes = {ref.name: label for ref, label in zip(images.refs, images.classes, strict=True)}
    task = CorrectedTask(attributor, False, fixed, classes)
    done = compute_images(task, images.refs, shown=progress)
    rows = with_groups(done.rows().frame(), images.groups)
    fixed.report = replace(fixed.report, skipped=tuple(done.skipped), _rows=rows)
    if attributions:
        own = AttributedTask(attributor, False, fixed, classes)
        own.before.measure_precision_at(images.refs, images.classes[0])
        read = [ref for ref in images.refs if ref.name not in {s.name for s in done.skipped}]
        rows = compute_images(own, read, shown=progress).rows().frame()
        fixed.report = replace(fixed.report, _attributions=with_groups(rows, images.groups))
    return fixed


def _named(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
