"""A user's photographs for the experiment, read from a folder per class at one size."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vtcav.errors import ExplanationError, ImageError
from vtcav.evaluation.experiment.tags import GLYPHS
from vtcav.images.listing import collect, subfolders
from vtcav.images.preprocess import Preprocess
from vtcav.images.references import Skipped, UnreadableError, report_skipped, with_reasons

FEWEST = 12
"""The fewest readable photographs of a class: a third is tested, concepts need the others."""


@dataclass(frozen=True, eq=False)
class Photographs:
    """Photographs of classes.

    Attributes:
        classes: Names of the folders.
        pictures: uint8 [N, H, W, 3], as the network's preprocessing crops them.
        labels: The class of each [N].
        listed: How many files each class's folder has.
        skipped: Files that could not be read, with reasons.
    """

    classes: tuple[str, ...]
    pictures: NDArray[np.uint8]
    labels: NDArray[np.intp]
    listed: tuple[int, ...]
    skipped: tuple[Skipped, ...]

    def split(self, most: int, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the positions of photographs to learn from and to test, drawn with a seed.

        A third of each class is tested, at most `most`.
        """
        rng = np.random.default_rng([seed, 6])
        learn, test = [], []
        for t in range(len(self.classes)):
            own = rng.permutation(np.flatnonzero(self.labels == t))
            held = min(most, len(own) // 3)
            test.append(np.sort(own[:held]))
            learn.append(np.sort(own[held:]))
        return np.concatenate(learn), np.concatenate(test)

    def to_dict(self) -> dict[str, Any]:
        """Return what was read, as JSON data."""
        used = np.bincount(self.labels, minlength=len(self.classes)).tolist()
        digest = hashlib.sha256(self.pictures.tobytes()).hexdigest()
        return {
            "classes": {
                name: {"listed": listed, "used": count}
                for name, listed, count in zip(self.classes, self.listed, used, strict=True)
            },
            "skipped": {skip.name: skip.reason for skip in self.skipped},
            "sha256": digest,
        }


def read_photographs(
    folder: str | Path, preprocess: Preprocess, *, limit: int | None = None, seed: int = 0
) -> Photographs:
    """Read a folder with a folder of photographs for each class.

    Args:
        folder: The folder.
        preprocess: Whose size and cropping are used; colours stay as they are.
        limit: At most this many files of each class, drawn with `seed`.
        seed: Seeds that draw.

    Raises:
        ExplanationError: For fewer than two classes, more than there are letters for tags, or a
            class with fewer than `FEWEST` readable photographs.
        ImageError: When the folder cannot be read.

    Warns:
        SkippedImageWarning: Naming the files that cannot be read.
    """
    folders = subfolders(folder, "a folder with one folder of photographs per class")
    names = sorted(folders)
    if not 2 <= len(names) <= len(GLYPHS):
        listed = f": {', '.join(map(repr, names))}" if names else ""
        raise ExplanationError(
            f"expected 2 to {len(GLYPHS)} folders of photographs in {str(folder)!r}, one for each "
            f"class (each class gets a letter of its own), got {len(names)}{listed}"
        )
    plain = replace(preprocess, mean=0.0, std=1.0)
    pictures, labels, counts = [], [], []
    skipped: list[Skipped] = []
    for t, name in enumerate(names):
        try:
            refs = collect(folders[name], limit=limit, seed=seed)
        except ImageError as error:
            raise ImageError(f"class {name!r}: {error}") from error
        counts.append(len(refs))
        own, lost = [], []
        for ref in refs:
            try:
                own.append(_bytes(plain(ref.load())))
            except UnreadableError as error:
                lost.append(Skipped(*error.args))
        if len(own) < FEWEST:
            why = f"; left out: {with_reasons(lost)}" if lost else ""
            raise ExplanationError(
                f"class {name!r}: expected at least {FEWEST} readable photographs, got "
                f"{len(own)}{why}"
            )
        pictures += own
        labels += [t] * len(own)
        skipped += lost
    report_skipped(sum(counts), len(pictures), skipped)
    return Photographs(
        tuple(names), np.stack(pictures), np.array(labels), tuple(counts), tuple(skipped)
    )


def _bytes(x: Tensor) -> NDArray[np.uint8]:
    values: NDArray[np.uint8] = x.mul(255).round().byte().permute(1, 2, 0).contiguous().numpy()
    return values
