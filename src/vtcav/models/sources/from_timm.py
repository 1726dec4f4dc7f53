"""Networks of timm, with their data configuration and ImageNet class names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from vtcav.errors import ModelError
from vtcav.images.preprocess import Preprocess
from vtcav.models.settings import LoadSettings
from vtcav.models.sources.checkpoints import build_network
from vtcav.models.sources.source import (
    Source,
    hub_file,
    imagenet_names,
    missing_weights,
    package,
    torch_hub_file,
)
from vtcav.parameters import did_you_mean

_FILES = ("model.safetensors", "pytorch_model.bin")
_RESIZE = {"center": "crop", "squash": "stretch", "border": "pad"}


def load(name: str, settings: LoadSettings) -> Source:
    """Load a network of timm by name, with weights from the local cache or from a file.

    Args:
        name: For example "convnext_atto.d2_in1k".
        settings: The settings of loading.

    Raises:
        ModelError: For an unknown name, or weights that are not there. Nothing is downloaded.
        ExtraError: When timm is not installed.
    """
    timm = package("timm", "timm")
    if ":" in name or not timm.is_model(name):
        hint = did_you_mean(name, timm.list_models(), 3)
        raise ModelError(
            f"timm has no network {name!r}{hint} (all: timm.list_models()). For a repository of "
            "Hugging Face load its file of weights, weights=FILE, into the architecture's name"
        )

    def build(count: int | None) -> nn.Module:
        counted = {} if count is None else {"num_classes": count}
        try:
            module: nn.Module = timm.create_model(name, pretrained=False, **counted)
        except RuntimeError as error:  # a tag that the architecture does not have
            raise ModelError(f"timm cannot build {name!r}: {error}") from error
        return module

    module = build_network(build, settings, lambda: _pretrained(timm, name, build(None)))
    return Source(module, _class_names(timm, module), _preprocess(timm, module))


def _pretrained(timm: Any, name: str, module: nn.Module) -> nn.Module:
    """Return the network with its pretrained weights, which timm itself reads from the local cache.

    Only timm knows how to rename the weights in files made by other packages.
    """
    config: Mapping[str, Any] = module.pretrained_cfg  # type: ignore[assignment]  # set by timm
    repository, url = config.get("hf_hub_id"), config.get("url")
    if not (repository or url):
        raise missing_weights("timm", name)
    file = hub_file(repository, _FILES) if repository else None
    if file is None and url:
        file = torch_hub_file(url)
    if file is None or not file.is_file():
        download = f"import timm; timm.create_model('{name}', pretrained=True)"
        raise missing_weights("timm", name, download=download)
    overlay = {"file": str(file)}
    loaded: nn.Module = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    return loaded


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
