"""The values of a study file that name files and folders, which have to be there."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from vtcav.files.paths import is_folder, is_there
from vtcav.images.listing import collect, is_remote
from vtcav.parameters import Text
from vtcav.study.sources import labels_in, paths
from vtcav.study.values import at, mistakes, take


def source_of(value: Any) -> Any:
    """Return a folder or file, or several of them, with images."""
    if isinstance(value, list) and value:
        return tuple(at(i, _one_source, part) for i, part in enumerate(value))
    return _one_source(value)


def _one_source(value: Any) -> str:
    path = str(take(value, Text("the path of a folder of images, or a list of image files")))
    files_of(path)
    return path


def files_of(path: str) -> list[str]:
    """Return the files that a path stands for."""
    with mistakes(hint=_relative(path)):
        return [ref.name for ref in collect(paths(path))]


def file_of(value: Any) -> str:
    """Return an image file that exists."""
    path = str(take(value, Text("the path of an image file")))
    if _is_there(path) and is_folder(path):
        whole = f"give a whole folder as 'images: {path}'"
        raise ValueError(f"expected an image file, got the folder {path!r}; {whole}")
    return existing(path)


def existing(path: str, expected: str = "") -> str:
    """Return a path that exists, or a URI.

    Args:
        path: The path.
        expected: What else may stand there, in words.
    """
    if not is_remote(path) and not _is_there(path):
        other = f"; expected {expected}" * bool(expected)
        raise ValueError(f"{path!r} does not exist{_relative(path)}{other}")
    return path


def labelled_of(value: Any) -> str:
    """Return a folder with a folder of images per class, or a table of paths and labels."""
    what = "the path of a folder with one folder of images per class, or of a table"
    path = existing(str(take(value, Text(what))))
    if is_table(path):
        with mistakes():
            labels_in(path)
    return path


def is_table(path: str) -> bool:
    """Tell whether a path is that of a table on this machine."""
    suffix = PurePath(path).suffix.lower()
    return suffix in (".csv", ".tsv", ".parquet") and not is_remote(path)


def _is_there(path: str) -> bool:
    try:
        return is_there(path)
    except (OSError, ValueError):  # a name that no file can have
        return False


def _relative(path: str) -> str:
    here = PurePath(path).is_absolute() or _is_there(path)
    return "" if here else "; paths are relative to the folder of the study file"
