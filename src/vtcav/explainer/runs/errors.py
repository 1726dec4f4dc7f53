"""The analysis of errors: presence of all concepts in labelled images, wrong against right ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from vtcav.errors import ExplanationError
from vtcav.explainer.attributor import Attributor
from vtcav.explainer.erasing.targets import Targets
from vtcav.explainer.groups import Groups, groups_of
from vtcav.explainer.runs.image_table import compute_images
from vtcav.explainer.runs.presence_task import PresenceTask
from vtcav.explainer.runs.rank_task import RankTask
from vtcav.explainer.runs.ranking import RankRun, with_maps
from vtcav.explainer.settings import ErasureSettings
from vtcav.images.references import ImageRef
from vtcav.results.effect_tables import TOGETHER
from vtcav.results.error_analysis import ErrorAnalysis, ErrorImages, compared
from vtcav.results.words import SIGNIFICANT, distinct_names

_GROUPS = 6  # findings whose images are shown


def analyse_errors(
    attributor: Attributor,
    refs: Sequence[ImageRef],
    classes: Sequence[int],
    run: RankRun,
    *,
    strict: bool,
    groups: Groups | None = None,
) -> ErrorAnalysis:
    """Compare the images that the network gets wrong with those that it gets right.

    Args:
        attributor: The attributor, with all concepts.
        refs: The images, under names that differ.
        classes: The index of each one's class.
        run: How to run; `pictures` wrong images are shown of each finding.
        strict: Whether an unreadable image is an error.
        groups: The groups of images that are alike.

    Raises:
        ImageError: For an image without a group.
        ExplanationError: When the network's scores are not of classes of which one is right.
    """
    task_kind = getattr(attributor.model, "task", "auto")
    if task_kind in ("labels", "regression"):
        raise ExplanationError(
            f"errors are of networks that choose one class; this one's task is {task_kind!r}"
        )
    cavs, names = attributor.cavs, distinct_names(attributor.model.class_names)
    # the layers together find the images of a concept; CAVs without place filters have no such map
    together = Targets.of(cavs) is not None
    layers = {name: TOGETHER if together else cavs.best_layer(name) for name in cavs.names}
    own = Attributor(attributor.model, cavs, attributor.settings, ErasureSettings())
    task = PresenceTask(own, strict, tuple(layers.values()))
    done = compute_images(task, refs, run.engine, run=run.folder, shown=run.progress)
    true = {ref.name: names[i] for ref, i in zip(refs, classes, strict=True)}
    rows = done.rows().frame()
    rows.insert(1, "true_class", rows["image"].map(true))
    by_name = groups_of(true, groups)
    findings = compared(rows.assign(group=rows["image"].map(by_name)) if by_name else rows)
    return ErrorAnalysis(
        layers=layers,
        skipped=tuple(done.skipped),
        shown=tuple(_shown(attributor, refs, rows, findings, run.pictures)),
        provenance=task.provenance(),
        _findings=findings,
        _rows=rows,
    )


def _shown(
    attributor: Attributor,
    refs: Sequence[ImageRef],
    rows: pd.DataFrame,
    findings: pd.DataFrame,
    pictures: int,
) -> Iterator[ErrorImages]:
    """Yield wrong images of the clearest findings with their maps."""
    clear = findings[findings["q_value"] <= SIGNIFICANT].head(_GROUPS if pictures else 0)
    for row in clear.to_dict("records"):
        own = rows[rows["concept"] == row["concept"]]
        wrong = own[own["true_class"] == row["true_class"]]
        wrong = wrong[wrong["predicted_class"] != wrong["true_class"]]
        if row["predicted_class"]:
            wrong = wrong[wrong["predicted_class"] == row["predicted_class"]]
        least = row["auc"] < 1 / 2
        ordered = wrong.sort_values("presence", ascending=least, kind="stable", ignore_index=True)
        task = RankTask.of(attributor, row["concept"], row["layer"], strict=False)
        few = range(min(pictures, len(ordered)))
        keys = ("true_class", "predicted_class", "concept")
        yield ErrorImages(
            **{key: str(row[key]) for key in keys},
            shown=tuple(with_maps(task, refs, ordered, few)),
        )
