"""The preprocessing that a Keras network implies by its architecture and first layers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vtcav.errors import ModelError
from vtcav.images.preprocess import Preprocess
from vtcav.models.keras.module import layers_by_path
from vtcav.models.sources.source import imagenet_names

# Arguments of a Preprocess, by the names that keras.applications uses, and "pixels" for none.
_SCALES: dict[str, dict[str, Any]] = {
    "tf": {"mean": 0.5, "std": 0.5},
    "torch": {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
    "caffe": {"mean": (123.68 / 255, 116.779 / 255, 103.939 / 255), "std": 1 / 255},
    "pixels": {"std": 1 / 255},
}

# Networks of keras.applications: the name, a layer of the architecture, the scale.
_APPLICATIONS = (
    (r"resnet(50|101|152)v2", "conv5_block3_2_pad", "tf"),
    (r"resnet(50|101|152)", "conv5_block3_add", "caffe"),
    (r"vgg(16|19)", "block5_conv3", "caffe"),
    (r"inception_v3", "mixed10", "tf"),
    (r"inception_resnet_v2", "block8_10_mixed", "tf"),
    (r"xception", "block14_sepconv2", "tf"),
    (r"mobilenetv2_[\d.]+_\d+", "block_16_project", "tf"),
    (r"mobilenet_[\d.]+_\d+", "conv_dw_13", "tf"),
    (r"densenet(121|169|201)", "conv5_block16_concat", "torch"),
)
# Layers that may come before the one that scales, because they keep the range of the pixels.
_KEEPS_RANGE = re.compile("InputLayer|Random.*|Resizing|CenterCrop")
_LARGEST_SCALE = 0.02  # of pixels 0..255; 1 / 255 and 1 / 127.5 are usual
_LARGEST_MEAN = 2.0  # of values that are already scaled


class BGRPreprocess(Preprocess):
    """A `Preprocess` (mean and std of R, G, B) whose tensor has the channels in the order B, G, R.

    The networks that Keras adopted from Caffe (VGG, ResNet) expect this.

    Example:
        >>> red = Image.new("RGB", (8, 8), (255, 0, 0))
        >>> BGRPreprocess(8)(red)[:, 0, 0].tolist()
        [0.0, 0.0, 1.0]
    """

    def __call__(self, image: Image.Image) -> Tensor:
        """Turn one picture into a tensor [3, H, W] of blue, green and red."""
        return super().__call__(image).flip(0)

    def pixels(self, x: Tensor) -> NDArray[np.uint8]:
        """Return tensors [..., 3, H, W] of blue, green and red as RGB pictures."""
        return super().pixels(x.flip(-3))

    def describe(self) -> dict[str, object]:
        """The settings as JSON takes them, for provenance."""
        return {**super().describe(), "channels": "BGR"}


@dataclass(frozen=True)
class Advice:
    """The preprocessing that a network implies.

    Attributes:
        preprocess: The preprocessing; by default to [0, 1] at the network's size.
        certain: Whether the network was made for it.
        class_names: Those of ImageNet for its networks in `keras.applications`.
        hint: A guess where nothing is certain.
    """

    preprocess: Preprocess
    certain: bool
    class_names: Sequence[str] | None = None
    hint: str = ""


def advise(network: Any, *, channels_last: bool) -> Advice:
    """Return the preprocessing that a Keras network implies.

    It is certain in two cases: when the first layer scales pixels 0..255 itself, and for a whole
    network of `keras.applications` with its 1000 classes. One with other classes, or inside another
    network, may have been trained with another scale, so there is only a hint.

    Args:
        network: A `keras.Model`.
        channels_last: Whether its channels are last.
    """
    size, channels = _size(network, channels_last), _channels(network, channels_last)
    name, known = _application(network)
    names = imagenet_names() if name and _shape(network, "output")[-1:] == (1000,) else None
    if _scales_pixels(network):
        return Advice(named_preprocess("pixels", size, channels), certain=True, class_names=names)
    known = known if channels is None else ""  # they were made for RGB
    if names and known:
        return Advice(named_preprocess(known, size), certain=True, class_names=names)
    hint = f'keras.applications would use preprocess="{known}"' if known else ""
    return Advice(Preprocess(size, channels=channels), certain=False, hint=hint)


def _application(network: Any) -> tuple[str, str]:
    """Return the name and the scale of the architecture; no name if it is inside another."""
    outer = {layer.name for layer in network.layers}
    names = {network.name, *(layer.name for layer in layers_by_path(network).values())}
    for pattern, layer, scale in _APPLICATIONS:
        if layer in names:
            whole = layer in outer and re.fullmatch(pattern, network.name)
            return (network.name if whole else ""), scale
    for pattern in (r"efficientnet(b\d|v2-.*)", r"MobileNetV3(Small|Large)", r"convnext_\w+"):
        if re.fullmatch(pattern, network.name):
            return network.name, ""
    return "", ""


def named_preprocess(name: str, size: Any, channels: int | None = None) -> Preprocess:
    """Return the scaling that `keras.applications` calls by this name.

    Args:
        name: "tf" (-1 to 1), "torch" (mean and std of ImageNet), "caffe" (BGR without the mean
            of ImageNet) or "pixels" (0 to 255, for networks that scale themselves).
        size: As `Preprocess` takes it.
        channels: As `Preprocess` takes it.

    Raises:
        ModelError: For another name, or one that is for RGB where there are other channels.

    Example:
        >>> named_preprocess("tf", 224) == Preprocess(224, mean=0.5, std=0.5)
        True
    """
    if name not in _SCALES:
        expected = ", ".join(map(repr, _SCALES))
        raise ModelError(f"expected preprocess to be a callable or one of {expected}, got {name!r}")
    scale = _SCALES[name]
    if channels is not None and any(isinstance(values, tuple) for values in scale.values()):
        raise ModelError(
            f"preprocess={name!r} is for RGB, and the network takes pictures of {channels} "
            'channels: expected "tf", "pixels" or a vtcav.Preprocess'
        )
    return (BGRPreprocess if name == "caffe" else Preprocess)(size, channels=channels, **scale)


def _size(network: Any, channels_last: bool) -> tuple[int, int] | None:
    """Return (H, W) of the network's input, or None if it takes any size or states none."""
    shape = _shape(network, "input")
    size = shape[1:3] if channels_last else shape[2:4]
    return size if len(shape) == 4 and all(size) else None


