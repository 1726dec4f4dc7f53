"""`vtcav explain`: explain one image.

Explain one image: where each concept is and how much it contributes.

Examples:
  vtcav explain zebra.jpg --model demo --concepts concepts --negatives random -o out
  vtcav explain zebra.jpg --model demo --cavs out/cavs.safetensors --classes zebra
  vtcav explain zebra.jpg --model demo --erase 40,10,120,90 -o out
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vtcav.cli.options import Arguments, Parser, UsageError, class_of, names
from vtcav.cli.terminal import by_class, print_frame, print_line, print_removed
from vtcav.method.variants import suffix
from vtcav.results.words import SIGNIFICANT, not_significant

if TYPE_CHECKING:
    from vtcav.results.erasure import Erasure
    from vtcav.results.explanation import LocalExplanation

_MEANING = (
    "share: of the logit above that of the negatives; elsewhere: the same for regions of this "
    "size; q: false discovery rate against these"
)
_MOST = 20
"""The most top classes: a larger number is meant for an index."""
_COLUMNS = "class_name: class, logit, drop, share, placebo_mean: elsewhere, q_value: q, note"


def add_options(command: Parser) -> None:
    """Add the options."""
    command.add_argument("image", metavar="IMAGE", help="a picture file, or its URI")
    classes = "a number of top classes, or comma-separated names: zebra,index:281"
    command.option("--classes", classes, default="3")
    command.option(
        "--erase",
        "also erase a region that you mark, for which no concepts are needed: a box "
        "left,top,right,bottom in pixels of the picture, or a mask of its size, white where to "
        "erase",
        _region,
        metavar="MASK|BOX",
    )
    command.add_explainer("tables, maps and figure", integral=True, draws=True)


def run(arguments: Arguments) -> None:
    """Carry out the command."""
    from vtcav.images.batches import prepared
    from vtcav.images.listing import collect

    classes = _classes(arguments.classes)
    alone = bool(arguments.erase) and not (arguments.cavs or arguments.concepts or arguments.text)
    model = arguments.load_checked(arguments.image, concepts=not alone)
    for name in [] if isinstance(classes, int) else classes:
        model.class_index(name)
    for ref in collect(arguments.image)[:1]:  # before the minutes that learning may take
        prepared(model.preprocess, ref)
    explainer = arguments.prepared(model)
    erasure = None
    if arguments.erase:
        negatives = arguments.negatives if alone else None
        erasure = explainer.erase(arguments.image, arguments.erase, classes, negatives=negatives)
        if alone:
            data = {"image": erasure.image, "predictions": erasure.predictions.head(10)}
            arguments.present(erasure, data | _erased(erasure), _print_erasure)
            return
        if arguments.output is not None:
            erasure.save(arguments.output)
    local = explainer.explain(arguments.image, classes=classes)
    data = {
        "image": local.image,
        **(_erased(erasure) if erasure else {}),
        "predictions": local.predictions.head(10),
        "sentences": local.sentences(),
        "best_layers": dict(local.best_layers),
        "effects": local.effects,
        "attributions": local.attributions,
        "variant": local.provenance.variant,
    }
    if erasure and not arguments.json:
        _print_erasure(erasure)
    arguments.present(local, data, _print)


def _print(local: LocalExplanation) -> None:
    """Print what erasing each concept says, the predictions and the attributions."""
    from vtcav.results.effect_tables import of_pictures
    from vtcav.results.reading import best_first, read_first

    for sentence in filter(None, [*local.sentences(), local.provenance.shares_note]):
        print_line(sentence)
    best, columns = local.predictions.head(5), "class_name: class, probability"
    print_frame(f"Predictions for {local.image}", best, columns)
    filled = of_pictures(local.effects)
    if not filled.empty:
        print_frame(
            "Effect of each concept: the class's logit falls by so much when the concept's region "
            f"is filled in\n{_MEANING}",
            filled,
            f"concept, {_COLUMNS}",
        )
    print_removed(local.effects.drop(filled.index), "logit, drop, share, note")
    title = f"Concept attributions by class{suffix(local.provenance.variant)}"
    print_frame(title, *by_class(best_first(local.attributions, local.best_layers)))
    if first := read_first(local.best_layers, local.layers):
        print_line(first)
    if found := not_significant(local.attributions, local.provenance.null_cavs):
        print_line(f"ns: not significant (q > {SIGNIFICANT}). {found}")


def _print_erasure(erasure: Erasure) -> None:
    """Print what erasing a marked region says."""
    for sentence in erasure.sentences():
        print_line(sentence)
    title = f"Effect of the marked region ({erasure.region})\n{_MEANING}"
    print_frame(title, erasure.effects, _COLUMNS)


def _erased(erasure: Erasure) -> dict[str, Any]:
    """Return a region erased by hand as JSON."""
    found = {
        "region": erasure.region,
        "sentences": erasure.sentences(),
        "effects": erasure.effects,
    }
    return {"erased": found}


def _region(text: str) -> str | list[int]:
    """Return a box, or the name of a mask."""
    parts = text.split(",")
    numbers = len(parts) == 4 and all(part.strip().lstrip("-").isdecimal() for part in parts)
    return list(map(int, parts)) if numbers else text


def _classes(text: str) -> int | list[str | int]:
    """Return a number of top classes, or classes by name or index.

    Raises:
        UsageError: For a number that rather is an index.
    """
    if not text.isdecimal():
        return list(map(class_of, names(text)))
    if int(text) > _MOST:
        raise UsageError(
            f"--classes {text} asks for {text} top classes; expected at most {_MOST}. For the "
            f"class with this index write --classes index:{text}"
        )
    return int(text)
