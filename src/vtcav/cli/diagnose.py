"""`vtcav diagnose`: say how far each concept can be trusted.

Say how far each concept can be trusted at each layer: whether the layer tells it from its
negatives on images it was not learned from, how much it depends on the choice of images, whether
its direction is also that of another concept, where its examples activate, and which images occur
twice. Every finding has a level: fine, look, do not use.

Examples:
  vtcav diagnose --model demo --concepts concepts --negatives random -o trust
  vtcav diagnose --model demo --cavs out/cavs.safetensors --images zebras -o trust
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING, Any

from vtcav.cli import options
from vtcav.cli.terminal import print_frame, print_line, records
from vtcav.diagnostics.levels import FINE

if TYPE_CHECKING:
    from vtcav.diagnostics.result import Diagnostics

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command."""
    command = options.add_command(commands, "diagnose", __doc__, _run)
    options.add_sources(command)
    command.add_argument(
        "--images",
        help="images to explain, looked for among the examples: folder, glob, URI or Parquet file",
    )
    command.add_argument("--other-negatives", help="other negatives to compare the directions with")
    options.add_output(command, "tables and figure")
    options.add_common(command)


def _run(arguments: argparse.Namespace) -> None:
    from vtcav.images.listing import collect

    options.check_sources(arguments)
    # mistakes show before the minutes that learning may take
    for source in (arguments.images, arguments.other_negatives):
        if source is not None:
            collect(source)
    # diagnostics need no attributions
    explainer = options.prepared(arguments, options.load(arguments), null_cavs=0, bootstraps=0)
    found = explainer.diagnostics(
        images=arguments.images, negatives=arguments.other_negatives, seed=arguments.seed
    )
    options.present(
        arguments,
        found,
        lambda: {
            "summary": records(found.summary()),
            "findings": records(found.table),
            "duplicates": records(found.duplicates),
        },
        partial(_print, found),
    )


def _print(found: Diagnostics) -> None:
    """Print the levels, and what was found about images."""
    print_frame(
        "How far each concept can be trusted (fine, look, do not use)",
        found.summary(),
        "layer, concept, level, check: decided by, meaning",
    )
    table = found.table
    for row in records(table[(table["layer"] == "") & (table["level"] != FINE)]):
        whose = f"{row['concept']}: " if row["concept"] else ""
        print_line(f"{row['level']}: {whose}{row['meaning']}")
