"""The concepts of the page, kept for when it is loaded again."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from vtcav.errors import VtcavError
from vtcav.explorer.schemas import ConceptSpec


class OutdatedError(VtcavError):
    """Another page has changed the concepts since this one read them."""


class KeptConcepts:
    """The concepts of the page that kept some last.

    Attributes:
        concepts: The concepts.
        edition: How often they were kept.
    """

    def __init__(self) -> None:
        self.concepts: list[ConceptSpec] = []
        self.edition = 0
        self._lock = threading.Lock()

    def keep(self, concepts: Sequence[ConceptSpec], edition: int | None) -> int:
        """Keep the concepts of a page for when it is loaded again, and return their edition.

        Args:
            concepts: The concepts.
            edition: The edition that the page began with; None replaces any.

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
            self.edition += 1
            return self.edition
