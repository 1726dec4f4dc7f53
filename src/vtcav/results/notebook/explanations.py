"""Displays of explanations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vtcav.results.notebook.display import MOST_ROWS, Cell, Display, Figure, cell
from vtcav.results.notebook.pictures import examples, overlay, picture
from vtcav.results.words import count, interval, value, verdict

if TYPE_CHECKING:
    import pandas as pd

    from vtcav.results.explanation import GlobalExplanation, LocalExplanation

__all__ = ["global_html", "global_text", "local_html", "local_text"]

_MOST_MAPS = 11
_MOST_CLASSES = 4


def local_html(explanation: LocalExplanation) -> str:
    """Return the display of an explained image."""
    table = explanation.attributions
    classes = list(table["class_index"].unique())
    header = ["layer", "concept", *_class_names(table, classes[:_MOST_CLASSES]), "note"]
    best = explanation.predictions.head(3)
    said = [
        f"{name} {value(float(p))}"
        for name, p in zip(best["class_name"], best["probability"], strict=True)
    ]
    notes = [
        "Number: the share of the best class's rise that the concept accounts for; ns: not "
        "significantly above concepts of random images. plot() draws all of it."
    ]
    if (more := len(classes) - _MOST_CLASSES) > 0:
        notes.insert(0, f"{count(more, 'more class', 'more classes')} not shown.")
    return Display(
        title=f"Explanation of {explanation.image}",
        lines=[f"Predicted: {'; '.join(said)}"],
        figures=_maps(explanation, table),
        header=header,
        rows=_local_rows(table, classes[:_MOST_CLASSES]),
        notes=notes,
    ).html()


def _maps(explanation: LocalExplanation, table: pd.DataFrame) -> list[Figure]:
    """Return the picture, and the maps of the largest attributions in the order of the layers."""
    keys = ["layer", "concept"]
    largest = table.groupby(keys, sort=False)["attribution"].max()
    separated = table.groupby(keys, sort=False)["separated"].first()
    chosen = set(largest[separated].sort_values(ascending=False, kind="stable").index[:_MOST_MAPS])
    shown = [
        overlay(
            explanation.picture,
            explanation.box,
            explanation.concept_map(layer, concept),
            f"{concept} at {layer}",
        )
        for layer in explanation.layers
        for concept in explanation.concepts
        if (layer, concept) in chosen
    ]
    return [picture(explanation.picture, "the image"), *shown]


def _local_rows(table: pd.DataFrame, classes: list[int]) -> list[list[Cell]]:
    groups = list(table.groupby(["layer", "concept"], sort=False))
    rows: list[list[Cell]] = []
    for (layer, concept), group in groups[:MOST_ROWS]:
        by_class = group.drop_duplicates("class_index").set_index("class_index")
        numbers = [_attribution(by_class.loc[index]) for index in classes]
        note = "; ".join(dict.fromkeys(text for text in group["note"] if text))
        rows.append([cell(layer), cell(concept), *numbers, cell(note)])
    return rows + [[]] * (len(groups) - len(rows))


def _attribution(row: Any) -> Cell:
    a = float(row["attribution"])
    said = verdict(float(row["q_value"]), separated=bool(row["separated"]))
    mark = {"not significant": " ns", "not separated": " not separated"}.get(said, "")
    bar = min(max(a, 0.0), 1.0) if a == a else None
    return Cell(f"{value(a)}{mark}", bar, number=True)


def _class_names(table: pd.DataFrame, classes: list[int]) -> list[str]:
    names = table.drop_duplicates("class_index").set_index("class_index")["class_name"]
    return [str(names[index]) for index in classes]


def global_html(explanation: GlobalExplanation) -> str:
    """Return the display of an explained class."""
    summary = explanation.summary()
    images = int(summary["n"].max()) if len(summary) else 0
    lines = [f"{count(images, 'image')} used, {len(explanation.skipped)} left out"]
    rows: list[list[Cell]] = []
    for row in summary.head(MOST_ROWS).to_dict("records"):
        mean = float(row["mean"])
        bar = min(max(mean, 0.0), 1.0) if mean == mean else None
        said = verdict(float(row["q_value"]), separated=bool(row["separated"]))
        rows.append(
            [
                cell(row["layer"]),
                cell(row["concept"]),
                cell(mean, bar=bar),
                cell(interval(float(row["ci_low"]), float(row["ci_high"]))),
                cell(interval(float(row["cav_low"]), float(row["cav_high"]))),
                cell(said),
                cell(row["note"]),
            ]
        )
    return Display(
        title=f"Class {explanation.class_name}",
        lines=lines,
        figures=examples(explanation.thumbnails, explanation.concepts),
        header=["layer", "concept", "mean", "other images", "other examples", "test", "note"],
        rows=rows + [[]] * (len(summary) - len(rows)),
        notes=[
            "Mean attribution over images; 95 % intervals for other images of the kind and for "
            "other examples of the concepts. Pictures: examples of the concepts. plot() draws it."
        ],
    ).html()


def local_text(explanation: LocalExplanation) -> str:
    """Return an explanation in one line."""
    table = explanation.attributions
    best: Any = explanation.predictions.iloc[0]
    classes = table["class_index"].nunique()
    text = (
        f"LocalExplanation({explanation.image!r}: {best['class_name']} "
        f"{value(float(best['probability']))}; {count(len(explanation.layers), 'layer')}, "
        f"{count(len(explanation.concepts), 'concept')}, {count(classes, 'class', 'classes')}"
    )
    if table["attribution"].notna().any():
        top: Any = table.sort_values("attribution", ascending=False).iloc[0]
        text += (
            f"; most: {top['concept']} for {top['class_name']} at {top['layer']} "
            f"{value(float(top['attribution']))}"
        )
    return f"{text})"


def global_text(explanation: GlobalExplanation) -> str:
    """Return an explained class in one line."""
    summary = explanation.summary()
    images = int(summary["n"].max()) if len(summary) else 0
    text = (
        f"GlobalExplanation({explanation.class_name!r}: {count(images, 'image')}, "
        f"{len(explanation.skipped)} left out; {count(len(explanation.layers), 'layer')}, "
        f"{count(len(explanation.concepts), 'concept')}"
    )
    if len(summary) and summary["mean"].notna().any():
        top: Any = summary.sort_values("mean", ascending=False).iloc[0]
        text += f"; most: {top['concept']} at {top['layer']} {value(float(top['mean']))}"
    return f"{text})"
