"""The files of a finished experiment: tables, figures, summary and one self-contained page."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcav.errors import ExplanationError
from vtcav.evaluation.experiment.agreement import by_seed
from vtcav.evaluation.experiment.figures import (
    TITLES,
    plot_layers,
    plot_maps,
    plot_points,
    plot_scenes,
    plot_truth,
)
from vtcav.files.atomic import replace_files
from vtcav.files.hashing import file_hash
from vtcav.results.figures.page import save_figure

if TYPE_CHECKING:
    import pandas as pd

    from vtcav.evaluation.experiment.evaluate import Evaluation
    from vtcav.evaluation.experiment.view import View

__all__ = ["headline", "write_report"]


def write_report(found: Evaluation, view: View) -> None:
    """Write tables, figures, page and summary, all or nothing; the summary is written last.

    Args:
        found: The experiment's tables and summary.
        view: What the page shows and says of its images.

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
    try:
        with replace_files(found.folder, "summary.json") as staging:
            for name, table in tables.items():
                table.to_csv(staging / f"{name}.csv", index=False)
                table.to_parquet(staging / f"{name}.parquet", index=False, compression="zstd")
            figures = _draw(found, view, staging)
            page = _page(found, view, figures, staging)
            (staging / "report.html").write_text(page, encoding="utf-8")
            files = {path.name: file_hash(path) for path in sorted(staging.iterdir())}
            text = json.dumps({**found.summary, "files": files}, indent=1, allow_nan=False)
            (staging / "summary.json").write_text(text, encoding="utf-8")
    except OSError as error:
        raise ExplanationError(
            f"cannot write the results to {str(found.folder)!r}: {error}; finished units are kept"
        ) from error


def _draw(found: Evaluation, view: View, folder: Path) -> dict[str, str]:
    """Draw every figure into a folder; return captions by file name."""
    networks = found.summary["networks"]
    captions = {
        "scenes.png": view.versions_text,
        "truth.png": "What the networks really use: the effect of taking a cue out of the picture.",
        "maps.png": view.maps_text,
        "spearman.png": "Agreement with the truth by layer; small points are single seeds.",
        "pearson.png": "The same with Pearson's coefficient.",
    }
    save_figure(lambda figure: plot_scenes(figure, view.versions), folder / "scenes.png")
    save_figure(lambda figure: plot_truth(figure, found.points, networks), folder / "truth.png")
    save_figure(lambda figure: plot_maps(figure, view.trial, view.maps), folder / "maps.png")
    for name in ("spearman", "pearson"):
        draw_layers = partial(plot_layers, layers=found.layers, coefficient=name)
        save_figure(draw_layers, folder / f"{name}.png")
    for method in found.summary["methods"]:
        file = f"points_{method}.png"
        captions[file] = (
            f"{TITLES.get(method, method)}: class means against causal effects, layer by layer; "
            "\u03c1 Spearman, r Pearson, means over seeds. Pale points: networks with small q."
        )
        draw_points = partial(plot_points, points=found.points, layers=found.layers, method=method)
        save_figure(draw_points, folder / file)
    return captions


def headline(summary: Mapping[str, Any]) -> list[list[str]]:
    """Return a row for each method: its name and its coefficients, as texts."""
    rows = []
    for method, entry in summary["methods"].items():
        cells = [TITLES.get(method, method)]
        for name in ("spearman", "pearson", "pair_order"):
            for which in ("best_layer", "median_layer"):
                interval = entry[name][f"{which}_interval"]
                cells.append(_with_interval(entry[name][which], interval))
        rows.append(cells)
    return rows


HEADER = (
    "method",
    "Spearman, best layer",
    "median layer",
    "Pearson, best layer",
    "median layer",
    "pairs ordered rightly, best layer",
    "median layer",
)


def _with_interval(value: float | None, interval: Mapping[str, Any]) -> str:
    if value is None:
        return "-"
    if interval["low"] is None:
        return f"{value:.2f}"
    return f"{value:.2f} [{interval['low']:.2f}, {interval['high']:.2f}]"


