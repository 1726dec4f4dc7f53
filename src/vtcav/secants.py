"""Mean gradients between neighbouring points of the line from zero feature maps to F.

Between two points a gradient is a product of linear operations and of the slopes of the activations
between them. Taking each activation's mean slope between the points, its secant
(f(x1) - f(x0)) / (x1 - x0), makes every difference of scores exact: what the mean gradients times
the step sum to is z at the one point minus z at the other, however far apart they are. This is the
rescale rule of DeepLIFT (Shrikumar et al. 2017) from each point to the next. Only how the slopes of
activations in a row vary together within an interval is lost, so a few intervals do what takes
gradients at many points, and a single activation takes one.

It holds where all else is linear in what depends on F. The factors of a product (as of a gate) take
the mean of each other, and max-pooling passes on to what is highest at either point. Other
operations, such as normalisation by the maps' own size and softmax within the network, are not
known here: `activations_in_a_row` then says None.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vtcav.models.base import Head
from vtcav.operations import ACTIVATIONS, CLAMPS, IN_PLACE, MAX_POOL, PRODUCTS, longest_chain

__all__ = ["activations_in_a_row", "mean_gradients"]

_Entrywise: TypeAlias = Callable[[Tensor], Tensor]

_SHORTEST = 1e-3  # a step of less than this share of x is too short to divide by
_TINY = 1e-12  # the same where x is 0
_CACHED = 1 << 18  # numbers that stay in a processor's cache


class _Points(TorchFunctionMode):
    """Runs a network on rows of points, and has its activations answer with secants backward.

    Each row is taken to follow the one before; where a line begins its gradient is of no use.

    Args:
        rows: How many rows there are.
    """

    def __init__(self, rows: int) -> None:
        super().__init__()
        self._rows = rows

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if args and self._depends(args[0]):
            if func in ACTIVATIONS or func in IN_PLACE:
                plain = IN_PLACE.get(func, func)
                found = _of_one(plain, args[1:], kwargs)
                if found is not None:
                    f, in_place = found
                    in_place |= func in IN_PLACE
                    return _Activation.apply(args[0], f, plain in CLAMPS, in_place)  # type: ignore[no-untyped-call]
            elif func in MAX_POOL:
                return _max_pool(func, args, kwargs)
        if func in PRODUCTS and all(map(self._depends, args)):
            return _Product.apply(*args)  # type: ignore[no-untyped-call]
        return func(*args, **kwargs)

    def _depends(self, value: Any) -> bool:
        """Tell whether a value depends on F, row by row."""
        return (
            isinstance(value, Tensor)
            and value.requires_grad
            and value.ndim > 0
            and len(value) == self._rows
        )


def _of_one(
    func: Callable[..., Any], rest: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[_Entrywise, bool] | None:
    """Return an activation as a function of its input alone, and whether to work in place.

    None for one that is no such function: its other arguments depend on F, or it is random.
    """
    if any(isinstance(v, Tensor) and v.requires_grad for v in (*rest, *kwargs.values())):
        return None
    try:
        names = list(inspect.signature(func).parameters)[1:]
    except (TypeError, ValueError):  # built in: these have no such switches
        return lambda x: func(x, *rest, **kwargs), False
    given = dict(zip(names, rest, strict=False)) | kwargs
    if given.get("training"):
        return None
    in_place = bool(given.pop("inplace", False))
    return lambda x: func(x, **given), in_place


class _Activation(torch.autograd.Function):
    """y = f(x), each entry by itself; backward its secants, which all classes share."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, f: _Entrywise, clamps: bool, in_place: bool) -> Tensor:
        first = f(x[:1])  # autocast may compute some activations in float32
        y = x if in_place else torch.empty_like(x, dtype=first.dtype)
        slope = torch.empty_like(x)
        _apply(x, y, slope, f, clamps)
        if in_place:
            ctx.mark_dirty(x)
        ctx.save_for_backward(slope)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None, None]:
        (slope,) = ctx.saved_tensors
        return g * slope, None, None, None


