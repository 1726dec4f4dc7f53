"""The concepts of the page, kept for when it is loaded again."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from vtcav.errors import VtcavError
from vtcav.explorer.schemas import ConceptSpec


class OutdatedError(VtcavError):
    """Another page has changed the concepts since this one read them."""


class KeptConcepts:
    """The concepts of the page that kept some last.

    Attributes:
        concepts: The concepts.
        tiles: What became of tiles of found concepts, by their keys: "" for one that was thrown
            away, else the key of the tile that it was merged into.
        edition: How often they were kept.
    """

    def __init__(self) -> None:
        self.concepts: list[ConceptSpec] = []
        self.tiles: dict[str, str] = {}
        self.edition = 0
        self._lock = threading.Lock()

    def keep(
        self,
        concepts: Sequence[ConceptSpec],
        edition: int | None,
        tiles: Mapping[str, str] | None = None,
    ) -> int:
        """Keep the concepts of a page for when it is loaded again, and return their edition.

        Args:
            concepts: The concepts.
            edition: The edition that the page began with; None replaces any.
            tiles: What became of tiles; None leaves that as it is.

        Raises:
            OutdatedError: When another page has kept others since.
        """
        with self._lock:
            if edition is not None and edition != self.edition:
                raise OutdatedError(
                    "another tab has changed the concepts: those of this tab are not kept for when "
                    "it is loaded again. Load it again to go on with those of the other tab"
                )
            self.concepts = list(concepts)
            self.tiles = self.tiles if tiles is None else dict(tiles)
            self.edition += 1
            return self.edition
