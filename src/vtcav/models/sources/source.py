"""What every source of networks gives, and how packages and local caches are found."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from vtcav.errors import ExtraError, ModelError

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor, nn

__all__ = ["Source", "Weights", "hub_file", "imagenet_names", "package", "read_class_names"]

Weights: TypeAlias = "str | Path | None"
"""Where weights come from: None for the pretrained ones, "random", or a file."""


@dataclass(frozen=True)
class Source:
    """A network as a package gives it.

    Attributes:
        module: The network.
        class_names: By class index, or None where the package does not know them.
        preprocess: What belongs to the network, or None where that is not known.
    """

    module: nn.Module
    class_names: Sequence[str] | None
    preprocess: Callable[[Image.Image], Tensor] | None


def package(name: str, extra: str) -> Any:
    """Import a package late.

    Raises:
        ExtraError: When it is not installed; with the line that installs it.
        ModelError: When it is installed and does not fit the torch that is.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ExtraError(
            f"models of {extra} need {error.name}: pip install 'vtcav[{extra}]'"
        ) from error
    except (ImportError, RuntimeError) as error:
        raise ModelError(
            f"{name} is installed and cannot be imported: {error}. Does its version fit torch's?"
        ) from error


def hub_file(repository: str, names: Sequence[str]) -> Path | None:
    """Return the first of some files of a Hugging Face repository that is in the local cache."""
    hub = importlib.import_module("huggingface_hub")
    for name in names:
        cache = hub.constants.HF_HUB_CACHE
        found = hub.try_to_load_from_cache(repository, name, cache_dir=cache)
        if isinstance(found, str):
            return Path(found)
    return None


def imagenet_names() -> list[str]:
    """Return the 1,000 ImageNet class names, by index."""
    text = (
        resources.files("vtcav.models.sources").joinpath("imagenet_classes.txt").read_text("utf-8")
    )
    return text.splitlines()


def read_class_names(path: str | Path) -> list[str]:
    """Return class names from a file, in the order of the class indices.

    Args:
        path: Text with one name per line; or JSON, a list of names or an object of names by
            index, as "id2label" in the configuration of a Hugging Face network.

    Raises:
        ModelError: When there is no such file or it holds no names.
    """
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot read class names from {str(path)!r}: {error}") from error
    if Path(path).suffix != ".json":
        return text.splitlines()
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ModelError(f"{str(path)!r} is no JSON: {error}") from error
    if isinstance(content, Mapping):
        content = content.get("id2label", content)
    if isinstance(content, Mapping):
        if sorted(content, key=str) != sorted(map(str, range(len(content)))):
            raise ModelError(
                f"expected names by class index from 0 to {len(content) - 1} in {str(path)!r}, "
                f"got the keys {', '.join(map(str, list(content)[:3]))}, ..."
            )
        content = [content[str(index)] for index in range(len(content))]
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise ModelError(
            f"expected a list of names, or names by class index, in {str(path)!r}; "
            f"got {text[:40]!r}"
        )
    return content
