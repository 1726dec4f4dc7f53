"""Tensors with their channels last in memory, where that is faster.

The shape of a tensor stays [N, C, h, w]; convolutions keep the order in their outputs. On a CPU in
float32 (docs/performance.md) this saves a quarter to a half of the time of networks with depthwise
convolutions, and mostly a tenth to a quarter for ResNets, but costs time where no convolution
follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

_LEAST = 4  # convolutions; fewer gain next to nothing (benchmarks/batch_sizes.py)


def gains_from_channels_last(parts: Iterable[nn.Module], like: Tensor) -> bool:
    """Tell whether modules are faster with the channels last.

    Args:
        parts: The modules that run.
        like: A tensor of their dtype and on their device.
    """
    # tensor cores prefer this order in half precision; float32 gains nothing on a GPU
    fast = {"cpu": (torch.float32,), "cuda": (torch.float16, torch.bfloat16)}
    return (
        like.dtype in fast.get(like.device.type, ())
        and sum(isinstance(part, nn.Conv2d) for part in parts) >= _LEAST
    )


def images_channels_last(
    module: nn.Module, logits: Callable[[Tensor], Tensor], images: Tensor
) -> bool:
    """Tell whether images should have their channels last in memory for a network.

    The answer is no `torch.memory_format`, because a pickled one may not load in another process.

    Args:
        module: The network.
        logits: Runs it.
        images: A few images [N, 3, H, W] in the usual memory order.
    """
    if images.ndim != 4 or not gains_from_channels_last(module.modules(), images):
        return False
    try:
        found = logits(images.contiguous(memory_format=torch.channels_last))
    except Exception:  # noqa: BLE001  (the network may take views that need the usual order)
        return False
    return within_rounding(found, logits(images))


def within_rounding(z: Tensor, expected: Tensor, units: int = 1000) -> bool:
    """Tell whether logits agree up to rounding.

    Args:
        z: The logits.
        expected: What they should be.
        units: The tolerance, in units of the precision of the largest logit; by default that of
            sums in another order.
    """
    tolerance = units * torch.finfo(expected.dtype).eps * float(expected.abs().max())
    return float((z - expected).abs().max()) <= tolerance
