"""A second input of a network for each image: metadata or a mask, held fixed.

It travels with the image, as further planes after its channels, and is taken apart again before
the network runs. So it goes wherever the image goes, and no gradient passes through it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import prod
from pathlib import PurePath
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from vtcav.errors import ImageError, ModelError, brief
from vtcav.images.preprocess import Preprocess

_PATCH = re.compile(r" ?\[[^\[\]]*\]$")  # after the name of a photograph

Values: TypeAlias = "Mapping[str, Any] | Callable[[str], Any]"
"""The second input by the image's name."""


class SecondInput:
    """The second input of a network, by the name of the image.

    Args:
        values: A mapping from names of images (or file names, where those are unique) to numbers,
            arrays or tensors of one shape; a pandas Series or DataFrame, whose index has the
            names; or a callable that takes a name.
        default: What the network gets for test pictures. None takes the mean over a mapping; a
            callable needs it.

    Raises:
        ModelError: For values of several shapes, or a callable without `default`.

    Example:
        >>> ages = SecondInput({"a.png": [63.0, 1.0], "b.png": [41.0, 0.0]})
        >>> ages.of("photos/a.png").tolist(), ages.default.tolist()
        ([63.0, 1.0], [52.0, 0.5])
    """

    def __init__(self, values: Values, default: Any = None) -> None:
        self._values = _mapped(values)
        if callable(self._values):
            if default is None:
                raise ModelError(
                    "a second input by a callable needs default=, what the network gets for test "
                    "pictures"
                )
            self.default = _numbers(default, "default")
            return
        known = [_numbers(value, name) for name, value in self._values.items()]
        if not known:
            raise ModelError("expected the second input of at least one image, got none")
        shapes = {tuple(value.shape) for value in known}
        if len(shapes) > 1:
            raise ModelError(f"expected second inputs of one shape, got {sorted(shapes)}")
        self.default = (
            torch.stack(known).mean(0) if default is None else _numbers(default, "default")
        )

    def of(self, name: str) -> Tensor:
        """Return the second input of an image.

        Raises:
            ImageError: When it is not known, or of another shape than the others.
        """
        if callable(self._values):
            found = self._values(name)
        else:
            short = PurePath(name).name
            key = name if name in self._values else short
            if key not in self._values and self.default.ndim == 1:
                # a patch has its photograph's numbers; a mask would have to be cut like it
                whole = _PATCH.sub("", name)
                key = whole if whole in self._values else PurePath(whole).name
            if key not in self._values:
                raise ImageError(f"there is no second input for {name!r}, nor for {short!r}")
            found = self._values[key]
        value = _numbers(found, name)
        if value.shape != self.default.shape:
            raise ImageError(
                f"expected a second input of shape {list(self.default.shape)}, got "
                f"{list(value.shape)} for {name!r}"
            )
        return value


def _mapped(values: Any) -> Any:
    """Return a table as a mapping from its index to its rows."""
    if hasattr(values, "index") and hasattr(values, "to_numpy"):
        rows: NDArray[Any] = values.to_numpy(np.float32)
        return {str(name): row for name, row in zip(values.index, rows, strict=True)}
    if not isinstance(values, Mapping) and not callable(values):
        raise ModelError(
            "expected the second input as a mapping from names of images, a table or a callable, "
            f"got {type(values).__name__}"
        )
    return values


def _numbers(value: Any, name: str) -> Tensor:
    try:
        found = torch.from_numpy(np.array(value, np.float32))
    except (TypeError, ValueError):
        raise ModelError(
            f"expected numbers as the second input of {name!r}, got {brief(value)}"
        ) from None
    if not found.isfinite().all() or not found.numel():
        raise ModelError(f"expected finite numbers as the second input of {name!r}")
    return found


@dataclass(frozen=True)
class PreprocessWithSecond(Preprocess):
    """A `Preprocess` whose tensors have planes of a second input after the channels."""

    second: SecondInput | None = field(default=None, compare=False)
    name: str | None = None

    @classmethod
    def of(cls, preprocess: Preprocess, second: SecondInput) -> PreprocessWithSecond:
        """Return a preprocessing with a second input."""
        own = {each.name: getattr(preprocess, each.name) for each in fields(Preprocess)}
        return cls(**own, second=second)

    def __call__(self, image: Image.Image) -> Tensor:
        """Turn a picture into a tensor [C + planes, H, W], with the second input of `name`."""
        assert self.second is not None
        x = super().__call__(image)
        value = self.second.default if self.name is None else self.second.of(self.name)
        return torch.cat([x, planes_of(value, x.shape[1:])])

    def named(self, name: str) -> PreprocessWithSecond:
        """Return the preprocessing of the image of a name."""
        return replace(self, name=name)

    def pixels(self, x: Tensor) -> NDArray[np.uint8]:
        """Return tensors as RGB pictures, without the second input."""
        return super().pixels(x.narrow(-4 if self.volumes else -3, 0, self.count))

    def describe(self) -> dict[str, object]:
        """Return the settings as JSON data, for provenance."""
        own = {each.name: getattr(self, each.name) for each in fields(Preprocess)}
        assert self.second is not None
        return Preprocess(**own).describe() | {"second": list(self.second.default.shape)}


def planes_of(value: Tensor, size: Sequence[int]) -> Tensor:
    """Return numbers as planes [p, H, W], row by row, filled up with zeros.

    Example:
        >>> planes_of(torch.tensor([1.0, 2.0, 3.0]), (2, 2)).tolist()
        [[[1.0, 2.0], [3.0, 0.0]]]
    """
    numbers, positions = value.flatten(), prod(size)
    count = -(-len(numbers) // positions)
    planes = numbers.new_zeros(count * positions)
    planes[: len(numbers)] = numbers
    return planes.reshape(count, *size)


class TwoInputs(nn.Module):
    """A network of an image and a second input, as one of images with further planes.

    Args:
        network: The network; `network(images, second)` gives its output.
        channels: C, the channels of an image.
        shape: The shape of the second input of an image.
    """

    takes_images = True  # what follows a layer reads more than its maps

    def __init__(self, network: nn.Module, channels: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.network, self.channels, self.shape = network, channels, shape

    def forward(self, packed: Tensor) -> Any:
        """Return the network's output for images [N, C + planes, H, W]."""
        count = int(np.prod(self.shape, dtype=int))
        numbers = packed[:, self.channels :].flatten(1)[:, :count].detach()
        return self.network(packed[:, : self.channels], numbers.reshape(-1, *self.shape))


def with_second(
    module: nn.Module, preprocess: Any, values: SecondInput | Values
) -> tuple[nn.Module, PreprocessWithSecond]:
    """Return a network of two inputs as one of images, and the preprocessing that gives both.

    Raises:
        ModelError: Where the preprocessing is no `Preprocess` with a size.
    """
    if not isinstance(preprocess, Preprocess):
        raise ModelError("a network with a second input needs a vtcav.Preprocess")
    second = values if isinstance(values, SecondInput) else SecondInput(values)
    wrapped = TwoInputs(module, preprocess.count, tuple(second.default.shape))
    return wrapped.train(module.training), PreprocessWithSecond.of(preprocess, second)


def given(module: nn.Module, preprocess: Any) -> tuple[nn.Module, Any]:
    """Return the network and the preprocessing that `with_second` was given."""
    if not isinstance(module, TwoInputs):
        return module, preprocess
    own = {each.name: getattr(preprocess, each.name) for each in fields(Preprocess)}
    return module.network, Preprocess(**own)