def _channels(network: Any, channels_last: bool) -> int | None:
    """Return how many channels the network's input states; None for 3, or where it states none."""
    shape = _shape(network, "input")
    stated = shape[-1 if channels_last else 1] if len(shape) == 4 else None
    return None if stated == 3 else stated


def _shape(network: Any, end: str) -> tuple[Any, ...]:
    """Return the shape of the only input or output; empty where the network states none."""
    try:
        return tuple(getattr(network, f"{end}_shape"))
    except Exception:  # noqa: BLE001  (of a hand-written network, or of several inputs)
        return ()


def _scales_pixels(network: Any) -> bool:
    """Tell whether the network begins by scaling pixels 0..255."""
    first: Any = next((x for x in _in_order(network) if not _KEEPS_RANGE.fullmatch(_kind(x))), None)
    if _kind(first) == "Rescaling":
        scale = np.asarray(first.scale)
        return bool((scale > 0).all() and (scale <= _LARGEST_SCALE).all())
    if _kind(first) == "Normalization":
        mean = getattr(first, "mean", None)
        return mean is not None and float(mean.detach().max()) > _LARGEST_MEAN
    return False


def _in_order(network: Any) -> Iterator[Any]:
    """Yield the innermost layers, in the order of a network without branches."""
    for layer in network.layers:
        if hasattr(layer, "layers"):
            yield from _in_order(layer)
        else:
            yield layer


def _kind(layer: Any) -> str:
    return type(layer).__name__
