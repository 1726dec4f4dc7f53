r"""`vtcav errors`: find concepts that go with wrong predictions.

Tell which concepts are present more, or less, in the images that the network gets wrong, class by
class.

Example:
  vtcav errors --images test_set --model demo --concepts concepts --negatives random -o out
"""

from __future__ import annotations

from vtcav.cli.options import Arguments, Parser
from vtcav.cli.terminal import print_frame, print_line
from vtcav.explainer.settings import ErrorSettings

_PRINTED = 20
_COLUMNS = (
    "true_class: class, predicted_class: taken for, concept, wrong, right, auc, low, high, "
    "q_value: q, present_wrong: in wrong, present_right: in right, note"
)


def add_options(command: Parser) -> None:
    """Add the options."""
    command.option(
        "--images",
        "a folder with one folder of images per class, or a table (CSV, TSV, Parquet) of paths and "
        "labels",
        required=True,
    )
    command.add_settings(ErrorSettings)
    command.add_groups()
    command.add_run()
    command.add_explainer("tables and figure")


def run(arguments: Arguments) -> None:
    """Carry out the command."""
    arguments.check_run()
    model = arguments.load_checked()
    # presence needs neither integrals nor tests
    explainer = arguments.prepared(model, null_cavs=0, bootstraps=0)
    analysis = explainer.errors(
        arguments.images,
        **arguments.chosen("pictures", "limit", "seed", "strict", "groups"),
        **arguments.running,
    )
    output = arguments.output
    if output is not None:
        analysis.save(output)
        arguments.end_run()
    if not arguments.json:
        for sentence in analysis.findings() or [analysis.conclusion]:
            print_line(sentence)
        if not analysis.conclusion:
            print_line("A concept that goes with errors need not cause them: erasing it tells.")
        print_frame(
            f"Concepts that go with wrong predictions: {analysis.described}",
            analysis.table.head(_PRINTED),
            _COLUMNS,
        )
    where = None if output is None else str(output.resolve())
    data = analysis.summary() | {"table": analysis.table, "output": where}
    lines = ["Nothing was written; -o FOLDER keeps tables and figure."]
    arguments.answer(data, *(lines if where is None else [f"Written to {where}"]))