def _page(found: Evaluation, view: View, captions: Mapping[str, str], folder: Path) -> str:
    """Return the page; every text from outside is escaped."""
    run = found.summary["run"]
    seeds = by_seed(found.layers)
    sections = [
        _section(
            "Agreement with the truth",
            _table(HEADER, headline(found.summary)),
            f"{view.truth} {_EXPLAINED} {view.limits}",
        ),
        _section("Each seed", _frame(seeds)),
        _section("Each layer", _frame(found.layers)),
        _section("Where the maps point", _localisation(found.summary["localisation"])),
        _section("Single images", _frame(found.local), _LOCAL),
        _section(
            "What the numbers depend on",
            f"<pre>{html.escape(json.dumps([run, found.summary['versions']], indent=1))}</pre>",
        ),
    ]
    figures = "".join(_figure(folder / name, text) for name, text in captions.items())
    return _PAGE.format(
        intro=html.escape(view.intro),
        seeds=html.escape(", ".join(map(str, run["seeds"]))),
        agreements=html.escape(", ".join(f"{q:g}" for q in run["agreements"])),
        first=sections[0],
        figures=figures,
        rest="".join(sections[1:]),
    )


def _localisation(summary: Mapping[str, Any]) -> str:
    rows = []
    for entry in summary["by_method_cue_layer_q"]:
        method = TITLES.get(entry["method"], entry["method"])
        numbers = [f"{entry[name]:.2f}" for name in _METRICS]
        rows.append([method, entry["cue"], entry["layer"], f"{entry['q']:g}", *numbers])
    names = (name.replace("_", " ") for name in _METRICS)
    return _table(("maps of", "cue", "layer", "q", *names), rows)


_METRICS = ("pointing_game", "energy_inside", "soft_iou", "balanced_mse", "cell_auc", "empty")


def _section(title: str, content: str, text: str = "") -> str:
    words = f"<p>{html.escape(text)}</p>" if text else ""
    return f"<section><h2>{html.escape(title)}</h2>{words}{content}</section>"


def _figure(file: Path, caption: str) -> str:
    data = base64.b64encode(file.read_bytes()).decode("ascii")
    words = html.escape(caption)
    return (
        f'<figure><img alt="{words}" src="data:image/png;base64,{data}">'
        f"<figcaption>{words}</figcaption></figure>"
    )


def _frame(table: pd.DataFrame) -> str:
    def cell(value: Any) -> str:
        if isinstance(value, float):
            return "-" if value != value else f"{value:.3f}"
        return str(value)

    rows = [[cell(value) for value in row] for row in table.itertuples(index=False, name=None)]
    return _table(tuple(str(name).replace("_", " ") for name in table.columns), rows)


def _table(header: tuple[str, ...], rows: list[list[str]]) -> str:
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in header)
    lines = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    whole = f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
    return f'<div class="wide">{whole}</div>'


_EXPLAINED = (
    "Best layer: the highest coefficient of a seed; median layer: the median "
    "over layers. In brackets: 95 % interval over seeds. A coefficient that is not defined (all "
    "values the same) counts as chance. Saliency, integrated gradients and Grad-CAM name no "
    "concept: they are given the true masks, which the other methods are not."
)
_LOCAL = (
    "Per image: the value for one image against the effect on that image. Within: Spearman's "
    "coefficient among the images of one class, network and cue, averaged."
)
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>vtcav: the controlled experiment</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
 max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.5rem; }} h2 {{ font-size: 1.15rem; margin-top: 2rem; }}
table {{ border-collapse: collapse; font-size: 13px; }}
th, td {{ padding: .2rem .7rem .2rem 0; text-align: left; border-bottom: 1px solid #ddd;
 vertical-align: top; }}
.wide {{ overflow-x: auto; max-height: 28rem; overflow-y: auto; }}
figure {{ margin: 1.5rem 0; }} img {{ max-width: 100%; height: auto; }}
figcaption {{ color: #555; font-size: 13px; }}
pre {{ font-size: 12px; overflow-x: auto; background: #f6f6f6; padding: .7rem; }}
</style>
</head>
<body>
<h1>Do concept attributions follow what a network really uses?</h1>
<p>{intro} Seeds: {seeds}. Shares q: {agreements}.</p>
{first}
{figures}
{rest}
</body>
</html>
"""
