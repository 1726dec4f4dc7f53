"""`vtcav init`: write a commented study file from a folder.

Write a commented study file for `vtcav run` from what a folder holds: concepts/, negatives/ or
random/, classes/, single photographs, and a Python file with a function build() that returns the
network.

Example:
  vtcav init data -o study.yaml --model timm:resnet18
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vtcav.cli.options import MODEL_HELP, Arguments, Parser, UsageError
from vtcav.errors import ExplanationError, why
from vtcav.files.paths import expanded, is_folder, is_there
from vtcav.results.words import clear

if TYPE_CHECKING:
    from vtcav.study.template import FolderContent

_NAMED = 6


def add_options(command: Parser) -> None:
    """Add the options."""
    where = "where to look (default: here)"
    command.add_argument(
        "folder", type=expanded, nargs="?", default=Path(), metavar="FOLDER", help=where
    )
    command.add_output("the file to write (default: FOLDER/study.yaml)")
    otherwise = "default: that of the Python file, else demo"
    command.option("--model", f"the network: {MODEL_HELP} ({otherwise})")
    command.flag("--force", "replace the file where it exists")
    command.add_shared(quiet="print nothing")


def run(arguments: Arguments) -> None:
    """Carry out the command."""
    from vtcav.files.atomic import atomic_path
    from vtcav.study.template import look_into, study_text, untold

    root = arguments.folder
    if not is_folder(root):
        came = "is a file" if is_there(root) else "does not exist"
        raise UsageError(f"expected a folder to look into, got {str(root)!r}, which {came}")
    path = root / "study.yaml" if arguments.output is None else arguments.output
    if is_there(path) and not arguments.force:
        raise ExplanationError(f"{str(path)!r} exists already; --force replaces it")
    found = look_into(root.resolve())
    base = path.resolve().parent
    if base != root.resolve():  # Python files are found beside the study alone
        found = replace(found, networks=())
    model = arguments.model or found.network
    text = study_text(found, base, model=model)
    try:
        with atomic_path(path) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ExplanationError(f"cannot write {str(path)!r}: {why(error)}") from error
    lines = [f"Written to {path.resolve()}"]
    lines += [f"Not found: {what}; the file says where to put it" for what in found.missing]
    lines += _others(found)
    lines += _network(found, model, arguments.model)
    bare = untold(model, base)
    lines += _weights_and_names(found, model, bare=bool(bare))
    to_set = [key for key in bare if key != "class_names" or found.class_names is None]
    if to_set:
        lines += [
            f"Set under model: {' and '.join(to_set)}, which a function that returns a bare module "
            "does not tell"
        ]
    lines += [f"Look through it, then: vtcav run {path}"]
    data = {
        "study": str(path.resolve()),
        "model": model,
        "missing": found.missing,
        "to_set": to_set,
        "not_taken": [folder.name for folder in found.others],
    }
    arguments.answer(data, *([] if arguments.quiet else lines))


def _others(found: FolderContent) -> list[str]:
    """Return which folders the study does not take, as their names do not say what they hold."""
    if not found.others:
        return []
    names = [repr(clear(folder.name)) for folder in found.others]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    folders, them = ("folder", "it") if len(names) == 1 else ("folders", "them")
    return [
        f"Not taken: the {folders} {', '.join(names[:_NAMED])}{more}; name what the study needs "
        f"of {them} in the file"
    ]


def _network(found: FolderContent, model: str, asked: str | None) -> list[str]:
    """Return which network the study takes, and why."""
    reason = ""
    if not asked and not found.networks:
        reason = ", as no Python file beside it has a function build(); --model names another"
    elif not asked and len(found.networks) > 1:
        reason = f", as there are {' and '.join(found.networks)}; --model names one"
    return [f"The network: {model}{reason}"]


def _weights_and_names(found: FolderContent, model: str, *, bare: bool) -> list[str]:
    """Return which weights and class names the study takes, and which it does not."""
    name = "NAME" if model == "demo" else model
    lines = []
    if found.checkpoints:
        names = ", ".join(path.name for path in found.checkpoints)
        where = "weights: FILE under model" if bare else f"model: {{name: {name}, weights: FILE}}"
        lines += [
            f"Not taken: {names}; where the network does not load its weights itself, write {where}"
        ]
    if found.class_names is not None:
        names = found.class_names.name
        if bare:
            lines += [f"Class names: {names}, in the order of the network's scores"]
        elif not model.startswith("python:"):  # a finished network has its own
            lines += [
                f"Not taken: {names}; where these are the network's classes, write "
                f"model: {{name: {name}, class_names: {names}}}"
            ]
    return lines
