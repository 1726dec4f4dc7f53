"""Buffers that passes must not change.

Some networks write to their buffers in evaluation mode: observers of quantisation-aware training,
counters, moving averages.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["BorrowedBuffers", "KeptBuffer"]


class KeptBuffer:
    """A buffer that is kept equal to another tensor.

    Args:
        source: The tensor with the values.
        target: The buffer, equal to it now.
    """

    def __init__(self, source: Tensor, target: Tensor) -> None:
        self.source, self.target = source, target
        self._versions = source._version, target._version

    @property
    def changed(self) -> bool:
        """Whether either was written to."""
        return self._versions != (self.source._version, self.target._version)

    def restore(self) -> None:
        """Copy the values, if either was written to."""
        if self.changed:
            with torch.no_grad():
                self.target.copy_(self.source)
            self._versions = self.source._version, self.target._version


class BorrowedBuffers:
    """The buffers of a borrowed module, restored after each pass.

    Args:
        module: The user's module.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._kept: dict[int, KeptBuffer] = {}

    def __reduce__(self) -> tuple[type[BorrowedBuffers], tuple[nn.Module]]:
        return BorrowedBuffers, (self._module,)

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Restore the values that the buffers have now."""
        known, self._kept = self._kept, {}
        for buffer in self._module.buffers():
            kept = known.get(id(buffer))
            if kept is None or kept.changed:
                kept = KeptBuffer(buffer.detach().clone(), buffer)
            self._kept[id(buffer)] = kept
        passes = list(self._kept.values())
        try:
            yield
        finally:
            for kept in passes:
                kept.restore()
