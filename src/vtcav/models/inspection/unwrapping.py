"""The plain module inside wrappers, and its device."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor, nn

from vtcav.errors import ModelError
from vtcav.models.inspection.probing import first_line
from vtcav.models.inspection.torch_internals import compiled_inner


def eager(module: nn.Module) -> nn.Module:
    """Return the plain module inside wrappers.

    Raises:
        ModelError: Where hooks or gradients cannot work, or weights are missing.
    """
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        elif (inner := compiled_inner(module)) is not None:
            module = inner
        else:
            break
    for name, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            where = f"its part {name!r}" if name else "it"
            raise ModelError(
                f"expected an eager torch.nn.Module, but {where} is compiled by TorchScript, which "
                "hides its layers; use the network before torch.jit.script or torch.jit.trace"
            )
    _check_weights(module)
    return module


def _check_weights(module: nn.Module) -> None:
    for weight in tensors_of(module):
        if weight.is_meta or nn.parameter.is_lazy(weight):
            raise ModelError(
                "expected a network with its weights in memory, but some are not initialised "
                "(meta device or lazy modules); load them, or run the network once, before"
            )
        if weight.is_inference():
            raise ModelError(
                "expected a network that autograd can differentiate, but some of its weights were "
                "made under torch.inference_mode(); build or load it outside of that"
            )


def tensors_of(module: nn.Module) -> Iterator[Tensor]:
    """Yield all parameters, then all buffers."""
    return chain(module.parameters(), module.buffers())


def usable_device(device: str | torch.device) -> torch.device:
    """Return a device.

    Raises:
        ModelError: When PyTorch cannot use it here.
    """
    try:
        wanted = torch.device(device)
        torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ModelError(
            f"device {str(device)!r} cannot be used: {first_line(error)}; use 'auto' or 'cpu'"
        ) from error
    return wanted


def place(module: nn.Module, device: str | torch.device) -> tuple[nn.Module, torch.device]:
    """Return the module (a copy where it has to move) and the device it computes on."""
    current = next((tensor.device for tensor in tensors_of(module)), torch.device("cpu"))
    if device == "auto":
        return module, current
    wanted = usable_device(device)
    if wanted.type == current.type and wanted.index in (None, current.index):
        return module, current
    try:
        return copy.deepcopy(module).to(wanted), wanted
    except Exception as error:
        raise ModelError(
            f"the network cannot be copied to device {str(device)!r}: {first_line(error)}; "
            "move it there yourself and leave device='auto'"
        ) from error
