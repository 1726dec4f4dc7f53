"""The first pass of a network: noise images of a shape that fits."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from vtcav.errors import ImageError, ModelError, text_of
from vtcav.images.preprocess import Preprocess
from vtcav.images.signature import tensor_of_rgb
from vtcav.models.inspection.logits import LogitReader
from vtcav.models.inspection.network import FirstPass, Network

if TYPE_CHECKING:
    from PIL import Image


COMMON_SHAPES: Sequence[tuple[int, ...]] = [
    (3, size, size) for size in (224, 299, 384, 256, 512, 128, 96, 64, 32, 28)
]
"""The shapes to try in turn when no preprocessing tells the size of the network's input."""

_BOLD = re.compile(r"\x1b\[1m(.+?)\x1b\[0m", re.DOTALL)


def first_pass(
    network: Network,
    to_input: Callable[[Tensor], Tensor],
    shapes: Sequence[tuple[int, ...]],
    find: Callable[[nn.Module, Tensor], LogitReader],
) -> FirstPass:
    """Run a few noise images of the first shape that fits.

    Args:
        network: The network.
        to_input: Brings images to the network's device and precision.
        shapes: Shapes [C, H, W] to try, or [C, D, H, W].
        find: Finds the logits of the network on images.

    Returns:
        The images [3, C, H, W] and how the logits are read.

    Raises:
        ModelError: When the network can compute none of the shapes, or `find` raises it.
    """
    failure: Exception | None = None
    for shape in shapes:
        probe = to_input(noise(3, shape))
        try:
            with network.running() as module:
                return probe, find(module, probe)
        except ModelError:
            raise
        except Exception as error:  # noqa: BLE001  (a user's forward may raise anything)
            failure = failure or error
    tried = " or ".join(map(str, shapes))
    if len(shapes) > 2:
        tried = f"{shapes[0]} or {len(shapes) - 1} other shapes"
    raise ModelError(
        f"the network cannot compute images of shape {tried}: "
        f"{first_line(failure)}; {_advice(network.original, failure, shapes[0])}"
    ) from failure


def first_line(error: Exception | None) -> str:
    """Return an exception in one line of printable text.

    Keras puts the layer into the first line, and what failed into a later one, in bold.
    """
    try:
        whole = text_of(error).strip() if error else ""
    except Exception:  # noqa: BLE001  (of a class whose text fails, too)
        whole = ""
    first, bold = (whole.splitlines() or [""])[0], _BOLD.search(whole)
    text = f"{first} {bold[1]}" if bold and bold[1] not in first else first
    text = "".join(letter for letter in text if letter.isprintable())
    return f"{type(error).__name__}: {text}"[:400]


def _advice(module: nn.Module, error: Exception | None, shape: tuple[int, ...]) -> str:
    """Say what to do about the network's exception."""
    text = first_line(error).lower()
    if isinstance(error, TypeError) and "argument" in text:
        return (
            "expected a network that takes the images alone; wrap it in a module whose forward "
            "gives the other inputs, or give one of each image by second="
        )
    if any(word in text for word in ("shape", "size", "channels", "dimension")):
        return f"give the preprocess that makes the input the network expects{_hint(module, shape)}"
    return (
        "expected a network that computes scores from images alone, in evaluation mode. Does it "
        "compute one outside of vtcav, and have other tools left hooks on it?"
    )


def _hint(module: nn.Module, shape: tuple[int, ...]) -> str:
    """Say where the network takes another number of channels, or volumes."""
    first = _first_convolution(module)
    if first is None:
        return ""
    sides, count = len(first.kernel_size), first.in_channels
    if sides != len(shape) - 1:
        return _volume_hint(count, volumes=sides == 3)
    if count == shape[0]:
        return ""
    return (
        f" (its first convolution takes {count} channels, the preprocessing gives {shape[0]}: "
        f"vtcav.Preprocess(..., channels={count}))"
    )


def _volume_hint(count: int, *, volumes: bool) -> str:
    if volumes:
        size = f"(slices, height, width), channels={count}"
        return f" (its first convolution takes volumes: vtcav.Preprocess({size}))"
    return " (its first convolution takes pictures: give the height and width alone)"


def _first_convolution(module: nn.Module) -> nn.Conv2d | nn.Conv3d | None:
    return next((p for p in module.modules() if isinstance(p, nn.Conv2d | nn.Conv3d)), None)


@dataclass(frozen=True)
class OfChannels:
    """A callable preprocessing for pictures of another number of channels than RGB has.

    Attributes:
        preprocess: The callable.
        channels: The number of channels of its pictures.
        volumes: Whether they are volumes.
    """

    preprocess: Callable[[Image.Image], Tensor]
    channels: int
    volumes: bool = False

    def __call__(self, image: Image.Image) -> Tensor:
        """Turn one picture into a tensor."""
        return self.preprocess(image)

    def __repr__(self) -> str:
        return repr(self.preprocess)

    @property
    def cache_key(self) -> str:
        """That of the callable."""
        return str(getattr(self.preprocess, "cache_key", ""))


def with_channels(
    preprocess: Callable[[Image.Image], Tensor], module: nn.Module
) -> Callable[[Image.Image], Tensor]:
    """Return a preprocessing that says how many channels its pictures have, where RGB does not fit.

    Where a callable fails on RGB or gives another number of channels than the first convolution
    takes, its pictures have as many as that. One for a network of volumes takes these.
    """
    first = _first_convolution(module)
    if isinstance(preprocess, Preprocess) or first is None:
        return preprocess
    volumes, count = isinstance(first, nn.Conv3d), first.in_channels
    if hasattr(preprocess, "volumes" if volumes else "channels"):
        return preprocess
    if not volumes and count in (1, 3):
        return preprocess
    with suppress(ImageError):
        if not volumes and shape_of(preprocess, 320, 288)[0] == count:
            return preprocess
    own = OfChannels(preprocess, count, volumes)
    with suppress(ImageError):
        if shape_of(own, 320, 288)[0] == count:
            return own
    return preprocess


def shape_of(
    preprocess: Callable[[Image.Image], Tensor], width: int, height: int
) -> tuple[int, ...]:
    """Return the shape [C, H, W] of a preprocessed picture, or [C, D, H, W] of a volume."""
    from PIL import Image

    picture = Image.new("RGB", (width, height), (120, 130, 140))
    return tuple(tensor_of_rgb(preprocess, picture, "a grey probe picture").shape)


def noise(count: int, shape: Sequence[int]) -> Tensor:
    """Return images of seeded noise [count, *shape]."""
    generator = np.random.default_rng(0)
    return torch.from_numpy(generator.standard_normal((count, *shape), dtype=np.float32))
