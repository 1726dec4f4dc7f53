"""Tensors set aside: where they are as far as there is room, then in a temporary file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from io import FileIO
from types import TracebackType
from typing import Self, TypeAlias

import torch
from torch import Tensor

__all__ = ["Aside", "Scratch"]

_Place: TypeAlias = tuple[int, tuple[int, ...], torch.dtype]


class Aside:
    """Where tensors are.

    Attributes:
        places: By name the tensor itself, or once it is written the offset in the file, the shape
            and the type. None are left at the end of its section.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.places: dict[str, Tensor | _Place] = dict(tensors)


class Scratch:
    """A temporary file, which is gone when its block ends or the process does.

    A thread writes while the next tensors are computed; one set of them waits at most. What cannot
    be written stays in memory, and nothing more is taken. The room of a `section` is used again.

    Args:
        budget: The most bytes it may hold.
        memory: The most bytes that may stay in memory, before the file is used.

    Example:
        >>> with Scratch(1000) as scratch:
        ...     aside = scratch.add({"a": torch.arange(3.0)})
        ...     scratch.read(aside, torch.device("cpu"))
        {'a': tensor([0., 1., 2.])}
    """

    def __init__(self, budget: int, memory: int = 0) -> None:
        self._left = budget
        self._memory = memory
        self._end = 0
        self._closed = self._failed = False
        self._section: list[Aside] = []
        self._file: FileIO | None = None
        self._writer: ThreadPoolExecutor | None = None
        self._writing: Future[None] | None = None

    def __enter__(self) -> Self:
        """Nothing is made before it is needed."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        """Remove the file."""
        if self._writer is not None:
            self._writer.shutdown()
        if self._file is not None:
            with suppress(OSError):  # what could not be written is given up anyway
                self._file.close()

    @contextmanager
    def section(self) -> Iterator[None]:
        """Let go of what is added in a block at its end: the room is there for others then."""
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
                for aside in self._section:
                    aside.places.clear()

    def add(self, tensors: Mapping[str, Tensor], spare: int = 0) -> Aside | None:
        """Set tensors aside.

        Args:
            tensors: By name.
            spare: The bytes that must be left for others.

        Returns:
            Where they are; None where they do not fit, and then nothing more is taken.
        """
        aside = Aside({name: tensor.detach() for name, tensor in tensors.items()})
        size = sum(tensor.nbytes for tensor in tensors.values())
        self._written()
        stays = size <= self._memory
        memory = self._memory - (size if stays else 0)
        left = (0 if self._failed else self._left) - (0 if stays else size)
        # what is left of the memory takes others of this size, each as a whole
        self._closed |= left < 0 or left + memory // size * size < spare
        if self._closed:
            return None
        self._section.append(aside)
        if stays:
            self._memory = memory
            return aside
        self._left = left
        if self._writer is None:
            self._writer = ThreadPoolExecutor(1, thread_name_prefix="vtcav-scratch")
        self._writing = self._writer.submit(self._write, aside)
        return aside

    def read(self, aside: Aside, device: torch.device) -> dict[str, Tensor]:
        """Return tensors that were set aside."""
        self._written()
        return {
            name: place if isinstance(place, Tensor) else self._read(*place).to(device)
            for name, place in aside.places.items()
        }

    def _written(self) -> None:
        """Wait until all that was handed over is in the file."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def _write(self, aside: Aside) -> None:
        """Write tensors, and let go of them."""
        try:
            places = {n: self._put(t) for n, t in aside.places.items() if isinstance(t, Tensor)}
        except OSError:  # a full disk, or none that can be written
            self._failed = True
            return
        aside.places.update(places)

    def _put(self, tensor: Tensor) -> _Place:
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
