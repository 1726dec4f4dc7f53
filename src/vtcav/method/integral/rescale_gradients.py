"""Rescale multipliers between neighbouring points of the line from zero feature maps to F.

Between two points a gradient is a product of linear operations and of the slopes of activations.
With each activation's multiplier between the points in place of its slope (`rescale_functions`),
differences of logits are exact: the multipliers times the step sum to z at one point minus z at the
other, however far apart they are. This is the rescale rule of DeepLIFT (Shrikumar et al. 2017),
applied from each point to the next. Only the way in which the slopes of successive activations vary
together within an interval is lost. So a few intervals replace gradients at many points, and a
single activation needs one interval.

It holds where everything else is linear in what depends on F. Other operations, such as a
normalisation by the maps' own size or a softmax inside the network, are not covered: `zero_pass`
then returns None.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vtcav.errors import VtcavError
from vtcav.method.integral.operations import (
    ACTIVATIONS,
    CLAMPS,
    IN_PLACE,
    MAX_POOL,
    PRODUCTS,
    activation_depth,
)
from vtcav.method.integral.rescale_functions import Activation, Entrywise, MaxPool, Product
from vtcav.method.integral.trapezoid import rows_of
from vtcav.method.positions import broadcast
from vtcav.models.base import Head, held
from vtcav.models.heads.gradient import logit_gradients


class OperationsChangedError(VtcavError):
    """The network ran other operations than at zero feature maps."""

    def __init__(self) -> None:
        super().__init__("the network ran other operations than at zero feature maps")


@dataclass(frozen=True, eq=False)
class ZeroPass:
    """A pass at zero feature maps, where every line begins.

    Attributes:
        depth: The largest number of successive activations (products and max-pooling count, too);
            0 for a linear head.
        inputs: The inputs of each of them, in the order of computation [1, ...].
    """

    depth: int
    inputs: tuple[tuple[Tensor, ...], ...]


@dataclass(frozen=True, eq=False)
class Points:
    """Points on the lines of some images. An interval lies between a point and the one before.

    Attributes:
        image: The image of each point [P].
        alpha: Its position on the line [P].
        ends: The points at which the m intervals end [m].
        first: Those of `ends` that follow the point 0, which is not among the points.
    """

    image: Tensor
    alpha: Tensor
    ends: Tensor
    first: Tensor


class _RescaleMode(TorchFunctionMode):
    """Runs a network on rows of points with the rescale rule in its backward pass.

    Each row follows the one before, except those that follow the point 0. Where another line
    begins, the gradient of its first row is of no use.

    Args:
        rows: The number of rows.
        first: The rows that follow the point 0.
        zero: The pass at the point 0; None while that itself runs, with the single row 0.
    """

    def __init__(self, rows: int, first: Tensor, zero: ZeroPass | None) -> None:
        super().__init__()
        self._rows, self._first, self._zero = rows, first, zero
        self.inputs: list[tuple[Tensor, ...]] = []
        self.read_values = False  # in a way that gradients do not show

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
                bound = _bound(plain, args[1:], kwargs)
                if bound is not None:
                    f, in_place = bound
                    options = f, plain in CLAMPS, in_place or func in IN_PLACE
                    return self._applied(Activation, args[:1], *options)
            elif func in MAX_POOL:
                pooling = _pooling(args, kwargs)
                if pooling is not None:
                    return self._applied(MaxPool, args[:1], pooling)
        if func in PRODUCTS and all(map(self._depends, args)):
            return self._applied(Product, args)
        result = func(*args, **kwargs)
        self.read_values |= _reads_values(func, args, result)
        return result

    def _applied(
        self, function: type[torch.autograd.Function], inputs: Sequence[Tensor], *options: Any
    ) -> Any:
        """Return what a function with the rescale rule gives."""
        arguments = *inputs, *self._at_zero(*inputs), self._first, *options
        return function.apply(*arguments)  # type: ignore[no-untyped-call]  # PyTorch does not type it

    def _depends(self, value: Any) -> bool:
        """Tell whether a value depends on F, row by row."""
        return (
            isinstance(value, Tensor)
            and value.requires_grad
            and value.ndim > 0
            and len(value) == self._rows
        )

    def _at_zero(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the inputs of this operation at the point 0."""
        here = len(self.inputs)
        if self._zero is None:
            self.inputs.append(tuple(x.detach().clone() for x in inputs))
            return self.inputs[here]
        self.inputs.append(())
        known = self._zero.inputs[here] if here < len(self._zero.inputs) else ()
        if [x.shape[1:] for x in inputs] != [x.shape[1:] for x in known]:
            raise OperationsChangedError
        return known


