"""Images by concept: labels chosen and put together, limited, and the rest for negatives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from vtcav.errors import DatasetError, VtcavError, brief
from vtcav.files.paths import given_path
from vtcav.images.listing import draw
from vtcav.images.references import ImageRef
from vtcav.parameters import as_list, did_you_mean

if TYPE_CHECKING:
    import pandas as pd


Wanted: TypeAlias = Sequence[str] | Mapping[str, str | Sequence[str]] | None
"""The labels wanted: all (None), some by name, or the labels that make up each concept."""

_LISTED = 12


class ConceptImages(Mapping[str, tuple[ImageRef, ...]]):
    """Listed images by concept; a mapping that `VisualTCAV.fit` takes.

    Args:
        images: The images of each concept.
        left_out: For each concept, how many images were left out for which reason.

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
            DatasetError: For an unknown concept.
        """
        check_known("concept", name, self._images)
        return self._images[name]

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a concept of this name."""
        return name in self._images

    def __iter__(self) -> Iterator[str]:
        """Yield the names of the concepts."""
        return iter(self._images)

    def __len__(self) -> int:
        """Return the number of concepts."""
        return len(self._images)

    def __repr__(self) -> str:
        counts = [f"{name}: {len(refs)}" for name, refs in self._images.items()]
        more = f", and {len(counts) - _LISTED} more" if len(counts) > _LISTED else ""
        return f"ConceptImages({', '.join(counts[:_LISTED])}{more})"

    def _repr_html_(self) -> str:
        from vtcav.results.notebook.display import Display, rows_of
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
        """Return some of the concepts, or new ones put together from several.

        Args:
            concepts: Names, or a mapping from new names to the names that make them up.
            limit: At most this many images of each, drawn with `seed`.
            seed: Seeds the draw.

        Raises:
            DatasetError: For an unknown name or a limit below 1.
        """
        labels = wanted_labels(concepts, list(self))
        found = {
            name: draw(_each_once(self[label] for label in parts), limit, seed, DatasetError)
            for name, parts in labels.items()
        }
        kept = {name: self.left_out.get(name, {}) for name in found}
        return ConceptImages(found, kept)

    def rest(
        self, besides: Iterable[str], *, limit: int | None = None, seed: int = 0
    ) -> tuple[ImageRef, ...]:
        """Return the images of all other concepts, for negatives.

        An image that is also listed under one of `besides`, by the same name, is left out.

        Args:
            besides: The concepts whose images are left out.
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
        excluded = as_list("besides", besides, DatasetError)
        taken = {ref.name for name in excluded for ref in self[name]}
        others = _each_once(self[name] for name in self if name not in excluded)
        left = [ref for ref in others if ref.name not in taken]
        if not left:
            raise DatasetError(
                f"no images are left besides {names(excluded)}; the concepts are {names(self)}"
            )
        return tuple(draw(left, limit, seed, DatasetError))

    def save(self, folder: str | Path) -> dict[str, Path]:
        """Write the images as a folder tree that `--concepts DIR` takes; see docs/data.md.

        Raises:
            DatasetError: When a concept's folder exists already, or an image cannot be read or
                written. Nothing is left behind then.
        """
        from vtcav.datasets.folder_tree import write_tree

        return write_tree(self, given_path("folder", folder, DatasetError))


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
    """Group labelled images by concept.

    Args:
        found: Pairs of label and image; an image may come with several labels.
        concepts: The labels wanted, and the concepts that they make up.
        limit: At most this many images of each concept, drawn with `seed`.
        seed: Seeds the draw.
        left_out: By label, how many images were left out for which reason.
        known: All labels, where `found` does not have them all.
        what: The word for a label in messages.

    Raises:
        DatasetError: For an unknown label, or a concept without images.
    """
    by_label: dict[str, list[ImageRef]] = {label: [] for label in (() if known is None else known)}
    for label, ref in found:
        by_label.setdefault(label, []).append(ref)
    lost = left_out or {}
    labels = wanted_labels(concepts, list(by_label), what)
    images = {}
    reasons = {}
    for name, parts in labels.items():
        refs = _each_once(by_label[label] for label in parts)
        why: Counter[str] = sum((Counter(lost.get(p, {})) for p in parts), Counter())
        if not refs:
            if concepts is None:
                continue  # a label that the data set declares and does not use
            reason = ": " + "; ".join(f"{n} {text}" for text, n in why.items()) if why else ""
            raise DatasetError(f"no images of {what} {name!r}{reason}")
        images[name], reasons[name] = draw(refs, limit, seed, DatasetError), why
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
    if isinstance(concepts, Mapping):
        labels = {
            name: as_list(f"the parts of {name!r}", parts, DatasetError)
            for name, parts in concepts.items()
        }
    else:
        wanted = as_list("concepts", concepts, DatasetError)
        for name in wanted:
            check_known(what, name, known)
        labels = {name: [name] for name in wanted}
    if not labels:
        raise DatasetError(f"expected at least one {what}, got none; it has {names(known)}")
    for parts in labels.values():
        for label in parts:
            check_known(what, label, known)
    return labels


def check_known(
    what: str, name: object, known: Iterable[str], error: type[VtcavError] = DatasetError
) -> None:
    """Refuse an unknown name.

    Raises:
        VtcavError: `error`, naming the closest known name.
    """
    listed = list(known)
    if not isinstance(name, str) or name not in listed:
        raise error(unknown(what, name, listed))


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """Return the message about an unknown name, with a hint at the closest known one."""
    listed = list(known)
    hint = did_you_mean(name, listed) or ";"
    return f"there is no {what} {brief(name)}{hint} there are {names(listed)}"


def names(known: Iterable[str]) -> str:
    """Return the first dozen names for a message, and how many more there are."""
    listed = list(known)
    more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    return (", ".join(map(repr, listed[:_LISTED])) or "none") + more


def _each_once(lists: Iterable[Iterable[ImageRef]]) -> list[ImageRef]:
    """Return the references of all lists, each name once."""
    return list({ref.name: ref for refs in lists for ref in refs}.values())
