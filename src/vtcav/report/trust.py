"""Trust in concepts: the level of each at every layer, and the sentence that decides it."""

from __future__ import annotations

from vtcav.diagnostics.levels import FINE
from vtcav.diagnostics.result import Diagnostics
from vtcav.results.provenance import Provenance

NOT_DIAGNOSED = "not diagnosed"


class Trust:
    """The summary of diagnostics, by layer and concept.

    Args:
        diagnostics: The diagnostics; None where there are none.
    """

    def __init__(self, diagnostics: Diagnostics | None) -> None:
        summary = [] if diagnostics is None else diagnostics.summary().to_dict("records")
        self._judged = {
            (row["layer"], row["concept"]): (
                row["level"],
                "" if row["level"] == FINE else row["meaning"],
            )
            for row in summary
        }
        self._not_apart = [] if diagnostics is None else diagnostics.not_apart()
        self._diagnostics = diagnostics

    def about(self, provenance: Provenance) -> Trust:
        """Return the trust in the concepts of an explanation.

        Diagnostics say nothing about a concept of the same name that was learned from other images,
        or in another network.
        """
        own = Trust(None)
        if self._diagnostics is not None:
            own._judged = self._diagnostics.judged(provenance)
            names = {concept for _, concept in own._judged}
            own._not_apart = [(k, a, b) for k, a, b in self._not_apart if {a, b} <= names]
        return own

    def of(self, layer: str, concept: str) -> tuple[str, str]:
        """Return the level of a concept at a layer, and the sentence that decides it.

        The level may be "not diagnosed". The sentence is empty where it is fine or unknown.
        """
        return self._judged.get((layer, concept), (NOT_DIAGNOSED, ""))

    def not_apart(self) -> dict[tuple[str, str], list[str]]:
        """Return the layers that do not tell two concepts apart, by the two concepts."""
        found: dict[tuple[str, str], list[str]] = {}
        for layer, a, b in self._not_apart:
            found.setdefault((a, b), []).append(layer)
        return found

    def levels(self) -> list[str]:
        """Return the levels of all concepts at all layers."""
        return [level for level, _ in self._judged.values()]
