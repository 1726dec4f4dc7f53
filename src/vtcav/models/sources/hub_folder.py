"""Folders of Hugging Face, here or in the local cache: nothing is downloaded, no code is run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vtcav.errors import ModelError
from vtcav.files.json_text import parsed
from vtcav.models.sources.checkpoints import refuse_torchscript
from vtcav.models.sources.source import hub_file
from vtcav.paths import is_file, is_folder

LOCAL = {"local_files_only": True, "trust_remote_code": False}
"""Arguments of every call that reads a folder: nothing is downloaded, and no code in it is run."""

_CONFIG = "config.json"
_DESCRIPTIONS = _CONFIG, "preprocessor_config.json", "processor_config.json"


def saved_file(name: str, names: Sequence[str]) -> Path | None:
    """Return the first of some files that is beside a network; None where none is.

    Args:
        name: A folder, or a repository in the local cache.
        names: Names of files.
    """
    folder = Path(name)
    if not is_folder(folder):
        return hub_file(name, names)
    return next((folder / each for each in names if is_file(folder / each)), None)


def refuse_code(name: str) -> None:
    """Refuse a network that comes with Python code of its own, before anything reads it.

    A folder that does not say what it is, is refused, too: transformers before 5 guesses from the
    folder's name.

    Raises:
        ModelError: When a description names such code, cannot be read or names no kind of network.
    """
    folder = Path(name)
    for file in _DESCRIPTIONS:
        path = saved_file(name, [file])
        if path is None:
            if file == _CONFIG and is_folder(folder):
                raise ModelError(f"cannot load hf:{name}: the folder has no {_CONFIG}")
            continue
        try:
            content = parsed(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ModelError(f"cannot read {file} of hf:{name}: {error}") from error
        if not isinstance(content, dict):
            raise ModelError(f"{file} of hf:{name} holds no JSON object")
        if file == _CONFIG and not content.keys() & {"model_type", "architecture"}:  # timm's own
            raise ModelError(f"cannot load hf:{name}: its {_CONFIG} has no 'model_type'")
        if "auto_map" in content:
            raise ModelError(
                f"hf:{name} comes with Python code of its own ({file} has 'auto_map'), which is "
                "not run because code from elsewhere could do anything. Read it, build the network "
                "in a module of yours, and give it as python:MODULE:CALLABLE"
            )
    pickled = hub_file(name, ["pytorch_model.bin"]) if not is_folder(folder) else None
    for path in [pickled] if pickled else sorted(folder.glob("*.bin")):
        refuse_torchscript(path)
