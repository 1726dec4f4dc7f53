r"""`vtcav explain-class`: explain a class with many of its images.

Explain a class: the attribution of each concept over many images.

Example:
  vtcav explain-class zebra --images zebras --model demo \
      --concepts concepts --negatives random -o out
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING

from vtcav.cli.options import IMAGES_HELP, Arguments, Parser, class_of
from vtcav.cli.terminal import print_line, print_removed, print_summary
from vtcav.method.variants import suffix

if TYPE_CHECKING:
    from vtcav.results.explanation import GlobalExplanation


def add_options(command: Parser) -> None:
    """Add the options."""
    command.add_argument("class_name", metavar="CLASS", help="a class name, or index:N")
    images = f"images of the class: {IMAGES_HELP}"
    command.option("--images", images, required=True)
    command.add_groups()
    command.add_run()
    csv = "write tables of images as CSV also where they have more than 1,000,000 rows"
    command.add_argument("--csv", action="store_true", help=csv)
    command.add_explainer("tables, maps and figure", integral=True, draws=True)


def run(arguments: Arguments) -> None:
    """Carry out the command."""
    from vtcav.results.effect_tables import of_pictures
    from vtcav.results.reading import group_sentences, misclassified

    arguments.check_run()
    model = arguments.load_checked(arguments.images)
    class_index = model.class_index(class_of(arguments.class_name))
    glob = arguments.prepared(model).explain_class(
        class_index,
        arguments.images,
        **arguments.chosen("limit", "seed", "strict", "groups"),
        **arguments.running,
    )
    cautions = [misclassified(glob.class_name, glob.predicted), glob.provenance.shares_note]
    cautions = list(filter(None, cautions))
    groups = group_sentences(of_pictures(glob.group_tests()), glob.by_group(), glob.class_name)
    data = {
        "class": glob.class_name,
        "variant": glob.provenance.variant,
        "cautions": cautions,
        "verdicts": [asdict(verdict) for verdict in glob.verdicts()],
        "groups": groups,
        "best_layers": dict(glob.best_layers),
        "effects": glob.class_effects(),
        "summary": glob.summary(),
        "images": glob.images if arguments.json else None,
    }
    saved = SimpleNamespace(save=partial(glob.save, csv=arguments.csv or None))
    arguments.present(saved, data, lambda _: _print(glob, cautions, groups))
    arguments.end_run()


def _print(glob: GlobalExplanation, cautions: list[str], groups: list[str]) -> None:
    """Print the verdicts and the summary."""
    from vtcav.results.effect_tables import of_pictures
    from vtcav.results.reading import best_first, read_first

    for caution in cautions:
        print_line(caution)
    for verdict in glob.verdicts():
        print_line(f"{verdict.kind}: {verdict.sentence}")
    for sentence in groups:
        print_line(sentence)
    effects = glob.class_effects()
    removed = effects.drop(of_pictures(effects).index)
    print_removed(removed.assign(class_name=glob.class_name), "drop, drop_low, drop_high, share")
    title = (
        f"{glob.class_name}: concept attributions over {glob.used} images, "
        f"{len(glob.skipped)} skipped{suffix(glob.provenance.variant)}\n"
        "images: 95 % interval of the mean for other images; examples: the same for other examples "
        "and negatives; q: false discovery rate against CAVs of random images"
    )
    summary = best_first(glob.summary(), glob.best_layers)
    print_summary(title, summary, glob.provenance.null_cavs)
    if first := read_first(glob.best_layers, glob.layers):
        print_line(first)
