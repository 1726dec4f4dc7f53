"""The fingerprint of a module, and cheap checksums that show whether it has changed."""

from __future__ import annotations

import hashlib
import re

import torch
from torch import Tensor, nn

from vtcav.models.inspection.torch_internals import writes_to

_ADDRESS = re.compile(r"( at)? 0x[0-9a-fA-F]+|\b\d{12,}\b")  # also id()
_WHOLE_NUMBERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def fingerprint(module: nn.Module) -> str:
    """Return the SHA-256 of a module's architecture (its repr) and of all its weights.

    Addresses in memory, which a repr may hold, are left out: they differ between processes.
    """
    architecture = _ADDRESS.sub("", repr(module))
    digest = hashlib.sha256(f"{type(module).__qualname__}\n{architecture}".encode())
    for name, tensor in sorted(_weights(module).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        for part in strided_parts(tensor):
            # a copy, because a tensor with a numpy view cannot be resized any more
            data = part.detach().to("cpu", copy=True).contiguous().reshape(-1)
            digest.update(data.view(torch.uint8).numpy().data if data.numel() else b"")
    return digest.hexdigest()


def checksums(module: nn.Module) -> tuple[object, ...]:
    """Return values that change when a module's repr or a weight does.

    This takes a tenth of the time of its fingerprint.
    """
    return (repr(module), *weight_checksums(module))


def weight_checksums(module: nn.Module) -> tuple[object, ...]:
    """Return values that change when a weight of a module does.

    For each weight these are its identity, its address in memory, its version (which counts writes
    in place) and the sum of its bits (which shows writes through `.data`, unknown to the version).
    Only values that swap places within one tensor, through `.data`, go unnoticed.
    """
    weights = _weights(module)
    sums: dict[torch.device, list[Tensor]] = {}
    for tensor in weights.values():
        sums.setdefault(tensor.device, []).append(sum_of_bits(tensor))
    # once per device, because every read waits for a GPU
    read = {device: iter(torch.stack(own).tolist()) for device, own in sums.items()}
    return tuple(
        (name, id(tensor), _address(tensor), writes_to(tensor), next(read[tensor.device]))
        for name, tensor in weights.items()
    )


def sum_of_bits(tensor: Tensor) -> Tensor:
    """Return the sum of a tensor's bits, read as whole numbers; overflow is dropped."""
    total = torch.zeros((), dtype=torch.int64, device=tensor.device)
    for part in strided_parts(tensor.detach()):
        bits = part.reshape(-1).view(_WHOLE_NUMBERS.get(part.element_size(), torch.int64))
        total += bits.sum(dtype=bits.dtype).to(torch.int64)
    return total


def strided_parts(tensor: Tensor) -> list[Tensor]:
    """Return a tensor, or the parts of a sparse one: the places of its values, and the values."""
    if tensor.layout == torch.strided:
        return [tensor]
    if tensor.layout != torch.sparse_coo:  # compressed by rows, columns or blocks
        tensor = tensor.to_sparse(layout=torch.sparse_coo)
    tensor = tensor.coalesce()
    return [tensor.indices(), tensor.values()]


def _address(tensor: Tensor) -> int:
    return tensor.data_ptr() if tensor.layout == torch.strided else 0


def _weights(module: nn.Module) -> dict[str, Tensor]:
    """Return all parameters and buffers by name."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
