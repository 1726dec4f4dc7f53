"""`vtcav diagnose`: how far each concept can be trusted."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcav.terminal import print_frame, print_json, print_line, print_saved, records
from vtcav.trust import FINE

if TYPE_CHECKING:
    from vtcav.diagnostics import Diagnostics
    from vtcav.explainer import VisualTCAV

__all__ = ["add"]


def add(commands: Any, add_common: Callable[[argparse.ArgumentParser], None]) -> None:
    """Add the command to the others.

    Args:
        commands: What `add_subparsers` returned.
        add_common: Adds the options of every command: --device, --seed, --json, --quiet, --debug.
    """
    command = commands.add_parser(
        "diagnose",
        help="say how far each concept can be trusted",
        description=(
            "Say how far each concept can be trusted at each layer: whether the layer tells it "
            "from its negatives on images it was not learned from, how much it depends on the "
            "choice of images, whether it is another concept's direction too, where its examples "
            "activate, and which images stand in two places. Every finding has a level: fine, "
            "look, do not use."
        ),
        epilog=(
            "examples:\n"
            "  vtcav diagnose --model demo --concepts concepts --negatives random -o trust\n"
            "  vtcav diagnose --model demo --cavs out/cavs.safetensors --images zebras -o trust\n"
        ),
    )
    _add_sources(command)
    command.add_argument(
        "--images", type=Path, help="images to explain, to be sought among the examples"
    )
    command.add_argument(
        "--other-negatives", type=Path, help="other negatives to hold the directions against"
    )
    command.add_argument("-o", "--output", type=Path, help="folder for tables and figure")
    add_common(command)
    command.set_defaults(run=_diagnose)


def _add_sources(command: argparse.ArgumentParser) -> None:
    """Add where network and concepts come from."""
    from vtcav.cli import _CONCEPTS_HELP, _MODEL_HELP, _NEGATIVES_HELP, _names, _positive

    command.add_argument("--model", required=True, help=_MODEL_HELP)
    command.add_argument("--binary", action="store_true", help="the network has a single logit")
    command.add_argument("--layers", type=_names, help="layers with commas (default: recommended)")
    command.add_argument("--concepts", type=Path, help=_CONCEPTS_HELP)
    command.add_argument("--negatives", type=Path, help=_NEGATIVES_HELP)
    command.add_argument("--cavs", type=Path, help="learned concepts, instead of --concepts")
    command.add_argument("--limit", type=_positive, help="at most this many images of each folder")
    command.add_argument("--batch-size", type=_positive, default=16, help="default 16")
    command.add_argument(
        "--strict", action="store_true", help="make an unreadable image an error, not a warning"
    )


def _diagnose(arguments: argparse.Namespace) -> None:
    from vtcav import cli
    from vtcav.images import collect

    cli._check_sources(arguments)
    # what can be wrong is found before the minutes that learning may take
    for source in (arguments.images, arguments.other_negatives):
        if source is not None:
            collect(source)
    found = _explainer(arguments).diagnostics(
        images=arguments.images, negatives=arguments.other_negatives, seed=arguments.seed
    )
    if arguments.output is not None:
        found.save(arguments.output)
    if arguments.json:
        print_json(
            {
                "summary": records(found.summary()),
                "findings": records(found.table),
                "duplicates": records(found.duplicates),
                "output": cli._path(arguments.output),
            }
        )
        return
    _print(found)
    print_saved(arguments.output)


def _explainer(arguments: argparse.Namespace) -> VisualTCAV:
    """Return an explainer with its concepts learned or loaded."""
    from vtcav import CavBank, VisualTCAV, cli
    from vtcav.concepts import concept_folders, negative_folders

    if arguments.output is not None:
        cli._make_folder(arguments.output)
    bank = CavBank.load(arguments.cavs) if arguments.cavs is not None else None
    explainer = VisualTCAV(
        cli._load(arguments),
        arguments.layers,
        cavs=bank,
        batch_size=arguments.batch_size,
        progress=cli._shown(arguments),
    )
    if bank is not None:
        return explainer
    concepts = concept_folders(arguments.concepts, besides=arguments.negatives)
    explainer.fit(
        concepts,
        negative_folders(arguments.negatives, concepts),
        limit=arguments.limit,
        seed=arguments.seed,
        strict=arguments.strict,
    )
    if arguments.output is not None:
        explainer.cavs.save(arguments.output / "cavs.safetensors")
    return explainer


def _print(found: Diagnostics) -> None:
    """Print the levels, and what was found about images."""
    print_frame(
        "How far each concept can be trusted (fine, look, do not use)",
        found.summary(),
        {
            "layer": "layer",
            "concept": "concept",
            "level": "level",
            "check": "decided by",
            "meaning": "meaning",
        },
    )
    table = found.table
    for row in records(table[(table["layer"] == "") & (table["level"] != FINE)]):
        whose = f"{row['concept']}: " if row["concept"] else ""
        print_line(f"{row['level']}: {whose}{row['meaning']}")
