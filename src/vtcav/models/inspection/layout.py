"""The layout of a layer's output: channels first, channels last, or tokens of a grid.

Above `vtcav.models` feature maps are F [N, C, h, w], of volumes [N, C, d, h, w]. A `Layout`
converts a layer's output to F and back. `find_layout` finds it from the shape where that is enough,
and else from the maps before it, the widths of its weights or a second image size.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor

from vtcav.errors import LayerError
from vtcav.models.inspection.nested_tensors import Part, replaced, tensor_at

LARGEST_PREFIX = 16
_TOKENS = re.compile(r"tokens\((?:(\d+)\+)?(\d+(?:x\d+){1,2})\)")
_TILES = re.compile(r"tiles\((\d+)x(\d+)\)")
_FORMS = (
    '"NCHW", "NHWC", "tokens(14x14)", "tokens(1+14x14)" (prefix tokens + height x width) or '
    '"tiles(2x3)" (rows x columns that the network cuts a picture into); of volumes "NCDHW", '
    '"NDHWC" or "tokens(8x8x8)"'
)
Order: TypeAlias = Literal["NCHW", "NHWC", "tokens", "tiles", "NCDHW", "NDHWC"]
"""How a layer's output holds its maps."""

_AXES = {"NCHW": 4, "NHWC": 4, "NCDHW": 5, "NDHWC": 5}
CHANNELS_LAST = ("NHWC", "NDHWC")


