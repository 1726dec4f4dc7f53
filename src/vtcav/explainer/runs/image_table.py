"""A table over many images, computed in parts that are kept when they are done.

A run folder (`run_folder`) keeps the parts, so that the same call resumes where it was interrupted.
Without one only rows and sums stay, in memory while they are few (`gathered_rows`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtcav.errors import ExplanationError, ImageError
from vtcav.explainer.runs.gathered_rows import GatheredRows
from vtcav.explainer.runs.identity import identity
from vtcav.explainer.runs.part import EFFECTS, Chunk, Part, Task, chunks_of, table_of
from vtcav.explainer.runs.run_folder import opened
from vtcav.files.paths import given_path
from vtcav.images.batches import check_same_shape, computed_ahead, prepared
from vtcav.images.cropping import warn_of_cropping
from vtcav.images.facts import Fact, fetched
from vtcav.images.progress import Progress, progress_bar
from vtcav.images.references import ImageRef, Skipped, UnreadableError, report_skipped
from vtcav.results.rows import EffectRow
from vtcav.results.tables.image_rows import ImageRows

if TYPE_CHECKING:
    from PIL import Image


class ImageTable:
    """The table of a task over all its images, which parts are added to in any order.

    Args:
        strict: Whether an unreadable image is an error.
        kept: The files that keep the tables of all parts, in order, by the name of the table.

    Attributes:
        used: The number of images that could be read.
        skipped: The images that could not be read, with reasons.
        sums: By layer, the sums over the images of the resampled CAVs' attributions [J].
    """

    def __init__(self, *, strict: bool, kept: Mapping[str, Sequence[Path]] = {}) -> None:
        self.used = 0
        self.skipped: list[Skipped] = []
        self.sums: dict[str, NDArray[np.float64]] = {}
        self._strict = strict
        self._rows = GatheredRows(kept.get("rows", ()))
        self._effects = GatheredRows(kept.get("effects", ()))
        self._next = 0
        self._shape: tuple[int, ...] = ()
        self._first = ""
        self._waiting: dict[int, Part] = {}

    def add(self, number: int, part: Part) -> None:
        """Add a part, or keep it until those before it have come."""
        self._waiting[number] = part
        while self._next in self._waiting:
            self._append(self._waiting.pop(self._next))
            self._next += 1

    def _append(self, part: Part) -> None:
        if part.shape and self._shape:
            check_same_shape(part.shape, part.first, self._shape, self._first)
        if not self._shape:
            self._shape, self._first = part.shape, part.first
        if part.skipped and self._strict:
            raise UnreadableError(part.skipped[0].name, part.skipped[0].reason)
        self.used += part.used
        self.skipped += part.skipped
        self._rows.add(part.rows)
        self._effects.add(part.effects)
        for layer, values in part.sums.items():
            known = self.sums.get(layer, np.zeros(len(values)))
            if len(known) != len(values):
                raise ExplanationError(
                    f"the parts of this run do not fit each other: of layer {layer!r} one has sums "
                    f"of {len(values)} resampled CAVs, the others of {len(known)}; choose another "
                    "folder for the run"
                )
            self.sums[layer] = known + values

    def rows(self) -> ImageRows:
        """Return the rows of all parts, with q-values over all of them where they have p-values."""
        return self._rows.rows()

    def effects(self) -> ImageRows:
        """Return the effects of all parts, likewise."""
        return self._effects.rows()


class Engine(Protocol):
    """Computes parts elsewhere than in this process, within its `with` block."""

    def __enter__(self) -> object:
        """Start what the engine needs."""

    def __exit__(self, *error: object) -> None:
        """Stop what the engine started."""

    @property
    def device(self) -> str:
        """The kind of device that computes: "cpu", "cuda", ..."""

    def compute(
        self, task: Task, chunks: Sequence[Chunk], progress: Progress
    ) -> Iterator[tuple[int, Part]]:
        """Yield the number and the part of every chunk, in any order."""


def compute_images(
    task: Task,
    refs: Sequence[ImageRef],
    engine: Engine | None = None,
    *,
    run: str | Path | None = None,
    shown: bool | None = None,
) -> ImageTable:
    """Compute the table of a task over images.

    Args:
        task: What to compute.
        refs: The images.
        engine: The engine that computes the parts; None computes them in this process.
        run: A folder that keeps the parts; None keeps them in memory.
        shown: Whether to show a progress bar; None shows it where the output is a terminal.

    Raises:
        ImageError: When no image can be read, or one cannot when the task is strict, or the
            network's inputs have several shapes.
        ExplanationError: When the folder holds a run with other settings, is in use or cannot be
            written.
        ModelError: When the network gives infinite values or NaN.

    Warns:
        UserWarning: When the preprocessing crops away much of the images.
        SkippedImageWarning: When images are left out.
        DamagedPartWarning: When a part in the folder is damaged, or its images have changed.
    """
    chunks = chunks_of(refs, task.attributor.settings.images)
    model = task.attributor.model
    warn_of_cropping([refs], model.preprocess)
    compute = compute_parts if engine is None else engine.compute
    whole = ImageTable(strict=task.strict)
    with engine or nullcontext(), progress_bar(task.title, len(refs), shown=shown) as progress:
        if run is None:
            for number, part in compute(task, chunks, progress):
                whole.add(number, part)
        else:
            device = model.device.type if engine is None else engine.device
            known = identity(task, refs, chunks, device)
            with opened(given_path("run", run), known, task.columns, len(chunks)) as folder:
                missing = []
                for chunk in chunks:
                    if folder.holds(chunk):
                        progress.advance(len(chunk.refs))
                    else:
                        missing.append(chunk)
                for number, part in compute(task, missing, progress) if missing else ():
                    folder.save(number, part)
                whole = ImageTable(strict=task.strict, kept=folder.files())
                for number, part in folder.parts():
                    try:
                        whole.add(number, part)
                    except ImageError as error:
                        if isinstance(error, UnreadableError):
                            raise
                        raise ImageError(f"the run in {str(run)!r}: {error}") from error
    report_skipped(len(refs), whole.used, whole.skipped)
    return whole


def compute_parts(
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
            own = islice(arrivals, len(chunk.refs))
            yield chunk.number, _computed(task, own, len(chunk.refs), progress)


_Arrival: TypeAlias = tuple[ImageRef, Fact, Tensor | UnreadableError]
"""An image ready for the network, or the reason why it is not."""


def _prepare(preprocess: Callable[[Image.Image], Tensor], ref: ImageRef) -> _Arrival:
    """Open one image."""
    fact, here = fetched(ref)
    try:
        return ref, fact, prepared(preprocess, here)[1]
    except UnreadableError as error:
        return ref, fact, error


def _computed(
    task: Task, arrivals: Iterable[_Arrival], count: int, progress: Progress | None
) -> Part:
    """Compute one part, of so many images."""
    compute, size = task.part(count), task.attributor.settings.images
    facts: list[Fact] = []
    skipped: list[Skipped] = []
    rows: list[tuple[Any, ...]] = []
    effects: list[EffectRow] = []
    sums: dict[str, NDArray[np.float64]] = {}
    shape: tuple[int, ...] = ()
    first = ""

    def readable() -> Iterator[tuple[str, str, Tensor]]:
        for ref, fact, x in arrivals:
            facts.append(fact)
            if isinstance(x, Tensor):
                yield ref.name, fact.digest, x
            elif task.strict:
                raise x
            else:
                skipped.append(Skipped(*x.args))
            if progress is not None:
                progress.advance()

    images = readable()
    while batch := list(islice(images, size)):
        names, digests, tensors = zip(*batch, strict=True)
        if not shape:
            shape, first = tuple(tensors[0].shape), names[0]
        for name, x in zip(names, tensors, strict=True):
            check_same_shape(x.shape, name, shape, first)
        found = compute(names, digests, torch.stack(tensors))
        rows += found.rows
        effects += found.effects
        sums = {layer: sums.get(layer, 0.0) + added for layer, added in found.sums.items()}
    return Part(
        rows=table_of(rows, task.columns),
        effects=table_of(effects, EFFECTS),
        used=len(facts) - len(skipped),
        skipped=tuple(skipped),
        sums=sums,
        shape=shape,
        first=first,
        facts=tuple(facts),
    )
