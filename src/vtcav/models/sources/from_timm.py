"""Networks of timm, with their data configuration and ImageNet class names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import torch

from vtcav.errors import ModelError
from vtcav.images.preprocess import Preprocess
from vtcav.models.sources.checkpoints import build_with_weights
from vtcav.models.sources.source import Source, Weights, hub_file, imagenet_names, package

if TYPE_CHECKING:
    from torch import nn

__all__ = ["load"]

_FILES = ("model.safetensors", "pytorch_model.bin")
_RESIZE = {"center": "crop", "squash": "stretch", "border": "pad"}


def load(name: str, weights: Weights = None, classes: int | None = None) -> Source:
    """Load a network of timm by name.

    Args:
        name: For example "convnext_atto.d2_in1k".
        weights: None takes the pretrained ones from the local cache; "random", or a file.
        classes: How many classes the user names, for other weights than the pretrained.

    Raises:
        ModelError: For an unknown name, or weights that are not there. Nothing is downloaded.
        ExtraError: When timm is not installed.
    """
    timm = package("timm", "timm")
    if ":" in name or not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise ModelError(
            f"timm has no network {name!r}{hint} (all: timm.list_models()). For a repository of "
            "Hugging Face load its file of weights, weights=FILE, into the architecture's name"
        )

    def build(count: int | None, **options: Any) -> nn.Module:
        counted = {} if count is None else {"num_classes": count}
        try:
            module: nn.Module = timm.create_model(name, pretrained=False, **counted, **options)
        except RuntimeError as error:  # a tag that the architecture does not have
            raise ModelError(f"timm cannot build {name!r}: {error}") from error
        return module.eval()

    if weights == "random":
        module = build(classes)
    elif weights is not None:
        module = build_with_weights(build, weights, classes)
    else:
        module = _pretrained(timm, name, build(None))
    return Source(module, _class_names(timm, module), _preprocess(timm, module))


def _pretrained(timm: Any, name: str, module: nn.Module) -> nn.Module:
    """Return the network with its pretrained weights, read from the local cache by timm itself.

    Its own reading renames the weights of files that were made by other packages.
    """
    config: Mapping[str, Any] = module.pretrained_cfg  # type: ignore[assignment]  # set by timm
    repository, url = config.get("hf_hub_id"), config.get("url")
    if not (repository or url):
        raise ModelError(
            f"timm has no pretrained weights for {name!r}: pass weights=FILE, or "
            'weights="random" to try the mechanics'
        )
    file = hub_file(repository, _FILES) if repository else None
    if file is None and url:
        kept = Path(torch.hub.get_dir()) / "checkpoints" / PurePosixPath(url).name
        file = kept if kept.is_file() else None
    if file is None:
        raise ModelError(
            f"the pretrained weights of timm:{name} are not on this machine, and vtcav downloads "
            f"nothing. Get them once with: python -c \"import timm; timm.create_model('{name}', "
            'pretrained=True)" or pass weights=FILE, or weights="random" to try the mechanics'
        )
    overlay = {"file": str(file)}
    loaded: nn.Module = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    return loaded.eval()


def _class_names(timm: Any, module: nn.Module) -> list[str] | None:
    """Return the names of the ImageNet subset that has as many classes, if there is one."""
    subset = timm.data.infer_imagenet_subset(module)
    if subset is None:
        return None
    if subset == "imagenet-1k":
        return imagenet_names()
    info = timm.data.ImageNetInfo(subset)
    return [info.index_to_description(i) for i in range(info.num_classes())]


def _preprocess(timm: Any, module: nn.Module) -> Preprocess:
    """Return the data configuration as a `Preprocess`."""
    config = timm.data.resolve_model_data_config(module)
    _, height, width = config["input_size"]
    resize = _RESIZE.get(config["crop_mode"], "crop")
    interpolation = config["interpolation"]
    return Preprocess(
        (height, width),
        resize=resize,  # type: ignore[arg-type]  # one of _RESIZE
        interpolation=interpolation if interpolation != "random" else "bilinear",
        mean=config["mean"],
        std=config["std"],
        crop_pct=config["crop_pct"] if resize == "crop" else 1.0,
    )
