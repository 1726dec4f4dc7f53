"""Answers of earlier calls: kept with what was asked, and given again while all of it is as it was.

Everything is told from outside, by options and files, so that no network is loaded.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from vtcav.errors import ExplanationError, PathError, why
from vtcav.files.atomic import atomic_path
from vtcav.files.hashing import file_hash, json_hash
from vtcav.files.manifest import load_manifest
from vtcav.files.paths import expanded, is_file, is_folder

_PACKAGES = ("vtcav", "torch", "numpy", "pillow", "torchvision", "timm", "transformers", "keras")
# code, and files of weights beside it
_READ_BY_CODE = {
    *(".py", ".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".h5", ".keras", ".npz", ".npy"),
}


class Asked:
    """What a command was asked.

    Args:
        options: The options that the answer depends on, by name.
        sources: Which of them are sources of images.

    Raises:
        ImageError: When a source of images cannot be listed.
    """

    def __init__(self, options: Mapping[str, Any], sources: Iterable[str]) -> None:
        given = {name: value for name, value in options.items() if value is not None}
        listed = {name: given[name] for name in sources if name in given}
        self._content: dict[str, Any] = {
            "options": {name: str(value) for name, value in given.items()},
            "versions": {name: _version(name) for name in _PACKAGES},
        }
        images = {name: _of_images(source) for name, source in listed.items()}
        self.told = all(images.values())
        others = {name: _of_files(value) for name, value in given.items() if name not in listed}
        self._content["files"] = {
            name: found for name, found in {**images, **others}.items() if found
        }

    def answer(self, folder: Path, kind: str) -> tuple[dict[str, Any], str] | None:
        """Return the manifest of the answer in a folder, and when it was computed.

        Args:
            folder: Where results were saved.
            kind: Of the result.

        Returns:
            None where nothing is kept, something has changed, or it cannot be told.
        """
        try:
            known = json.loads(_record(folder, kind).read_text("utf-8"))
            if not self.told or known["asked"] != self._content:
                return None
            if known["manifest"] != file_hash(folder / f"{kind}.json"):
                return None
            return load_manifest(folder, kind, kind), str(known["computed"])
        except (OSError, ValueError, LookupError, TypeError, ExplanationError):
            return None

    def changed(self, folder: Path, kind: str) -> list[str]:
        """Return what has changed since the answer in a folder; empty where there is none."""
        try:
            known = json.loads(_record(folder, kind).read_text("utf-8"))["asked"]
            return [
                name
                for part in ("options", "versions", "files")
                for name in dict.fromkeys([*self._content[part], *known[part]])
                if self._content[part].get(name) != known[part].get(name)
            ]
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return []

    def keep(self, folder: Path, kind: str) -> None:
        """Keep what was asked beside the answer, which has been saved.

        Raises:
            ExplanationError: When it cannot be written.
        """
        record = {
            "asked": self._content,
            "manifest": file_hash(folder / f"{kind}.json"),
            "computed": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        }
        path = _record(folder, kind)
        try:
            with atomic_path(path) as partial:
                partial.write_text(json.dumps(record, indent=1), encoding="utf-8")
        except OSError as error:
            raise ExplanationError(f"cannot write {str(path)!r}: {why(error)}") from error


def _record(folder: Path, kind: str) -> Path:
    return folder / f"{kind}_asked.json"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _of_images(source: Any) -> str:
    """Return the state of the files of a source; empty where they are no files of this machine."""
    from vtcav.images.listing import collect

    states = []
    for ref in collect(source):
        try:
            size, mtime_ns = ref.status()
        except OSError:
            size = mtime_ns = 0  # it cannot be read, and this may change
        if mtime_ns < 0:
            return ""
        states.append([ref.name, size, mtime_ns])
    return json_hash(states)


def _of_files(value: Any) -> str:
    """Return the state of the files that the value of an option names; empty where it names none.

    They are the file itself, the files of a folder, or those of `python:MODULE:CALLABLE`: the
    module with the code and weights beside it.
    """
    if not isinstance(value, str | Path):
        return ""
    scheme, _, rest = str(value).partition(":")
    if scheme == "python":
        found = _of_module(rest.partition(":")[0])
    else:
        named = [expanded(text) for text in (str(value), rest) if text]
        found = [file for path in named for file in _inside(path)]
    states = []
    for path in sorted(set(found)):
        status = path.stat()
        states.append([str(path), status.st_size, status.st_mtime_ns])
    return json_hash(states) if states else ""


def _of_module(module: str) -> list[Path]:
    """Return the files of a module, and code and weights beside it."""
    for folder in dict.fromkeys([str(Path.cwd()), *sys.path]):
        stem = Path(folder or ".", *module.split("."))
        for file in (stem.with_suffix(".py"), stem / "__init__.py"):
            if is_file(file):
                return [path for path in _inside(file.parent) if path.suffix in _READ_BY_CODE]
    return []


def _inside(path: Path) -> list[Path]:
    """Return a file itself, the files directly in a folder, or nothing."""
    try:
        if is_folder(path):
            return [file for file in path.iterdir() if is_file(file)]
        return [path] if is_file(path) else []
    except (OSError, PathError):
        return []
