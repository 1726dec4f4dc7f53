"""Engines, which compute the parts of a long run: in this process, or on a Ray cluster.

A part is a fixed range of a list of images (`runs.part`). An engine does not know where parts are
kept (`runs.assembly`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from vtcav.errors import ExplanationError
from vtcav.explainer.runs.part import Chunk, Part, Task, explain_parts
from vtcav.images.progress import Progress

__all__ = ["Engine", "LocalEngine", "engine_of"]


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


def engine_of(name: str, ray_options: Mapping[str, Any] | None = None) -> Engine:
    """Return an engine by name.

    Args:
        name: "local" or "ray".
        ray_options: The arguments of `vtcav.explainer.runs.ray_engine.RayEngine`.

    Raises:
        ExplanationError: For an unknown name or option.
        ExtraError: When Ray is asked for and not installed.
    """
    if name == "ray":
        from vtcav.explainer.runs.ray_engine import RayEngine

        return RayEngine.of(ray_options or {})
    if name != "local":
        raise ExplanationError(f"unknown engine {name!r}: expected 'local' or 'ray'")
    if ray_options is not None:
        raise ExplanationError("ray_options go with engine='ray', not with 'local'")
    return LocalEngine()
