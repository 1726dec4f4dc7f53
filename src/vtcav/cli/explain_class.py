r"""`vtcav explain-class`: explain a class with many of its images.

Explain a class: the attribution of each concept over many images.

Example:
  vtcav explain-class zebra --images zebras --model demo \
      --concepts concepts --negatives random -o out
"""

from __future__ import annotations

import argparse
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcav.cli import options
from vtcav.cli.terminal import print_frame, print_line, records, with_intervals
from vtcav.method.variants import suffix
from vtcav.results.words import SIGNIFICANT, not_significant

if TYPE_CHECKING:
    from vtcav.results.explanation import GlobalExplanation

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command."""
    command = options.add_command(commands, "explain-class", __doc__, _run)
    command.add_argument("class_name", metavar="CLASS", help="a class name, or index:N")
    command.add_argument(
        "--images", required=True, help="images of the class: a folder, glob, URI or Parquet file"
    )
    options.add_sources(command)
    options.add_quadrature(command)
    options.add_resampling(command)
    options.add_output(command, "tables, maps and figure")
    _add_run(command)
    options.add_common(command)


def _add_run(command: argparse.ArgumentParser) -> None:
    """Add where finished parts are kept and where they are computed."""
    command.add_argument(
        "--run",
        dest="run_folder",
        type=Path,
        metavar="DIR",
        help="keeps finished parts to resume from (default: OUT/run until the tables are saved)",
    )
    command.add_argument("--no-resume", action="store_true", help="do not keep finished parts")
    command.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="what computes (default: local)"
    )
    command.add_argument("--address", help="the Ray cluster (default: one of its own)")
    command.add_argument("--workers", type=options.positive, help="how many Ray actors to use")


def _ray_options(arguments: argparse.Namespace) -> dict[str, Any] | None:
    given = {"address": arguments.address, "workers": arguments.workers}
    found = {name: value for name, value in given.items() if value is not None}
    if found and arguments.engine != "ray":
        raise options.UsageError("--address and --workers need --engine ray")
    return found if arguments.engine == "ray" else None


def _run(arguments: argparse.Namespace) -> None:
    from vtcav.images.listing import collect

    options.check_sources(arguments)
    ray_options = _ray_options(arguments)
    model = options.load(arguments)
    collect(arguments.images)
    own = arguments.output / "run" if arguments.output and not arguments.no_resume else None
    class_index = model.class_index(options.class_of(arguments.class_name))
    glob = options.prepared(arguments, model).explain_class(
        class_index,
        arguments.images,
        limit=arguments.limit,
        seed=arguments.seed,
        strict=arguments.strict,
        run=arguments.run_folder or own,
        engine=arguments.engine,
        ray_options=ray_options,
    )
    options.present(
        arguments,
        glob,
        lambda: {
            "class": glob.class_name,
            "variant": glob.provenance.variant,
            "summary": records(glob.summary()),
            "images": records(glob.images),
        },
        partial(_print, glob),
    )
    if own is not None and arguments.run_folder is None:
        shutil.rmtree(own, ignore_errors=True)  # the tables are saved


def _print(glob: GlobalExplanation) -> None:
    """Print the summary."""
    summary = glob.summary()
    used = int(glob.images["used"].sum())
    print_frame(
        f"{glob.class_name}: concept attributions over {used} images, {len(glob.skipped)} skipped"
        f"{suffix(glob.provenance.variant)}\n"
        "images: 95 % interval of the mean for other images; examples: the same for other examples "
        "and negatives; q: false discovery rate against CAVs of random images",
        with_intervals(summary),
        "layer, concept, mean, images, examples, null_mean: random, q_value: q, note",
    )
    if found := not_significant(summary, glob.provenance.null_cavs):
        print_line(f"not significant (q > {SIGNIFICANT}): {found}")