def _bound(
    func: Callable[..., Any], rest: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[Entrywise, bool] | None:
    """Return an activation as a function of its input alone, and whether to work in place.

    None for one that is no such function: its other arguments depend on F, or it is random.
    """
    if any(isinstance(v, Tensor) and v.requires_grad for v in (*rest, *kwargs.values())):
        return None
    try:
        names = list(inspect.signature(func).parameters)[1:]
    except (TypeError, ValueError):  # built-in functions have no such switches
        return lambda x: func(x, *rest, **kwargs), False
    arguments = dict(zip(names, rest, strict=False)) | kwargs
    if arguments.get("training"):
        return None
    in_place = bool(arguments.pop("inplace", False))
    return lambda x: func(x, **arguments), in_place


def _pooling(args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Any, ...] | None:
    """Return the options of a max-pooling for aten, or None where it is not a plain one of maps."""
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    options = dict(zip(names, args[1:], strict=False)) | kwargs
    if options.get("return_indices") or args[0].ndim not in (4, 5):
        return None
    sides = args[0].ndim - 2
    size, stride = _sides(options["kernel_size"], sides), options.get("stride")
    return (
        size,
        _sides(stride, sides) if stride not in (None, [], ()) else size,
        _sides(options.get("padding", 0), sides),
        _sides(options.get("dilation", 1), sides),
        bool(options.get("ceil_mode")),
    )


def _sides(value: Any, count: int) -> list[int]:
    return [int(value)] * count if not isinstance(value, Sequence) else [int(v) for v in value]


def _reads_values(func: Callable[..., Any], args: Sequence[Any], result: Any) -> bool:
    """Tell whether a function makes of what depends on F something without a gradient.

    Examples are comparisons, masks, the positions of maxima and detached tensors.
    """
    tensors = [x for x in args if isinstance(x, Tensor)]
    if not any(x.requires_grad for x in tensors):
        return False
    name = getattr(func, "__name__", "")
    if name.endswith("_like") or name.startswith("new_"):
        return False
    results = result if isinstance(result, tuple | list) else [result]
    return name in _VALUES or any(isinstance(x, Tensor) and not x.requires_grad for x in results)


_VALUES = frozenset({"item", "tolist", "numpy", "__bool__", "__float__", "__int__", "__index__"})

_COUNTED = {"ActivationBackward": 1, "ProductBackward": 1, "MaxPoolBackward": 2}
"""The depth that each node adds; 2 for max-pooling, which is not exact with one interval."""


def zero_pass(head: Head, F: Tensor) -> ZeroPass | None:
    """Run a head at zero feature maps and record its operations.

    Args:
        head: The network after a layer, one for all images.
        F: Feature maps of its layer [N, C, h, w], of which only the shape counts.

    Returns:
        What `rescale_multipliers` needs to know; None where the rescale rule does not apply.
    """
    maps = torch.zeros_like(F[:1]).requires_grad_()
    with torch.enable_grad(), _RescaleMode(1, torch.tensor([0], device=F.device), None) as mode:
        z = head(maps)
        source = maps.view_as(maps).grad_fn
    assert source is not None
    depth = activation_depth(z.grad_fn, source.next_functions[0][0], _COUNTED)
    return None if depth is None or mode.read_values else ZeroPass(depth, tuple(mode.inputs))


def rescale_multipliers(
    head: Head, F: Tensor, classes: Tensor, zero: ZeroPass, points: Points
) -> list[Tensor]:
    """Return the multipliers of some logits in intervals between points, from one forward pass.

    Args:
        head: The network after a layer.
        F: Feature maps [N, C, h, w].
        classes: Indices of the logits, per image [N, T].
        zero: Its pass at zero feature maps.
        points: Points on the lines of the N images.

    Returns:
        Per class the mean of dz_t/dF over each interval [m, C, h, w].

    Raises:
        OperationsChangedError: When the network runs other operations than at zero feature maps.
    """
    maps = F[points.image] * broadcast(points.alpha, F)
    weight = torch.zeros(len(maps), dtype=torch.float32, device=maps.device)
    weight[points.ends] = 1
    with held(rows_of(head, points.image)) as own:

        def forward(maps: Tensor) -> Tensor:
            with _RescaleMode(len(maps), points.first, zero) as mode:
                z = own(maps)
            if len(mode.inputs) != len(zero.inputs) or mode.read_values:
                raise OperationsChangedError
            return z

        gradients = logit_gradients(forward, maps, classes[points.image], weight)
        return [G[points.ends] for G in gradients]
