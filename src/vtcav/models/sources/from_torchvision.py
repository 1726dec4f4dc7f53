"""Networks of torchvision, with the categories and transforms of their weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from PIL import Image
from torch import Tensor, nn

from vtcav.errors import ModelError
from vtcav.images.preprocess import Preprocess
from vtcav.models.settings import LoadSettings
from vtcav.models.sources.checkpoints import build_network, build_with_weights
from vtcav.models.sources.source import Source, missing_weights, package, torch_hub_file
from vtcav.parameters import did_you_mean


def load(name: str, settings: LoadSettings) -> Source:
    """Load a classification network of torchvision, with weights from the local cache or a file.

    Args:
        name: For example "resnet50", or "resnet50:IMAGENET1K_V1" for certain pretrained weights.
        settings: The settings of loading.

    Raises:
        ModelError: For an unknown name, or weights that are not there. Nothing is downloaded.
        ExtraError: When torchvision is not installed.
    """
    models = package("torchvision.models", "torchvision")
    name, _, tag = name.partition(":")
    known = models.list_models(module=models)
    if name not in known:
        raise ModelError(
            f"torchvision has no classification network {name!r}{did_you_mean(name, known, 3)} "
            "(all: torchvision.models.list_models(module=torchvision.models))"
        )
    description = _weights(models, name, tag)
    categories = preprocess = None
    if description is not None:
        categories = list(description.meta["categories"])
        preprocess = _preprocess(description.transforms())

    def build(count: int | None) -> nn.Module:
        options: dict[str, Any] = {} if count is None else {"num_classes": count}
        if name in ("googlenet", "inception_v3") or name.startswith("vgg"):
            options["init_weights"] = settings.weights == "random"  # it is slow
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a change of defaults to come
            module: nn.Module = models.get_model(name, weights=None, **options)
        return module

    def pretrained() -> nn.Module:
        if description is None:
            raise missing_weights("torchvision", name)
        file = torch_hub_file(description.url)
        if not file.is_file():
            get = f"m.get_model('{name}', weights='{description.name}')"
            download = f"import torchvision.models as m; {get}"
            raise missing_weights("torchvision", name, download=download, where=f" ({file})")
        return build_with_weights(build, file, None)

    return Source(build_network(build, settings, pretrained), categories, preprocess)


def _weights(models: Any, name: str, tag: str) -> Any | None:
    """Return torchvision's description of the network's default weights, or of those of a tag."""
    known = models.get_model_weights(name)
    if not tag:
        return known.DEFAULT if len(known) else None
    if tag not in known.__members__:
        raise ModelError(
            f"torchvision has no weights {tag!r} of {name!r}; "
            f"there are {', '.join(known.__members__) or 'none'}"
        )
    return known[tag]


def _preprocess(transforms: Any) -> Callable[[Image.Image], Tensor]:
    """Return the preset of a set of weights, as a `Preprocess` where it is a plain one."""
    crop, resize = (getattr(transforms, key, None) for key in ("crop_size", "resize_size"))
    interpolation = getattr(getattr(transforms, "interpolation", None), "value", None)
    if not (crop and resize and len(crop) == len(resize) == 1 and crop[0] <= resize[0]):
        preset: Callable[[Image.Image], Tensor] = transforms
        return preset
    return Preprocess(
        crop[0],
        interpolation=interpolation or "bilinear",
        mean=transforms.mean,
        std=transforms.std,
        crop_pct=crop[0] / resize[0],
    )
