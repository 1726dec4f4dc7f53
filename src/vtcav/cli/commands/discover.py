"""`vtcav discover`: find concepts that nobody named.

Find what the network tells apart in images, with the patches that show it most, how stable it is,
and its attribution. With --concepts or --cavs also the nearest named concept.

Example:
  vtcav discover --images photographs --model demo -o out
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vtcav.cli.options import IMAGES_HELP, Arguments, Parser, UsageError
from vtcav.cli.terminal import print_frame, print_line
from vtcav.explainer.settings import DiscoverySettings

if TYPE_CHECKING:
    from vtcav.results.discovery.discovery import Discovery


def add_options(command: Parser) -> None:
    """Add the options."""
    command.option("--images", f"the images: {IMAGES_HELP}", required=True)
    command.add_settings(DiscoverySettings, "k", "attributed", "erased")
    command.add_explainer("tables, page and figure", integral=True)


def run(arguments: Arguments) -> None:
    """Carry out the command."""
    if arguments.concepts is not None and arguments.cavs is not None:
        raise UsageError("give either --concepts DIR with --negatives DIR, or --cavs FILE")
    named = arguments.concepts is not None or arguments.cavs is not None
    model = arguments.load_checked(arguments.images, concepts=named)
    # the nearest concept needs neither integrals nor tests
    explainer = arguments.prepared(model, null_cavs=0, bootstraps=0)
    found = explainer.discover(arguments.images, **arguments.chosen("k", "seed", "limit", "strict"))
    if arguments.attributed:
        arguments.say("Attributing the found concepts to the predicted classes")
        found = found.attributed(arguments.attributed, erased=arguments.erased)
    data = {
        "best_layer": found.best_layer,
        "concepts": found.concepts,
        "layers": found.summary,
        "attributions": found.attributions,
        "coverage": found.coverage,
    }
    if arguments.output is not None:
        from vtcav.report.discovery import write_discovery

        write_discovery(found, arguments.output / "discovery.html")
    arguments.present(found, data, _print)


def _print(found: Discovery) -> None:
    """Print the best layer, the concepts and their attributions."""
    print_line(f"The most concepts without a flag: {found.best_layer}")
    print_frame(
        repr(found),
        found.concepts,
        "concept, layer, stability, noise, prevalence, nearest, cosine, level, note",
    )
    told = found.attributions
    if not told.empty:
        columns = "concept, layer, class_name: class, n: images, attribution, p_value, q_value: q"
        if told["verdict"].any():
            columns += ", share: share erased, verdict"
        print_frame(
            "Attributions to the predicted classes",
            told,
            columns,
        )
    if not found.coverage.empty:
        print_frame(
            "Share of each class's attribution that no named concept covers",
            found.coverage,
            "layer, class_name: class, n: images, uncovered",
        )
