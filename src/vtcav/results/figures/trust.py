"""Signs of trust in figures: what diagnostics hold against a concept at a layer, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from vtcav.errors import ExplanationError, brief
from vtcav.results.words import clear, listed, named_layers

Judgements: TypeAlias = Mapping[tuple[str, str], tuple[str, str]]
"""The level of a concept at a layer and the reason, by layer and concept."""


class Judging(Protocol):
    """What judges the concepts of results, as `vtcav.Diagnostics` does."""

    def judged(self, provenance: Any) -> Judgements:
        """Return the level and the reason of each concept that a result has, by provenance."""


def judged(diagnostics: Judging | None, provenance: Any) -> Judgements | None:
    """Return what diagnostics say of a result's concepts; None without any.

    Raises:
        ExplanationError: For what judges nothing.
    """
    if diagnostics is None:
        return None
    if not hasattr(diagnostics, "judged"):
        expected = "expected what explainer.diagnostics() returns as diagnostics"
        raise ExplanationError(f"{expected}, got {brief(diagnostics)}")
    return diagnostics.judged(provenance)


_SIGNS = {"do not use": "\u2716", "look": "\u25b2"}  # those of the figure of diagnostics
_MEANT = {"do not use": "its numbers mean little", "look": "read the reason first"}
_REASONS = 3


class TrustSigns:
    """The signs of what diagnostics hold against concepts, and the footnotes that explain them.

    Args:
        judgements: The levels; None without diagnostics, where there are no signs.

    Example:
        >>> signs = TrustSigns({("conv", "dotted"): ("look", "Few examples."), ("conv", "red"):
        ...     ("fine", "")})
        >>> signs.at("conv", "red"), signs.at("conv", "dotted")
        ('', ' ▲')
        >>> signs.legend(["conv"], ["red", "dotted"])
        ["Diagnostics: ▲ look (read the reason first). ▲ 'dotted' at layer 'conv': Few examples."]
    """

    def __init__(self, judgements: Judgements | None) -> None:
        self._judgements = judgements

    def at(self, layer: str, concept: str) -> str:
        """Return what follows a number of a concept at a layer."""
        level, _ = (self._judgements or {}).get((layer, concept), ("", ""))
        return f" {_SIGNS[level]}" if level in _SIGNS else ""

    def legend(
        self, layers: Sequence[str], concepts: Sequence[str], most: int = _REASONS
    ) -> list[str]:
        """Return the footnotes.

        Args:
            layers: Those that are drawn.
            concepts: The same.
            most: The most reasons told, the gravest first.
        """
        if self._judgements is None:
            return []
        reasons = self._reasons(layers, concepts)
        unknown = [c for c in concepts if any((at, c) not in self._judgements for at in layers)]
        texts = [
            f"{_SIGNS[level]} {listed([repr(clear(name)) for name in names])} at "
            f"{named_layers(at)}: {reason}"
            for (level, reason, at), names in reasons.items()
        ]
        if len(texts) > most:
            several = "reasons" if most == 0 else "more reasons"
            texts[most:] = [f"{len(texts) - most} {several} are in the diagnostics."]
        if reasons:
            levels = {level for level, _, _ in reasons}
            said = [f"{_SIGNS[at]} {at} ({_MEANT[at]})" for at in _SIGNS if at in levels]
            texts.insert(0, f"Diagnostics: {listed(said)}.")
        elif len(unknown) < len(concepts):
            texts = ["Diagnostics found nothing against these concepts."]
        if unknown:
            texts.append(f"Not diagnosed: {listed([repr(clear(name)) for name in unknown])}.")
        return [" ".join(texts)]

    def _reasons(
        self, layers: Sequence[str], concepts: Sequence[str]
    ) -> dict[tuple[str, str, tuple[str, ...]], list[str]]:
        """Return the concepts by level, reason and layers, the gravest first."""
        where: dict[tuple[str, str, str], list[str]] = {}
        for concept in concepts:
            for layer in layers:
                level, reason = (self._judgements or {}).get((layer, concept), ("", ""))
                if level in _SIGNS:
                    where.setdefault((level, reason, concept), []).append(layer)
        found: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
        for level, reason, concept in sorted(where, key=lambda key: list(_SIGNS).index(key[0])):
            at = tuple(where[level, reason, concept])
            found.setdefault((level, reason, at), []).append(concept)
        return found
