"""`vtcav explore`: make concepts by hand on a local web page.

Open a page on this machine: choose a photo, cut out examples of a concept, and see at once where
the network sees it and how much it counts. Needs the extra vtcav[explore]. Nothing leaves the
machine.

Examples:
  vtcav explore --model demo
  vtcav explore --model python:mymodel:build --concepts concepts --negatives random
"""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

from vtcav.cli import options
from vtcav.cli.terminal import print_line
from vtcav.explainer.settings import FitSettings, IntegralSettings
from vtcav.models.settings import LoadSettings

__all__ = ["add_options", "run"]

# Photographs of scikit-image; those that the demo explains come first.
_SAMPLES = "chelsea", "coffee", "chessboard_RGB", "rocket", "brick"


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.add_model(command)
    command.add_argument(
        "--concepts", help="concepts to begin with: a folder or URI with one folder for each"
    )
    command.add_argument(
        "--negatives",
        help="images that show no concept (default: stand-ins, with a note on the page)",
    )
    command.add_argument("--cavs", type=Path, help="learned concepts to look at")
    command.add_argument(
        "--steps",
        type=options.positive,
        default=50,
        help="trapezoid steps of the integral (default 50, the paper's)",
    )
    options.add_settings(command, IntegralSettings, "batch_size", batch_size=8)
    command.add_argument("--port", type=int, default=0, help="default: a free one")
    command.add_argument("--no-browser", action="store_true", help="only print the address")
    saved = "folder for saved concepts (default: explorer)"
    options.add_output(command, saved, default=Path("explorer"))
    options.add_settings(command, LoadSettings, "device")
    options.add_settings(command, FitSettings, "seed")
    command.add_argument("--debug", action="store_true", help="show tracebacks")


def run(arguments: argparse.Namespace) -> None:
    """Carry out the command."""
    if not 0 <= arguments.port < 65536:
        raise options.UsageError(f"expected a port from 0 to 65535, got {arguments.port}")
    from vtcav.explorer import serve  # a missing extra shows before the network is loaded
    from vtcav.explorer.server import samples
    from vtcav.results.bank import CavBank

    layers = arguments.layers
    if arguments.model == "demo" and layers is None and arguments.cavs is None:
        from vtcav.cli.demo import LAYERS

        layers = list(LAYERS)
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C ends the server
        serve(
            options.load(arguments),
            port=arguments.port,
            output=arguments.output,
            open_browser=not arguments.no_browser,
            described=arguments.model,
            say=print_line,
            layers=layers,
            cavs=None if arguments.cavs is None else CavBank.load(arguments.cavs),
            samples=samples(_SAMPLES),
            **options.chosen(arguments, "concepts", "negatives", "steps", "batch_size", "seed"),
        )
