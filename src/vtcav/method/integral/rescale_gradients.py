"""Mean gradients between neighbouring points of the line from zero feature maps to F.

Between two points a gradient is a product of linear operations and of the slopes of the activations
between them. Taking each activation's mean slope between the points (`secants`) makes every
difference of scores exact: what the mean gradients times the step sum to is z at the one point
minus z at the other, however far apart they are. This is the rescale rule of DeepLIFT (Shrikumar et
al. 2017) from each point to the next. Only how the slopes of activations in a row vary together
within an interval is lost, so a few intervals do what takes gradients at many points, and a single
activation takes one.

It holds where all else is linear in what depends on F. Other operations, such as normalisation by
the maps' own size and softmax within the network, are not known here: `at_zero` then finds none.
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
    longest_chain,
)
from vtcav.method.integral.rescale_functions import Activation, Entrywise, MaxPool, Product
from vtcav.models.base import Head, held
from vtcav.models.heads.gradient import gradient

__all__ = ["OtherOperationsError", "Zero", "at_zero", "mean_gradients"]


_OTHERS = "the network did other operations than at zero feature maps"


class OtherOperationsError(VtcavError):
    """The network did other operations than at zero feature maps."""


@dataclass(frozen=True, eq=False)
class Zero:
    """What a network does at zero feature maps, where every line begins.

    Attributes:
        in_a_row: How many activations follow one another, at most (products and max-pooling count,
            too); 0 for a linear head.
        inputs: What goes into each of them, in the order in which they compute [1, ...].
    """

    in_a_row: int
    inputs: tuple[tuple[Tensor, ...], ...]


class _Points(TorchFunctionMode):
    """Runs a network on rows of points, and has its activations answer with secants backward.

    Each row follows the one before. Those that follow the point 0 are named; where another line
    begins its gradient is of no use.

    Args:
        rows: How many rows there are.
        first: The rows that follow the point 0.
        zero: What is known of that; None while it is learned, with the single row 0.
    """

    def __init__(self, rows: int, first: Tensor, zero: Zero | None) -> None:
        super().__init__()
        self._rows, self._first, self._zero = rows, first, zero
        self.inputs: list[tuple[Tensor, ...]] = []
        self.looked = False  # at values, in a way that gradients do not show

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
                    return self._activation(args[0], f, plain in CLAMPS, in_place)
            elif func in MAX_POOL:
                options = _pooling(args, kwargs)
                if options is not None:
                    (zero,) = self._at_zero(args[0])
                    return _applied(MaxPool, args[0], zero, self._first, options)
        if func in PRODUCTS and all(map(self._depends, args)):
            return _applied(Product, *args, *self._at_zero(*args), self._first)
        found = func(*args, **kwargs)
        self.looked |= _looks(func, args, found)
        return found

    def _activation(self, x: Tensor, f: Entrywise, clamps: bool, in_place: bool) -> Any:
        (zero,) = self._at_zero(x)
        return _applied(Activation, x, zero, self._first, f, clamps, in_place)

    def _depends(self, value: Any) -> bool:
        """Tell whether a value depends on F, row by row."""
        return (
            isinstance(value, Tensor)
            and value.requires_grad
            and value.ndim > 0
            and len(value) == self._rows
        )

    def _at_zero(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return what went in here at the point 0."""
        here = len(self.inputs)
        if self._zero is None:
            self.inputs.append(tuple(x.detach().clone() for x in inputs))
            return self.inputs[here]
        self.inputs.append(())
        known = self._zero.inputs[here] if here < len(self._zero.inputs) else ()
        if [x.shape[1:] for x in inputs] != [x.shape[1:] for x in known]:
            raise OtherOperationsError(_OTHERS)
        return known


def _applied(function: type[torch.autograd.Function], *args: Any) -> Any:
    return function.apply(*args)  # type: ignore[no-untyped-call]  # PyTorch does not type it


