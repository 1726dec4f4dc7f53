"""Image processors of Hugging Face transformers, as preprocessing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeAlias

from PIL import Image
from pydantic import ConfigDict, Field
from torch import Tensor

from vtcav.errors import ModelError
from vtcav.files.json_text import parsed
from vtcav.files.schema import Saved, checked
from vtcav.images.preprocess import Preprocess
from vtcav.models.sources.hub_folder import LOCAL, saved_file

NEEDED = "preprocessor_config.json"
"""The file that an image processor is saved in."""

_OR_PART_OF = "processor_config.json"  # newer versions save all of a processor in one file
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}


def processor_of(transformers: Any, name: str) -> Callable[[Image.Image], Tensor] | None:
    """Return the preprocessing in the image processor's file beside a network.

    Args:
        transformers: The package.
        name: A folder, or a repository in the local cache.

    Returns:
        None where there is no such file.
    """
    settings = _settings(name)
    if settings is None:
        return None
    found = preprocess_of(settings)
    if found is not None:
        return found
    processor = transformers.AutoImageProcessor.from_pretrained(name, **LOCAL)

    def preprocess(image: Image.Image) -> Tensor:
        tensor: Tensor = processor(images=image, return_tensors="pt")["pixel_values"][0]
        return tensor

    return preprocess


def _settings(name: str) -> Mapping[str, Any] | None:
    for needed in (NEEDED, _OR_PART_OF):
        if file := saved_file(name, [needed]):
            content: Any = parsed(file.read_text("utf-8"))
            settings = content if needed == NEEDED else content.get("image_processor")
            if isinstance(settings, Mapping):
                try:
                    checked(_Processor, settings)
                except ValueError as error:
                    raise ModelError(f"{needed} of hf:{name}: {error}") from error
                return settings
    return None


_Numbers: TypeAlias = Annotated[list[float], Field(min_length=3, max_length=3)] | float
_Side: TypeAlias = Annotated[int, Field(ge=1, le=1 << 14)]
_Size: TypeAlias = Mapping[str, _Side | None] | _Side


class _Processor(Saved):
    # the file's own values are used: a text that stands for a number is none
    model_config = ConfigDict(strict=True)

    do_resize: bool | None = True
    do_rescale: bool | None = True
    do_normalize: bool | None = True
    do_center_crop: bool | None = None
    size: _Size | None = None
    crop_size: _Size | None = None
    crop_pct: Annotated[float, Field(gt=0, le=10)] | None = None
    resample: Annotated[int, Field(ge=0, le=5)] | None = 2
    rescale_factor: float | None = None
    image_mean: _Numbers | None = None
    image_std: _Numbers | None = None


def preprocess_of(settings: Mapping[str, Any]) -> Preprocess | None:
    """Return the settings of an image processor as a `Preprocess`, or None where none is the same.

    Args:
        settings: The content of preprocessor_config.json.

    Example:
        >>> found = preprocess_of({"do_resize": True, "size": {"height": 224, "width": 224},
        ...                        "resample": 2, "do_normalize": True,
        ...                        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]})
        >>> found.size, found.resize, found.interpolation, found.mean
        ((224, 224), 'stretch', 'bilinear', (0.5, 0.5, 0.5))
    """
    geometry = _geometry(settings)
    scale = settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 0
    interpolation = _FILTERS.get(settings.get("resample", 2))
    if geometry is None or abs(scale * 255 - 1) > 1e-6 or interpolation is None:
        return None
    normal = settings.get("do_normalize", True)
    return Preprocess(
        interpolation=interpolation,  # type: ignore[arg-type]  # one of _FILTERS, by name
        mean=settings.get("image_mean", 0.5) if normal else 0.0,
        std=settings.get("image_std", 0.5) if normal else 1.0,
        **geometry,
    )


def _geometry(settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return size, resize and crop_pct of a `Preprocess`, or None for another geometry."""
    size: Any = settings.get("size")
    crop: Any = settings.get("crop_size")
    if not settings.get("do_resize", True) or size is None:
        return None
    if isinstance(size, int):
        size = {"height": size, "width": size}
    cut = bool(settings.get("do_center_crop")) and crop is not None
    short = size.get("shortest_edge")
    if "ConvNext" in str(settings.get("image_processor_type")) and short:
        # its own rule: small inputs are cut out of a picture that is larger by crop_pct
        if short >= 384:
            return {"size": short, "resize": "stretch"}
        return {"size": short, "resize": "crop", "crop_pct": settings.get("crop_pct", 224 / 256)}
    if {"height", "width"} <= size.keys() and not cut:
        return {"size": (size["height"], size["width"]), "resize": "stretch"}
    if short and cut:
        high, wide = (crop, crop) if isinstance(crop, int) else (crop["height"], crop["width"])
        if high == wide <= short:
            return {"size": high, "resize": "crop", "crop_pct": high / short}
    return None
