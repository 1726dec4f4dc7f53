"""`vtcav init`: write a commented study file from a folder.

Write a commented study file for `vtcav run` from the contents of a folder: concepts/ with one
folder per concept, negatives/ or random/, classes/ with one folder of images per class, and single
photographs.

Examples:
  vtcav init
  vtcav init data -o study.yaml --model timm:resnet18
"""

from __future__ import annotations

from pathlib import Path

from vtcav.cli.options import MODEL_HELP, Arguments, Parser, UsageError
from vtcav.errors import ExplanationError


def add_options(command: Parser) -> None:
    """Add the options."""
    where = "where to look (default: here)"
    command.add_argument(
        "folder", type=Path, nargs="?", default=Path(), metavar="FOLDER", help=where
    )
    command.add_output("the file to write (default: FOLDER/study.yaml)")
    command.option("--model", f"the network: {MODEL_HELP}", default="demo")
    command.flag("--force", "replace the file where it exists")
    command.add_shared(quiet="print nothing")


def run(arguments: Arguments) -> None:
    """Carry out the command."""
    from vtcav.files.atomic import atomic_path
    from vtcav.study.template import look_into, study_text

    root = arguments.folder
    if not root.is_dir():
        came = "is a file" if root.exists() else "does not exist"
        raise UsageError(f"expected a folder to look into, got {str(root)!r}, which {came}")
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
    arguments.answer(data, *([] if arguments.quiet else lines))
