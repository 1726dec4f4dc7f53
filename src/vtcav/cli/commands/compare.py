r"""`vtcav compare`: compute TCAV, saliency methods and a concept bottleneck beside Visual-TCAV.

Compute other methods beside Visual-TCAV for a folder with one folder of images per class. Units
differ: compare the order of values. Needs the extra vtcav[evaluation].

Example:
  vtcav compare --images photos --model demo \
      --concepts concepts --negatives random -o out
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcav.cli.options import Arguments, Parser, UsageError, names, positive
from vtcav.cli.terminal import print_frame, print_line
from vtcav.errors import ImageError
from vtcav.evaluation.compare.methods import METHODS

if TYPE_CHECKING:
    import pandas as pd

    from vtcav.evaluation.compare.result import Comparison
    from vtcav.models.base import Model


def add_options(command: Parser) -> None:
    """Add the options."""
    command.option("--images", "a folder or URI with one folder of images per class", required=True)
    methods = f"comma-separated methods (default: all, {','.join(METHODS)})"
    command.option("--methods", methods, names, default=list(METHODS))
    command.option("--runs", "CAVs of each concept for TCAV", positive, default=20)
    command.option("--points", "steps of input gradients", positive, default=50)
    command.add_explainer("tables and figure", draws=True)


def class_folders(root: str | Path, model: Model) -> dict[int, str | Path]:
    """Return the folders of images by the classes that they are named after.

    Raises:
        ImageError: When there are none.
        ModelError: For a folder that is named after no class.
    """
    from vtcav.images.listing import subfolders

    folders = subfolders(root, "a folder with one folder of images per class")
    if not folders:
        raise ImageError(
            f"expected one folder of images per class in {str(root)!r}, found none; put the images "
            f"of a class into a folder of its name, for example {model.class_names[0]!r}"
        )
    found: dict[int, str | Path] = {}
    for name, folder in folders.items():
        index = model.class_of_folder(name)
        if index in found:
            raise ImageError(
                f"two folders are named like class {model.class_names[index]!r}: "
                f"{str(found[index])!r} and {str(folder)!r}"
            )
        found[index] = folder
    return found


def run(arguments: Arguments) -> None:
    """Carry out the command."""
    from vtcav.evaluation.compare.compute import compare
    from vtcav.models.memory import IMAGES

    unknown = [method for method in arguments.methods if method not in METHODS]
    if unknown or not arguments.methods:
        raise UsageError(f"expected methods among {', '.join(METHODS)}, got {unknown}")
    model = arguments.load_checked()
    images = class_folders(arguments.images, model)
    found = compare(
        arguments.prepared(model),
        images,
        **arguments.chosen("methods", "limit", "seed", "runs", "strict"),
        steps=arguments.points,
        batch_size=arguments.batch_size or IMAGES,
        progress=arguments.shown(),
    )
    data = {"summary": found.summary(), "ranks": found.ranks()}
    arguments.present(found, data, _print)


def _print(found: Comparison) -> None:
    """Print the means of each class."""
    summary = found.summary()
    for name in found.classes:
        print_frame(f"{name}: class means, each method in its own unit", *_by_method(summary, name))
    print_line("Compare orders, not values: units differ. Notes and p-values are in the tables.")


def _by_method(summary: pd.DataFrame, class_name: str) -> tuple[pd.DataFrame, dict[Any, str]]:
    """Return a class's means with a column for each method, and the columns' titles."""
    own = summary[summary["class_name"] == class_name]
    wide = own.pivot_table(
        index=["layer", "concept"], columns="method", values="mean", sort=False, dropna=False
    ).dropna(how="all")
    columns = [method for method in METHODS if method in wide]
    titles: dict[Any, str] = {"layer": "layer", "concept": "concept"}
    return wide[columns].reset_index(), titles | {m: m.replace("_", " ") for m in columns}
