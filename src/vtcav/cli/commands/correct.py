r"""`vtcav correct`: take a concept out of a network.

Write a correction of a network, which no longer uses a concept as one of its layers holds it, and
what that changes for labelled images. Load it with vtcav.CorrectedNetwork.load(OUT, network).

Example:
  vtcav correct ruler --images test_set --model demo --concepts concepts --negatives random -o out
"""

from __future__ import annotations

from vtcav.cli.options import Arguments, Parser
from vtcav.cli.terminal import print_frame, print_line
from vtcav.explainer.settings import CorrectionSettings, ErasureSettings

_ACCURACY = "class_name: class, shown, n: images, before, after, change, low, high"
_EFFECTS = (
    "class_name: class, concept, corrected, n: images, before, after, change, low, high, relative"
)
_GROUPS = "group, quantity, concept, n: images, before, after, change, low, high"
_ATTRIBUTIONS = (
    "class_name: class, shown, layer, concept, corrected, n: images, unraised: left out, before, "
    "after, change, low, high, note"
)


def add_options(command: Parser) -> None:
    """Add the options."""
    command.add_argument(
        "concept", nargs="+", metavar="CONCEPT", help="a concept; several are taken out together"
    )
    command.option(
        "--images",
        "images to measure the change with: a folder with one folder of images per class, or a "
        "table (CSV, TSV, Parquet) of paths and labels",
    )
    command.add_settings(CorrectionSettings)
    command.add_groups()
    command.add_settings(ErasureSettings, "fill")
    command.add_explainer("the correction, tables and figure")


def run(arguments: Arguments) -> None:
    """Carry out the command."""
    from vtcav.explainer.correction.attributions import uncancelled

    model = arguments.load_checked()
    # what is taken out needs neither integrals nor tests
    explainer = arguments.prepared(model, null_cavs=0, bootstraps=0)
    fixed = explainer.correct(
        arguments.concept,
        images=arguments.images,
        **arguments.chosen(
            "layer", "when", "rounds", "anyway", "attributions", "limit", "seed", "groups"
        ),
    )
    report, output = fixed.report, arguments.output
    if output is not None:
        fixed.save(output)
    if not arguments.json:
        print_line(f"{report.described}.")
        for sentence in report.findings():
            print_line(sentence)
        if arguments.images is not None:
            print_frame("Accuracy", report.accuracy, _ACCURACY)
            effects = uncancelled(report.effects)
            print_frame("Effect in logits of erasing the concept", effects, _EFFECTS)
        if report.grouped:
            print_frame("By group", report.by_group(), _GROUPS)
        if arguments.attributions:
            print_frame("Attribution to the true class", report.attributions, _ATTRIBUTIONS)
    where = None if output is None else str(output.resolve())
    tables = {"accuracy": report.accuracy, "effects": report.effects}
    tables |= {"attributions": report.attributions}
    tables |= {"groups": report.by_group(), "group_tests": report.group_tests()}
    lines = ["Nothing was written; -o FOLDER keeps the correction."]
    if where is not None:
        load = f"Load it: vtcav.CorrectedNetwork.load({where!r}, network)"
        lines = [f"Written to {where}", load]
    arguments.answer(report.summary() | tables | {"output": where}, *lines)
