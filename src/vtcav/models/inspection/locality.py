"""A numeric test of whether maps lie as the picture does.

Shapes alone do not tell maps from other tensors of four dimensions: windows of an attention, or
tokens in another order than row by row. So one part of the picture is changed at a time, and the
maps must change most at that part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from vtcav.models.inspection.layout import Layout
from vtcav.models.inspection.trace import Trace

__all__ = ["Locality", "locality", "needs_test", "reshaped"]

_GRID = 4
_PARTS = ((0, 0), (0, 3), (1, 2), (2, 1), (3, 0), (3, 3))
_STRENGTH = 3.0  # standard deviations of the noise that a part is changed to
_LEAST = 1.2  # times the mean: a change that is more than elsewhere
_PEAK = 2.0  # times the mean: a change that is found in one of 4 x 4 parts
_TOP = 1 / 8  # of the places or channels: with more than half of a change, it is found in few

_NARROWEST = 0.6

_CERTAIN = (
    nn.Conv2d,
    nn.ConvTranspose2d,
    nn.BatchNorm2d,
    nn.GroupNorm,
    nn.InstanceNorm2d,
    nn.Dropout,
    nn.Dropout2d,
    nn.Identity,
    nn.Flatten,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.Upsample,
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.ELU,
    nn.SELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.Sigmoid,
    nn.Tanh,
    nn.Softmax,
    nn.Linear,
    nn.Sequential,  # empty
)
_SKIPPED = ("DropPath", "StochasticDepth")  # nothing, in evaluation mode


class Locality(Enum):
    """Where maps change when a part of the picture does."""

    HERE = "at that part"
    ELSEWHERE = "elsewhere"
    EVERYWHERE = "everywhere alike"


def needs_test(module: nn.Module, layouts: Mapping[str, Layout], trace: Trace) -> bool:
    """Tell whether a network holds more than convolutions and what works place by place."""
    if any(call.kind == "Linear" and len(call.shape or ()) > 2 for call in trace.calls):
        return True
    leaves = (part for part in module.modules() if next(part.children(), None) is None)
    return any(layout.order != "NCHW" for layout in layouts.values()) or not all(
        isinstance(part, _CERTAIN) or type(part).__name__ in _SKIPPED for part in leaves
    )


def reshaped(maps: Mapping[str, tuple[int, int]], image: tuple[int, int]) -> set[str]:
    """Return the layers whose maps are others' places in another shape, as windows are.

    Args:
        maps: By layer, (h, w) of its maps.
        image: (H, W) of the picture.

    Example:
        >>> reshaped({"conv": (8, 8), "windows": (4, 16), "pooled": (4, 8)}, (32, 32))
        {'windows'}
    """
    fitting = {h * w for h, w in maps.values() if _fits(h, w, image)}
    return {name for name, (h, w) in maps.items() if h * w in fitting and not _fits(h, w, image)}


def _fits(h: int, w: int, image: tuple[int, int]) -> bool:
    """Tell whether maps are about as much wider than high as the picture is."""
    return _NARROWEST <= (h * image[1]) / (w * image[0]) <= 1 / _NARROWEST


def locality(
    module: nn.Module,
    run: Callable[[Tensor], object],
    probe: Tensor,
    layouts: Mapping[str, Layout],
) -> dict[str, Locality]:
    """Return for layers where their maps change when a part of the picture does.

    Args:
        module: The network, ready to run.
        run: Runs it on images [N, C, H, W].
        probe: An image of noise [1, C, H, W].
        layouts: How the layers hold their maps, by name.
    """
    size = probe.shape[2:]
    images = torch.cat([probe, *(_changed(probe, part) for part in _PARTS)])
    found: dict[str, Locality] = {}

    def keeper(name: str, layout: Layout) -> Callable[..., None]:
        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            F = layout.to_maps(output, size).detach().float()
            found[name] = _judged((F[1:] - F[:1]).abs())

        return keep

    with torch.no_grad(), ExitStack() as stack:
        for name, layout in layouts.items():
            hook = module.get_submodule(name).register_forward_hook(keeper(name, layout))
            stack.callback(hook.remove)
        run(images)
    return found


def _changed(probe: Tensor, part: tuple[int, int]) -> Tensor:
    """Return the image with other noise in one of 4 x 4 parts."""
    image = probe.clone()
    rows, columns = (
        slice(i * side // _GRID, (i + 1) * side // _GRID)
        for i, side in zip(part, probe.shape[2:], strict=True)
    )
    window = image[:, :, rows, columns]
    window.copy_(_STRENGTH * window.flip(1).flip(2).roll(1, 3))
    return image


def _judged(change: Tensor) -> Locality:
    """Return the verdict on the changes [P, C, h, w] that changing each part made."""
    places, channels = change.mean(1), change.mean((2, 3))
    rows, columns = (min(side, _GRID) for side in places.shape[1:])
    coarse = nn.functional.adaptive_avg_pool2d(places[:, None], (rows, columns))[:, 0]
    right = concentrated = 0
    # each part in channels of its own: these are windows or blocks, not channels
    separate = len({int(each.argmax()) for each in channels if _few(each)})
    for each, (i, j) in enumerate(_PARTS):
        wanted = i * rows // _GRID * columns + j * columns // _GRID
        there = coarse[each].flatten()[wanted]
        right += bool(there == coarse[each].max() and there > _LEAST * coarse[each].mean())
        concentrated += bool(
            coarse[each].max() > _PEAK * coarse[each].mean()
            or _few(places[each].flatten())
            or 2 * separate > len(_PARTS)
        )
    if 2 * right >= len(_PARTS):
        return Locality.HERE
    return Locality.ELSEWHERE if 2 * concentrated >= len(_PARTS) else Locality.EVERYWHERE


def _few(change: Tensor) -> bool:
    """Tell whether few values hold most of a change."""
    top = change.topk(max(1, round(_TOP * len(change)))).values
    return bool(top.sum() > change.sum() / 2)
