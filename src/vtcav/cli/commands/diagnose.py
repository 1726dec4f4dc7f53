"""`vtcav diagnose`: say how far each concept can be trusted.

Say how far each concept can be trusted at each layer: fine, look, or do not use, and why.

Example:
  vtcav diagnose --model demo --cavs out/cavs.safetensors --images zebras -o trust
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vtcav.cli.options import IMAGES_HELP, Arguments, Parser
from vtcav.cli.terminal import print_frame, print_line
from vtcav.files.manifest import records

if TYPE_CHECKING:
    from vtcav.diagnostics.result import Diagnostics


def add_options(command: Parser) -> None:
    """Add the options."""
    command.option("--images", f"images to explain, looked for among the examples: {IMAGES_HELP}")
    command.option("--other-negatives", "other negatives to compare the directions with")
    command.add_explainer("tables and figure")


def run(arguments: Arguments) -> None:
    """Carry out the command."""
    model = arguments.load_checked(arguments.images, arguments.other_negatives)
    # diagnostics need no attributions
    explainer = arguments.prepared(model, null_cavs=0, bootstraps=0)
    found = explainer.diagnostics(
        images=arguments.images, negatives=arguments.other_negatives, seed=arguments.seed
    )
    tables = {"summary": found.summary(), "findings": found.table, "duplicates": found.duplicates}
    arguments.present(found, tables, _print)


def _print(found: Diagnostics) -> None:
    """Print what was found about images, and the levels."""
    from vtcav.diagnostics.levels import FINE

    table = found.table
    for row in records(table[(table["layer"] == "") & (table["level"] != FINE)]):
        whose = f"{row['concept']}: " if row["concept"] else ""
        print_line(f"{row['level']}: {whose}{row['meaning']}")
    print_frame(
        "How far each concept can be trusted (fine, look, do not use)",
        found.summary(),
        "layer, concept, level, check: decided by, meaning",
    )
