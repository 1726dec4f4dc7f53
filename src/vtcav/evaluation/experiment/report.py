"""Files of a finished experiment: tables, figures, summary and one self-contained page."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from vtcav.evaluation.experiment import figures
from vtcav.evaluation.experiment.agreement import HALF_ABSENT, IMAGE_BY_IMAGE, LAYERS, MEASURES
from vtcav.evaluation.experiment.methods import TITLES
from vtcav.evaluation.experiment.result import Evaluation
from vtcav.evaluation.experiment.unit import Experiment, UnitResult
from vtcav.files.manifest import save_result, write_table
from vtcav.results.figures.page import save_figure


class _Headline(NamedTuple):
    """A table of the head: its coefficients, and what they mean."""

    names: tuple[str, ...]
    note: str


HEADLINES = {
    "Class means: order": _Headline(
        ("spearman", "pearson", "pair_order"),
        "A coefficient that is not defined (all values the same) counts as chance.",
    ),
    "Class means: size": _Headline(
        ("error", "slope", "weaker", "kept"),
        "For values in the unit of the truth: the mean absolute difference from it; the slope of "
        "the line through the points, 1 where sizes are right; the value over the truth for the "
        "weaker tag, with q above 0 and up to 50 %. Points without a value are left out: the "
        "layers do not see the concept.",
    ),
    "Class means: order inside a network and cue": _Headline(
        ("inside",),
        "Spearman's coefficient over the classes of one network and cue, averaged. Differences "
        "between networks and cues, which q alone explains to a large part, do not help here.",
    ),
    "Image by image": _Headline(
        tuple(IMAGE_BY_IMAGE),
        "Spearman's coefficient over the images of one class, network and cue, averaged over "
        "these groups. A group without a coefficient counts as 0.",
    ),
    "Every second image without the cue": _Headline(
        tuple(HALF_ABSENT),
        "Of networks that use the cue: the rank correlation with the effect, which is 0 without "
        "it; how often an image with the cue gets more than one without; and the mean absolute "
        "value without it, in the method's own unit.",
    ),
}
"""The tables of the page's head and of the terminal."""

Figures: TypeAlias = Mapping[str, Callable[[Figure], Figure]]
"""Functions that draw on an empty figure, by name."""


def write_report(
    found: Evaluation, experiment: Experiment, units: Mapping[tuple[int, float], UnitResult]
) -> None:
    """Write tables, figures, page and summary, all or nothing; the summary is written last.

    Args:
        found: The experiment's tables and summary.
        experiment: Supplies the images shown.
        units: Its units by seed and agreement.

    Raises:
        ExplanationError: When they cannot be written.
    """
    names = ("points", "layers", "seeds", "local", "presence", "opposition", "localisation")
    tables = {name: getattr(found, name) for name in names}
    seed = next(iter(units))[0]
    q = min((q for own, q in units if own == seed), key=lambda q: abs(q - 0.75))
    shown = experiment.shown(seed, units[seed, q].weights) | {"seed": seed, "q": q}
    drawings = _figures(found, shown)

    def write(folder: Path) -> Mapping[str, Any]:
        for name, table in tables.items():
            write_table(folder / name, table)
        pictures = {}
        for name, draw in drawings.items():
            file = folder / f"{name}.png"
            save_figure(draw, file)
            pictures[name] = base64.b64encode(file.read_bytes()).decode()
        page = _page(found.summary, shown, tables, pictures)
        (folder / found.page.name).write_text(page, encoding="utf-8")
        return found.summary

    save_result(found.folder, "summary", "the results", write)


def _figures(found: Evaluation, shown: Mapping[str, Any]) -> Figures:
    """Return the figures in the order of the page; their captions are in its template."""
    points, layers, networks = found.points, found.layers, found.summary["networks"]
    return {
        "scenes": partial(figures.plot_scenes, rows=shown["versions"]),
        "truth": partial(figures.plot_truth, points=points, networks=networks),
        "maps": partial(figures.plot_maps, trial=shown["trial"], maps=shown["maps"]),
        "spearman": partial(figures.plot_layers, layers=layers, coefficient="spearman"),
        "pearson": partial(figures.plot_layers, layers=layers, coefficient="pearson"),
    } | {
        f"points_{method}": partial(
            figures.plot_points, points=points, layers=layers, method=method
        )
        for method, entry in found.summary["methods"].items()
        if not entry["control"]
    }


def headlines(summary: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Return the tables of the head by title: a row for each method, with coefficients as texts."""
    shown = dict(LAYERS)
    if len(summary["run"]["seeds"]) == 1:
        del shown["chosen_layer"]
    tables = {}
    for title, (names, _) in HEADLINES.items():
        header = ["method"]
        for name in names:
            first, *others = shown.values()
            header += [f"{MEASURES[name].title}, {first}", *others]
        rows = [
            [TITLES.get(method, method)]
            + [_with_interval(entry.get(name), which) for name in names for which in shown]
            for method, entry in summary["methods"].items()
            if any(name in entry for name in names)
        ]
        if rows:
            tables[title] = pd.DataFrame(rows, columns=header)
    return tables


def _with_interval(entry: Mapping[str, Any] | None, which: str) -> str:
    if entry is None or entry[which] is None:
        return "-"
    interval = entry[f"{which}_interval"]
    if interval["low"] is None:
        return f"{entry[which]:.2f}"
    return f"{entry[which]:.2f} [{interval['low']:.2f}, {interval['high']:.2f}]"


def _page(
    summary: Mapping[str, Any],
    shown: Mapping[str, Any],
    tables: Mapping[str, pd.DataFrame],
    pictures: Mapping[str, str],
) -> str:
    """Return the page; the template escapes every text."""
    environment = Environment(
        loader=PackageLoader("vtcav.evaluation.experiment"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    maps = pd.DataFrame(summary["localisation"]["by_method_cue_layer_q"])
    return environment.get_template("report.html.jinja").render(
        run=summary["run"],
        shown=shown,
        titles=TITLES,
        headlines=headlines(summary),
        meanings={title: own.note for title, own in HEADLINES.items()},
        pictures=pictures,
        tables={**tables, "maps": maps.replace({"method": TITLES})},
        provenance=json.dumps([summary["run"], summary["versions"]], indent=1),
    )
