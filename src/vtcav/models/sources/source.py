"""The common part of all sources: packages, weights, local caches, class names."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from vtcav.errors import ExtraError, ModelError

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor, nn

    from vtcav.models.joint_model import JointModel


@dataclass(frozen=True)
class Source:
    """A network from a package.

    Attributes:
        module: The network.
        class_names: Its class names by index, or None where the package does not know them.
        preprocess: Its preprocessing, or None where the package does not know it.
        joint: The image-text model that it is the vision tower of, if it is one.
    """

    module: nn.Module
    class_names: Sequence[str] | None
    preprocess: Callable[[Image.Image], Tensor] | None
    joint: JointModel | None = None


def package(name: str, extra: str) -> Any:
    """Import an optional package.

    Raises:
        ExtraError: When it is not installed; with the command that installs it.
        ModelError: When it is installed but does not fit the installed torch.
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
        try:
            found = hub.try_to_load_from_cache(repository, name, cache_dir=cache)
        except ValueError:  # a path, and no repository's name
            return None
        if isinstance(found, str):
            return Path(found)
    return None


def torch_hub_file(url: str) -> Path:
    """Return where PyTorch's local cache has, or would have, the file of a URL."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / PurePosixPath(url).name


def missing_weights(kind: str, name: str, *, download: str = "", where: str = "") -> ModelError:
    """Return the error about pretrained weights that are not there.

    Args:
        kind: The package.
        name: The network in it.
        download: Python code that downloads the weights; empty if there are none.
        where: The location where they would be, for the message.
    """
    hint = 'pass weights=FILE, or weights="random" to try the mechanics'
    if not download:
        return ModelError(f"{kind} has no pretrained weights for {name!r}: {hint}")
    return ModelError(
        f"the pretrained weights of {kind}:{name} are not on this machine{where}, and vtcav "
        f'downloads nothing. Get them once with: python -c "{download}" or {hint}'
    )


def imagenet_names() -> list[str]:
    """Return the 1,000 ImageNet class names, by index."""
    text = (
        resources.files("vtcav.models.sources").joinpath("imagenet_classes.txt").read_text("utf-8")
    )
    return text.splitlines()
