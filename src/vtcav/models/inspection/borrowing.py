"""Borrowing a module: evaluation mode and no parameter gradients, and everything put back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

__all__ = ["BorrowedBuffers", "checksums", "evaluating", "fingerprint", "is_compiled"]

_WHOLE_NUMBERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Hold a module in evaluation mode without parameter gradients, then restore it exactly.

    The flags are set one by one: a module's own `train()` or `eval()` may do more than that
    (merge low-rank weights, freeze a part) which could not be undone.
    """
    parts = _parts(module)
    training = [part for part in parts if part.training]
    weights = (p for part in parts for p in part._parameters.values() if p is not None)
    wanted = [p for p in weights if p.requires_grad]
    try:
        for part in training:
            part.training = False
        for parameter in wanted:
            parameter.requires_grad_(False)
        with _eagerly(parts):
            yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
        for part in training:
            part.training = True


class BorrowedBuffers:
    """Undoes what passes of a borrowed module write to its buffers.

    Some networks do so in evaluation mode: observers of quantisation-aware training, counters.

    Args:
        module: The user's module.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._kept: dict[int, tuple[Tensor, int, Tensor]] = {}

    def __reduce__(self) -> tuple[type[BorrowedBuffers], tuple[nn.Module]]:
        return BorrowedBuffers, (self._module,)

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Write the values back that the buffers had before."""
        kept = {}
        for buffer in self._module.buffers():
            earlier = self._kept.get(id(buffer))
            if earlier is None or earlier[1] != buffer._version:
                earlier = buffer, buffer._version, buffer.detach().clone()
            kept[id(buffer)] = earlier
        try:
            yield
        finally:
            for buffer, version, values in kept.values():
                if buffer._version != version:
                    with torch.no_grad():
                        buffer.copy_(values)
            self._kept = {i: (b, b._version, values) for i, (b, _, values) in kept.items()}


def _parts(module: nn.Module) -> list[nn.Module]:
    """Return what `module.modules()` yields, in any order, in a fifth of the time.

    Every pass through a head asks for it, and a GPU would be kept waiting.
    """
    found, waiting = {module: None}, [module]
    while waiting:
        for child in waiting.pop()._modules.values():
            if child is not None and child not in found:
                found[child] = None
                waiting.append(child)
    return list(found)


def is_compiled(module: nn.Module) -> bool:
    """Tell whether a module itself (not a part of it) was compiled by torch.compile."""
    return "_orig_mod" in module._modules or module._compiled_call_impl is not None


def _eagerly(parts: Sequence[nn.Module]) -> AbstractContextManager[object]:
    """Let what torch.compile compiled run as it was written, so that hooks are heard."""
    if any(map(is_compiled, parts)):
        stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
        return stance
    return nullcontext()


def fingerprint(module: nn.Module) -> str:
    """Return the SHA-256 of a module's architecture (its repr) and of all its weights."""
    digest = hashlib.sha256(f"{type(module).__qualname__}\n{module!r}".encode())
    for name, tensor in sorted(_weights(module).items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        data = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(data.view(torch.uint8).numpy().data if data.numel() else b"")
    return digest.hexdigest()


def checksums(module: nn.Module) -> tuple[object, ...]:
    """Return what changes when a module does, at a tenth of the cost of its fingerprint.

    Of each weight the identity, the place in memory, the version (which counts writes in place)
    and the sum of the bits (which shows writes through `.data`, unknown to the version). Only
    values that change places within one tensor, through `.data`, go unnoticed.
    """
    weights = _weights(module)
    sums: dict[torch.device, list[Tensor]] = {}
    for tensor in weights.values():
        sums.setdefault(tensor.device, []).append(_sum_of_bits(tensor))
    # once per device, for a GPU is waited for every time
    read = {device: iter(torch.stack(own).tolist()) for device, own in sums.items()}
    return (
        repr(module),
        *(
            (name, id(tensor), tensor.data_ptr(), tensor._version, next(read[tensor.device]))
            for name, tensor in weights.items()
        ),
    )


def _sum_of_bits(tensor: Tensor) -> Tensor:
    """Return the sum of a tensor's bits, read as whole numbers; what overflows is left out."""
    integer = _WHOLE_NUMBERS.get(tensor.element_size(), torch.int64)
    bits = tensor.detach().reshape(-1).view(integer)
    return bits.sum(dtype=bits.dtype).to(torch.int64)


def _weights(module: nn.Module) -> dict[str, Tensor]:
    """Return all parameters and buffers by name."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
