"""The second pass of discovery: how strongly every image shows each part, and where most."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtcav.explainer.learning.example_passes import LearnedSet, Pass, feature_maps
from vtcav.method.cav import emblem
from vtcav.method.concept_map import contraharmonic_mean, raw_map

EXAMPLES = 20
"""The most images that stand for a found concept: those that show it most."""
NEGATIVES = 60
"""The most images that it is contrasted with, drawn from the half that shows it least."""

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Responses:
    """Raw maps of k directions over N images at a layer, summed up.

    Attributes:
        values: Their contraharmonic means [N, k], as emblems take them (step 3).
        peaks: Their highest values [N, k].
        cells: Where these are, as positions in the flattened map [N, k].
    """

    values: Tensor
    peaks: Tensor
    cells: Tensor

    def ranked(self, j: int) -> list[int]:
        """Return the positions of the images in order, those that show part j most first."""
        return self.values[:, j].argsort(descending=True, stable=True).tolist()

    def examples(self, j: int) -> list[int]:
        """Return the positions of the images that stand for part j: an eighth, from 5 to 20."""
        return self.ranked(j)[: min(EXAMPLES, max(5, len(self.values) // 8))]

    def negatives(self, j: int, seed: int) -> list[int]:
        """Return the positions of the images that part j is contrasted with, in order."""
        ranked = self.ranked(j)
        half = ranked[max(len(ranked) // 2, len(self.examples(j))) :]
        drawn = np.random.default_rng([seed, j]).permutation(half)[:NEGATIVES]
        return sorted(drawn.tolist())

    def emblems(self, j: int, seed: int) -> tuple[float, float]:
        """Return e+ and e- of part j, step 3."""
        chosen = self.examples(j), self.negatives(j, seed)
        e_pos, e_neg = (float(emblem(self.values[images, j])) for images in chosen)
        return e_pos, e_neg

    def prevalence(self, j: int, seed: int) -> float:
        """Return the share of images whose concept map M is above 0.5 somewhere."""
        e_pos, e_neg = self.emblems(j, seed)
        if not e_pos > e_neg:
            return 0.0
        return float((self.peaks[:, j] > (e_pos + e_neg) / 2).double().mean())


def respond(run: Pass, learned: LearnedSet, v: Mapping[str, Array]) -> dict[str, Responses]:
    """Read the feature maps of all images along the directions of each layer.

    Args:
        run: How images pass through the network.
        learned: The images after the first pass.
        v: Directions [k, C] by layer.

    Raises:
        ImageError: When an image cannot be read any more.
    """
    N, done = len(learned.used), 0
    # in one block each, as small tensors of every batch would leave gaps in memory
    found: dict[str, Responses] = {}
    with closing(feature_maps(run, learned, list(v))) as passing:
        for maps in passing:
            for layer, directions in v.items():
                F = maps[layer]
                R = raw_map(F, torch.from_numpy(directions).to(F))
                own = contraharmonic_mean(R), *R.flatten(2).max(2)
                if layer not in found:
                    blocks = (torch.empty(N, t.shape[1], dtype=t.dtype) for t in own)
                    found[layer] = Responses(*blocks)
                here = found[layer]
                for block, part in zip((here.values, here.peaks, here.cells), own, strict=True):
                    block[done : done + len(part)] = part.cpu()
            done += len(F)
    return found
