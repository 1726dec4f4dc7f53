"""Networks of torchvision, with the categories and transforms of their weights."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import torch

from vtcav.errors import ModelError
from vtcav.images.preprocess import Preprocess
from vtcav.models.sources.checkpoints import build_with_weights
from vtcav.models.sources.source import Source, Weights, package

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor, nn

__all__ = ["load"]


def load(name: str, weights: Weights = None, classes: int | None = None) -> Source:
    """Load a classification network of torchvision by name.

    Args:
        name: For example "resnet50", or "resnet50:IMAGENET1K_V1" for certain pretrained weights.
        weights: None takes the pretrained ones from the local cache; "random", or a file.
        classes: How many classes the user names, for other weights than the pretrained.

    Raises:
        ModelError: For an unknown name, or weights that are not there. Nothing is downloaded.
        ExtraError: When torchvision is not installed.
    """
    models = package("torchvision.models", "torchvision")
    name, _, tag = name.partition(":")
    known = models.list_models(module=models)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise ModelError(
            f"torchvision has no classification network {name!r}{hint} "
            "(all: torchvision.models.list_models(module=torchvision.models))"
        )
    pretrained = _pretrained(models, name, tag)
    categories = list(pretrained.meta["categories"]) if pretrained is not None else None
    preprocess = _preprocess(pretrained.transforms()) if pretrained is not None else None

    def build(count: int | None) -> nn.Module:
        options: dict[str, Any] = {} if count is None else {"num_classes": count}
        if name in ("googlenet", "inception_v3") or name.startswith("vgg"):
            options["init_weights"] = weights == "random"  # it is slow
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a change of defaults to come
            module: nn.Module = models.get_model(name, weights=None, **options)
        return module.eval()

    if weights == "random":
        module = build(classes)
        same = classes is None or (categories is not None and len(categories) == classes)
        return Source(module, categories if same else None, preprocess)
    if weights is not None:
        module = build_with_weights(build, weights, classes)
        return Source(module, categories, preprocess)
    if pretrained is None:
        raise ModelError(
            f"torchvision has no pretrained weights for {name!r}: pass weights=FILE, or "
            'weights="random" to try the mechanics'
        )
    file = Path(torch.hub.get_dir()) / "checkpoints" / PurePosixPath(pretrained.url).name
    if not file.is_file():
        raise ModelError(
            f"the pretrained weights of torchvision:{name} are not on this machine ({file}), and "
            'vtcav downloads nothing. Get them once with: python -c "import torchvision.models '
            f"as m; m.get_model('{name}', weights='{pretrained.name}')\" or pass weights=FILE, "
            'or weights="random" to try the mechanics'
        )
    return Source(build_with_weights(build, file, None), categories, preprocess)


def _pretrained(models: Any, name: str, tag: str) -> Any | None:
    """Return the network's default weights, or those of a tag, as torchvision describes them."""
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
    """Return the preset of a set of weights as a `Preprocess`, whose geometry figures show."""
    crop, resize = (getattr(transforms, key, None) for key in ("crop_size", "resize_size"))
    interpolation = getattr(getattr(transforms, "interpolation", None), "value", None)
    if not (crop and resize and len(crop) == len(resize) == 1 and crop[0] <= resize[0]):
        return _whole(transforms)
    return Preprocess(
        crop[0],
        interpolation=interpolation or "bilinear",
        mean=transforms.mean,
        std=transforms.std,
        crop_pct=crop[0] / resize[0],
    )


def _whole(transforms: Any) -> Callable[[Image.Image], Tensor]:
    def preprocess(image: Image.Image) -> Tensor:
        tensor: Tensor = transforms(image)
        return tensor

    return preprocess
