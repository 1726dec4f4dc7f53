"""`vtcav explain-class`: many images of a class."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcav.cli.options import (
    UsageError,
    add_common,
    add_output,
    add_quadrature,
    add_resampling,
    add_sources,
    check_sources,
    class_of,
    load,
    output_path,
    positive,
    prepared,
)
from vtcav.cli.terminal import print_frame, print_json, print_saved, records, with_intervals
from vtcav.method.variants import suffix

if TYPE_CHECKING:
    from vtcav.results.explanation import GlobalExplanation

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
    _add_run(command)
    add_common(command)
    command.set_defaults(run=_run)


def _add_run(command: argparse.ArgumentParser) -> None:
    """Add where finished parts are kept, and who computes them."""
    command.add_argument(
        "--run",
        dest="run_folder",
        type=Path,
        metavar="DIR",
        help="keeps finished parts, to go on from (default: OUT/run until the tables are saved)",
    )
    command.add_argument("--no-resume", action="store_true", help="keep no parts")
    command.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="who computes (default local)"
    )
    command.add_argument("--address", help="of a Ray cluster (default: a runtime of its own)")
    command.add_argument("--workers", type=positive, help="Ray actors that hold the network")


def _ray_options(arguments: argparse.Namespace) -> dict[str, Any] | None:
    given = {"address": arguments.address, "workers": arguments.workers}
    options = {name: value for name, value in given.items() if value is not None}
    if options and arguments.engine != "ray":
        raise UsageError("--address and --workers need --engine ray")
    return options if arguments.engine == "ray" else None


def _run(arguments: argparse.Namespace) -> None:
    from vtcav.images.remote import collect_stored

    check_sources(arguments)
    ray_options = _ray_options(arguments)
    model = load(arguments)
    collect_stored(arguments.images)
    own = arguments.output / "run" if arguments.output and not arguments.no_resume else None
    class_index = model.class_index(class_of(arguments.class_name))
    glob = prepared(arguments, model).explain_class(
        class_index,
        arguments.images,
        limit=arguments.limit,
        seed=arguments.seed,
        strict=arguments.strict,
        run=arguments.run_folder or own,
        engine=arguments.engine,
        ray_options=ray_options,
    )
    if arguments.output is not None:
        glob.save(arguments.output)
        if own is not None and arguments.run_folder is None:
            shutil.rmtree(own, ignore_errors=True)
    _print(glob, arguments)


def _print(glob: GlobalExplanation, arguments: argparse.Namespace) -> None:
    """Print the summary."""
    summary = glob.summary()
    if arguments.json:
        print_json(
            {
                "class": glob.class_name,
                "variant": glob.provenance.variant,
                "summary": records(summary),
                "images": records(glob.images),
                "output": output_path(arguments.output),
            }
        )
        return
    used = int(glob.images["used"].sum())
    print_frame(
        f"{glob.class_name}: concept attributions over {used} images, {len(glob.skipped)} skipped"
        f"{suffix(glob.provenance.variant)}\n"
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
