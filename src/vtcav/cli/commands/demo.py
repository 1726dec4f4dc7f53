"""`vtcav demo`: explain photographs with a real ImageNet network, offline.

Ask EfficientNet-Lite0 whether it says "espresso" for the cup or for the wooden table, and write a
report. Offline, with the extra vtcav[demo].

Examples:
  vtcav demo -o demo
  vtcav demo --pictures-only -o demo
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vtcav.cli.options import Arguments, Parser

if TYPE_CHECKING:
    from vtcav.models.base import Model


LAYERS = ("_blocks.10", "_blocks.13", "_bn1")
"""Layers of EfficientNet-Lite0 that know things and materials, from the middle to the last."""

PHOTOGRAPHS = ("coffee", "chelsea")
"""Explained one by one: with a cup and wood, and with neither."""

CLASS = "espresso"
"""Explained as a class, with seeded crops of one photograph."""

_TITLE = "Does the network say “espresso” for the cup or for the table?"


def run_demo(
    output: Path,
    model: Model,
    *,
    seed: int = 0,
    images: int = 16,
    say: Callable[[str], None] = lambda text: None,
    shown: bool | None = None,
) -> Path:
    """Learn two concepts, explain photographs and a class, and write everything.

    Args:
        output: Folder for pictures, figures, tables and the report.
        model: `load_model("demo")`.
        seed: Seeds drawings and crops.
        images: How many crops of the class's photograph to use.
        say: Receives a line before each step.
        shown: Whether to show progress bars; None where someone may be watching.

    Returns:
        The report.
    """
    from vtcav.datasets import demo_photographs
    from vtcav.explainer.visual_tcav import VisualTCAV
    from vtcav.files.atomic import atomic_path
    from vtcav.images.concepts import concept_folders
    from vtcav.report import write_report

    pictures = write_pictures(output, seed=seed, images=images, say=say)
    say("Learning where the network sees them (negatives: 120 crops of other photographs)")
    explainer = VisualTCAV(model, list(LAYERS), progress=shown)
    explainer.fit(concept_folders(pictures / "concepts"), pictures / "random")
    explainer.cavs.save(output / "cavs.safetensors")
    diagnostics = explainer.diagnostics()
    diagnostics.save(output / "diagnostics")
    local = {}
    for name in PHOTOGRAPHS:
        say(f"Explaining the photograph {name!r}")
        path = output / "photographs" / f"{name}.png"
        with atomic_path(path) as partial:
            demo_photographs.photograph(name).save(partial, format="png")
        local[name] = explainer.explain(path, classes=3)
    for name, found in local.items():
        found.save(output / name, diagnostics=diagnostics, beside=[*local.values()])
    say(f"Explaining the class {CLASS!r} with {images} crops of one photograph")
    explained = explainer.explain_class(CLASS, pictures / "espressos")
    explained.save(output / "class", diagnostics=diagnostics)
    for verdict in explained.verdicts():
        say(verdict.sentence)
    return write_report(output, title=_TITLE)


def write_pictures(output: Path, *, seed: int, images: int, say: Callable[[str], None]) -> Path:
    """Write the pictures, sorted as users sort theirs.

    Returns:
        Their folder.
    """
    from vtcav.datasets import demo_photographs

    say("Drawing cups of coffee into photographs, and wooden boards, 40 examples each")
    demo_photographs.write(output / "pictures", images=images, seed=seed)
    return output / "pictures"


def add_options(command: Parser) -> None:
    """Add the options."""
    command.add_output("folder to write", default=Path("demo"))
    command.flag("--pictures-only", "only write the pictures, to try other commands with")
    command.add_common()


def run(arguments: Arguments) -> None:
    """Carry out the command."""
    if arguments.pictures_only:
        folder = write_pictures(
            arguments.output, seed=arguments.seed, images=16, say=arguments.say
        ).resolve()
        arguments.answer({"pictures": str(folder)}, f"Done. The pictures are in {folder}")
        return
    from vtcav.models.registry import load_model

    page = run_demo(
        arguments.output,
        load_model("demo", device=arguments.device),
        seed=arguments.seed,
        say=arguments.say,
        shown=arguments.shown(),
    ).resolve()
    arguments.answer({"report": str(page)}, f"Done. Open {page}")
