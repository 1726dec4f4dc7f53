"""Where tensors are faster with their channels last in memory.

The shape of a tensor stays [N, C, h, w]; convolutions hand the order on to what they give. Measured
on processors in float32 (docs/performance.md): a quarter to a half less time for networks with
depthwise convolutions, mostly a tenth to a quarter less for ResNets, a loss where no convolution
follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

__all__ = ["gains_from_channels_last", "images_channels_last", "within_rounding"]

_LEAST = 4  # convolutions; fewer gain next to nothing


def gains_from_channels_last(parts: Iterable[nn.Module], like: Tensor) -> bool:
    """Tell whether modules are faster with the channels last.

    Args:
        parts: The modules that compute.
        like: A tensor of the dtype and on the device that they compute with.
    """
    if like.device.type == "cpu":
        known = like.dtype == torch.float32
    else:  # tensor cores take half precision so; float32 gains nothing there
        known = like.device.type == "cuda" and like.dtype in (torch.float16, torch.bfloat16)
    return known and sum(isinstance(part, nn.Conv2d) for part in parts) >= _LEAST


def images_channels_last(
    module: nn.Module, logits: Callable[[Tensor], Tensor], images: Tensor
) -> bool:
    """Tell whether images should have their channels last in memory for a network.

    Not which `torch.memory_format`: one of these, pickled, may not load in another process.

    Args:
        module: The network.
        logits: Runs it.
        images: A few of them [N, 3, H, W], where they lie as usual.
    """
    if images.ndim != 4 or not gains_from_channels_last(module.modules(), images):
        return False
    try:
        found = logits(images.contiguous(memory_format=torch.channels_last))
    except Exception:  # noqa: BLE001  (a view of the network's code that needs the usual order)
        return False
    return within_rounding(found, logits(images))


def within_rounding(z: Tensor, expected: Tensor) -> bool:
    """Tell whether logits agree up to the rounding of sums in another order."""
    eps = torch.finfo(expected.dtype).eps
    tolerance = 1000 * eps * float(expected.abs().max())
    return float((z - expected).abs().max()) <= tolerance
