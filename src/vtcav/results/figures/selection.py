"""What a figure draws of an explanation, and with what beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from vtcav.errors import ExplanationError, brief
from vtcav.parameters import as_list
from vtcav.results.figures.trust import Judgements

T = TypeVar("T")


class _Named(Protocol):
    """The names of an explanation."""

    @property
    def layers(self) -> tuple[str, ...]: ...
    @property
    def concepts(self) -> tuple[str, ...]: ...


class Shown(NamedTuple):
    """What is to be drawn of an explanation, and with what beside it.

    Attributes:
        layers: Names of layers; None for all.
        concepts: Names of concepts; None for all.
        classes: Indices of classes; None for all.
        judgements: What diagnostics say of the concepts; None without them.
        beside: Explanations whose figures are to have the same scales.
    """

    layers: Sequence[str] | None = None
    concepts: Sequence[str] | None = None
    classes: Sequence[int] | None = None
    judgements: Judgements | None = None
    beside: Sequence[Any] = ()

    @classmethod
    def of(
        cls,
        explained: _Named,
        layers: Sequence[str] | None,
        concepts: Sequence[str] | None,
        classes: Sequence[str | int] | None = None,
        known: Sequence[tuple[int, str]] = (),
    ) -> Shown:
        """Return what a user asks for.

        Args:
            explained: The explanation.
            layers: Names of layers, or one.
            concepts: Names of concepts, or one.
            classes: Names or indices of classes, or one.
            known: The index and the name of each class that was explained.

        Raises:
            ExplanationError: For one that the explanation does not have, or for none.
        """
        both = [part for pair in known for part in pair]
        asked = _checked("class", classes, both)
        return cls(
            _checked("layer", layers, explained.layers),
            _checked("concept", concepts, explained.concepts),
            None if asked is None else [i for i, name in known if i in asked or name in asked],
        )

    @property
    def one_map(self) -> tuple[str, str]:
        """The layer and the concept of the only map.

        Raises:
            ExplanationError: When more than one map is asked for.
        """
        if len(self.layers or "") != 1 or len(self.concepts or "") != 1:
            raise ExplanationError(
                "ax= takes one concept map: name its layer and its concept, as in "
                "plot(layers=['layer4'], concepts=['striped'], ax=ax)"
            )
        [layer], [concept] = self.layers or "", self.concepts or ""
        return layer, concept


def several(kind: type[T], given: object) -> list[T]:
    """Return what is given as a list of one kind.

    Raises:
        ExplanationError: For another.
    """
    found: list[T] = []
    for each in given if isinstance(given, Iterable) else [given]:
        if not isinstance(each, kind):
            raise ExplanationError(f"expected {kind.__name__} or a list, got {brief(each)}")
        found.append(each)
    return found


def _checked(what: str, asked: Any, known: Sequence[Any]) -> list[Any] | None:
    """Return names as a list, or raise; None for all."""
    if asked is None:
        return None
    names = as_list(f"the {what} to draw", asked) if isinstance(asked, Iterable) else [asked]
    names = names or [""]
    for name in names:
        if not isinstance(name, str | int | np.integer) or name not in known:
            raise ExplanationError(
                f"this explanation has no {what} {brief(name)} to draw; it has "
                f"{', '.join(map(repr, known))}"
            )
    return names
