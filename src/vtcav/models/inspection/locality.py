"""A numeric test that maps have the geometry of the picture.

Shapes alone do not tell maps from other tensors of four dimensions, such as the windows of an
attention, or tokens that are not in row order. So one part of the picture is changed at a time, and
the maps must change most at that part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from vtcav.models.inspection.activations import watching
from vtcav.models.inspection.layout import Layout
from vtcav.models.inspection.trace import Trace

_GRID = 4
# each lies elsewhere when positions are transposed or in the order of windows within windows, most
# of them by two parts or more
_PARTS = ((0, 2), (0, 3), (1, 0), (2, 3), (3, 0), (3, 1))
_STRENGTH = 3.0  # standard deviations of the noise that replaces a part
_LEAST = 1.2  # times the mean: a change larger than elsewhere
_PEAK = 2.0  # times the mean: a change concentrated in one of 4 x 4 parts
_TOP = 1 / 8  # share of the positions or channels that hold most of a concentrated change
_NARROWEST = 0.6  # ratio of the aspect ratios of maps and picture

_CERTAIN = (
    "Conv2d ConvTranspose2d Linear BatchNorm2d GroupNorm InstanceNorm2d Dropout Dropout2d Identity "
    "Flatten Upsample MaxPool2d AvgPool2d AdaptiveAvgPool2d AdaptiveMaxPool2d ReLU ReLU6 LeakyReLU "
    "Conv3d ConvTranspose3d BatchNorm3d InstanceNorm3d Dropout3d MaxPool3d AvgPool3d "
    "AdaptiveAvgPool3d AdaptiveMaxPool3d PReLU ELU SELU GELU SiLU Mish Hardswish Hardsigmoid "
    "Sigmoid Tanh Softmax Sequential"
)
_KINDS = tuple(getattr(nn, name) for name in _CERTAIN.split())
_SKIPPED = ("DropPath", "StochasticDepth")  # the identity in evaluation mode


class Locality(Enum):
    """Where maps change when a part of the picture does."""

    HERE = "at that part"
    ELSEWHERE = "elsewhere"
    EVERYWHERE = "everywhere alike"


def needs_test(module: nn.Module, layouts: Mapping[str, Layout], trace: Trace) -> bool:
    """Tell whether a network has modules other than convolutions and pointwise operations."""
    if any(call.kind == "Linear" and len(call.shape or ()) > 2 for call in trace.calls):
        return True
    leaves = (part for part in module.modules() if next(part.children(), None) is None)
    return any(layout.order not in ("NCHW", "NCDHW") for layout in layouts.values()) or not all(
        isinstance(part, _KINDS) or type(part).__name__ in _SKIPPED for part in leaves
    )


def reshaped(maps: Mapping[str, tuple[int, ...]], image: tuple[int, ...]) -> set[str]:
    """Return the layers whose maps have other layers' positions in another shape, as windows do.

    Args:
        maps: By layer, (h, w) of its maps, or (d, h, w).
        image: (H, W) of the picture, or (D, H, W).

    Example:
        >>> reshaped({"conv": (8, 8), "windows": (4, 16), "pooled": (4, 8)}, (32, 32))
        {'windows'}
    """
    fitting = {math.prod(sides) for sides in maps.values() if _fits(sides, image)}
    return {
        name
        for name, sides in maps.items()
        if math.prod(sides) in fitting and not _fits(sides, image)
    }


def _fits(sides: tuple[int, ...], image: tuple[int, ...]) -> bool:
    """Tell whether maps have about the aspect ratios of the picture."""
    ratios = (h * image[-1] / (sides[-1] * H) for h, H in zip(sides, image, strict=True))
    return all(_NARROWEST <= ratio <= 1 / _NARROWEST for ratio in ratios)


def locality(
    module: nn.Module,
    run: Callable[[Tensor], object],
    probe: Tensor,
    layouts: Mapping[str, Layout],
) -> dict[str, Locality]:
    """Return where the maps of layers change when a part of the picture does, by layer.

    Args:
        module: The network, ready to run.
        run: Runs it on images [N, C, H, W].
        probe: An image of noise [1, C, H, W]. Of a volume [1, C, D, H, W] parts are changed in all
            slices alike.
        layouts: How the layers hold their maps, by name.
    """
    size = probe.shape[2:]
    images = torch.cat([probe, *(_changed(probe, part) for part in _PARTS)])
    found: dict[str, Locality] = {}

    def keep(name: str, output: Any) -> None:
        F = layouts[name].to_maps(output, size).detach().float()
        change = (F[1:] - F[:1]).abs()
        while change.ndim > 4:  # slices of a volume
            change = change.mean(2)
        found[name] = _judge(change, tokens=layouts[name].order == "tokens")

    with torch.no_grad(), watching(module, layouts, keep):
        run(images)
    return found


def _changed(probe: Tensor, part: tuple[int, int]) -> Tensor:
    """Return the image with other noise in one of 4 x 4 parts."""
    image = probe.clone()
    rows, columns = (
        slice(i * side // _GRID, (i + 1) * side // _GRID)
        for i, side in zip(part, probe.shape[-2:], strict=True)
    )
    window = image[..., rows, columns]  # of a volume, all slices of it
    window.copy_(_STRENGTH * window.flip(1).flip(-2).roll(1, -1))
    return image


def _judge(change: Tensor, *, tokens: bool) -> Locality:
    """Return the verdict on the changes [P, C, h, w] of maps (or tokens), one per part."""
    places, channels = change.mean(1), change.mean((2, 3))
    rows, columns = (min(side, _GRID) for side in places.shape[1:])
    coarse = nn.functional.adaptive_avg_pool2d(places[:, None], (rows, columns))[:, 0]
    # without padding the parts of small maps do not lie quite where those of the picture do
    near = int(not tokens and min(places.shape[1:]) < 2 * _GRID)
    right = concentrated = wrong = 0
    # each part changes other channels: these are windows or blocks, not channels
    separate = 2 * len({int(each.argmax()) for each in channels if _few(each, 0.9)}) > len(_PARTS)
    for each, (i, j) in enumerate(_PARTS):
        wanted = i * rows // _GRID, j * columns // _GRID
        highest = divmod(int(coarse[each].argmax()), columns)
        away = max(abs(a - b) for a, b in zip(highest, wanted, strict=True))
        right += bool(away <= near and coarse[each].max() > _LEAST * coarse[each].mean())
        if (
            separate
            or coarse[each].max() > _PEAK * coarse[each].mean()
            or _few(places[each].flatten())
        ):
            concentrated += 1
            # strides move a change of maps into the next part, but not that of tokens
            wrong += separate or tokens or away > 1
    if 2 * right > len(_PARTS):
        return Locality.HERE
    if 2 * wrong >= len(_PARTS):
        return Locality.ELSEWHERE
    return Locality.HERE if 2 * concentrated >= len(_PARTS) else Locality.EVERYWHERE


def _few(change: Tensor, share: float = 0.5) -> bool:
    """Tell whether a few values hold more than a share of a change."""
    top = change.topk(max(1, round(_TOP * len(change)))).values
    return bool(top.sum() > share * change.sum())
