"""`vtcav explain`: explain one image.

Explain one image: where each concept is and how much it contributes.

Examples:
  vtcav explain zebra.jpg --model demo --concepts concepts --negatives random -o out
  vtcav explain zebra.jpg --model demo --cavs out/cavs.safetensors --classes zebra
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING, Any

from vtcav.cli import options
from vtcav.cli.terminal import by_class, print_frame, print_line, records
from vtcav.method.variants import suffix
from vtcav.results.words import SIGNIFICANT, not_significant

if TYPE_CHECKING:
    from vtcav.results.explanation import LocalExplanation

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command."""
    command = options.add_command(commands, "explain", __doc__, _run)
    command.add_argument("image", metavar="IMAGE", help="a picture file, or its URI")
    command.add_argument(
        "--classes",
        default="3",
        help="a number of top classes, or names with commas: zebra,index:281 (default: 3)",
    )
    options.add_sources(command)
    options.add_quadrature(command)
    options.add_resampling(command)
    options.add_output(command, "tables, maps and figure")
    options.add_common(command)


def _run(arguments: argparse.Namespace) -> None:
    from vtcav.images.listing import collect

    options.check_sources(arguments)
    classes = _classes(arguments.classes)
    model = options.load(arguments)
    # mistakes show before the minutes that learning may take
    collect(arguments.image)
    for name in [] if isinstance(classes, int) else classes:
        model.class_index(name)
    local = options.prepared(arguments, model).explain(arguments.image, classes=classes)
    options.present(
        arguments,
        local,
        lambda: {
            "image": local.image,
            "predictions": records(local.predictions.head(10)),
            "attributions": records(local.attributions),
            "variant": local.provenance.variant,
        },
        partial(_print, local),
    )


def _print(local: LocalExplanation) -> None:
    """Print the predictions and the attributions."""
    print_frame(
        f"Predictions for {local.image}",
        local.predictions.head(5),
        {"class_name": "class", "probability": "probability"},
    )
    title = f"Concept attributions by class{suffix(local.provenance.variant)}"
    print_frame(title, *by_class(local.attributions))
    if found := not_significant(local.attributions, local.provenance.null_cavs):
        print_line(f"ns: not significant (q > {SIGNIFICANT}). {found}")


def _classes(text: str) -> int | list[str | int]:
    return (
        int(text) if text.isdecimal() else [options.class_of(name) for name in options.names(text)]
    )
