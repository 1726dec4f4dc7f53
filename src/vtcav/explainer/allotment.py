"""The allotment of placebos and ways to fill to the images of a class.

Every image is filled in for every concept. What tells how sure the answer is costs more passes and
is about the mean over images, so that some images are enough.
"""

from __future__ import annotations

from collections import defaultdict
from math import ceil

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
        self._budget = {"placebos": placebos, "fills": min(filled, images)}
        self._images = max(1, images)
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
        return self._taken(concept, "placebos", self._budget["placebos"])

    def all_fills(self, concept: str) -> bool:
        """Take whether this image, which shows the concept, is filled in all ways."""
        return bool(self._taken(concept, "fills", 1))

    def _taken(self, concept: str, what: str, most: int) -> range:
        given = self._given[concept, what]
        due = ceil(self._budget[what] * min(1, self._position / self._images))
        taken = range(given, max(given, min(due, given + most)))
        self._given[concept, what] = taken.stop
        return taken
