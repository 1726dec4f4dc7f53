r"""`vtcav versus`: compare what concepts count for in two networks.

Tell what differs between two networks, or two checkpoints, in a study; with several trainings of
each, whether their recipes differ.

Examples:
  vtcav versus old.safetensors new.safetensors --study study.yaml -o out
  vtcav versus old1.pt,old2.pt,old3.pt new1.pt,new2.pt,new3.pt --study study.yaml -o out
"""

from __future__ import annotations

from vtcav.cli.options import Arguments, Parser, argument, names
from vtcav.cli.terminal import print_frame, print_line
from vtcav.files.paths import expanded

_PRINTED = 20
_COLUMNS = (
    "class_name: class, quantity, layer_a: layer a, layer_b: layer b, concept, n: images, a, b, "
    "difference, low, high, q_value: q, doubt: about the concept"
)


def add_options(command: Parser) -> None:
    """Add the options."""
    from vtcav.explainer.settings import MARGIN, MARGIN_OF_ONE, MARGINS

    network = (
        "a network's name, or weights for the study's network; commas separate several trainings"
    )
    command.add_argument("a", metavar="A", type=names, help=network)
    command.add_argument("b", metavar="B", type=names, help=network)
    command.option("--study", "the study file", expanded, required=True, metavar="FILE")
    meaning = (
        "a difference of attributions or shares that counts as none (default: "
        f"{MARGIN_OF_ONE:g}, with several trainings of each {MARGIN:g})"
    )
    command.option("--margin", meaning, argument(MARGINS), metavar="X")
    command.add_output("folder for the results", required=True)
    command.add_shared()


def run(arguments: Arguments) -> None:
    """Carry out the command."""
    from vtcav.study.study import Study
    from vtcav.study.versus import versus_study

    found = versus_study(
        Study.load(arguments.study),
        (arguments.a, arguments.b),
        arguments.output,
        margin=arguments.margin,
        progress=arguments.shown(),
        say=arguments.say,
    )
    found.save(arguments.output)
    if not arguments.json:
        table = found.differences.head(_PRINTED)
        table["doubt"] = table["doubt"].map(lambda reason: reason and "cannot be told")
        for sentence in found.sentences():
            print_line(sentence)
        print_frame(found.described, table, _COLUMNS)
    where = str(arguments.output.resolve())
    data = found.summary() | {"differences": found.differences, "output": where}
    arguments.answer(data, f"Written to {where}")
