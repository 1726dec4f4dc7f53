"""Image classifiers of Hugging Face transformers, with their processor and label names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor, nn

from vtcav.errors import ModelError, warn
from vtcav.images.preprocess import Preprocess
from vtcav.models.settings import LoadSettings
from vtcav.models.sources.checkpoints import build_network, refuse_torchscript
from vtcav.models.sources.source import Source, hub_file, package

_LOCAL = {"local_files_only": True, "trust_remote_code": False}
"""Arguments of every call that reads a folder: nothing is downloaded, and no code in it is run."""
_DESCRIPTIONS = "config.json", "preprocessor_config.json", "processor_config.json"
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}


def load(name: str, settings: LoadSettings) -> Source:
    """Load an image classifier of transformers from a folder or the local cache.

    Args:
        name: A folder of `save_pretrained`, or the name of a repository that is in the cache.
        settings: The settings of loading. With other weights than the folder's, the network is
            built from its configuration.

    Raises:
        ModelError: For a network that is not on this machine or is no classifier. Nothing is
            downloaded.
        ExtraError: When transformers is not installed.
    """
    transformers = package("transformers", "hf")
    refuse_code(name)
    try:
        config = transformers.AutoConfig.from_pretrained(name, **_LOCAL)
    except Exception as error:  # the parser of a foreign format, whatever the folder holds
        raise ModelError(_absent(name, error)) from error
    auto = transformers.AutoModelForImageClassification

    def build(count: int | None) -> nn.Module:
        if count is not None and count != config.num_labels:
            config.num_labels = count
        with _errors(name, config):
            module: nn.Module = auto.from_config(config, trust_remote_code=False)
        return module

    module = build_network(build, settings, lambda: _pretrained(auto, name, config))
    names = [str(config.id2label[i]) for i in range(len(config.id2label))]
    preprocess = settings.preprocess or _preprocess(transformers, name, config)
    return Source(module, names, preprocess)


def refuse_code(name: str) -> None:
    """Refuse a network that comes with Python code of its own, before anything reads it.

    Raises:
        ModelError: When a description names such code, or cannot be read.
    """
    folder = Path(name)
    for file in _DESCRIPTIONS:
        path = folder / file if folder.is_dir() else hub_file(name, [file])
        if path is None or not path.is_file():
            continue
        try:
            content = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ModelError(f"cannot read {file} of hf:{name}: {error}") from error
        if not isinstance(content, dict):
            raise ModelError(f"{file} of hf:{name} holds no JSON object")
        if "auto_map" in content:
            raise ModelError(
                f"hf:{name} comes with Python code of its own ({file} has 'auto_map'), which is "
                "not run because code from elsewhere could do anything. Read it, build the network "
                "in a module of yours, and give it as python:MODULE:CALLABLE"
            )
    pickled = hub_file(name, ["pytorch_model.bin"]) if not folder.is_dir() else None
    for path in [pickled] if pickled else sorted(folder.glob("*.bin")):
        refuse_torchscript(path)


def _pretrained(auto: Any, name: str, config: Any) -> nn.Module:
    """Return the network with its weights; raise where some would be random."""
    with _errors(name, config):
        module, info = auto.from_pretrained(name, **_LOCAL, output_loading_info=True)
    if info["missing_keys"]:
        missing = ", ".join(sorted(info["missing_keys"])[:3])
        raise ModelError(
            f"hf:{name} has no weights for {missing}: expected a classifier, got a network that "
            "was saved without its last layer, which would be random. Use the fine-tuned one"
        )
    loaded: nn.Module = module
    return loaded


@contextmanager
def _errors(name: str, config: Any) -> Iterator[None]:
    """Turn the errors of transformers into those of vtcav."""
    try:
        yield
    except OSError as error:
        raise ModelError(_absent(name, error)) from error
    except ImportError as error:
        raise ModelError(
            f"transformers cannot import what hf:{name} needs: {error}. Do the versions of torch, "
            "torchvision and transformers fit each other?"
        ) from error
    except Exception as error:  # the parser of a foreign format, whatever the folder holds
        raise ModelError(
            f"hf:{name} is no image classifier of transformers (its kind is "
            f"{getattr(config, 'model_type', 'unknown')!r}): {error}"
        ) from error


def _absent(name: str, error: Exception) -> str:
    if Path(name).is_dir():
        return f"cannot load hf:{name}: {error}"
    return (
        f"hf:{name} is neither a folder nor in the local cache of Hugging Face, and vtcav "
        f"downloads nothing. Get it once with: hf download {name}"
    )


def _preprocess(transformers: Any, name: str, config: Any) -> Callable[[Image.Image], Tensor]:
    """Return the preprocessing in the image processor's file beside the network."""
    folder, needed = Path(name), "preprocessor_config.json"
    file = folder / needed if folder.is_dir() else hub_file(name, [needed])
    if file is None or not file.is_file():
        size = getattr(config, "image_size", None) or 224
        warn(
            f"hf:{name} comes without {needed}: pictures are resized to {size} "
            "and scaled to [-1, 1]; pass preprocess=vtcav.Preprocess(...) if it was trained "
            "otherwise"
        )
        return Preprocess(size, resize="stretch", mean=0.5, std=0.5)
    with _errors(name, config):
        found = preprocess_of(json.loads(file.read_text("utf-8")))
        if found is not None:
            return found
        processor = transformers.AutoImageProcessor.from_pretrained(name, **_LOCAL)

    def preprocess(image: Image.Image) -> Tensor:
        tensor: Tensor = processor(images=image, return_tensors="pt")["pixel_values"][0]
        return tensor

    return preprocess


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
