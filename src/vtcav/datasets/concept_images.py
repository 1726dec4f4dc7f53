"""Images by label: chosen, limited, and what is left for negatives."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from vtcav.errors import DatasetError
from vtcav.images.listing import draw
from vtcav.images.references import ImageRef

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ConceptImages", "Wanted", "closest", "drawn", "group", "wanted_labels"]

Wanted: TypeAlias = Sequence[str] | Mapping[str, str | Sequence[str]] | None
"""Which labels: all (None), some by name, or concepts by name with the labels they are made of."""

_LISTED = 12


class ConceptImages(Mapping[str, tuple[ImageRef, ...]]):
    """Listed images by concept; a mapping that `VisualTCAV.fit` takes.

    Args:
        images: The images of each concept.
        left_out: For each concept, how many were left out and why.

    Example:
        >>> import numpy as np
        >>> pixels = np.zeros((4, 4, 3), np.uint8)
        >>> found = ConceptImages({"dark": [ImageRef(f"{i}.png", pixels) for i in range(3)]})
        >>> found
        ConceptImages(dark: 3)
        >>> [ref.name for ref in found["dark"]]
        ['0.png', '1.png', '2.png']
    """

    def __init__(
        self,
        images: Mapping[str, Iterable[ImageRef]],
        left_out: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        self._images = {name: tuple(refs) for name, refs in images.items()}
        self.left_out = {name: dict(why) for name, why in (left_out or {}).items() if why}

    def __getitem__(self, name: str) -> tuple[ImageRef, ...]:
        """Return the images of a concept.

        Raises:
            DatasetError: For a concept that is not there.
        """
        if name not in self._images:
            raise DatasetError(unknown("concept", name, self._images))
        return self._images[name]

    def __contains__(self, name: object) -> bool:
        """Whether there is a concept of this name."""
        return name in self._images

    def __iter__(self) -> Iterator[str]:
        """Yield the names of the concepts."""
        return iter(self._images)

    def __len__(self) -> int:
        """How many concepts there are."""
        return len(self._images)

    def __repr__(self) -> str:
        counts = [f"{name}: {len(refs)}" for name, refs in self._images.items()]
        more = f", and {len(counts) - _LISTED} more" if len(counts) > _LISTED else ""
        return f"ConceptImages({', '.join(counts[:_LISTED])}{more})"

    def _repr_html_(self) -> str:
        from vtcav.results.notebook import Display, rows_of
        from vtcav.results.words import count

        return Display(
            title=count(len(self), "concept"),
            header=["concept", "images", "left out", "why"],
            rows=rows_of(self.counts(), ["concept", "images", "left_out", "why"]),
            total=len(self),
        ).html()

    def counts(self) -> pd.DataFrame:
        """Return one row per concept: concept, images, left_out, why."""
        import pandas as pd

        rows = [
            (
                name,
                len(refs),
                sum(self.left_out.get(name, {}).values()),
                "; ".join(f"{n} {why}" for why, n in self.left_out.get(name, {}).items()),
            )
            for name, refs in self.items()
        ]
        return pd.DataFrame(rows, columns=["concept", "images", "left_out", "why"])

    def only(self, concepts: Wanted, *, limit: int | None = None, seed: int = 0) -> ConceptImages:
        """Return some of the concepts, or concepts put together from several labels.

        Args:
            concepts: Names, or a mapping from new names to the names they are made of.
            limit: At most this many images of each, drawn with `seed`.
            seed: Seeds the draw.

        Raises:
            DatasetError: For an unknown name or a limit below 1.
        """
        labels = wanted_labels(concepts, list(self))
        found = {
            name: drawn(_each_once(ref for label in parts for ref in self[label]), limit, seed)
            for name, parts in labels.items()
        }
        kept = {name: self.left_out.get(name, {}) for name in found}
        return ConceptImages(found, kept)

    def rest(
        self, besides: Iterable[str], *, limit: int | None = None, seed: int = 0
    ) -> tuple[ImageRef, ...]:
        """Return the images of all other concepts, for negatives.

        An image that is also listed under one of `besides`, under the same name, is left out.

        Args:
            besides: The concepts whose images are not to be among them.
            limit: At most this many, drawn with `seed`.
            seed: Seeds the draw.

        Raises:
            DatasetError: For an unknown concept, or when nothing is left.

        Example:
            >>> import numpy as np
            >>> ref = lambda name: ImageRef(name, np.zeros((4, 4, 3), np.uint8))
            >>> both = ConceptImages({"a": [ref("1"), ref("2")], "b": [ref("2"), ref("3")]})
            >>> [image.name for image in both.rest(["a"])]
            ['3']
        """
        excluded = [besides] if isinstance(besides, str) else list(besides)
        taken = {ref.name for name in excluded for ref in self[name]}
        others = [ref for name in self if name not in excluded for ref in self[name]]
        left = [ref for ref in _each_once(others) if ref.name not in taken]
        if not left:
            raise DatasetError(
                f"no images are left besides {names(excluded)}; the concepts are {names(self)}"
            )
        return drawn(left, limit, seed)

    def save(self, folder: str | Path) -> dict[str, Path]:
        """Write the images as a folder tree that `--concepts DIR` takes; see docs/data.md.

        Raises:
            DatasetError: When a concept's folder exists already, or an image cannot be read or
                written; nothing is left there then.
        """
        from vtcav.datasets.folder_tree import write_tree

        return write_tree(self, Path(folder))


def group(
    found: Iterable[tuple[str, ImageRef]],
    concepts: Wanted,
    *,
    limit: int | None,
    seed: int,
    left_out: Mapping[str, Counter[str]] | None = None,
    known: Iterable[str] | None = None,
    what: str = "label",
) -> ConceptImages:
    """Return images by concept from images with a label each.

    Args:
        found: Pairs of label and image; an image may come with several labels.
        concepts: Which labels, under which names.
        limit: At most this many images of each concept, drawn with `seed`.
        seed: Seeds the draw.
        left_out: By label, how many were left out and why.
        known: All labels, where those of `found` are not all.
        what: What the labels are called in messages.

    Raises:
        DatasetError: For an unknown label, or a concept without images.
    """
    by_label: dict[str, list[ImageRef]] = {label: [] for label in known or ()}
    for label, ref in found:
        by_label.setdefault(label, []).append(ref)
    lost = left_out or {}
    labels = wanted_labels(concepts, list(by_label), what)
    images = {}
    reasons = {}
    for name, parts in labels.items():
        refs = _each_once(ref for label in parts for ref in by_label[label])
        why: Counter[str] = sum((Counter(lost.get(p, {})) for p in parts), Counter())
        if not refs:
            if concepts is None:
                continue  # a label that the data set declares and does not use
            reason = ": " + "; ".join(f"{n} {text}" for text, n in why.items()) if why else ""
            raise DatasetError(f"no images of {what} {name!r}{reason}")
        images[name], reasons[name] = drawn(refs, limit, seed), why
    if not images:
        reason = "; ".join(f"{n} {t}" for t, n in sum(lost.values(), Counter()).items())
        raise DatasetError(f"no images of any {what}{': ' if reason else ''}{reason}")
    return ConceptImages(images, reasons)


def wanted_labels(
    concepts: Wanted, known: Sequence[str], what: str = "label"
) -> dict[str, list[str]]:
    """Return the labels of each concept.

    Raises:
        DatasetError: For an unknown label, naming the closest.
    """
    if concepts is None:
        return {label: [label] for label in known}
    if isinstance(concepts, str):
        concepts = [concepts]
    if isinstance(concepts, Mapping):
        labels = {
            name: [parts] if isinstance(parts, str) else list(parts)
            for name, parts in concepts.items()
        }
    else:
        labels = {name: [name] for name in concepts}
    if not labels:
        raise DatasetError(f"expected at least one {what}, got none; it has {names(known)}")
    for parts in labels.values():
        for label in parts:
            if label not in known:
                raise DatasetError(unknown(what, label, known))
    return labels


def drawn(refs: Sequence[ImageRef], limit: int | None, seed: int) -> tuple[ImageRef, ...]:
    """Return at most `limit` images, drawn without replacement and kept in order."""
    return tuple(draw(refs, limit, seed, DatasetError))


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """Return the message about a name that is not there, with the closest that is."""
    near = closest(str(name), known)
    hint = f"did you mean {near!r}? " if near else ""
    return f"there is no {what} {name!r}; {hint}there are {names(known)}"


def closest(name: str, known: Iterable[str]) -> str:
    """Return the closest of some names; empty where none is close."""
    found = list(known)
    folded = {text.casefold(): text for text in reversed(found)}
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    return folded[near[0]] if near else ""


def names(known: Iterable[str]) -> str:
    """Return names for a message, not too many."""
    found = list(known)
    more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    return (", ".join(map(repr, found[:_LISTED])) or "none") + more


def _each_once(refs: Iterable[ImageRef]) -> list[ImageRef]:
    """Return references without repetitions of one name."""
    return list({ref.name: ref for ref in refs}.values())