@dataclass(frozen=True)
class Layout:
    """The form of a layer's output.

    Attributes:
        order: "NCHW" [N, C, h, w], "NHWC" [N, h, w, C], "tokens" [N, prefix + h w, C] or "tiles"
            [N rows columns, C, h, w] of a network that cuts each picture into tiles; of volumes
            "NCDHW", "NDHWC" or "tokens".
        prefix: Tokens before those of the grid (class, registers, distillation).
        grid: (h, w), or (d, h, w), of the tokens, for images of `image`, or rows and columns of the
            tiles; row by row.
        image: (H, W) of the images that the grid is for; None for any.
        part: The path to the tensor in the output of layers that return a tuple, dict or dataclass.

    Example:
        >>> layout = Layout.parse("tokens(1+2x2)")
        >>> tokens = torch.arange(10.0).reshape(1, 5, 2)
        >>> layout.to_maps(tokens, (32, 32))
        tensor([[[[2., 4.],
                  [6., 8.]],
        <BLANKLINE>
                 [[3., 5.],
                  [7., 9.]]]])
    """

    order: Order = "NCHW"
    prefix: int = 0
    grid: tuple[int, ...] | None = None
    image: tuple[int, ...] | None = None
    part: Part = field(default=(), compare=False)

    def __str__(self) -> str:
        if self.grid is None:
            return self.order
        prefix = f"{self.prefix}+" if self.prefix else ""
        return f"{self.order}({prefix}{'x'.join(map(str, self.grid))})"

    @classmethod
    def parse(cls, text: str, image: tuple[int, ...] | None = None) -> Layout:
        """Return the layout that a text describes.

        Args:
            text: For example "NHWC" or "tokens(1+14x14)", as `str` returns it.
            image: (H, W) of the images that a grid is for.

        Raises:
            LayerError: For any other text.
        """
        if text in _AXES:
            return cls(cast("Order", text))
        if isinstance(text, str) and (match := _TILES.fullmatch(text)):
            rows, columns = map(int, match.groups())
            if rows * columns:
                return cls("tiles", grid=(rows, columns))
        match = _TOKENS.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise LayerError(f"unknown layout {text!r}: expected {_FORMS}")
        prefix, grid = match.groups()
        return cls("tokens", int(prefix or 0), tuple(map(int, grid.split("x"))), image)

    def fault(self, shape: Sequence[int]) -> str | None:
        """Say why an output tensor of this shape cannot have this layout, or None."""
        if self.grid is None:
            axes = _AXES[self.order]
            if len(shape) == axes:
                return None
            return f"{self.order} needs {'four' if axes == 4 else 'five'} dimensions"
        count = self.prefix + math.prod(self.grid)
        if self.order == "tiles":
            fits = len(shape) == 4 and shape[0] == count
            return None if fits else f"{self} needs a shape [{count} N, C, h, w]"
        if len(shape) != 3 or shape[1] != count:
            return f"{self} needs a shape [N, {count}, C]"
        return None

    def tensor(self, output: Any) -> Tensor:
        """Return the tensor in a layer's output.

        Raises:
            LayerError: When there is none where there was one before.
        """
        try:
            tensor = tensor_at(output, self.part)
        except (LookupError, TypeError):
            tensor = None
        if not isinstance(tensor, Tensor):
            raise LayerError(
                "a layer returned a tensor when the network was first run, and now returns "
                f"{type(output).__name__} without it; expected one form for all images"
            )
        return tensor

    def to_maps(self, output: Any, image: Sequence[int]) -> Tensor:
        """Return F [N, C, h, w] of a layer's output, without its prefix tokens.

        Args:
            output: The layer's output.
            image: (H, W) of the network's input.
        """
        tensor = self.tensor(output)
        if self.order in CHANNELS_LAST:
            return tensor.movedim(-1, 1)
        if self.order in _AXES:
            return tensor
        if self.order == "tiles":
            assert self.grid is not None
            cut = tensor.unflatten(0, (-1, *self.grid))  # type: ignore[no-untyped-call]  # untyped
            whole: Tensor = cut.permute(0, 3, 1, 4, 2, 5).flatten(2, 3).flatten(3, 4)
            return whole
        grid = self._grid_of(tensor.shape[1] - self.prefix, image)
        return tensor[:, self.prefix :].transpose(1, 2).reshape(len(tensor), -1, *grid)

    def prefix_of(self, output: Any) -> Tensor | None:
        """Return the prefix tokens [N, prefix, C] of a layer's output, or None without any."""
        return self.tensor(output)[:, : self.prefix] if self.prefix else None

    def from_maps(self, F: Tensor, like: Any, prefix: Tensor | None = None) -> Any:
        """Return feature maps in the form of the layer's own output.

        Args:
            F: Feature maps [N, C, h, w].
            like: An output of the layer, whose other parts are kept.
            prefix: Prefix tokens [N, prefix, C] or [1, prefix, C].
        """
        if self.order in CHANNELS_LAST:
            F = F.movedim(1, -1).contiguous()
        elif self.order == "tiles":
            assert self.grid is not None
            (rows, columns), (n, c, h, w) = self.grid, F.shape
            cut = F.reshape(n, c, rows, h // rows, columns, w // columns)
            F = cut.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
        elif self.order == "tokens":
            F = F.flatten(2).transpose(1, 2)
            if prefix is not None:
                F = torch.cat([prefix.to(F).expand(len(F), -1, -1), F], 1)
        return replaced(like, self.part, F)

    def _grid_of(self, count: int, image: Sequence[int]) -> tuple[int, ...]:
        """Return the grid of some tokens for images that may have another size than the first."""
        assert self.grid is not None
        if self.image is None or tuple(image) == self.image:
            candidates = [self.grid]
        else:
            sides = [
                [each(size * cells / known) for each in (math.floor, math.ceil)]
                for size, cells, known in zip(image, self.grid, self.image, strict=True)
            ]
            candidates = list(itertools.product(*sides))
        for grid in candidates:
            if math.prod(grid) == count:
                return grid
        raise LayerError(
            f"{count} tokens of an image of {' x '.join(map(str, image))} form no grid like "
            f"{' x '.join(map(str, self.grid))}; expected images of the size the network was "
            "first run with"
        )


@dataclass(frozen=True)
class Evidence:
    """What is known besides the shape of a layer's output.

    Attributes:
        image: (H, W) of the network's input, or (D, H, W).
        grids: (h, w), or (d, h, w), of the earlier maps of the network.
        widths: Numbers of features of the linear and normalisation layers inside the layer.
        prefixes: Numbers of prefix tokens that modules of the network state.
        other: Shape of the output for an image of double width, or None where unknown.
    """

    image: tuple[int, ...]
    grids: Collection[tuple[int, ...]] = ()
    widths: Collection[int] = ()
    prefixes: Collection[int] = ()
    other: tuple[int, ...] | None = None


def find_layout(shape: Sequence[int], evidence: Evidence) -> Layout | None:
    """Return the layout of an output tensor for one image, or None where it holds no maps.

    Args:
        shape: The tensor's shape [1, ...].
        evidence: What else is known.

    Example:
        >>> seen = Evidence(image=(224, 224), grids=[(14, 14)])
        >>> [str(find_layout(shape, seen)) for shape in
        ...  [(1, 768, 14, 14), (1, 7, 7, 768), (1, 197, 768), (1, 201, 768), (1, 768)]]
        ['NCHW', 'NHWC', 'tokens(1+14x14)', 'tokens(5+14x14)', 'None']
    """
    if len(shape) == len(evidence.image) + 2:
        last = _channels_last(shape, evidence)
        if len(shape) == 4:
            return Layout("NHWC" if last else "NCHW")
        return Layout("NDHWC" if last else "NCDHW")
    if len(shape) != 3 or shape[2] == 1:  # [1, C, 1] is pooled
        return None
    found = _tokens(shape[1], shape[2], evidence)
    return found and Layout("tokens", found[0], found[1], evidence.image)


def map_shape(layout: Layout, shape: Sequence[int]) -> tuple[int, ...]:
    """Return (C, h, w), or (C, d, h, w), of the maps in a tensor of this shape."""
    if layout.order == "tiles" and layout.grid is not None:
        return shape[1], layout.grid[0] * shape[2], layout.grid[1] * shape[3]
    if layout.grid is not None:
        return shape[2], *layout.grid
    if layout.order in CHANNELS_LAST:
        return shape[-1], *shape[1:-1]
    return tuple(shape[1:])


def is_ambiguous(shape: Sequence[int], image: tuple[int, ...]) -> bool:
    """Tell whether a shape [1, a, b, c] could be in channels-first and in channels-last order."""
    if len(shape) != len(image) + 2:
        return False
    first, last = _distortions(shape, image)
    return first <= _rounding(shape[-2:]) and last <= _rounding(shape[-3:-1])


def _channels_last(shape: Sequence[int], evidence: Evidence) -> bool:
    """Tell [1, h, w, C] from [1, C, h, w] by the aspect ratio of the image.

    Where both fit, the dimension that grows with the width of the image is w. Of volumes h and w
    count, for the slices often keep their number where these shrink; and where the layer's weights
    have as many features as one order has channels, it is that.
    """
    other, widths = evidence.other, evidence.widths
    if len(shape) == _AXES["NCDHW"] and (shape[1] in widths) != (shape[-1] in widths):
        return shape[-1] in widths
    if is_ambiguous(shape, evidence.image) and other and len(other) == len(shape):
        return other[-1] == shape[-1] and other[-2] > shape[-2]
    first, last = _distortions(shape, evidence.image)
    return last < min(_rounding(shape[-3:-1]), first)


def _distortions(shape: Sequence[int], image: tuple[int, ...]) -> tuple[float, float]:
    """Return how far the aspect ratios of both orders are from that of the image."""

    def distortion(height: int, width: int) -> float:
        return abs(math.log(height / width) - math.log(image[-2] / image[-1]))

    a, b, c = shape[-3:]
    return distortion(b, c), distortion(a, b)


def _rounding(sides: Sequence[int]) -> float:
    """Return the distortion that rounding h and w explains."""
    return 1.5 / min(sides)


def _tokens(count: int, channels: int, evidence: Evidence) -> tuple[int, tuple[int, ...]] | None:
    """Return the number of prefix tokens and the grid of `count` tokens, or None."""
    seen = [grid for grid in evidence.grids if math.prod(grid) > 1]
    direct = [
        (count - math.prod(grid), grid)
        for grid in seen
        if 0 <= count - math.prod(grid) <= min(LARGEST_PREFIX, math.prod(grid) - 1)
    ]
    if direct:
        return min(direct)
    if channels in set(map(math.prod, seen)) and channels not in evidence.widths:
        return None  # [1, C, h w]
    for grid in seen:
        for k in range(1, 6):
            merged = tuple(math.ceil(side / 2**k) for side in grid)
            if math.prod(merged) == count > 1:
                return 0, merged
    return None if seen or len(evidence.image) > 2 else _patches(count, evidence)


def _patches(count: int, evidence: Evidence) -> tuple[int, tuple[int, int]] | None:
    """Return prefix and grid where patches are cut out without a convolution."""
    height, width = evidence.image
    for prefix in sorted({0, 1, *evidence.prefixes}):
        for side in range(2, min(height, width)):
            grid = height // side, width // side
            whole = not (height % side or width % side)
            if whole and grid[0] * grid[1] == count - prefix > 1:
                return prefix, grid
    return None