def _apply(x: Tensor, y: Tensor, slope: Tensor, f: _Entrywise, clamps: bool) -> None:
    """Write f(x) to y, which may be x, and (f(x) - f(x')) / (x - x') to the slope.

    x' is the row before each row x; the first has none, and a slope of 0. A few rows at a time, so
    that they stay in the processor's cache, and the last ones first, for y may be x.
    """
    at_once = len(x) if x.device.type != "cpu" else max(1, _CACHED // max(1, x[0].numel()))
    for stop in range(len(x), 1, -at_once):
        start = max(1, stop - at_once)
        here, before = x[start:stop], x[start - 1 : stop - 1]
        if clamps:
            both = f(x[start - 1 : stop])
            found = torch.sub(both[1:], both[:-1], out=slope[start:stop]).div_(here - before)
            if x.device.type != "cpu" or found.sum().isnan():
                # 0 / 0: what does not change passes nothing on, whatever its slope
                found.nan_to_num_(0.0)
            y[start:stop] = both[1:]
        else:
            slope[start:stop] = _robust_secants(here, before, f)
            y[start:stop] = f(here)
    y[:1] = f(x[:1])
    slope[:1] = 0


def _robust_secants(x: Tensor, before: Tensor, f: _Entrywise) -> Tensor:
    """Return the secants of any function: a step too short to divide by is made longer.

    Over so short a step the function is as good as straight.
    """
    if x.dtype in (torch.float16, torch.bfloat16):
        x, before = x.float(), before.float()
    step = x - before
    shortest = x.abs().mul_(_SHORTEST).add_(_TINY)
    before = x - torch.where(step.abs() < shortest, shortest, step)
    return f(x).sub_(f(before)).div_(x - before)


class _Product(torch.autograd.Function):
    """y = a b; backward each with the mean of the other: d(a b) = mean(b) da + mean(a) db."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(_means(a), _means(b))
        return a * b

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        return (g * b).sum_to_size(a.shape), (g * a).sum_to_size(b.shape)


def _means(x: Tensor) -> Tensor:
    """Return the mean of every row and the row before."""
    mean = x.clone()
    mean[1:].add_(x[:-1]).div_(2)
    return mean


class _MaxPool(torch.autograd.Function):
    """Max-pooling; backward to what was highest in the row before and to what is now.

    Each for as long as it was, if both went straight: so the differences of maxima are exact.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, options: tuple[Any, ...]) -> Tensor:
        y: Tensor
        y, now = torch.ops.aten.max_pool2d_with_indices(x, *options)
        then = _row_before(now)
        lead_then = _row_before(y) - _at(_row_before(x), now)
        both = lead_then + (y - _at(x, then))
        share = torch.where(both > 0, lead_then / torch.where(both > 0, both, 1), 0.5)
        ctx.save_for_backward(x, now, then, share)
        ctx.options = options
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        x, now, then, share = ctx.saved_tensors
        back = torch.ops.aten.max_pool2d_with_indices_backward
        first = back(g * share, x, *ctx.options, then)
        return first + back(g * (1 - share), x, *ctx.options, now), None


def _row_before(x: Tensor) -> Tensor:
    """Return the row before each row, for the first itself."""
    return torch.cat([x[:1], x[:-1]])


def _at(x: Tensor, places: Tensor) -> Tensor:
    """Return the values at places [n, C, h', w'] in the maps [n, C, h, w], counted row by row."""
    return x.flatten(2).gather(2, places.flatten(2)).reshape(places.shape)


def _max_pool(func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Return max-pooling that routes gradients to the places of two points, where it is plain."""
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    given = dict(zip(names, args[1:], strict=False)) | kwargs
    if given.pop("return_indices", False) or args[0].ndim != 4:
        return func(*args, **kwargs)
    size = _pair(given.pop("kernel_size"))
    stride = given.pop("stride", None)
    options = (
        size,
        _pair(stride) if stride not in (None, [], ()) else size,
        _pair(given.pop("padding", 0)),
        _pair(given.pop("dilation", 1)),
        bool(given.pop("ceil_mode", False)),
    )
    return _MaxPool.apply(args[0], options)  # type: ignore[no-untyped-call]


def _pair(value: Any) -> list[int]:
    return [int(value)] * 2 if not isinstance(value, Sequence) else [int(v) for v in value]


def activations_in_a_row(head: Head, F: Tensor) -> int | None:
    """Return how many activations follow one another after a layer, at most.

    Args:
        head: The network after the layer.
        F: Feature maps of an image [1, C, h, w].

    Returns:
        Their number (products and max-pooling count, too), 0 for a linear head; None where the
        network does something between them of which mean gradients are not known.
    """
    maps = F.detach().clone().requires_grad_()
    with torch.enable_grad(), _Points(1):
        z = head(maps)
        source = maps.view_as(maps).grad_fn
    assert source is not None
    return longest_chain(z.grad_fn, source.next_functions[0][0], _COUNTED)


_COUNTED = {"_ActivationBackward": 1, "_ProductBackward": 1, "_MaxPoolBackward": 2}
"""What the nodes count; max-pooling takes two intervals at least, for it is not exact with one."""


def mean_gradients(
    head: Head, F: Tensor, classes: Tensor, image: Tensor, alpha: Tensor, ends: Tensor
) -> list[Tensor]:
    """Return the mean gradients of some logits in intervals between points, from one forward.

    Args:
        head: The network after a layer, for the images of the points.
        F: Feature maps [N, C, h, w].
        classes: Indices of the logits, per image [N, T].
        image: The image of each point, among the N [P].
        alpha: The point on its line [P]. An interval lies between a point and the one before.
        ends: The points at which the m intervals end [m].

    Returns:
        Per class the mean of dz_t/dF over each interval [m, C, h, w].
    """
    maps = (F[image] * alpha[:, None, None, None]).requires_grad_()
    with torch.enable_grad():
        with _Points(len(maps)):
            z = head(maps).gather(1, classes[image])
        weight = torch.zeros(len(z), device=z.device)
        weight[ends] = 1
        T = z.shape[1]
        return [
            torch.autograd.grad(z[:, t], maps, weight, retain_graph=t < T - 1)[0][ends].float()
            for t in range(T)
        ]
