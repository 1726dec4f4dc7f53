"""`vtcav evaluate`: compare attributions with measured causal effects.

Run the controlled experiment: train small networks on drawn images whose class shows in a texture
and in a tag, measure which of the two they use by removing it, and compare with what Visual-TCAV
and other methods say. With --images, do the same on your photographs, for the tag alone. Needs
the extra vtcav[evaluation]. The same command resumes an interrupted run.

Examples:
  vtcav evaluate -o evaluation --quick
  vtcav evaluate -o evaluation --seeds 0,1,2
  vtcav evaluate --images photographs --model demo -o evaluation --quick
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vtcav.cli import options
from vtcav.cli.terminal import print_table

__all__ = ["add_options", "run"]


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.add_output(command, "folder of the run", required=True)
    command.add_argument(
        "--quick", action="store_true", help="one seed, three networks, a few minutes"
    )
    command.add_argument(
        "--seeds",
        type=options.numbers,
        help="comma-separated seeds (default: three from --seed on, 0,1,2; quick: --seed alone)",
    )
    command.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="your own photographs, a folder per class, instead of drawn images; they get tags",
    )
    command.add_argument(
        "--limit",
        type=options.positive,
        help="at most this many photographs of each class (default 400, quick: 120)",
    )
    command.add_argument(
        "--model", help="train on the features of this network (default: on the pixels)"
    )
    options.add_loading(command)
    command.add_argument(
        "--layer", help="the layer of --model with the features (default: the deepest of 12 x 12)"
    )
    options.add_common(command)


def run(arguments: argparse.Namespace) -> None:
    """Carry out the command."""
    from vtcav.evaluation.experiment.evaluate import evaluate
    from vtcav.evaluation.experiment.report import HEADER, headline

    if arguments.images is None and (arguments.model or arguments.layer or arguments.limit):
        raise options.UsageError("--model, --layer and --limit need photographs: --images DIR")
    first = arguments.seed
    found = evaluate(
        arguments.output,
        **options.chosen(arguments, "quick", "images", "layer", "limit", "device"),
        seeds=arguments.seeds or [first + n for n in range(1 if arguments.quick else 3)],
        model=None if arguments.model is None else options.load(arguments),
        progress=options.shown(arguments),
    )
    page, maps = str(found.page.resolve()), found.summary["localisation"]
    if not arguments.json:
        title = "Agreement with the causal effects (95 % interval over seeds)"
        print_table(title, HEADER, headline(found.summary), HEADER[1:])
    lines = [f"Pointing game {maps['pointing_game']:.2f}: {maps['of']}", f"Done. Open {page}"]
    options.answer(arguments, {**found.summary, "report": page}, *lines)
