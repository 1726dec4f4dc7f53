"""A buffer of tensors: in memory up to a limit, beyond it in a temporary file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from io import FileIO
from typing import TypeAlias

import torch
from torch import Tensor

_Location: TypeAlias = tuple[int, tuple[int, ...], torch.dtype]


class Spilled:
    """Tensors in a buffer.

    Attributes:
        locations: By name the tensor itself, or once it is written its offset in the file, its
            shape and its type. Empty after the end of the section they were added in.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.locations: dict[str, Tensor | _Location] = dict(tensors)


class SpillFile(AbstractContextManager["SpillFile"]):
    """A buffer of tensors, in memory and in a temporary file, which ends with its block.

    A thread writes while the next tensors are computed; at most one set of them waits. When the
    file cannot be written, what was added stays in memory and nothing more is taken.

    Args:
        budget: The most bytes that the file may hold.
        memory: The most bytes that may stay in memory; these are used before the file.

    Example:
        >>> with SpillFile(1000) as spill:
        ...     spilled = spill.add({"a": torch.arange(3.0)})
        ...     spill.read(spilled, torch.device("cpu"))
        {'a': tensor([0., 1., 2.])}
    """

    def __init__(self, budget: int, memory: int = 0) -> None:
        self._left = budget
        self._memory = memory
        self._end = 0
        self._closed = self._failed = False
        self._section: list[Spilled] = []
        self._file: FileIO | None = None
        self._writer: ThreadPoolExecutor | None = None
        self._writing: Future[None] | None = None

    def __exit__(self, *error: object) -> None:
        """Remove the file."""
        if self._writer is not None:
            self._writer.shutdown()
        if self._file is not None:
            with suppress(OSError):  # nobody reads it any more
                self._file.close()

    @contextmanager
    def section(self) -> Iterator[None]:
        """Drop what is added in a block when it ends, so that its space is used again."""
        self._written()
        before = self._end, self._left, self._memory, self._closed
        self._closed, self._section = False, []
        try:
            yield
        finally:
            try:
                self._written()
            finally:
                self._end, self._left, self._memory, self._closed = before
                for spilled in self._section:
                    spilled.locations.clear()

    def add(self, tensors: Mapping[str, Tensor], spare: int = 0) -> Spilled | None:
        """Add tensors.

        Args:
            tensors: The tensors by name.
            spare: The bytes that must stay free for later sections.

        Returns:
            The tensors in the buffer; None where they do not fit, and then nothing more is taken.
        """
        spilled = Spilled({name: tensor.detach() for name, tensor in tensors.items()})
        size = sum(tensor.nbytes for tensor in tensors.values())
        self._written()
        stays = size <= self._memory
        memory = self._memory - (size if stays else 0)
        left = (0 if self._failed else self._left) - (0 if stays else size)
        # what is left of the memory takes others of this size, each as a whole
        self._closed |= left < 0 or left + memory // size * size < spare
        if self._closed:
            return None
        self._section.append(spilled)
        if stays:
            self._memory = memory
            return spilled
        self._left = left
        if self._writer is None:
            self._writer = ThreadPoolExecutor(1, thread_name_prefix="vtcav-spill")
        self._writing = self._writer.submit(self._write, spilled)
        return spilled

    def read(self, spilled: Spilled, device: torch.device) -> dict[str, Tensor]:
        """Return tensors of the buffer by name; those from the file on `device`."""
        self._written()
        return {
            name: where if isinstance(where, Tensor) else self._read(*where).to(device)
            for name, where in spilled.locations.items()
        }

    def _written(self) -> None:
        """Wait until all that was added is in the file."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def _write(self, spilled: Spilled) -> None:
        """Write tensors and release their memory."""
        tensors = {n: t for n, t in spilled.locations.items() if isinstance(t, Tensor)}
        try:
            locations = {name: self._put(tensor) for name, tensor in tensors.items()}
        except OSError:  # a full disk, or none that can be written
            self._failed = True
            return
        spilled.locations.update(locations)

    def _put(self, tensor: Tensor) -> _Location:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="vtcav-", buffering=0)  # noqa: SIM115  (__exit__)
        start = self._end
        whole = tensor.cpu().contiguous().numpy().data.cast("B")
        self._file.seek(start)
        done = 0
        while done < len(whole):
            done += self._file.write(whole[done:])
        self._end += len(whole)
        return start, tuple(tensor.shape), tensor.dtype

    def _read(self, start: int, shape: tuple[int, ...], kind: torch.dtype) -> Tensor:
        if self._file is None:
            raise ValueError("nothing was written")
        tensor = torch.empty(shape, dtype=kind)
        whole = tensor.numpy().data.cast("B")
        self._file.seek(start)
        done = 0
        while done < len(whole):
            got = self._file.readinto(whole[done:])
            if not got:
                raise OSError("a temporary file of feature maps is shorter than what was written")
            done += got
        return tensor
