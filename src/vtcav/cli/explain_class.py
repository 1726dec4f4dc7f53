r"""`vtcav explain-class`: explain a class with many of its images.

Explain a class: the attribution of each concept over many images.

Example:
  vtcav explain-class zebra --images zebras --model demo \
      --concepts concepts --negatives random -o out
"""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcav.cli.options import IMAGES_HELP, Arguments, Parser, UsageError, class_of, positive
from vtcav.cli.terminal import print_line, print_removed, print_summary
from vtcav.method.variants import suffix

if TYPE_CHECKING:
    from vtcav.results.explanation import GlobalExplanation


def add_options(command: Parser) -> None:
    """Add the options."""
    command.add_argument("class_name", metavar="CLASS", help="a class name, or index:N")
    images = f"images of the class: {IMAGES_HELP}"
    command.option("--images", images, required=True)
    parts = "finished parts, to resume from (default: OUT/run until the tables are saved)"
    command.option("--run", parts, Path, dest="run_folder", metavar="DIR")
    command.flag("--no-resume", "do not keep finished parts")
    command.option("--engine", "where to run", choices=("local", "ray"), default="local")
    command.option("--address", "the Ray cluster (default: one of its own)")
    command.option("--workers", "how many Ray actors to use", positive)
    command.add_explainer("tables, maps and figure", integral=True, draws=True)


def _ray_options(arguments: Arguments) -> dict[str, Any] | None:
    given = arguments.chosen("address", "workers").items()
    found = {name: value for name, value in given if value is not None}
    if found and arguments.engine != "ray":
        raise UsageError("--address and --workers need --engine ray")
    return found if arguments.engine == "ray" else None


def run(arguments: Arguments) -> None:
    """Carry out the command."""
    ray_options = _ray_options(arguments)
    model = arguments.load_checked(arguments.images)
    own = arguments.output / "run" if arguments.output and not arguments.no_resume else None
    class_index = model.class_index(class_of(arguments.class_name))
    glob = arguments.prepared(model).explain_class(
        class_index,
        arguments.images,
        **arguments.chosen("limit", "seed", "strict"),
        run=arguments.run_folder or own,
        engine=arguments.engine,
        ray_options=ray_options,
    )
    data = {
        "class": glob.class_name,
        "variant": glob.provenance.variant,
        "verdicts": [asdict(verdict) for verdict in glob.verdicts()],
        "best_layers": dict(glob.best_layers),
        "effects": glob.class_effects(),
        "summary": glob.summary(),
        "images": glob.images,
    }
    arguments.present(glob, data, _print)
    if own is not None and arguments.run_folder is None:
        shutil.rmtree(own, ignore_errors=True)  # the tables are saved


def _print(glob: GlobalExplanation) -> None:
    """Print the verdicts and the summary."""
    from vtcav.results.effect_tables import of_pictures
    from vtcav.results.reading import best_first, read_first

    for verdict in glob.verdicts():
        print_line(f"{verdict.kind}: {verdict.sentence}")
    effects = glob.class_effects()
    removed = effects.drop(of_pictures(effects).index)
    print_removed(removed.assign(class_name=glob.class_name), "drop, drop_low, drop_high, share")
    used = int(glob.images["used"].sum())
    title = (
        f"{glob.class_name}: concept attributions over {used} images, {len(glob.skipped)} skipped"
        f"{suffix(glob.provenance.variant)}\n"
        "images: 95 % interval of the mean for other images; examples: the same for other examples "
        "and negatives; q: false discovery rate against CAVs of random images"
    )
    summary = best_first(glob.summary(), glob.best_layers)
    print_summary(title, summary, glob.provenance.null_cavs)
    if first := read_first(glob.best_layers, glob.layers):
        print_line(first)
