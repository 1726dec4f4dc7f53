"""Trust in concepts: the level of each at every layer, and the sentence that decides it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from vtcav.diagnostics.levels import FINE
from vtcav.results.provenance import Provenance

if TYPE_CHECKING:
    from vtcav.diagnostics.result import Diagnostics

__all__ = ["NOT_DIAGNOSED", "Trust"]

NOT_DIAGNOSED = "not diagnosed"


class Trust:
    """The summary of diagnostics, by layer and concept.

    Args:
        diagnostics: The diagnostics; None where there are none.
    """

    def __init__(self, diagnostics: Diagnostics | None) -> None:
        summary = [] if diagnostics is None else diagnostics.summary().to_dict("records")
        self._rows: dict[tuple[str, str], dict[Hashable, Any]] = {
            (row["layer"], row["concept"]): row for row in summary
        }
        self._diagnosed = None if diagnostics is None else diagnostics.provenance

    def about(self, provenance: Provenance) -> Trust:
        """Return the trust in the concepts of an explanation.

        Diagnostics say nothing about a concept of the same name that was learned from other images,
        or in another network.
        """
        own, diagnosed = Trust(None), self._diagnosed
        if diagnosed and diagnosed.model["fingerprint"] == provenance.model["fingerprint"]:
            learned = {(c.name, c.examples, c.negatives) for c in diagnosed.concepts}
            same = {(c.name, c.examples, c.negatives) for c in provenance.concepts} & learned
            names = {name for name, _, _ in same}
            own._rows = {key: row for key, row in self._rows.items() if key[1] in names}
        return own

    def level(self, layer: str, concept: str) -> str:
        """Return "fine", "look", "do not use" or "not diagnosed"."""
        row = self._rows.get((layer, concept))
        return NOT_DIAGNOSED if row is None else str(row["level"])

    def reason(self, layer: str, concept: str) -> str:
        """Return the sentence that decides the level; empty where it is fine or unknown."""
        row = self._rows.get((layer, concept))
        return "" if row is None or row["level"] == FINE else str(row["meaning"])

    def levels(self) -> list[str]:
        """Return the levels of all concepts at all layers."""
        return [str(row["level"]) for row in self._rows.values()]
