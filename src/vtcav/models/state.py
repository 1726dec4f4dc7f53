"""Borrowing a module: evaluation mode and no parameter gradients, and everything put back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["evaluating", "fingerprint"]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Hold a module in evaluation mode without parameter gradients, then restore it exactly."""
    modes = [(child, child.training) for child in module.modules()]
    wanted = [p for p in module.parameters() if p.requires_grad]
    training = any(mode for _, mode in modes)
    try:
        if training:
            module.eval()
        for parameter in wanted:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
        if training:
            for child, mode in modes:
                child.training = mode


def fingerprint(module: nn.Module) -> str:
    """Return the SHA-256 of a module's architecture (its repr) and of all its weights."""
    digest = hashlib.sha256(f"{type(module).__qualname__}\n{module!r}".encode())
    tensors = sorted([*module.named_parameters(), *module.named_buffers()], key=lambda nt: nt[0])
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        data = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(data.view(torch.uint8).numpy().data if data.numel() else b"")
    return digest.hexdigest()