def _of_one(
    func: Callable[..., Any], rest: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[Entrywise, bool] | None:
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


def _pooling(args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Any, ...] | None:
    """Return the options of a max-pooling for aten, None where it is not a plain one of maps."""
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    given = dict(zip(names, args[1:], strict=False)) | kwargs
    if given.pop("return_indices", False) or args[0].ndim != 4:
        return None
    size = _pair(given.pop("kernel_size"))
    stride = given.pop("stride", None)
    return (
        size,
        _pair(stride) if stride not in (None, [], ()) else size,
        _pair(given.pop("padding", 0)),
        _pair(given.pop("dilation", 1)),
        bool(given.pop("ceil_mode", False)),
    )


def _pair(value: Any) -> list[int]:
    return [int(value)] * 2 if not isinstance(value, Sequence) else [int(v) for v in value]


def _looks(func: Callable[..., Any], args: Sequence[Any], found: Any) -> bool:
    """Tell whether a function turns what depends on F into what gradients do not flow through.

    As comparisons do, a mask, the places of maxima or a detached tensor.
    """
    tensors = [x for x in args if isinstance(x, Tensor)]
    if not any(x.requires_grad for x in tensors):
        return False
    name = getattr(func, "__name__", "")
    if name.endswith("_like") or name.startswith("new_"):
        return False
    results = found if isinstance(found, tuple | list) else [found]
    return name in _VALUES or any(isinstance(x, Tensor) and not x.requires_grad for x in results)


_VALUES = frozenset({"item", "tolist", "numpy", "__bool__", "__float__", "__int__", "__index__"})

_COUNTED = {"ActivationBackward": 1, "ProductBackward": 1, "MaxPoolBackward": 2}
"""What the nodes count; max-pooling takes two intervals at least, for it is not exact with one."""


def at_zero(head: Head, F: Tensor) -> Zero | None:
    """Run a head at zero feature maps, and see what it does.

    Args:
        head: The network after a layer, one for all images.
        F: Feature maps of its layer [N, C, h, w], of which only the shape counts.

    Returns:
        What mean gradients need to know; None where the network does something of which they are
        not known.
    """
    maps = torch.zeros_like(F[:1]).requires_grad_()
    with torch.enable_grad(), _Points(1, torch.tensor([0], device=F.device), None) as points:
        z = head(maps)
        source = maps.view_as(maps).grad_fn
    assert source is not None
    in_a_row = longest_chain(z.grad_fn, source.next_functions[0][0], _COUNTED)
    if in_a_row is None or points.looked:
        return None
    return Zero(in_a_row, tuple(points.inputs))


def mean_gradients(
    head: Head,
    F: Tensor,
    classes: Tensor,
    zero: Zero,
    image: Tensor,
    alpha: Tensor,
    ends: Tensor,
    first: Tensor,
) -> list[Tensor]:
    """Return the mean gradients of some logits in intervals between points, from one forward.

    Args:
        head: The network after a layer.
        F: Feature maps [N, C, h, w].
        classes: Indices of the logits, per image [N, T].
        zero: What it does at zero feature maps.
        image: The image of each point, among the N [P].
        alpha: The point on its line [P]. An interval lies between a point and the one before.
        ends: The points at which the m intervals end [m].
        first: Those of them that follow the point 0.

    Returns:
        Per class the mean of dz_t/dF over each interval [m, C, h, w].

    Raises:
        OtherOperationsError: When the network does not do what it does at zero feature maps.
    """
    maps = (F[image] * alpha[:, None, None, None]).detach().requires_grad_()
    weight = torch.zeros(len(maps), device=maps.device)
    weight[ends] = 1
    with torch.enable_grad(), held(head) as own:
        with _Points(len(maps), first, zero) as points:
            z = own(maps)
        if len(points.inputs) != len(zero.inputs) or points.looked:
            raise OtherOperationsError(_OTHERS)
        z = z.gather(1, classes[image])
        T = z.shape[1]
        return [
            gradient(z[:, t], maps, weight, retain_graph=t < T - 1).float()[ends] for t in range(T)
        ]
