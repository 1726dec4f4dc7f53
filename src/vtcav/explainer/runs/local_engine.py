"""Parts computed in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self

from vtcav.explainer.runs.part import Chunk, Part, Task, explain_parts
from vtcav.images.progress import Progress

__all__ = ["LocalEngine"]


class LocalEngine:
    """Computes parts one after another, in order."""

    def __enter__(self) -> Self:
        """Nothing is to be prepared."""
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing is left running."""

    def device(self, task: Task) -> str:
        """Return the kind of device that computes."""
        return task.attributor.model.device.type

    def compute(
        self, task: Task, chunks: Sequence[Chunk], progress: Progress | None = None
    ) -> Iterator[tuple[int, Part]]:
        """Yield the number and the part of every chunk, in order."""
        return explain_parts(task, chunks, progress)
