"""`vtcav demo`: a real ImageNet network, real photographs and drawn concepts, offline.

Everything comes from installed packages: EfficientNet-Lite0 and its weights, the photographs of
scikit-image, and the textures that vtcav draws itself.
"""

from __future__ import annotations

import argparse
import html
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcav.cli.options import add_common, say, shown
from vtcav.cli.terminal import print_json, print_line

if TYPE_CHECKING:
    import pandas as pd

    from vtcav.models.base import Model
    from vtcav.results.explanation import GlobalExplanation, LocalExplanation

__all__ = ["LAYERS", "add", "run_demo"]

LAYERS = ("_blocks.10", "_blocks.13", "_bn1")
"""Layers of EfficientNet-Lite0 that tell textures apart, from the middle to the last."""

PHOTOGRAPHS = ("chessboard_RGB", "chelsea", "coffee")
"""Explained one by one."""

CLASS = ("Egyptian cat", "chelsea")
"""Explained as a class, with seeded crops of one photograph."""


@dataclass(frozen=True)
class _Results:
    """What the demo shows."""

    locals: tuple[tuple[str, LocalExplanation], ...]
    glob: GlobalExplanation


def run_demo(
    output: Path,
    model: Model,
    *,
    seed: int = 0,
    images: int = 16,
    say: Callable[[str], None] = lambda text: None,
    shown: bool | None = None,
) -> Path:
    """Learn the drawn concepts, explain photographs and a class, and write everything.

    Args:
        output: Folder for figures, tables and `index.html`.
        model: `load_model("demo")`.
        seed: Seeds drawings and crops.
        images: Crops of the class's photograph.
        say: Told what is being done.
        shown: Whether to show progress bars; None where someone may be watching.

    Returns:
        The path of `index.html`.
    """
    from vtcav.datasets import textures
    from vtcav.datasets.demo_photographs import crops, negatives, photograph
    from vtcav.explainer.visual_tcav import VisualTCAV
    from vtcav.files.atomic import atomic_path, replace_files

    say(f"Drawing {len(textures.NAMES)} texture concepts, 40 examples each")
    drawn = {name: textures.draw(name, 40, seed=seed) for name in textures.NAMES}
    say("Learning where the network sees them (negatives: 120 crops of other photographs)")
    explainer = VisualTCAV(model, list(LAYERS), progress=shown)
    explainer.fit(drawn, negatives(seed))
    explainer.cavs.save(output / "cavs.safetensors")
    found = []
    for name in PHOTOGRAPHS:
        say(f"Explaining the photograph {name!r}")
        path = output / "photographs" / f"{name}.png"
        with atomic_path(path) as partial:
            photograph(name).save(partial, format="png")
        local = explainer.explain(path, classes=3)
        local.save(output / name)
        found.append((name, local))
    class_name, name = CLASS
    say(f"Explaining the class {class_name!r} with {images} crops of one photograph")
    pieces = crops(photograph(name), images, seed=seed, smallest=0.7, largest=1.0)
    glob = explainer.explain_class(class_name, pieces)
    glob.save(output / "class")
    with replace_files(output, "index.html") as staging:
        page = _page(_Results(tuple(found), glob))
        (staging / "index.html").write_text(page, encoding="utf-8")
    return output / "index.html"


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>vtcav demo</title>
<style>
  :root {{ color-scheme: light; }}
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto;
         padding: 0 1rem; color: #1b1b1b; background: #fff; }}
  img {{ max-width: 100%; height: auto; border: 1px solid #ddd; }}
  h2 {{ margin-top: 3rem; }}
  table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
  th, td {{ padding: .25rem .75rem; border-bottom: 1px solid #ddd; text-align: right; }}
  th:first-child, td:first-child {{ text-align: left; }}
  .wide {{ overflow-x: auto; }}
</style>
</head>
<body>
<h1>What does an ImageNet network see in these photographs?</h1>
<p>EfficientNet-Lite0 was shown drawings of six textures ({concepts}) against crops of
photographs, and so learned where it sees each of them. A <b>concept map</b> shows where: 0 is as on
the negatives, 1 as on the drawings. A <b>concept attribution</b> says how much the concept, at
that place, counts for a class: 1 would be the whole rise of the best class's score.</p>
{sections}
<h2>The class &ldquo;{class_name}&rdquo;</h2>
<p>Over {count} seeded crops of one photograph, &ldquo;{class_photo}&rdquo; (no further photographs
of the class are at hand: the spread is that of framing, not of cats).</p>
<p><img src="class/global.png" alt="Attribution of each concept to the class, by layer"></p>
<div class="wide">{summary}</div>
<h2>Files</h2>
<p>Each folder holds tables (CSV, Parquet), numbers with their provenance (JSON), maps (NPZ) and
the figure (PNG). <code>cavs.safetensors</code> holds the learned concepts.</p>
<p>Network and weights: EfficientNet-Lite0, Apache-2.0. Photographs: from scikit-image. Method:
De Santis et al., Visual-TCAV, arXiv 2411.05698.</p>
</body>
</html>
"""


def _page(results: _Results) -> str:
    """Return the page that shows the results."""
    from vtcav.datasets import textures

    sections = "\n".join(_section(name, local) for name, local in results.locals)
    glob = results.glob
    table = glob.summary()[["layer", "concept", "n", "mean", "std", "ci_low", "ci_high"]]
    return _PAGE.format(
        concepts=html.escape(", ".join(textures.NAMES)),
        sections=sections,
        class_name=html.escape(glob.class_name),
        class_photo=html.escape(CLASS[1]),
        count=len(glob.images),
        summary=_html(table),
    )


def _section(name: str, local: LocalExplanation) -> str:
    best = local.predictions.iloc[0]
    top = local.attributions.query("class_index == @best.class_index")
    wide = top.pivot_table(index="concept", columns="layer", values="attribution", sort=False)
    table = wide.reset_index().rename_axis(columns=None)
    title = f"{name}: {best.class_name} ({best.probability:.2f})"
    return (
        f"<h2>{html.escape(title)}</h2>\n"
        f'<p><img src="{html.escape(name)}/local.png" alt="The photograph {html.escape(name)}, '
        'its concept maps by layer and the attributions by class"></p>\n'
        f"<p>Attributions to &ldquo;{html.escape(best.class_name)}&rdquo;:</p>\n"
        f'<div class="wide">{_html(table)}</div>'
    )


def _html(table: pd.DataFrame) -> str:
    rendered: str = table.to_html(index=False, float_format="{:.3f}".format, border=0)
    return rendered


def add(commands: Any) -> None:
    """Add the command."""
    command = commands.add_parser(
        "demo",
        help="explain photographs with a real ImageNet network, offline",
        description=(
            "Explain photographs and a class with EfficientNet-Lite0 and drawn texture concepts. "
            "Needs the extra vtcav[demo] and no network access. Ends with the path of a page."
        ),
        epilog="example:\n  vtcav demo -o demo",
    )
    command.add_argument("-o", "--output", type=Path, default=Path("demo"), help="folder to write")
    add_common(command)
    command.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from vtcav.models.registry import load_model

    page = run_demo(
        arguments.output,
        load_model("demo", device=arguments.device),
        seed=arguments.seed,
        say=say(arguments),
        shown=shown(arguments),
    )
    if arguments.json:
        print_json({"report": str(page.resolve())})
    else:
        print_line(f"Done. Open {page.resolve()}")
