"""Gradients compiled by torch.compile, by request: fewer and larger steps for a GPU.

What takes the time is a function of feature maps that returns gradients. It is traced with its
backward passes to a graph of operations, in which hooks and skipped modules leave no trace, and
the graph is compiled by Inductor for batches of one size; smaller ones are filled up.

A graph knows no Python: what the network's code decides by looking at values would stay as it was
while traced. A value looked at is an error of the trace, and what becomes a constant shows when the
graph is traced again with other maps. Such code is computed as it is, and a warning says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx

from vtcav.errors import VtcavError
from vtcav.models.base import Head
from vtcav.models.heads.batch_size import BatchSize, is_out_of_memory
from vtcav.models.heads.mixed_precision import mixed
from vtcav.models.heads.options import Mode, Precision
from vtcav.models.heads.resumed import ModuleHead

__all__ = ["CompiledHead", "Compiler", "filled", "gradients"]

_STEP = 8
"""Batches are filled up to a full one, or an eighth of it, and so on: each size is compiled."""

Work: TypeAlias = Callable[..., list[Tensor]]
"""From a head, maps [n, C, h, w], classes [n, T], weights [n], and rows, to gradients per class."""

_Graph: TypeAlias = Callable[..., list[Tensor]]


class Compiler:
    """What is compiled for one explainer.

    Args:
        mode: Of torch.compile.
    """

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        self._graphs: dict[tuple[object, ...], _Graph | None] = {}
        self._told: set[str] = set()

    def clear(self) -> None:
        """Forget all graphs: the network has changed."""
        self._graphs.clear()
        self._told.clear()

    def graph(
        self, key: tuple[object, ...], layer: str, work: _Graph, given: _Given
    ) -> _Graph | None:
        """Return some work compiled for tensors like these, or None where that fails."""
        if key not in self._graphs:
            self._graphs[key] = self._compiled(layer, work, given)
        return self._graphs[key]

    def _compiled(self, layer: str, work: _Graph, given: _Given) -> _Graph | None:
        """Return the work compiled, or None where that fails; a warning says why."""
        try:
            graph = torch.compile(_traced(work, given), dynamic=False, mode=self.mode)
            with torch.no_grad():
                graph(*given)
        except VtcavError:
            raise
        except Exception as error:  # Dynamo and Inductor raise of every kind
            if is_out_of_memory(error):
                raise
            self._tell(layer, error)
            return None
        return graph

    def _tell(self, layer: str, error: Exception) -> None:
        if layer in self._told:
            return
        self._told.add(layer)
        [line, *_] = str(error).strip().splitlines() or [""]
        warnings.warn(
            f"layer {layer!r} is computed without torch.compile, which fails for it "
            f"({type(error).__name__}: {line})",
            stacklevel=2,
        )


class CompiledHead:
    """A head whose gradients are compiled.

    Attributes:
        layer: Name of the layer.
        resume: How the rest is run, in a word.

    Args:
        compiler: Keeps the graphs.
        head: The network after a layer.
        precision: Of the gradients.
        batch_size: Feature maps of a full batch.
    """

    def __init__(
        self, compiler: Compiler, head: Head, precision: Precision | None, batch_size: BatchSize
    ) -> None:
        self.layer, self.resume = head.layer, head.resume
        self._compiler, self._head = compiler, head
        self._precision, self._batch_size = precision, batch_size

    @property
    def per_image(self) -> bool:
        """Whether the head is bound to N images and takes maps of these, row by row."""
        return self._head.per_image

    def __call__(self, F: Tensor) -> Tensor:
        """Return the logits z [N, T] (float32), differentiable with respect to F; not compiled."""
        return mixed(self._head, self._precision)(F)

    def of(self, images: Tensor) -> Head:
        """Return the head for maps of these preprocessed images [N, 3, H, W], row by row."""
        return self._of(self._head.of(images))

    def rows(self, index: Tensor) -> Head:
        """Return the head for maps of the images at these positions [n] among the N."""
        return self._of(self._head.rows(index))

    def _of(self, head: Head) -> Head:
        return CompiledHead(self._compiler, head, self._precision, self._batch_size)

    def gradients(
        self, work: Work, maps: Tensor, classes: Tensor, weight: Tensor, *rows: Tensor
    ) -> list[Tensor]:
        """Return what work gives for this head, compiled; see `gradients`."""
        n = len(maps)
        size = filled(n, self._batch_size.size)
        prefix = self._head.prefix if isinstance(self._head, ModuleHead) else None
        given = [
            *(_repeated(tensor, size) for tensor in (maps, classes)),
            torch.cat([weight, weight.new_zeros(size - n)]),
            *(_filled_with_zeros(index, size) for index in rows),
        ]
        if prefix is not None:
            given.append(prefix if len(prefix) == 1 else _repeated(prefix, size))

        def traced(*tensors: Tensor) -> list[Tensor]:
            head, own = self._head, tensors
            if prefix is not None:
                assert isinstance(head, ModuleHead)
                head, own = replace(head, prefix=tensors[-1]), tensors[:-1]
            return work(mixed(head, self._precision), *own)

        shapes = tuple((tuple(t.shape), t.dtype) for t in given)
        key = (work.__qualname__, self.layer, self._precision, *shapes)
        graph = self._compiler.graph(key, self.layer, traced, given)
        if graph is None:
            return work(mixed(self._head, self._precision), maps, classes, weight, *rows)
        with torch.no_grad():
            begin: Callable[[], None] = torch.compiler.cudagraph_mark_step_begin
            begin()
            # CUDA graphs write the next results into the same place
            return [G[:n].clone() for G in graph(*given)]


def gradients(
    head: Head, work: Work, maps: Tensor, classes: Tensor, weight: Tensor, *rows: Tensor
) -> list[Tensor]:
    """Return gradients at feature maps, compiled where the head asks for that.

    Args:
        head: The network after a layer.
        work: What computes them. Its name tells it from other work at the layer; what else it
            depends on is the same for all maps of a shape.
        maps: Feature maps [n, C, h, w].
        classes: Indices of the logits [n, T].
        weight: Of each map [n].
        rows: Positions [m] among the n that it takes besides; row 0 more often does no harm.

    Returns:
        Per class the gradients [n, C, h, w].
    """
    if isinstance(head, CompiledHead):
        return head.gradients(work, maps, classes, weight, *rows)
    return work(head, maps, classes, weight, *rows)


def filled(n: int, full: int) -> int:
    """Return how many rows n are filled up to.

    Example:
        >>> [filled(n, 256) for n in (1, 4, 5, 32, 33, 256, 257)]
        [4, 4, 32, 32, 256, 256, 512]
    """
    n = max(n, 1)
    while full < n:
        full *= 2
    while n <= full // _STEP:
        full //= _STEP
    return full


_Given: TypeAlias = Sequence[Tensor]


def _repeated(tensor: Tensor, size: int) -> Tensor:
    """Return rows [size, ...], the last as often as needed."""
    missing = size - len(tensor)
    if not missing:
        return tensor
    return torch.cat([tensor, tensor[-1:].expand(missing, *tensor.shape[1:])])


def _filled_with_zeros(index: Tensor, size: int) -> Tensor:
    """Return positions, filled up with 0 to one of few lengths."""
    return torch.cat([index, index.new_zeros(filled(len(index), size) - len(index))])


def _traced(work: _Graph, given: _Given) -> fx.GraphModule:
    """Return the operations of some work, which must be the same for other maps.

    Raises:
        RuntimeError: When the work decides by values, or some of them became constants.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    maps, *others = given
    graph = make_fx(work)(*given)
    again = make_fx(work)(maps.flip(0) * 0.75, *others)
    if graph.code != again.code or not all(map(_same, _constants(graph), _constants(again))):
        raise RuntimeError("the network's code turns values into constants or decides by them")
    return graph


def _constants(graph: fx.GraphModule) -> list[Any]:
    """Return the weights and other constants of a graph, in the order in which they are used."""
    return [getattr(graph, str(n.target)) for n in graph.graph.nodes if n.op == "get_attr"]


def _same(a: Any, b: Any) -> bool:
    return a is b or (isinstance(a, Tensor) and isinstance(b, Tensor) and torch.equal(a, b))
