"""Displays of explanations."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, Any

from vtcav.results import words
from vtcav.results.effect_tables import of_pictures
from vtcav.results.figures.protocols import ExplainedClass, ExplainedImage
from vtcav.results.notebook.display import MOST_ROWS, Cell, Display, Figure, Viewer, cell
from vtcav.results.notebook.erasure import before_and_after
from vtcav.results.notebook.pictures import examples, overlay, picture, viewer
from vtcav.results.reading import best_first, read_first
from vtcav.results.verdicts import reading_place
from vtcav.results.words import count, value

if TYPE_CHECKING:
    import pandas as pd


_MOST_MAPS = 11
_MOST_VIEWERS = 3
_VOLUME = 4  # axes of its slices
_MOST_CLASSES = 4
_MOST_SAID = 3
_MARKS = {words.NS: " ns", words.NOT_SEPARATED: f" {words.NOT_SEPARATED}"}


def local_html(explanation: ExplainedImage) -> str:
    """Return the display of an explained image."""
    table = explanation.attributions
    classes = table.drop_duplicates("class_index")
    shown = classes.head(_MOST_CLASSES)
    best = explanation.predictions.head(3)
    predicted = [
        f"{name} {value(float(p))}"
        for name, p in zip(best["class_name"], best["probability"], strict=True)
    ]
    notes = [
        "Number: the share of the best class's logit difference that the concept accounts for; "
        "plot() draws all of it."
    ]
    if found := words.not_significant(table, explanation.provenance.null_cavs):
        notes.append(f"ns: not significant. {found}.")
    if (more := len(classes) - len(shown)) > 0:
        notes.insert(0, f"{count(more, 'more class', 'more classes')} not shown.")
    notes += filter(None, [explanation.provenance.shares_note])
    notes += explanation.provenance.picture_notes
    first = read_first(explanation.best_layers, explanation.layers)
    groups = best_first(table, explanation.best_layers).groupby(["layer", "concept"], sort=False)
    return Display(
        title=f"Explanation of {explanation.image}",
        lines=[
            f"Predicted: {'; '.join(predicted)}",
            *explanation.sentences()[:_MOST_SAID],
            *filter(None, [first]),
        ],
        figures=_maps(explanation, groups),
        viewers=_viewers(explanation, groups),
        header=["layer", "concept", *map(str, shown["class_name"]), "presence", "note"],
        rows=[
            _local_row(group, list(shown["class_index"])) for _, group in list(groups)[:MOST_ROWS]
        ],
        total=len(groups),
        notes=notes,
    ).html()


def _maps(explanation: ExplainedImage, groups: Any) -> list[Figure]:
    """Return the picture, and the maps of the largest attributions in the order of the layers."""
    if explanation.picture.ndim == _VOLUME:
        return _erased(explanation)
    maps = [
        overlay(explanation.picture, explanation.box, explanation.concept_map(*at), text)
        for at, text in _largest_maps(explanation, groups, _MOST_MAPS)
    ]
    return [picture(explanation.picture, "the image"), *_erased(explanation), *maps]


def _viewers(explanation: ExplainedImage, groups: Any) -> list[Viewer]:
    """Return the slices of a volume, and the maps of the largest attributions over them."""
    slices, box = explanation.picture, explanation.box
    if slices.ndim != _VOLUME:
        return []
    maps = [
        viewer(slices, box, explanation.concept_map(*at), text)
        for at, text in _largest_maps(explanation, groups, _MOST_VIEWERS)
    ]
    return [viewer(slices, box, None, "the volume"), *maps]


def _largest_maps(
    explanation: ExplainedImage, groups: Any, most: int
) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield layer and concept of the largest attributions, by layer, with a caption."""
    largest = groups["attribution"].max()[groups["separated"].first()]
    chosen = set(largest.sort_values(ascending=False, kind="stable").index[:most])
    for layer, concept in product(explanation.layers, explanation.concepts):
        if (layer, concept) in chosen:
            yield (layer, concept), f"{concept} at layer {layer}"


def _erased(explanation: ExplainedImage) -> list[Figure]:
    """Return the picture without the concepts whose erasure changes most."""
    if not explanation.shows_erased:
        return []
    effects = of_pictures(explanation.effects)
    found = effects[effects["area"] > 0].drop_duplicates("concept")
    rows = sorted(found.dropna(subset="drop").to_dict("records"), key=reading_place)
    return [
        figure
        for concept in [str(row["concept"]) for row in rows[:_MOST_SAID]]
        for figure in before_and_after(explanation.erased(concept), f"“{concept}”")
    ]


