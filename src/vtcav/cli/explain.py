"""`vtcav explain`: explain one image.

Explain one image: where each concept is and how much it contributes.

Examples:
  vtcav explain zebra.jpg --model demo --concepts concepts --negatives random -o out
  vtcav explain zebra.jpg --model demo --cavs out/cavs.safetensors --classes zebra
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vtcav.cli.options import Arguments, Parser, class_of, names
from vtcav.cli.terminal import by_class, print_frame, print_line
from vtcav.method.variants import suffix
from vtcav.results.words import SIGNIFICANT, not_significant

if TYPE_CHECKING:
    from vtcav.results.explanation import LocalExplanation


def add_options(command: Parser) -> None:
    """Add the options."""
    command.add_argument("image", metavar="IMAGE", help="a picture file, or its URI")
    classes = "a number of top classes, or comma-separated names: zebra,index:281"
    command.option("--classes", classes, default="3")
    command.add_explainer("tables, maps and figure", integral=True, draws=True)


def run(arguments: Arguments) -> None:
    """Carry out the command."""
    classes = _classes(arguments.classes)
    model = arguments.load_checked(arguments.image)
    for name in [] if isinstance(classes, int) else classes:
        model.class_index(name)
    local = arguments.prepared(model).explain(arguments.image, classes=classes)
    data = {
        "image": local.image,
        "predictions": local.predictions.head(10),
        "effects": local.effects,
        "attributions": local.attributions,
        "variant": local.provenance.variant,
    }
    arguments.present(local, data, _print)


def _print(local: LocalExplanation) -> None:
    """Print the predictions and the attributions."""
    best, columns = local.predictions.head(5), "class_name: class, probability"
    print_frame(f"Predictions for {local.image}", best, columns)
    if not local.effects.empty:
        print_frame(
            "Effect of each concept: the class's logit falls by so much when the concept's region "
            "is filled in\nshare: of the logit above that of the negatives; elsewhere: the same "
            "for regions of this shape; q: false discovery rate against these",
            local.effects,
            "concept, class_name: class, logit, drop, share, placebo_mean: elsewhere, q_value: q, "
            "note",
        )
    title = f"Concept attributions by class{suffix(local.provenance.variant)}"
    print_frame(title, *by_class(local.attributions))
    if found := not_significant(local.attributions, local.provenance.null_cavs):
        print_line(f"ns: not significant (q > {SIGNIFICANT}). {found}")


def _classes(text: str) -> int | list[str | int]:
    return int(text) if text.isdecimal() else list(map(class_of, names(text)))
