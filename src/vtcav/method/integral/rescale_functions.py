"""DeepLIFT's rescale rule for activations, products and max-pooling, between neighbouring points.

The rows of a batch are points of a line. The forward pass is unchanged. In the backward pass an
activation has its multiplier between the previous point and this one, (f(x) - f(x')) / (x - x'), in
place of its derivative. Each factor of a product has the mean of the other factor; max-pooling
passes gradients to the maxima of both points. So differences between points are exact.

Each row follows the row before; the first points of lines follow the point 0 instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from vtcav.method.integral import constants

Entrywise: TypeAlias = Callable[[Tensor], Tensor]

_TINY = 1e-12  # the shortest step where x is 0
_HALF = (torch.float16, torch.bfloat16)


class Activation(torch.autograd.Function):
    """y = f(x), entry by entry; backward the rescale multipliers, which all classes share."""

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
            ctx: The context of autograd.
            x: The input [P, ...].
            zero: The input at the point 0 [1, ...].
            first: The rows that follow the point 0.
            f: The activation.
            clamps: Whether f returns x or a constant.
            in_place: Whether to write y into x.
        """
        # a short step may vanish in half precision, where a clamp would pass nothing on
        clamps &= x.dtype not in _HALF
        if clamps and _on_accelerator(x):
            y, multiplier = _clamped_at_once(x, zero, first, f)
            ctx.save_for_backward(multiplier)
            if in_place:
                ctx.mark_dirty(x)
                return x.copy_(y)
            return y
        own = f(x[:1])  # autocast may compute some activations in float32
        y = x if in_place else torch.empty_like(x, dtype=own.dtype)
        multiplier = torch.empty_like(x)
        of_first = _robust_multiplier(x[first], zero, f).to(x.dtype)
        _apply(x, y, multiplier, f, clamps)
        multiplier[first] = of_first
        if in_place:
            ctx.mark_dirty(x)
        ctx.save_for_backward(multiplier)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient times the multipliers."""
        (multiplier,) = ctx.saved_tensors
        return g * multiplier, None, None, None, None, None


def _apply(x: Tensor, y: Tensor, multiplier: Tensor, f: Entrywise, clamps: bool) -> None:
    """Write f(x) to y, which may be x, and (f(x) - f(x')) / (x - x') to the multiplier.

    x' is the row before x; the very first row has none, and a multiplier of 0. A processor takes a
    few rows at a time, so that they stay in its cache, and the last ones first, for y may be x.
    """
    at_once = len(x)
    if not _on_accelerator(x):
        at_once = max(1, constants.CACHED_NUMBERS // max(1, x[0].numel()))
    for stop in range(len(x), 1, -at_once):
        start = max(1, stop - at_once)
        here, before = x[start:stop], x[start - 1 : stop - 1]
        if clamps:
            both = f(x[start - 1 : stop])
            found = torch.sub(both[1:], both[:-1], out=multiplier[start:stop]).div_(here - before)
            if found.sum().isnan():
                found.nan_to_num_(0.0)  # 0 / 0: an unchanged entry contributes nothing
            y[start:stop] = both[1:]
        else:
            multiplier[start:stop] = _robust_multiplier(here, before, f)
            y[start:stop] = f(here)
    y[:1] = f(x[:1])
    multiplier[:1] = 0


def _clamped_at_once(x: Tensor, zero: Tensor, first: Tensor, f: Entrywise) -> tuple[Tensor, Tensor]:
    """Return f(x) and the multipliers of a clamp in few kernels, which a GPU is slow to launch.

    No decision depends on values, so the GPU is never waited for.
    """
    y, multiplier = f(x), torch.empty_like(x)
    multiplier[:1] = 0
    torch.div(y[1:] - y[:-1], x[1:] - x[:-1], out=multiplier[1:])
    multiplier[first] = (y[first] - f(zero)) / (x[first] - zero)
    return y, multiplier.nan_to_num_(0.0)


def _on_accelerator(x: Tensor) -> bool:
    return x.device.type != "cpu"


def _robust_multiplier(x: Tensor, before: Tensor, f: Entrywise) -> Tensor:
    """Return the multipliers of any function, lengthening steps too short to divide by.

    Over so short a step the function is practically linear.
    """
    if x.dtype in _HALF:
        x, before = x.float(), before.float()
    step = x - before
    shortest = x.abs().mul_(constants.SHORTEST_STEP).add_(_TINY)
    before = x - torch.where(step.abs() < shortest, shortest, step)
    return f(x).sub_(f(before)).div_(x - before)


class Product(torch.autograd.Function):
    """y = a b; backward the mean of the other factor: d(a b) = mean(b) da + mean(a) db."""

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
        """Return the gradient times the mean of the other factor, for each factor."""
        a, b = ctx.saved_tensors
        return (g * b).sum_to_size(a.shape), (g * a).sum_to_size(b.shape), None, None, None


class MaxPool(torch.autograd.Function):
    """Max-pooling; backward to the maxima at the previous point and at this one.

    Each gets the share of the step during which it is the maximum, if values change linearly.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, zero: Tensor, first: Tensor, options: tuple[Any, ...]
    ) -> Tensor:
        """Pool x [P, C, h, w]; the options are PyTorch's, from the kernel's size on."""
        aten = torch.ops.aten
        pool = aten.max_pool3d_with_indices if x.ndim == 5 else aten.max_pool2d_with_indices
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
        """Return the gradient at the maxima of both points."""
        x, now, then, share = ctx.saved_tensors
        aten, volumes = torch.ops.aten, x.ndim == 5
        back = (
            aten.max_pool3d_with_indices_backward
            if volumes
            else aten.max_pool2d_with_indices_backward
        )
        before = back(g * share, x, *ctx.options, then)
        return before + back(g * (1 - share), x, *ctx.options, now), None, None, None


def _rows_before(x: Tensor, zero: Tensor, first: Tensor) -> Tensor:
    """Return the row before each row [P, ...]; zero [1, ...] for those that follow the point 0."""
    before = torch.cat([x[:1], x[:-1]])
    before[first] = zero
    return before


def _at(x: Tensor, positions: Tensor) -> Tensor:
    """Return the values of maps [n, C, h, w] at flat positions [n, C, h', w']."""
    return x.flatten(2).gather(2, positions.flatten(2)).reshape(positions.shape)
