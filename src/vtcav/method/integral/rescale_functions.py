"""What activations, products and max-pooling do between neighbouring points of a line.

Rows of a batch are points. Forward all is as always. Backward an activation answers with its mean
slope from the point before to each point, its secant (f(x) - f(x')) / (x - x'). The factors of a
product take the mean of each other, and max-pooling passes on to what is highest at either point.
So differences between the points are exact.

A row follows the row before, but for the first points of lines, which follow the point 0.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

__all__ = ["Activation", "Entrywise", "MaxPool", "Product"]

Entrywise: TypeAlias = Callable[[Tensor], Tensor]

_SHORTEST = 1e-3  # a step of less than this share of x is too short to divide by
_TINY = 1e-12  # the same where x is 0
_HALF = (torch.float16, torch.bfloat16)
_CACHED = 1 << 18  # numbers that stay in a processor's cache


class Activation(torch.autograd.Function):
    """y = f(x), each entry by itself; backward its secants, which all classes share."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        zero: Tensor,
        first: Tensor,
        f: Entrywise,
        clamps: bool,
        in_place: bool,
    ) -> Tensor:
        """Compute f.

        Args:
            ctx: Of autograd.
            x: What goes in [P, ...].
            zero: The same at the point 0 [1, ...].
            first: The rows that follow it.
            f: The activation.
            clamps: Whether it hands on x as it is or a constant.
            in_place: Whether x becomes y.
        """
        # a short step may be none in half precision, where a clamp would pass nothing on
        clamps &= x.dtype not in _HALF
        # to a graph, and on a GPU, all at once and nothing decided by values
        if clamps and (x.device.type != "cpu" or _traced()):
            y, slope = _clamped_at_once(x, zero, first, f)
            ctx.save_for_backward(slope)
            if in_place:
                ctx.mark_dirty(x)
                return x.copy_(y)
            return y
        own = f(x[:1])  # autocast may compute some activations in float32
        y = x if in_place else torch.empty_like(x, dtype=own.dtype)
        slope = torch.empty_like(x)
        of_first = _robust_secants(x[first], zero, f).to(x.dtype)
        _apply(x, y, slope, f, clamps)
        slope[first] = of_first
        if in_place:
            ctx.mark_dirty(x)
        ctx.save_for_backward(slope)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient times the secants."""
        (slope,) = ctx.saved_tensors
        return g * slope, None, None, None, None, None


def _apply(x: Tensor, y: Tensor, slope: Tensor, f: Entrywise, clamps: bool) -> None:
    """Write f(x) to y, which may be x, and (f(x) - f(x')) / (x - x') to the slope.

    x' is the row before each row x; the very first has none, and a slope of 0. A few rows at a
    time, so that they stay in the processor's cache, and the last ones first, for y may be x.
    """
    whole = x.device.type != "cpu" or _traced()
    at_once = len(x) if whole else max(1, _CACHED // max(1, x[0].numel()))
    for stop in range(len(x), 1, -at_once):
        start = max(1, stop - at_once)
        here, before = x[start:stop], x[start - 1 : stop - 1]
        if clamps:
            both = f(x[start - 1 : stop])
            found = torch.sub(both[1:], both[:-1], out=slope[start:stop]).div_(here - before)
            if found.sum().isnan():
                # 0 / 0: what does not change passes nothing on, whatever its slope
                found.nan_to_num_(0.0)
            y[start:stop] = both[1:]
        else:
            slope[start:stop] = _robust_secants(here, before, f)
            y[start:stop] = f(here)
    y[:1] = f(x[:1])
    slope[:1] = 0


def _clamped_at_once(x: Tensor, zero: Tensor, first: Tensor, f: Entrywise) -> tuple[Tensor, Tensor]:
    """Return f(x) and the secants of a clamp, in few steps: a GPU takes long to begin each."""
    y, slope = f(x), torch.empty_like(x)
    slope[:1] = 0
    torch.div(y[1:] - y[:-1], x[1:] - x[:-1], out=slope[1:])
    slope[first] = (y[first] - f(zero)) / (x[first] - zero)
    return y, slope.nan_to_num_(0.0)


def _traced() -> bool:
    """Tell whether the operations are being written down instead of computed for good."""
    tensors = sys.modules.get("torch.fx.experimental.proxy_tensor")
    return tensors is not None and tensors.get_proxy_mode() is not None


def _robust_secants(x: Tensor, before: Tensor, f: Entrywise) -> Tensor:
    """Return the secants of any function: a step too short to divide by is made longer.

    Over so short a step the function is as good as straight.
    """
    if x.dtype in _HALF:
        x, before = x.float(), before.float()
    step = x - before
    shortest = x.abs().mul_(_SHORTEST).add_(_TINY)
    before = x - torch.where(step.abs() < shortest, shortest, step)
    return f(x).sub_(f(before)).div_(x - before)


class Product(torch.autograd.Function):
    """y = a b; backward each with the mean of the other: d(a b) = mean(b) da + mean(a) db."""

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, zero_a: Tensor, zero_b: Tensor, first: Tensor
    ) -> Tensor:
        """Compute the product of a and b, rows of points [P, ...]; see `Activation`."""
        ctx.save_for_backward(
            (a + _rows_before(a, zero_a, first)) / 2, (b + _rows_before(b, zero_b, first)) / 2
        )
        return a * b

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient times the mean of the other, for each."""
        a, b = ctx.saved_tensors
        return (g * b).sum_to_size(a.shape), (g * a).sum_to_size(b.shape), None, None, None


class MaxPool(torch.autograd.Function):
    """Max-pooling; backward to what was highest at the point before and to what is now.

    Each for as long as it was, if both went straight.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, zero: Tensor, first: Tensor, options: tuple[Any, ...]
    ) -> Tensor:
        """Pool x [P, C, h, w]; the options are PyTorch's, from the kernel's size on."""
        pool = torch.ops.aten.max_pool2d_with_indices
        y: Tensor
        (y, now), (y_zero, now_zero) = pool(x, *options), pool(zero, *options)
        then = _rows_before(now, now_zero, first)
        lead_then = _rows_before(y, y_zero, first) - _at(_rows_before(x, zero, first), now)
        both = lead_then + (y - _at(x, then))
        share = torch.where(both > 0, lead_then / torch.where(both > 0, both, 1), 0.5)
        ctx.save_for_backward(x, now, then, share)
        ctx.options = options
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient at both places."""
        x, now, then, share = ctx.saved_tensors
        back = torch.ops.aten.max_pool2d_with_indices_backward
        before = back(g * share, x, *ctx.options, then)
        return before + back(g * (1 - share), x, *ctx.options, now), None, None, None


def _rows_before(x: Tensor, zero: Tensor, first: Tensor) -> Tensor:
    """Return the row before each row [P, ...]; zero [1, ...] for those that follow the point 0."""
    before = torch.cat([x[:1], x[:-1]])
    before[first] = zero
    return before


def _at(x: Tensor, places: Tensor) -> Tensor:
    """Return the values at places [n, C, h', w'] in the maps [n, C, h, w], counted row by row."""
    return x.flatten(2).gather(2, places.flatten(2)).reshape(places.shape)
