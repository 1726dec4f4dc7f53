"""The last layer of each stage in Keras networks, which have no blocks.

A PyTorch network is made of blocks, and the end of a block is the end of a stage. A Keras network
is a sequence of layers: between the last sum of one stage and the first layer of the next
resolution there are already layers of the next block (its expansion, its padding).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import pairwise

from vtcav.models.base import LayerInfo
from vtcav.models.inspection.stages import side

_JOINTS = ("Add", "Average", "Concatenate", "Maximum")
_PADDINGS = ("Cropping2D", "ZeroPadding2D")


def end_stages_at_joints(
    layers: Sequence[LayerInfo], weighted: Collection[str], image: tuple[int, ...]
) -> list[LayerInfo]:
    """Return the layers with the recommended ones moved back to where their blocks end.

    A recommended layer gives way to the last sum or concatenation of its resolution (with the
    activation that follows), and where there is none a padding gives way to what it pads. The
    deepest recommended layer stays: no block follows. A stage that begins at a quarter of the
    image and ends in a padding is added.

    Args:
        layers: The usable layers, in order.
        weighted: Names of those with weights of their own.
        image: (H, W) of the network's input.
    """
    ends = [i for i, layer in enumerate(layers) if layer.recommended]
    chosen = {_block_end(layers, i, weighted) for i in ends[:-1]} | set(ends[-1:])
    # A padding is larger than a quarter of the image where what it pads is not.
    paddings = [i for i in range(min(ends, default=0)) if layers[i].kind in _PADDINGS]
    for padding in paddings[-1:]:
        end = _block_end(layers, padding, weighted)
        quarter = 4 * max(layers[end].shape[1:]) <= max(image)
        if quarter and 0.7 * side(layers[end].shape) > side(layers[ends[0]].shape):
            chosen.add(end)
    return [replace(layer, recommended=i in chosen) for i, layer in enumerate(layers)]


def _block_end(layers: Sequence[LayerInfo], end: int, weighted: Collection[str]) -> int:
    """Return the index of the layer in whose place the one at `end` was recommended."""
    stage = [i for i in range(end + 1) if side(layers[i].shape) <= side(layers[end].shape) / 0.7]
    breaks = [j for i, j in pairwise(stage) if j > i + 1]
    stage = [i for i in stage if i >= max(breaks, default=0)]
    joint = max((i for i in stage if layers[i].kind in _JOINTS), default=None)
    if joint is None:
        return max((i for i in stage if layers[i].kind not in _PADDINGS), default=end)
    while joint < end and layers[joint + 1].name not in weighted:
        if layers[joint + 1].kind in _PADDINGS:
            break
        joint += 1
    return joint
