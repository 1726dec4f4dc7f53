"""Where the parts of a long computation are computed: in this process, or on a Ray cluster.

A part is a fixed range of a list of images (`runs.part`). An engine computes parts; it
knows nothing of where they are kept (`runs.assembly`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self

from vtcav.errors import ExplanationError

if TYPE_CHECKING:
    from types import TracebackType

    from vtcav.explainer.runs.part import Chunk, Part, Task
    from vtcav.images.progress import Progress

__all__ = ["ENGINES", "Engine", "engine_of"]

ENGINES = ("local", "ray")


class Engine(Protocol):
    """Computes parts, inside of its `with` block."""

    def __enter__(self) -> Self:
        """Get ready."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        """Leave nothing running."""
        ...

    def device(self, task: Task) -> str:
        """Return the kind of device that computes: "cpu", "cuda", ..."""
        ...

    def compute(
        self, task: Task, chunks: Sequence[Chunk], progress: Progress | None = None
    ) -> Iterator[tuple[int, Part]]:
        """Yield the number and the part of every chunk, in any order."""
        ...


def engine_of(name: str, ray_options: Mapping[str, Any] | None = None) -> Engine:
    """Return an engine by name.

    Args:
        name: "local" or "ray".
        ray_options: What `vtcav.explainer.runs.ray_engine.RayEngine` takes.

    Raises:
        ExplanationError: For an unknown name or option.
        ExtraError: When Ray is asked for and not installed.
    """
    if name not in ENGINES:
        raise ExplanationError(f"unknown engine {name!r}: expected 'local' or 'ray'")
    if name == "local":
        from vtcav.explainer.runs.local_engine import LocalEngine

        if ray_options is not None:
            raise ExplanationError("ray_options go with engine='ray', not with 'local'")
        return LocalEngine()
    from vtcav.explainer.runs.ray_engine import RayEngine

    return RayEngine.of(ray_options or {})
