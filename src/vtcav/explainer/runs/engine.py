"""Engines, which compute the parts of a long run: in this process, or on a Ray cluster.

A part is a fixed range of a list of images (`runs.part`). An engine does not know where parts are
kept (`runs.assembly`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Self

from vtcav.explainer.runs.part import Chunk, Part, Task, explain_parts
from vtcav.images.progress import Progress

__all__ = ["Engine", "LocalEngine"]


class Engine(ABC):
    """Computes parts within its `with` block."""

    def __enter__(self) -> Self:
        """Start what the engine needs."""
        return self

    def __exit__(self, *error: object) -> None:
        """Stop what the engine started."""
        return

    @abstractmethod
    def device(self, task: Task) -> str:
        """Return the kind of device that computes: "cpu", "cuda", ..."""

    @abstractmethod
    def compute(
        self, task: Task, chunks: Sequence[Chunk], progress: Progress | None = None
    ) -> Iterator[tuple[int, Part]]:
        """Yield the number and the part of every chunk, in any order."""


class LocalEngine(Engine):
    """Computes parts in this process, one after another."""

    def device(self, task: Task) -> str:
        """Return the kind of device that computes."""
        return task.attributor.model.device.type

    def compute(
        self, task: Task, chunks: Sequence[Chunk], progress: Progress | None = None
    ) -> Iterator[tuple[int, Part]]:
        """Yield the number and the part of every chunk, in order."""
        return explain_parts(task, chunks, progress)
