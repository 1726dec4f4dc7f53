"""`vtcav explore`: make concepts by hand on a local web page.

Open a local page to cut examples of a concept out of photos, and see at once where the network sees
it and how much it counts. Needs the extra vtcav[explore].

Examples:
  vtcav explore --model demo --images photographs
  vtcav explore --model python:mymodel:build --concepts concepts --negatives random
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from vtcav.cli.options import Arguments, Parser, UsageError, positive
from vtcav.cli.terminal import print_line
from vtcav.explainer.settings import FitSettings, IntegralSettings
from vtcav.files.paths import expanded
from vtcav.models.settings import LoadSettings
from vtcav.parameters import parameters

# Photographs of scikit-image; those that the demo explains come first.
_SAMPLES = "chelsea", "coffee", "chessboard_RGB", "rocket", "brick"


def add_options(command: Parser) -> None:
    """Add the options."""
    command.add_model()
    command.option("--images", "photos to choose from, to find concepts in and to put in order")
    command.option("--concepts", "concepts to begin with: a folder or URI with one folder for each")
    command.option(
        "--negatives", "images that show no concept (default: stand-ins, with a note on the page)"
    )
    command.option("--cavs", "learned concepts to look at", expanded)
    command.option("--steps", "steps of the trapezoid rule (paper: 50)", positive, default=50)
    command.add_settings(IntegralSettings, "batch_size", batch_size=8)
    command.option("--port", "default: a free one", int, default=0)
    command.flag("--no-browser", "only print the address")
    saved = "folder for saved concepts (default: explorer)"
    command.add_output(saved, default=Path("explorer"))
    command.add_settings(LoadSettings, "device")
    command.add_settings(FitSettings, "seed")
    command.flag("--debug", "show tracebacks")


def run(arguments: Arguments) -> None:
    """Carry out the command."""
    if not 0 <= arguments.port < 65536:
        raise UsageError(f"expected a port from 0 to 65535, got {arguments.port}")
    from vtcav.explorer import serve  # a missing extra shows before the network is loaded
    from vtcav.explorer.server import samples
    from vtcav.results.bank.cav_bank import CavBank

    layers = arguments.layers
    if arguments.model == "demo" and layers is None and arguments.cavs is None:
        from vtcav.cli.commands.demo import LAYERS

        layers = list(LAYERS)
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C ends the server
        serve(
            arguments.load(),
            port=arguments.port,
            output=arguments.output,
            open_browser=not arguments.no_browser,
            described=[arguments.model, *_loading(arguments.words)],
            say=print_line,
            layers=layers,
            cavs=None if arguments.cavs is None else CavBank.load(arguments.cavs),
            samples=samples(_SAMPLES) if arguments.images is None else {},
            **arguments.chosen("images", "concepts", "negatives", "steps", "batch_size", "seed"),
        )


def _loading(words: Sequence[str]) -> list[str]:
    """Return the words of a command line that say how the network is loaded."""
    found: list[str] = []
    for i, word in enumerate(words):
        name, inline, _ = word.partition("=")
        declared = parameters(LoadSettings).get(name.removeprefix("--").replace("-", "_"))
        if declared is not None and name.startswith("--"):
            found += words[i : i + 1] if inline or declared.default is False else words[i : i + 2]
    return found
