"""Parts: the results of fixed ranges of a list of images, whichever engine computes them.

A part depends on its own images only: its batches never reach into the next part. So the table is
the same to the last bit in one process, after an interruption and on a cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from math import ceil
from typing import TYPE_CHECKING, Any, get_type_hints

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtcav.images.batches import check_same_shape, computed_ahead, prepared
from vtcav.images.facts import Fact, fetched
from vtcav.images.references import ImageRef, Skipped, UnreadableError
from vtcav.results.rows import Row

if TYPE_CHECKING:
    from PIL import Image

    from vtcav.explainer.attributor import Attributor
    from vtcav.images.progress import Progress

__all__ = ["COLUMNS", "Chunk", "Part", "Task", "chunks_of", "explain_parts"]

LEAST = 64  # images of a part
MOST_PARTS = 2048  # folders with more files are slow, and so are longer lists of sums

_TYPES = {
    str: pa.dictionary(pa.int32(), pa.string()),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
}
COLUMNS = {**get_type_hints(Row), "probability": float, "predicted_class": str}
"""The columns of a part's table and of that of a class, with their types."""
_SCHEMA = pa.schema([(name, _TYPES[kind]) for name, kind in COLUMNS.items()])


@dataclass(frozen=True)
class Chunk:
    """A range of a list of images, which becomes a part.

    Attributes:
        number: The number of the part, from 0.
        refs: The images.
    """

    number: int
    refs: tuple[ImageRef, ...]


@dataclass(frozen=True)
class Task:
    """The explanation of one class, to be computed for many images.

    Attributes:
        attributor: The attributor, with the concepts and the layers to explain.
        class_index: The class.
        strict: Whether an unreadable image is an error.
    """

    attributor: Attributor
    class_index: int
    strict: bool


@dataclass(frozen=True, eq=False)
class Part:
    """The results of a chunk.

    Attributes:
        rows: The rows of the class's table, without q-values, which need the rows of all parts.
        used: The number of images that could be read.
        skipped: The images that could not be read, with reasons.
        sums: By layer, the sums over the images of the resampled CAVs' attributions [J].
        shape: The shape of the network's inputs [3, H, W]; empty where no image could be read.
        first: The name of the first image of this shape.
        facts: One for each image of the chunk, readable or not.
    """

    rows: pa.Table
    used: int
    skipped: tuple[Skipped, ...]
    sums: Mapping[str, NDArray[np.float64]]
    shape: tuple[int, ...]
    first: str
    facts: tuple[Fact, ...]

    def check_shape(self, shape: tuple[int, ...], first: str) -> None:
        """Refuse a part whose inputs are of another shape than those of an earlier one.

        Raises:
            ImageError: Naming an image of each.
        """
        if shape and self.shape:
            check_same_shape(self.shape, self.first, shape, first)


def chunks_of(refs: Sequence[ImageRef], batch_size: int) -> list[Chunk]:
    """Divide a list of images; the same list and batch size always give the same chunks.

    A chunk is a whole number of batches and has at least 64 images. In long lists it has more, so
    that there are at most 2,048 chunks.

    Example:
        >>> refs = [ImageRef(str(i), np.zeros((1, 1), np.uint8)) for i in range(150)]
        >>> [len(chunk.refs) for chunk in chunks_of(refs, 24)]
        [72, 72, 6]
    """
    size = batch_size * ceil(max(LEAST, len(refs) / MOST_PARTS) / batch_size)
    starts = range(0, len(refs), size)
    return [Chunk(n, tuple(refs[start : start + size])) for n, start in enumerate(starts)]


def explain_parts(
    task: Task, chunks: Sequence[Chunk], progress: Progress | None = None
) -> Iterator[tuple[int, Part]]:
    """Compute chunks one after another, while images of the next are decoded.

    Yields:
        The number and the part of each chunk, in order.

    Raises:
        ImageError: For an unreadable image when the task is strict, or inputs of several shapes.
        ModelError: When the network gives infinite values or NaN.
    """
    refs = (ref for chunk in chunks for ref in chunk.refs)
    prepare = partial(_prepare, task.attributor.model.preprocess)
    with closing(computed_ahead(prepare, refs, 2 * task.attributor.settings.images)) as arrivals:
        for chunk in chunks:
            yield chunk.number, _explain(task, islice(arrivals, len(chunk.refs)), progress)


@dataclass(frozen=True)
class _Arrival:
    """An image ready for the network, or the reason why it is not."""

    ref: ImageRef
    fact: Fact
    x: Tensor | None
    reason: str = ""


def _prepare(preprocess: Callable[[Image.Image], Tensor], ref: ImageRef) -> _Arrival:
    """Open one image."""
    fact, here = fetched(ref)
    try:
        return _Arrival(ref, fact, prepared(preprocess, here)[1])
    except UnreadableError as error:
        return _Arrival(ref, fact, None, error.args[1])


def _explain(task: Task, arrivals: Iterable[_Arrival], progress: Progress | None) -> Part:
    """Compute one part."""
    attributor = task.attributor
    facts: list[Fact] = []
    skipped: list[Skipped] = []
    rows: list[tuple[Any, ...]] = []
    layers = attributor.cavs.layers.items()
    sums = {la: np.zeros(len(c.resampled.v) if c.resampled else 0) for la, c in layers}
    shape: tuple[int, ...] = ()
    first = ""

    def readable() -> Iterator[tuple[str, str, Tensor]]:
        for arrival in arrivals:
            facts.append(arrival.fact)
            if arrival.x is not None:
                yield arrival.ref.name, arrival.fact.digest, arrival.x
            elif task.strict:
                raise UnreadableError(arrival.ref.name, arrival.reason)
            else:
                skipped.append(Skipped(arrival.ref.name, arrival.reason))
            if progress is not None:
                progress.advance()

    images = readable()
    while batch := list(islice(images, attributor.settings.images)):
        names, digests, tensors = zip(*batch, strict=True)
        if not shape:
            shape, first = tuple(tensors[0].shape), names[0]
        for name, x in zip(names, tensors, strict=True):
            check_same_shape(x.shape, name, shape, first)
        more, added = attributor.class_rows(names, digests, torch.stack(tensors), task.class_index)
        rows += more
        sums = {layer: total + added[layer] for layer, total in sums.items()}
    return Part(
        rows=_table(rows),
        used=len(facts) - len(skipped),
        skipped=tuple(skipped),
        sums=sums,
        shape=shape,
        first=first,
        facts=tuple(facts),
    )


def _table(rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    """Return rows by column, which takes a fifth of the memory."""
    columns = zip(*rows, strict=True) if rows else ((),) * len(_SCHEMA)
    arrays = [
        pa.array(column, type=field.type, from_pandas=False)
        for column, field in zip(columns, _SCHEMA, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=_SCHEMA)
