"""Folders of Hugging Face, here or in the local cache: nothing is downloaded, no code is run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from vtcav.errors import ModelError, why
from vtcav.files.json_text import parsed
from vtcav.files.paths import is_file, is_folder
from vtcav.models.sources.checkpoints import refuse_torchscript
from vtcav.models.sources.source import hub_file

LOCAL = {"local_files_only": True, "trust_remote_code": False}
"""Arguments of every call that reads a folder: nothing is downloaded, and no code in it is run."""

_CONFIG = "config.json"
_WEIGHTS = ".safetensors", ".bin"
_COUNTS = re.compile("depth|layers|blocks|stages|groups", re.IGNORECASE)
_MOST_LAYERS = 2000  # the deepest networks have about 1,000
_DEEPEST = 9  # objects in objects that are looked at
_LEAST, _PER_BYTE = 1 << 24, 4  # numbers that a network may have beyond its files, which are packed
_DESCRIPTIONS = (
    *(_CONFIG, "preprocessor_config.json", "processor_config.json"),
    *("tokenizer_config.json", "video_preprocessor_config.json"),
)


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
            raise ModelError(f"cannot read {file} of hf:{name}: {why(error)}") from error
        if not isinstance(content, dict):
            raise ModelError(f"{file} of hf:{name} holds no JSON object")
        if file == _CONFIG and not content.keys() & {"model_type", "architecture"}:  # timm's own
            raise ModelError(f"cannot load hf:{name}: its {_CONFIG} has no 'model_type'")
        if file == _CONFIG:
            _check_counts(name, content)
        if _names_code(content):
            raise ModelError(
                f"hf:{name} comes with Python code of its own ({file} has 'auto_map'), which is "
                "not run because code from elsewhere could do anything. Read it, build the network "
                "in a module of yours, and give it as python:MODULE:CALLABLE"
            )
    if is_folder(folder):
        pickled = sorted(folder.glob("*.bin"))
    else:
        cached = hub_file(name, ["pytorch_model.bin"])
        pickled = [cached] if cached else []
    for path in pickled:
        refuse_torchscript(path)


def _names_code(content: Any, depth: int = 0) -> bool:
    """Whether a description names code of its own, also within."""
    if depth > _DEEPEST or not isinstance(content, Mapping | list):
        return False
    parts = content.values() if isinstance(content, Mapping) else content
    return "auto_map" in content or any(_names_code(part, depth + 1) for part in parts)


def _check_counts(name: str, config: Mapping[str, Any]) -> None:
    """Refuse a description of more layers than any network has, which take for ever to make.

    Raises:
        ModelError: Naming the field.
    """
    for key, count in _counts(config):
        if count > _MOST_LAYERS:
            raise ModelError(
                f"cannot load hf:{name}: {key!r} in its {_CONFIG} asks for {count} layers, and no "
                f"network has more than {_MOST_LAYERS}; the file is damaged"
            )


def _counts(config: Any, depth: int = 0) -> Iterator[tuple[str, float]]:
    for key, value in config.items() if isinstance(config, Mapping) and depth < _DEEPEST else ():
        numbers = value if isinstance(value, list) else [value]
        if _COUNTS.search(str(key)):
            yield str(key), sum(abs(n) for n in numbers if isinstance(n, int | float))
        for each in numbers:
            yield from _counts(each, depth + 1)


def refuse_oversized(name: str, auto: Any, config: Any) -> None:
    """Refuse a description whose network would be far larger than the weights beside it.

    Args:
        name: A folder, or a repository in the local cache.
        auto: The class of transformers that makes the network.
        config: The description.

    Raises:
        ModelError: When it is.
    """
    files = _weight_files(name)
    count = 0
    with suppress(Exception), torch.device("meta"):  # where it cannot be counted, loading says why
        network = auto.from_config(config, trust_remote_code=False)
        count = sum(value.numel() for value in network.state_dict().values())
    size = sum(file.stat().st_size for file in files)
    if files and count > _LEAST + _PER_BYTE * size:
        raise ModelError(
            f"cannot load hf:{name}: its {_CONFIG} describes a network of {count:,} numbers, and "
            f"the files of weights have {size:,} bytes; one of them is damaged"
        )


def _weight_files(name: str) -> list[Path]:
    one = saved_file(name, ["model.safetensors", "pytorch_model.bin"])
    folder = Path(name) if is_folder(name) else one.parent if one else None
    return [path for path in folder.iterdir() if path.suffix in _WEIGHTS] if folder else []
