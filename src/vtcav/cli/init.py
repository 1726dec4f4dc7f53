"""`vtcav init`: write a commented study file from a folder.

Write a commented study file for `vtcav run` from the contents of a folder: concepts/ with one
folder per concept, negatives/ or random/, classes/ with one folder of images per class, and single
photographs.

Examples:
  vtcav init
  vtcav init data -o study.yaml --model timm:resnet18
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vtcav.cli import options
from vtcav.errors import ExplanationError

__all__ = ["add_options", "run"]


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    where = "where to look (default: here)"
    command.add_argument(
        "folder", type=Path, nargs="?", default=Path(), metavar="FOLDER", help=where
    )
    options.add_output(command, "the file to write (default: FOLDER/study.yaml)")
    command.add_argument(
        "--model", default="demo", help=f"the network (default demo): {options.MODEL_HELP}"
    )
    command.add_argument("--force", action="store_true", help="replace the file where it exists")
    options.add_shared(command, quiet="print nothing")


def run(arguments: argparse.Namespace) -> None:
    """Carry out the command."""
    from vtcav.files.atomic import atomic_path
    from vtcav.study.template import look_into, study_text

    root = arguments.folder
    if not root.is_dir():
        came = "is a file" if root.exists() else "does not exist"
        raise options.UsageError(f"expected a folder to look into, got {str(root)!r}, which {came}")
    path = root / "study.yaml" if arguments.output is None else arguments.output
    if path.exists() and not arguments.force:
        raise ExplanationError(f"{str(path)!r} exists already; --force replaces it")
    found = look_into(root.resolve())
    text = study_text(found, path.resolve().parent, model=arguments.model)
    try:
        with atomic_path(path) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ExplanationError(f"cannot write {str(path)!r}: {error}") from error
    lines = [f"Written to {path.resolve()}"]
    lines += [f"Not found: {what}; the file says where to put it" for what in found.missing]
    lines += [f"Look through it, then: vtcav run {path}"]
    data = {"study": str(path.resolve()), "missing": found.missing}
    options.answer(arguments, data, *([] if arguments.quiet else lines))
