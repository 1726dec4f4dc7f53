"""Tensors set aside: where they are as far as there is room, then in a temporary file."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Self

import torch
from torch import Tensor

__all__ = ["Aside", "Scratch"]


@dataclass(frozen=True)
class Aside:
    """Where tensors are: by name the offset in the file, shape and type, or the tensor itself."""

    places: Mapping[str, tuple[int, tuple[int, ...], torch.dtype] | Tensor]


class Scratch:
    """A temporary file, which is gone when its block ends or the process does.

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
        self._file: IO[bytes] | None = None

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
        if self._file is not None:
            with suppress(OSError):  # what could not be written is given up anyway
                self._file.close()

    def add(self, tensors: Mapping[str, Tensor]) -> Aside | None:
        """Write tensors; None where they do not fit, and then nothing more is taken."""
        size = sum(tensor.nbytes for tensor in tensors.values())
        if size <= self._memory:
            self._memory -= size
            return Aside({name: tensor.detach() for name, tensor in tensors.items()})
        if size > self._left:
            self._left = 0
            return None
        try:
            return Aside({name: self._write(tensor) for name, tensor in tensors.items()})
        except OSError:  # a full disk, or none that can be written: they are computed again
            self._left = 0
            return None

    def read(self, aside: Aside, device: torch.device) -> dict[str, Tensor]:
        """Return tensors that were written."""
        return {
            name: place if isinstance(place, Tensor) else self._read(*place).to(device)
            for name, place in aside.places.items()
        }

    def _write(self, tensor: Tensor) -> tuple[int, tuple[int, ...], torch.dtype]:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="vtcav-", buffering=0)  # noqa: SIM115
        start = self._end
        whole = tensor.detach().cpu().contiguous().numpy().data.cast("B")
        self._file.seek(start)
        done = 0
        while done < len(whole):
            done += self._file.write(whole[done:])
        self._end += len(whole)
        self._left -= len(whole)
        return start, tuple(tensor.shape), tensor.dtype

    def _read(self, start: int, shape: tuple[int, ...], kind: torch.dtype) -> Tensor:
        if self._file is None:
            raise ValueError("nothing was written")
        tensor = torch.empty(shape, dtype=kind)
        whole = tensor.numpy().data.cast("B")
        self._file.seek(start)
        done = 0
        while done < len(whole):
            got = self._file.readinto(whole[done:])  # type: ignore[attr-defined]
            if not got:
                raise OSError("a temporary file of feature maps is shorter than what was written")
            done += got
        return tensor
