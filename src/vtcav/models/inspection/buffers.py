"""State that passes must not change.

Some networks write in evaluation mode: observers of quantisation-aware training, counters, moving
averages.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vtcav.models.inspection.borrowing import parts_of
from vtcav.models.inspection.fingerprint import strided_parts
from vtcav.models.inspection.torch_internals import writes_to


class KeptBuffer:
    """A tensor that is kept equal to another.

    Attributes:
        source: The tensor with the values.
        target: The tensor that follows it, equal to it now.
        is_written: Whether passes write to it. Some operators do so without a new version.
    """

    def __init__(self, source: Tensor, target: Tensor) -> None:
        self.source, self.target = source, target
        self.is_written = False
        self._writes = writes_to(source), writes_to(target)

    def find_writes(self) -> bool:
        """Compare the values after a pass, and tell whether it wrote to them."""
        same = self.target.shape == self.source.shape and _equal(self.target, self.source)
        self.is_written = self.is_written or not same
        return self.is_written

    def restore(self) -> None:
        """Copy the values, if either was written to."""
        writes = writes_to(self.source), writes_to(self.target)
        if not self.is_written and None not in writes and writes == self._writes:
            return
        with torch.no_grad():
            if self.target.shape != self.source.shape:
                self.target.resize_(self.source.shape)
            self.target.copy_(self.source)
        self._writes = writes_to(self.source), writes_to(self.target)


def _equal(a: Tensor, b: Tensor) -> bool:
    """Tell whether two tensors of one shape are equal, of any layout."""
    return all(map(torch.equal, strided_parts(a), strided_parts(b)))


class BorrowedState:
    """The buffers and attributes of a borrowed module, restored after each pass.

    Args:
        module: The user's module.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._written: set[int] = set()  # identities of buffers

    def __reduce__(self) -> tuple[type[BorrowedState], tuple[nn.Module]]:
        return BorrowedState, (self._module,)

    @contextmanager
    def restored(self, *, whole: bool) -> Iterator[None]:
        """Restore what the module has now.

        Args:
            whole: Whether to compare values, because a first pass may write unnoticed.
        """
        parts = parts_of(self._module)
        containers = [each for part in parts for each in _containers(part)]
        before = [copy.copy(each) for each in containers]
        buffers = [b for part in parts for b in part.buffers(recurse=False)]
        kept = [KeptBuffer(buffer.detach().clone(), buffer) for buffer in buffers]
        try:
            yield
        finally:
            for container, content in zip(containers, before, strict=True):
                _put_back(container, content)
            for each in kept:
                each.is_written = id(each.target) in self._written
                if whole and each.find_writes():
                    self._written.add(id(each.target))
                each.restore()


def _containers(part: nn.Module) -> list[Any]:
    """Return the containers that a module's attributes are in, and those among them."""
    own = part.__dict__
    named = [value for name, value in own.items() if "_hooks" not in name]
    return [own, *(value for value in named if isinstance(value, list | set | dict))]


def _put_back(container: Any, content: Any) -> None:
    """Give a container its former content, if it has another."""
    if isinstance(container, list):
        if len(container) != len(content) or any(map(operator.is_not, container, content)):
            container[:] = content
    elif isinstance(container, set):
        if container != content:
            container.clear()
            container.update(content)
    elif container.keys() != content.keys() or any(
        container[key] is not value for key, value in content.items()
    ):
        container.clear()
        container.update(content)
