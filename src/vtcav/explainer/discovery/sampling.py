"""The first pass of discovery: a few places of every image, in memory that does not grow with them.

Places are drawn by the position of the image and the seed, whatever the batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtcav.errors import ImageError
from vtcav.explainer.learning.example_passes import LearnedSet, Pass
from vtcav.images.batches import Batches
from vtcav.images.concepts import ImageSet
from vtcav.images.cropping import warn_of_cropping
from vtcav.images.progress import Progress
from vtcav.images.references import ImageRef
from vtcav.method.resampling import halves
from vtcav.models.finite import check_finite
from vtcav.models.foreign_errors import network_errors

PLACES = 4096
"""Places that are factorised, of all images together, at each layer."""
PER_IMAGE = 48
"""The most places of one image."""
FEWEST = 10
"""The fewest images: half of them stand for a concept, and half for its absence."""
NOISE_IMAGES = 64
"""Images of noise, which concepts are compared with."""

Array = NDArray[np.float32]


class _Places:
    """Feature maps at P places of each of some images, in one block [n, P, C].

    Many small arrays between the large ones of the passes would leave gaps in memory that no
    batch of feature maps fits into, and memory would grow with every batch.

    Args:
        images: The number of images that give places.
        first: The places of the first [P, C].
    """

    def __init__(self, images: int, first: Array) -> None:
        self._rows = np.empty((images, *first.shape), np.float32)
        self._count = 0

    def add(self, rows: Array) -> None:
        """Add the places of an image."""
        self._rows[self._count] = rows
        self._count += 1

    def of_images(self) -> Array:
        """Return the places by image [n, P, C]."""
        return self._rows[: self._count]


@dataclass(eq=False)
class Sample:
    """Feature maps at a few places of images, at every layer.

    Attributes:
        learned: The images after the pass, with the feature maps that are kept.
        places: Feature maps at places of the images that give some, by layer.
        total: The sum and the sum of squares of the network's inputs, by channel [2, 3].
        pixels: How many inputs these are the sums of.
        size: The shape of an input [3, H, W].
        maps: Height and width of the feature maps, by layer.
    """

    learned: LearnedSet
    places: dict[str, _Places] = field(default_factory=dict)
    total: Tensor = field(default_factory=lambda: torch.zeros(2, 1, dtype=torch.float64))
    pixels: int = 0
    size: tuple[int, ...] = ()
    maps: dict[str, tuple[int, int]] = field(default_factory=dict)

    def per_image(self, layer: str) -> int:
        """Return the number of places of an image at a layer."""
        return int(self.places[layer].of_images().shape[1])

    def halves(self, layer: str) -> tuple[Array, Array]:
        """Return the places [n, C] of a random half of the images, and those of the others."""
        own = self.places[layer].of_images()
        first, second = (own[half.numpy()] for half in halves(len(own)))
        return _flat(first), _flat(second)

    def all(self, layer: str) -> Array:
        """Return the places of all images [n, C]."""
        return _flat(self.places[layer].of_images())


def sample_places(
    run: Pass, refs: Sequence[ImageRef], seed: int, progress: Progress, *, strict: bool
) -> Sample:
    """Pass images through the network once and keep feature maps at a few places of each.

    Args:
        run: The network, its layers, and the buffer that feature maps are kept in.
        refs: The images.
        seed: Seeds the draw of places.
        progress: Counts the images.
        strict: Whether an unreadable image is an error.

    Raises:
        ImageError: For fewer than 10 readable images, or an unreadable one when `strict`.
        ModelError: When the network gives infinite values or NaN.
    """
    sample = Sample(LearnedSet(ImageSet("images", tuple(refs))))
    learned, spills = sample.learned, True
    giving = _giving(len(refs), seed)
    warn_of_cropping([refs], run.model.preprocess)
    batches = Batches(refs, run.model.preprocess, run.batch_size, strict=strict, progress=progress)
    for batch in batches:
        with run.turn(), network_errors(f"for images such as {batch.names[0]!r}"):
            maps = run.model.activations(batch.x, run.layers)
        check_finite(batch.names, maps, None)
        spilled = run.spill.add(maps) if spills else None
        spills = spilled is not None
        learned.maps += [spilled] if spilled is not None else []
        _add_inputs(sample, batch.x)
        for n in range(len(batch.refs)):
            image = len(learned.used) + n
            if image in giving:
                _add_places(sample, maps, n, np.random.default_rng([seed, image]), len(refs))
        learned.used += batch.refs
    learned.skipped = list(batches.skipped)
    if len(learned.used) < FEWEST:
        raise ImageError(
            f"expected at least {FEWEST} readable images to find concepts in, got "
            f"{len(learned.used)}; a few dozen are better"
        )
    return sample


def noise_places(run: Pass, sample: Sample, seed: int) -> dict[str, Array]:
    """Return the feature maps [n, C] at places of noise, by layer.

    The noise has the mean and the standard deviation of the images in every channel of the input,
    and nothing else of them.

    Args:
        run: The network and its layers.
        sample: What the images gave.
        seed: Seeds the noise.
    """
    mean, square = sample.total / sample.pixels
    std = (square - mean.square()).clamp(min=0).sqrt()
    generator = torch.Generator().manual_seed(seed)
    own = Sample(LearnedSet(ImageSet("noise", ())))
    for first in range(0, NOISE_IMAGES, run.batch_size):
        count = min(run.batch_size, NOISE_IMAGES - first)
        x = torch.randn(count, *sample.size, generator=generator) * std[:, None, None].float()
        with run.turn():
            maps = run.model.activations(x + mean[:, None, None].float(), run.layers)
        for n in range(count):
            drawn = np.random.default_rng([seed, first + n])
            _add_places(own, maps, n, drawn, NOISE_IMAGES)
    return {layer: own.all(layer) for layer in run.layers}


def _giving(images: int, seed: int) -> range | frozenset[int]:
    """Return the positions of the images that give places: all, or as many as there are places."""
    if images <= PLACES:
        return range(images)
    drawn = np.random.default_rng(seed).choice(images, PLACES, replace=False)
    return frozenset(drawn.tolist())


def _add_places(
    sample: Sample, maps: Mapping[str, Tensor], n: int, drawn: np.random.Generator, images: int
) -> None:
    """Keep the feature maps of image n at a few places."""
    for layer, F in maps.items():
        h, w = F.shape[2:]
        sample.maps[layer] = h, w
        count = min(h * w, PER_IMAGE, max(1, PLACES // images))
        chosen = torch.from_numpy(drawn.choice(h * w, count, replace=False)).to(F.device)
        rows = F[n].flatten(1)[:, chosen].T.float().cpu().numpy()
        if layer not in sample.places:
            sample.places[layer] = _Places(min(images, PLACES), rows)
        sample.places[layer].add(rows)


def _flat(places: Array) -> Array:
    """Return places by image [n, P, C] as one table [n P, C]."""
    return places.reshape(-1, places.shape[2])


def _add_inputs(sample: Sample, x: Tensor) -> None:
    """Add network inputs to the sums that their mean and standard deviation come from."""
    channels = x.double().transpose(0, 1).flatten(1)
    sums = torch.stack([channels.sum(1), channels.square().sum(1)])
    sample.total = sample.total.expand_as(sums) + sums
    sample.pixels += channels.shape[1]
    sample.size = tuple(x.shape[1:])
