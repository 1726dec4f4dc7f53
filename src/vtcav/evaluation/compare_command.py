"""`vtcav compare`: Visual-TCAV beside other methods, on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcav.errors import ImageError
from vtcav.evaluation.method_names import METHODS
from vtcav.terminal import print_frame, print_json, print_line, print_saved, records

if TYPE_CHECKING:
    import pandas as pd

    from vtcav.evaluation.comparison import Comparison
    from vtcav.explainer import VisualTCAV
    from vtcav.models.base import Model

__all__ = ["add_compare"]


def add_compare(commands: Any, add_common: Callable[[argparse.ArgumentParser], None]) -> None:
    """Add the command to a parser.

    Args:
        commands: What `ArgumentParser.add_subparsers` returned.
        add_common: Adds the options of every command: --device, --seed, --json, --quiet, --debug.
    """
    command = commands.add_parser(
        "compare",
        help="compute TCAV, saliency methods and a concept bottleneck beside Visual-TCAV",
        description=(
            "Compute other methods beside Visual-TCAV: the same images, layers and concepts, one "
            "table. Values of different methods have different units; compare their order. "
            "Needs the extra vtcav[evaluation]."
        ),
        epilog=(
            "example:\n"
            "  vtcav compare --images photos --model demo \\\n"
            "      --concepts concepts --negatives random -o out\n"
            "with photos/zebra/*.jpg, photos/dalmatian/*.jpg, ..."
        ),
    )
    command.add_argument(
        "--images", required=True, type=Path, help="a folder with one folder of images per class"
    )
    command.add_argument("--model", required=True, help="as for vtcav explain")
    command.add_argument("--binary", action="store_true", help="the network has a single logit")
    command.add_argument("--layers", type=_names, help="layers with commas (default: recommended)")
    command.add_argument("--concepts", type=Path, help="a folder with one folder per concept")
    command.add_argument("--negatives", type=Path, help="a folder of images without the concepts")
    command.add_argument("--cavs", type=Path, help="learned concepts, instead of --concepts")
    command.add_argument(
        "--methods",
        type=_names,
        default=list(METHODS),
        help=f"methods with commas (default: all, {','.join(METHODS)})",
    )
    command.add_argument("--limit", type=_positive, help="at most this many images of each folder")
    command.add_argument(
        "--runs", type=_positive, default=20, help="CAVs of each concept for TCAV (default 20)"
    )
    command.add_argument(
        "--steps",
        type=_positive,
        default=50,
        help="points of integrated gradients at the input (default 50)",
    )
    command.add_argument("--batch-size", type=_positive, default=16, help="default 16")
    command.add_argument(
        "--strict", action="store_true", help="make an unreadable image an error, not a warning"
    )
    command.add_argument("-o", "--output", type=Path, help="folder for tables and figure")
    add_common(command)
    command.set_defaults(run=_compare, wrong_usage=command.error)


def class_folders(root: Path, model: Model) -> dict[int, Path]:
    """Return the folders of images by the class that they are named like.

    A folder is named like the class, whatever its case and with any sign that is no letter or
    digit in place of another ("Egyptian_cat"), or by the class's index.

    Raises:
        ImageError: When there are none.
        ModelError: For a folder that is named like no class.
    """
    if not root.is_dir():
        raise ImageError(
            f"expected a folder with one folder of images per class, got {str(root)!r}, which "
            f"{'is a file' if root.exists() else 'does not exist'}"
        )
    folders = [p for p in sorted(root.iterdir()) if p.is_dir() and not p.name.startswith(".")]
    if not folders:
        raise ImageError(
            f"expected one folder of images per class in {str(root)!r}, found none; put the images "
            f"of a class into a folder of its name, for example "
            f"{str(root / model.class_names[0])!r}"
        )
    found: dict[int, Path] = {}
    for folder in folders:
        alike = [i for i, n in enumerate(model.class_names) if _plain(n) == _plain(folder.name)]
        certain = len(alike) == 1 and folder.name not in model.class_names
        index = model.class_index(alike[0] if certain else folder.name)
        if index in found:
            raise ImageError(
                f"two folders are named like class {model.class_names[index]!r}: "
                f"{str(found[index])!r} and {str(folder)!r}"
            )
        found[index] = folder
    return found


def _compare(arguments: argparse.Namespace) -> None:
    from vtcav import load_model
    from vtcav.evaluation.compare import compare

    if (arguments.cavs is None) == (arguments.concepts is None):
        arguments.wrong_usage("give either --concepts DIR with --negatives DIR, or --cavs FILE")
    if arguments.concepts is not None and arguments.negatives is None:
        arguments.wrong_usage("--concepts needs --negatives DIR to contrast them with")
    unknown = [method for method in arguments.methods if method not in METHODS]
    if unknown or not arguments.methods:
        arguments.wrong_usage(f"expected methods among {', '.join(METHODS)}, got {unknown}")
    model = load_model(arguments.model, binary=arguments.binary, device=arguments.device)
    images = class_folders(arguments.images, model)
    shown = False if arguments.quiet or arguments.json else None
    found = compare(
        _explainer(arguments, model, shown),
        images,
        methods=arguments.methods,
        limit=arguments.limit,
        seed=arguments.seed,
        runs=arguments.runs,
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        strict=arguments.strict,
        progress=shown,
    )
    if arguments.output is not None:
        found.save(arguments.output)
    _show(found, arguments)


def _explainer(arguments: argparse.Namespace, model: Model, shown: bool | None) -> VisualTCAV:
    """Return an explainer with its concepts learned or loaded."""
    from vtcav import CavBank, VisualTCAV
    from vtcav.concepts import concept_folders, negative_folders

    bank = None if arguments.cavs is None else CavBank.load(arguments.cavs)
    explainer = VisualTCAV(
        model, arguments.layers, cavs=bank, batch_size=arguments.batch_size, progress=shown
    )
    if bank is None:
        concepts = concept_folders(arguments.concepts, besides=arguments.negatives)
        explainer.fit(
            concepts,
            negative_folders(arguments.negatives, concepts),
            limit=arguments.limit,
            seed=arguments.seed,
            strict=arguments.strict,
        )
    return explainer


def _show(found: Comparison, arguments: argparse.Namespace) -> None:
    summary, output = found.summary(), arguments.output
    if arguments.json:
        print_json(
            {
                "summary": records(summary),
                "ranks": records(found.ranks()),
                "output": None if output is None else str(output.resolve()),
            }
        )
        return
    for name in found.classes:
        print_frame(f"{name}: class means, each method in its own unit", *_by_method(summary, name))
    print_line("Compare orders, not sizes: units differ. Notes and p-values are in the tables.")
    print_saved(output)


def _by_method(summary: pd.DataFrame, class_name: str) -> tuple[pd.DataFrame, dict[Any, str]]:
    """Return a class's means with a column for each method, and the columns' titles."""
    own = summary[summary["class_name"] == class_name]
    wide = own.pivot_table(
        index=["layer", "concept"], columns="method", values="mean", sort=False, dropna=False
    ).dropna(how="all")
    columns = [method for method in METHODS if method in wide]
    titles: dict[Any, str] = {"layer": "layer", "concept": "concept"}
    return wide[columns].reset_index(), titles | {m: m.replace("_", " ") for m in columns}


def _plain(name: str) -> str:
    """Return a name without what differs between a class and a folder."""
    return "".join(letter if letter.isalnum() else " " for letter in name.casefold()).strip()


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text}")
    return number
