"""What the operations of a network are to the mean gradients of `mean_gradients`.

Activations, products and max-pooling are known by the function called, all else by the name of the
node that it leaves in autograd's graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as nnF
from torch import Tensor

__all__ = [
    "ACTIVATIONS",
    "CLAMPS",
    "IN_PLACE",
    "MAX_POOL",
    "PRODUCTS",
    "longest_chain",
]

CLAMPS = frozenset(
    {
        torch.relu,
        torch.clamp,
        torch.clamp_min,
        torch.clamp_max,
        nnF.relu,
        nnF.relu6,
        nnF.hardtanh,
        Tensor.relu,
        Tensor.clamp,
        Tensor.clamp_min,
        Tensor.clamp_max,
    }
)
"""Activations that hand on x as it is or a constant, so that differences are exact."""

ACTIVATIONS = CLAMPS | {
    torch.sigmoid,
    torch.tanh,
    torch.selu,
    torch.celu,
    torch.prelu,
    nnF.leaky_relu,
    nnF.rrelu,
    nnF.prelu,
    nnF.threshold,
    nnF.elu,
    nnF.selu,
    nnF.celu,
    nnF.silu,
    nnF.gelu,
    nnF.mish,
    nnF.hardswish,
    nnF.hardsigmoid,
    nnF.softplus,
    nnF.softsign,
    nnF.logsigmoid,
    nnF.sigmoid,
    nnF.tanh,
    Tensor.sigmoid,
    Tensor.tanh,
}

IN_PLACE: Mapping[Callable[..., Any], Callable[..., Any]] = {
    torch.relu_: torch.relu,
    torch.sigmoid_: torch.sigmoid,
    torch.tanh_: torch.tanh,
    torch.selu_: torch.selu,
    torch.celu_: torch.celu,
    torch.clamp_: torch.clamp,
    nnF.relu_: nnF.relu,
    nnF.hardtanh_: nnF.hardtanh,
    nnF.leaky_relu_: nnF.leaky_relu,
    nnF.elu_: nnF.elu,
    nnF.selu_: nnF.selu,
    nnF.celu_: nnF.celu,
    Tensor.relu_: torch.relu,
    Tensor.sigmoid_: torch.sigmoid,
    Tensor.tanh_: torch.tanh,
    Tensor.clamp_: torch.clamp,
}
PRODUCTS = frozenset(
    {
        torch.mul,
        torch.multiply,
        Tensor.mul,
        Tensor.multiply,
        Tensor.__mul__,
        Tensor.__rmul__,
        Tensor.__imul__,
    }
)
MAX_POOL = frozenset({nnF.max_pool2d, torch.max_pool2d, nnF.max_pool2d_with_indices})

_LINEAR = frozenset(
    {
        "AccumulateGrad",
        "AdaptiveAvgPool2D",
        "Add",
        "Alias",
        "AsStrided",
        "AvgPool2D",
        "Cat",
        "Clone",
        "Col2Im",
        "ConstantPadNd",
        "Copy",
        "Diagonal",
        "Expand",
        "Flip",
        "Im2Col",
        "Mean",
        "MkldnnAvgPool2D",
        "Mt",
        "Neg",
        "Permute",
        "PixelShuffle",
        "PixelUnshuffle",
        "ReflectionPad2D",
        "Repeat",
        "ReplicationPad2D",
        "ReshapeAlias",
        "Roll",
        "Rsub",
        "Select",
        "Slice",
        "Split",
        "SplitWithSizes",
        "Squeeze",
        "Stack",
        "Sub",
        "Sum",
        "T",
        "ToCopy",
        "Transpose",
        "Unbind",
        "Unfold",
        "UnsafeSplit",
        "UnsafeSplitWithSizes",
        "UnsafeView",
        "Unsqueeze",
        "UpsampleBicubic2D",
        "UpsampleBilinear2D",
        "UpsampleNearest2D",
        "View",
    }
)
"""Operations that are linear in all their inputs, by the names of their autograd nodes."""

_TIMES_CONSTANT = {
    "Mul": (0, 1),
    "Div": (0, 1),
    "Mm": (0, 1),
    "Bmm": (0, 1),
    "Mv": (0, 1),
    "Linear": (0, 1),
    "Addmm": (1, 2),
    "Baddbmm": (1, 2),
    "Convolution": (0, 1),
    "CudnnConvolution": (0, 1),
    "MkldnnConvolution": (0, 1),
    "MpsConvolution": (0, 1),
    "NativeBatchNorm": (0, 1),
    "CudnnBatchNorm": (0, 1),
    "MiopenBatchNorm": (0, 1),
}
"""Operations that are linear where one of these inputs, which they multiply, is constant."""


def longest_chain(last: Any, first: Any, counted: Mapping[str, int]) -> int | None:
    """Return the most activations on a way through autograd's graph.

    Args:
        last: The node of the scores.
        first: The node of the feature maps. What does not come from there is constant.
        counted: What nodes count, by name; linear operations count nothing.

    Returns:
        Their number, or None where there is an operation that is neither counted nor linear, or
        no way at all.
    """
    found: dict[Any, int | None] = {first: 0}  # None: constant
    waiting = [] if last is None else [last]
    while waiting:
        node = waiting[-1]
        missing = [before for before, _ in node.next_functions if before not in (None, *found)]
        if missing:
            waiting += missing
            continue
        waiting.pop()
        inputs = [found.get(before) for before, _ in node.next_functions]
        if node in found or all(way is None for way in inputs):
            found.setdefault(node, None)
            continue
        own = _count(node, inputs, counted)
        if own is None:
            return None
        found[node] = own + max(way for way in inputs if way is not None)
    return found.get(last)


def _count(node: Any, inputs: list[int | None], counted: Mapping[str, int]) -> int | None:
    """Return what a node counts: 0 for a linear operation, None for an unknown one."""
    name = node.name().split("::")[-1]
    if name in counted:
        return counted[name]
    kind = name.rstrip("0123456789").removesuffix("Backward")
    if kind in _LINEAR:
        return 0
    if kind not in _TIMES_CONSTANT or getattr(node, "_saved_training", False):
        return None
    depending = [i for i in _TIMES_CONSTANT[kind] if i < len(inputs) and inputs[i] is not None]
    if len(depending) > 1 or (kind == "Div" and depending == [1]):
        return None
    return 0
