"""The allotment of placebos and ways to fill to the images of a class.

Every image is filled in for every concept. What tells how sure the answer is costs more passes and
is about the mean over images, so that some images are enough. They are drawn, one from each stretch
of the images: every second image would be of one kind alone where kinds alternate.
"""

from __future__ import annotations

from collections import defaultdict
from math import ceil

import numpy as np
from numpy.typing import NDArray

FILL_IMAGES = 10
"""The images of a class that are filled in all ways."""


class Allotment:
    """Shares placebos and ways to fill out evenly among the images that show a concept.

    Args:
        placebos: The placebos of each concept, for all images together.
        images: The number of images.
        filled: How many of the images are filled in all ways.

    Example:
        >>> shares = Allotment(placebos=4, images=2)
        >>> shares.next_image()
        >>> shares.placebos("letter"), shares.all_fills("letter")
        (range(0, 2), True)
        >>> shares.next_image()
        >>> shares.placebos("letter"), shares.placebos("seen here for the first time")
        (range(2, 4), range(0, 4))
    """

    def __init__(self, placebos: int, images: int = 1, filled: int = FILL_IMAGES) -> None:
        images = max(1, images)
        self._due = {
            "placebos": _due(placebos, images, seed=0),
            "fills": _due(min(filled, images), images, seed=1),
        }
        self._given: dict[tuple[str, str], int] = defaultdict(int)
        self._position = 0

    @classmethod
    def of_part(cls, placebos: int, part: int, images: int) -> Allotment:
        """Return the share of a part of a class's images.

        Args:
            placebos: The placebos of each concept, for the class.
            part: The images of the part.
            images: Those of the class.
        """
        filled = ceil(min(FILL_IMAGES, images) * part / images)
        return cls(ceil(placebos * part / images), part, filled)

    def next_image(self) -> None:
        """Go on to the next image."""
        self._position += 1

    def placebos(self, concept: str) -> range:
        """Take the placebos that are due at this image, which shows the concept, by number."""
        return self._taken(concept, "placebos")

    def all_fills(self, concept: str) -> bool:
        """Take whether this image, which shows the concept, is filled in all ways."""
        return bool(self._taken(concept, "fills", most=1))

    def _taken(self, concept: str, what: str, most: int | None = None) -> range:
        given, each = self._given[concept, what], self._due[what]
        due = int(each[min(self._position, len(each)) - 1])
        taken = range(given, max(given, due if most is None else min(due, given + most)))
        self._given[concept, what] = taken.stop
        return taken


def _due(budget: int, images: int, seed: int) -> NDArray[np.intp]:
    """Return how much of a budget is due by each image [images], alike for all but a draw."""
    counts = np.full(images, budget // images)
    if rest := budget % images:
        ends = np.arange(rest + 1) * images // rest
        counts[np.random.default_rng(seed).integers(ends[:-1], ends[1:])] += 1
    return counts.cumsum()
