"""Files of a finished experiment: tables, figures, summary and one self-contained page."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from vtcav.evaluation.experiment.agreement import COEFFICIENTS, by_seed
from vtcav.evaluation.experiment.figures import (
    TITLES,
    plot_layers,
    plot_maps,
    plot_points,
    plot_scenes,
    plot_truth,
)
from vtcav.evaluation.experiment.result import Evaluation
from vtcav.evaluation.experiment.view import View
from vtcav.evaluation.metrics import METRICS
from vtcav.files.manifest import save_result, write_table
from vtcav.results.figures.page import save_figure

__all__ = ["HEADER", "headline", "write_report"]

HEADER = (
    "method",
    "Spearman, best layer",
    "median layer",
    "Pearson, best layer",
    "median layer",
    "pairs ordered correctly, best layer",
    "median layer",
)

Table: TypeAlias = tuple[list[str], list[list[str]]]
"""Header and rows."""


def write_report(found: Evaluation, view: View) -> None:
    """Write tables, figures, page and summary, all or nothing; the summary is written last.

    Args:
        found: The experiment's tables and summary.
        view: Images and texts of the page.

    Raises:
        ExplanationError: When they cannot be written.
    """
    tables = {
        "points": found.points,
        "layers": found.layers,
        "seeds": by_seed(found.layers),
        "local": found.local,
        "localisation": found.localisation,
    }

    def write(folder: Path) -> Mapping[str, Any]:
        for name, table in tables.items():
            write_table(folder / name, table)
        captions = {}
        for name, (caption, draw) in _figures(found, view).items():
            save_figure(draw, folder / f"{name}.png")
            captions[f"{name}.png"] = caption
        page = _page(found, view, {folder / file: text for file, text in captions.items()})
        (folder / found.page.name).write_text(page, encoding="utf-8")
        return found.summary

    save_result(found.folder, "summary", "the results", write)


def _figures(found: Evaluation, view: View) -> dict[str, tuple[str, Callable[[Figure], Figure]]]:
    """Return caption and drawing function of every figure, by its name."""
    points, layers = found.points, found.layers
    figures: dict[str, tuple[str, Callable[[Figure], Figure]]] = {
        "scenes": (view.versions_text, partial(plot_scenes, rows=view.versions)),
        "truth": (
            "The use that the networks make of the cues: the effect of removing one of them.",
            partial(plot_truth, points=points, networks=found.summary["networks"]),
        ),
        "maps": (view.maps_text, partial(plot_maps, trial=view.trial, maps=view.maps)),
        "spearman": (
            "Agreement with the truth by layer; small points are single seeds.",
            partial(plot_layers, layers=layers, coefficient="spearman"),
        ),
        "pearson": (
            "The same with Pearson's coefficient.",
            partial(plot_layers, layers=layers, coefficient="pearson"),
        ),
    }
    for method in found.summary["methods"]:
        figures[f"points_{method}"] = (
            f"{TITLES.get(method, method)}: class means against causal effects, layer by layer; "
            "\u03c1 Spearman, r Pearson, means over seeds. Pale points: networks with small q.",
            partial(plot_points, points=points, layers=layers, method=method),
        )
    return figures


def headline(summary: Mapping[str, Any]) -> list[list[str]]:
    """Return a row for each method: its name and its coefficients, as texts."""
    return [
        [TITLES.get(method, method)]
        + [
            _with_interval(entry[name][which], entry[name][f"{which}_interval"])
            for name in COEFFICIENTS
            for which in ("best_layer", "median_layer")
        ]
        for method, entry in summary["methods"].items()
    ]


def _with_interval(value: float | None, interval: Mapping[str, Any]) -> str:
    if value is None:
        return "-"
    if interval["low"] is None:
        return f"{value:.2f}"
    return f"{value:.2f} [{interval['low']:.2f}, {interval['high']:.2f}]"


def _page(found: Evaluation, view: View, captions: Mapping[Path, str]) -> str:
    """Return the page; the template escapes every text."""
    environment = Environment(
        loader=PackageLoader("vtcav.evaluation.experiment"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    summary = found.summary
    return environment.get_template("report.html.jinja").render(
        view=view,
        run=summary["run"],
        headline=(HEADER, headline(summary)),
        figures=[
            (text, base64.b64encode(file.read_bytes()).decode()) for file, text in captions.items()
        ],
        seeds=_table(by_seed(found.layers)),
        layers=_table(found.layers),
        maps=_maps(summary["localisation"]["by_method_cue_layer_q"]),
        local=_table(found.local),
        provenance=json.dumps([summary["run"], summary["versions"]], indent=1),
    )


def _maps(entries: list[dict[str, Any]]) -> Table:
    """Return the table of the metrics of concept maps."""
    metrics, rows = [*METRICS, "empty"], []
    for entry in entries:
        method = TITLES.get(entry["method"], entry["method"])
        numbers = [f"{entry['q']:g}", *(f"{entry[name]:.2f}" for name in metrics)]
        rows.append([method, entry["cue"], entry["layer"], *numbers])
    names = [name.replace("_", " ") for name in metrics]
    return ["maps of", "cue", "layer", "q", *names], rows


def _table(table: pd.DataFrame) -> Table:
    def cell(value: Any) -> str:
        if isinstance(value, float):
            return "-" if value != value else f"{value:.3f}"
        return str(value)

    rows = [[cell(value) for value in row] for row in table.itertuples(index=False, name=None)]
    return [str(name).replace("_", " ") for name in table.columns], rows