def _local_row(group: pd.DataFrame, classes: list[int]) -> list[Cell]:
    by_class = group.drop_duplicates("class_index").set_index("class_index").loc[classes]
    numbers = [
        cell(float(row.attribution), bar=True, mark=_MARKS.get(_verdict(row), ""))
        for row in _rows(by_class)
    ]
    last = cell(float(group["presence"].iloc[0])), cell(words.notes_by_class(group))
    return [cell(group["layer"].iloc[0]), cell(group["concept"].iloc[0]), *numbers, *last]


def _verdict(row: Any) -> str:
    return words.verdict(float(row.q_value), separated=bool(row.separated))


def _test(row: Any, null_cavs: int, tests: int) -> str:
    why, about = _verdict(row), words.as_much(row.p_value, row.q_value, null_cavs, tests, row.note)
    return about if why in about else f"{why}: {about}"


def global_html(explanation: ExplainedClass) -> str:
    """Return the display of an explained class."""
    summary = explanation.summary()
    tests = int(summary["p_value"].notna().sum())
    rows = [
        [
            cell(row.layer),
            cell(row.concept),
            cell(float(row.mean), bar=True),
            cell(words.interval(row.ci_low, row.ci_high)),
            cell(words.interval(row.cav_low, row.cav_high)),
            cell(_test(row, explanation.provenance.null_cavs, tests)),
            cell(float(row.presence)),
            cell(row.note),
        ]
        for row in _rows(best_first(summary, explanation.best_layers).head(MOST_ROWS))
    ]
    return Display(
        title=f"Class {explanation.class_name}",
        lines=[
            f"{count(explanation.used, 'image')} used, {len(explanation.skipped)} left out",
            *(verdict.sentence for verdict in explanation.verdicts()[:_MOST_SAID]),
            *filter(None, [read_first(explanation.best_layers, explanation.layers)]),
        ],
        figures=[*examples(explanation.thumbnails, explanation.concepts), *_without(explanation)],
        header=[
            "layer",
            "concept",
            "mean",
            "other images",
            "other examples",
            "test",
            "presence",
            "note",
        ],
        rows=rows,
        total=len(summary),
        notes=[
            "Mean attribution over images; 95 % intervals for other images of the kind and for "
            "other examples of the concepts. Pictures: examples of the concepts. plot() draws it.",
            *filter(None, [explanation.provenance.shares_note]),
            *explanation.provenance.picture_notes,
        ],
    ).html()


def _without(explanation: ExplainedClass) -> list[Figure]:
    """Return an image without each of the first concepts."""
    first = {picture.concept: picture for picture in reversed(explanation.erased)}
    shown = [v.concept for v in explanation.verdicts() if v.concept in first][:_MOST_SAID]
    return [f for concept in shown for f in before_and_after(first[concept], f"“{concept}”")]


def local_text(explanation: ExplainedImage) -> str:
    """Return an explanation in one line."""
    table = explanation.attributions
    best, *_ = _rows(explanation.predictions)
    classes = table["class_index"].nunique()
    text = (
        f"LocalExplanation({explanation.image!r}: {best.class_name} {value(best.probability)}; "
        f"{_size(explanation)}, {count(classes, 'class', 'classes')}"
    )
    for top in _largest(table, "attribution"):
        text += f"; most: {top.concept} for {top.class_name} at layer {top.layer!r} "
        text += value(top.attribution)
    return f"{text})"


def global_text(explanation: ExplainedClass) -> str:
    """Return an explained class in one line, which computes nothing, however many images."""
    return (
        f"GlobalExplanation({explanation.class_name!r}: {count(explanation.used, 'image')}, "
        f"{len(explanation.skipped)} left out; {_size(explanation)})"
    )


def _size(explanation: ExplainedImage | ExplainedClass) -> str:
    layers, concepts = len(explanation.layers), len(explanation.concepts)
    return f"{count(layers, 'layer')}, {count(concepts, 'concept')}"


def _largest(table: pd.DataFrame, column: str) -> list[Any]:
    """Return the row of the largest number; none where all are missing."""
    return _rows(table.dropna(subset=column).nlargest(1, column))


def _rows(table: pd.DataFrame) -> list[Any]:
    return list(table.itertuples(index=False))
