"""The operations of a network as the rescale rule sees them.

Activations, products and max-pooling are recognised by the function called, linear operations by
the name of the node that they leave in autograd's graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as nnF
from torch import Tensor

from vtcav.models.inspection.trace import topological_order


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _functions(home: Any, names: str) -> frozenset[Callable[..., Any]]:
    return frozenset(getattr(home, name) for name in _names(names))


def _in_place(home: Any, names: str) -> dict[Callable[..., Any], Callable[..., Any]]:
    return {getattr(home, f"{name}_"): getattr(home, name) for name in _names(names)}


CLAMPS = (
    _functions(torch, "relu clamp clamp_min clamp_max")
    | _functions(nnF, "relu relu6 hardtanh")
    | _functions(Tensor, "relu clamp clamp_min clamp_max")
)
"""Activations that return x or a constant, so that differences are exact."""

ACTIVATIONS = (
    CLAMPS
    | _functions(torch, "sigmoid tanh selu celu prelu")
    | _functions(nnF, "leaky_relu rrelu prelu threshold elu selu celu silu gelu mish hardswish")
    | _functions(nnF, "hardsigmoid softplus softsign logsigmoid sigmoid tanh")
    | _functions(Tensor, "sigmoid tanh")
)

IN_PLACE: Mapping[Callable[..., Any], Callable[..., Any]] = (
    _in_place(torch, "relu sigmoid tanh selu celu clamp")
    | _in_place(nnF, "relu hardtanh leaky_relu elu selu celu")
    | _in_place(Tensor, "relu sigmoid tanh clamp")
)
"""Activations that work in place, and their plain forms."""

PRODUCTS = _functions(torch, "mul multiply") | _functions(
    Tensor, "mul multiply __mul__ __rmul__ __imul__"
)
MAX_POOL = frozenset(
    {nnF.max_pool2d, torch.max_pool2d, nnF.max_pool2d_with_indices}
    | {nnF.max_pool3d, torch.max_pool3d, nnF.max_pool3d_with_indices}
)

_LINEAR = _names(
    """
    AccumulateGrad AdaptiveAvgPool2D AdaptiveAvgPool3D Add Alias AsStrided AvgPool2D AvgPool3D
    Cat Clone Col2Im ConstantPadNd Copy Diagonal Expand Flip Im2Col Mean MkldnnAvgPool2D Mt Neg
    Permute PixelShuffle PixelUnshuffle ReflectionPad2D ReflectionPad3D Repeat ReplicationPad2D
    ReplicationPad3D ReshapeAlias Roll Rsub Select Slice Split SplitWithSizes Squeeze Stack Sub
    Sum T ToCopy Transpose Unbind Unfold UnsafeSplit UnsafeSplitWithSizes UnsafeView Unsqueeze
    UpsampleBicubic2D UpsampleBilinear2D UpsampleNearest2D UpsampleNearest3D UpsampleTrilinear3D
    View
    """
)
"""Operations that are linear in all their inputs, by the names of their autograd nodes."""

_PRODUCTS_OF_TWO = _names(
    """
    Mul Div Mm Bmm Mv Linear Convolution CudnnConvolution MkldnnConvolution MpsConvolution
    NativeBatchNorm CudnnBatchNorm MiopenBatchNorm
    """
)
_TIMES_CONSTANT = dict.fromkeys(_PRODUCTS_OF_TWO, (0, 1)) | {"Addmm": (1, 2), "Baddbmm": (1, 2)}
"""Operations that multiply these inputs, and are linear where one of them is constant."""


def activation_depth(last: Any, first: Any, counted: Mapping[str, int]) -> int | None:
    """Return the largest number of activations on a path through autograd's graph.

    Args:
        last: The node of the logits.
        first: The node of the feature maps. What does not depend on it is constant.
        counted: What nodes count, by name; linear operations count nothing.

    Returns:
        The number, or None where a path has an operation that is neither counted nor linear, or
        there is no path.
    """
    depths: dict[Any, int | None] = {}  # None: constant
    for node in reversed(topological_order(last)):
        inputs = [depths.get(before) for before, _ in node.next_functions]
        if node is first:
            depths[node] = 0
        elif any(depth is not None for depth in inputs):
            own = _count(node, inputs, counted)
            if own is None:
                return None
            depths[node] = own + max(depth for depth in inputs if depth is not None)
    return depths.get(last)


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
