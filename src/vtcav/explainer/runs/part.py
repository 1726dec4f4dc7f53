"""Parts: the results of fixed ranges of a list of images, whichever engine computes them.

A part depends on its own images only: its batches never reach into the next part. So the table is
the same to the last bit in one process, after an interruption and on a cluster.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeAlias, get_type_hints

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor

from vtcav.images.facts import Fact
from vtcav.images.references import ImageRef, Skipped
from vtcav.parameters import Flag, check
from vtcav.results.provenance import Provenance
from vtcav.results.rows import EffectRow

if TYPE_CHECKING:
    from vtcav.explainer.attributor import Attributor


LEAST = 64  # images of a part

_TYPES = {
    str: pa.dictionary(pa.int32(), pa.string()),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
}
EFFECTS = get_type_hints(EffectRow)
"""The columns of a part's effects, with their types."""


@dataclass(frozen=True)
class Chunk:
    """A range of a list of images, which becomes a part.

    Attributes:
        number: The number of the part, from 0.
        refs: The images.
    """

    number: int
    refs: tuple[ImageRef, ...]


class BatchRows(NamedTuple):
    """What a task gives for a batch of images.

    Attributes:
        rows: The table's rows, image by image.
        effects: The rows of effects.
        sums: By layer, the sums over the images of the resampled CAVs' attributions [J].
    """

    rows: Sequence[tuple[Any, ...]]
    effects: Sequence[EffectRow] = ()
    sums: Mapping[str, NDArray[np.float64]] = {}


BatchComputer: TypeAlias = Callable[[Sequence[str], Sequence[str], Tensor], BatchRows]
"""Computes a batch from the N images' names, digests and inputs [N, 3, H, W]."""


@dataclass(frozen=True)
class Task(ABC):
    """What is to be computed for every image of a list.

    Attributes:
        attributor: The attributor, with the concepts and the layers.
        strict: Whether an unreadable image is an error.
        kind: The task's name in run folders.
        columns: The columns of its table, with their types.
        gradients: Whether it takes gradients of the network.
    """

    attributor: Attributor
    strict: bool

    kind: ClassVar[str]
    columns: ClassVar[Mapping[str, type[Any]]]
    gradients: ClassVar[bool]

    def __post_init__(self) -> None:
        check("strict", self.strict, Flag())

    @property
    @abstractmethod
    def title(self) -> str:
        """What is being done, for the progress bar."""

    @abstractmethod
    def provenance(self) -> Provenance:
        """Return what the numbers depend on."""

    @abstractmethod
    def part(self, images: int) -> BatchComputer:
        """Return what computes the batches of a part of so many images, in their order."""


@dataclass(frozen=True, eq=False)
class Part:
    """The results of a chunk.

    Attributes:
        rows: The table's rows, without q-values, which need the rows of all parts.
        effects: The rows of its effects, likewise.
        used: The number of images that could be read.
        skipped: The images that could not be read, with reasons.
        sums: By layer, the sums over the images of the resampled CAVs' attributions [J].
        shape: The shape of the network's inputs [3, H, W]; empty where no image could be read.
        first: The name of the first image of this shape.
        facts: One for each image of the chunk, readable or not.
    """

    rows: pa.Table
    effects: pa.Table
    used: int
    skipped: tuple[Skipped, ...]
    sums: Mapping[str, NDArray[np.float64]]
    shape: tuple[int, ...]
    first: str
    facts: tuple[Fact, ...]


def chunks_of(refs: Sequence[ImageRef], batch_size: int) -> list[Chunk]:
    """Divide a list of images; the same list and batch size always give the same chunks.

    A chunk is a whole number of batches and has at least 64 images. It has no more in long lists:
    it is what a worker that dies has done in vain.

    Example:
        >>> refs = [ImageRef(str(i), np.zeros((1, 1), np.uint8)) for i in range(150)]
        >>> [len(chunk.refs) for chunk in chunks_of(refs, 24)]
        [72, 72, 6]
    """
    size = batch_size * ceil(LEAST / batch_size)
    starts = range(0, len(refs), size)
    return [Chunk(n, tuple(refs[start : start + size])) for n, start in enumerate(starts)]


def table_of(rows: Sequence[tuple[Any, ...]], columns: Mapping[str, type[Any]]) -> pa.Table:
    """Return rows by column, which takes a fifth of the memory."""
    schema = pa.schema([(name, _TYPES[kind]) for name, kind in columns.items()])
    by_column = zip(*rows, strict=True) if rows else ((),) * len(schema)
    arrays = [
        pa.array(column, type=field.type, from_pandas=False)
        for column, field in zip(by_column, schema, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
