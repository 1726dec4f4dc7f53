"""`vtcav explain-class`: many images of a class."""

from __future__ import annotations

import argparse
from typing import Any

from vtcav.commands.common import (
    add_common,
    add_output,
    add_quadrature,
    add_resampling,
    add_sources,
    check_sources,
    class_of,
    load,
    output_path,
    prepared,
)
from vtcav.terminal import print_frame, print_json, print_saved, records, with_intervals

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command."""
    command = commands.add_parser(
        "explain-class",
        help="explain a class with many of its images",
        description="Explain a class: the attribution of each concept over many images.",
        epilog=(
            "example:\n"
            "  vtcav explain-class zebra --images zebras --model demo \\\n"
            "      --concepts concepts --negatives random -o out"
        ),
    )
    command.add_argument("class_name", metavar="CLASS", help="a class name, or index:N")
    command.add_argument("--images", required=True, help="a folder of images of the class")
    add_sources(command)
    add_quadrature(command)
    add_resampling(command)
    add_output(command, "tables, maps and figure")
    add_common(command)
    command.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from vtcav.images import collect

    check_sources(arguments)
    model = load(arguments)
    collect(arguments.images)
    class_index = model.class_index(class_of(arguments.class_name))
    glob = prepared(arguments, model).explain_class(
        class_index,
        arguments.images,
        limit=arguments.limit,
        seed=arguments.seed,
        strict=arguments.strict,
    )
    if arguments.output is not None:
        glob.save(arguments.output)
    summary = glob.summary()
    if arguments.json:
        print_json(
            {
                "class": glob.class_name,
                "summary": records(summary),
                "images": records(glob.images),
                "output": output_path(arguments.output),
            }
        )
        return
    used = int(glob.images["used"].sum())
    print_frame(
        f"{glob.class_name}: concept attributions over {used} images, {len(glob.skipped)} skipped\n"
        "images: 95 % interval of the mean for other images; examples: the same for other examples "
        "and negatives; q: false discovery rate against CAVs of random images",
        with_intervals(summary),
        {
            "layer": "layer",
            "concept": "concept",
            "mean": "mean",
            "images": "images",
            "examples": "examples",
            "null_mean": "random",
            "q_value": "q",
            "note": "note",
        },
    )
    print_saved(arguments.output)
