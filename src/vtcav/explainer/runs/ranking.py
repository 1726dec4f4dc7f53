"""Images in the order of how strongly they show a concept, some of them with their maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from vtcav.errors import ImageError, warn
from vtcav.explainer.runs.image_table import Engine, compute_images
from vtcav.explainer.runs.rank_task import RankTask
from vtcav.images.input_box import shown_picture
from vtcav.images.preprocess import to_tensor
from vtcav.images.references import ImageRef
from vtcav.images.volumes import slice_between, strongest_slice
from vtcav.results.ranking import RankedImage, Ranking, in_order, shown_positions

_SIDE = 192  # most pixels of a picture that is kept
_CELLS = 64  # and of its map


@dataclass(frozen=True)
class RankRun:
    """How images are ranked.

    Attributes:
        pictures: How many are kept with their maps.
        engine: The engine that computes the parts; None computes them in this process.
        folder: A folder that keeps the parts; None keeps them in memory.
        progress: Whether to show a progress bar; None shows it where the output is a terminal.
    """

    pictures: int
    engine: Engine | None = None
    folder: str | Path | None = None
    progress: bool | None = None


def rank_images(
    task: RankTask, refs: Sequence[ImageRef], run: RankRun, settings: Mapping[str, Any]
) -> Ranking:
    """Rank images: one forward pass each, and another for those that are shown.

    Args:
        task: The concept and the layer.
        refs: The images.
        run: How to rank them.
        settings: Settings for the provenance, beside the task's.

    Raises:
        ImageError: When no image can be read, or one cannot when the task is strict.
        ExplanationError: When the folder holds a run with other settings, is in use or cannot be
            written.
        ModelError: When the network gives infinite values or NaN.

    Warns:
        UserWarning: When no image responds nearly as the examples do.
    """
    done = compute_images(task, refs, run.engine, run=run.folder, shown=run.progress)
    table = in_order(done.rows().frame(), done.skipped)
    provenance = task.provenance()
    caution = task.caution_of(float(table["presence"].iloc[0]))
    if caution != task.caution:  # the task has warned of its own
        warn(f"ranking by {task.concept!r}: {caution}")
    positions = shown_positions(done.used, run.pictures)
    return Ranking(
        concept=task.concept,
        layer=task.layer,
        skipped=tuple(done.skipped),
        shown=tuple(with_maps(task, refs, table, positions)),
        examples=task.attributor.cavs.thumbnails[task.concept],
        caution=caution,
        provenance=replace(provenance, settings={**provenance.settings, **settings}),
        _rows=table,
    )


def with_maps(
    task: RankTask, refs: Sequence[ImageRef], table: pd.DataFrame, positions: Sequence[int]
) -> Iterator[RankedImage]:
    """Yield the images at some positions of the order with their maps, which are made anew."""
    by_name = {ref.name: ref for ref in refs}
    size = task.attributor.settings.images
    for start in range(0, len(positions), size):
        few = positions[start : start + size]
        names, pictures, inputs = [], [], []
        for position in few:
            name = str(table["image"].iloc[position])
            try:
                picture = by_name[name].load()
                x = to_tensor(task.attributor.model.preprocess, picture, name)
            except ImageError as error:
                warn(f"{name!r} is ranked, and not shown: {error}")
                continue
            names.append((position, name))
            pictures.append(picture)
            inputs.append(x)
        if not names:
            continue
        images = task.attributor.forward([name for _, name in names], torch.stack(inputs))
        M = _small(task.maps(images)).cpu().numpy()
        for n, (position, name) in enumerate(names):
            shown, box = shown_picture(pictures[n], inputs[n], task.attributor.model.preprocess)
            shown, own = _slice_shown(shown, M[n])
            small = Image.fromarray(shown)
            small.thumbnail((_SIDE, _SIDE))
            presence = float(table["presence"].iloc[position])
            yield RankedImage(name, position + 1, presence, np.array(small), box, own)


def _slice_shown(
    shown: NDArray[np.uint8], M: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return a picture and its map; of a volume, the slice where the map is highest."""
    if M.ndim == 2:
        return shown, M
    z = strongest_slice(M)
    return shown[slice_between(z, len(M), len(shown))], M[z]


def _small(M: Tensor) -> Tensor:
    """Return maps [N, h, w] of at most 64 cells a side, which are means where there are more."""
    share = min(1.0, _CELLS / max(M.shape[1:]))
    size = tuple(max(1, round(side * share)) for side in M.shape[1:])
    return functional.interpolate(M[:, None].float(), size, mode="area")[:, 0]
