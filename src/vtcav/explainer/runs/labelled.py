"""Images with the class that each shows: from folders, tables, or a list of labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Sized
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from vtcav.datasets.tables import from_table
from vtcav.errors import ImageError, brief
from vtcav.images.listing import ImageSource, collect, draw, is_remote, subfolders
from vtcav.images.references import ImageRef
from vtcav.models.base import Model

Labels: TypeAlias = Sequence[str | int]
_TABLES = {".csv", ".tsv", ".parquet"}
_EXPECTED = "a folder with one folder of images per class, or a table of paths and labels"


def labelled(
    images: ImageSource | Mapping[str, ImageSource],
    labels: Labels | None,
    model: Model,
    *,
    limit: int | None = None,
    seed: int = 0,
) -> tuple[list[ImageRef], list[int]]:
    """Return images under names that differ, and the index of each one's class.

    Args:
        images: A folder with a folder per class, a table, images by class; or images in any form
            that `fit` takes, with their labels.
        labels: The class of each image, by name or index; None takes them from the images' folder,
            table or mapping.
        model: The network, whose classes they are.
        limit: At most this many images of each class, drawn with `seed`.
        seed: Seeds the draw.

    Raises:
        ImageError: When images or labels cannot be listed, or do not fit each other.
        ModelError: For a class that the network does not have.
        DatasetError: For a table without images or labels.
    """
    groups: dict[int, list[ImageRef]] = {}
    if labels is None:
        sources = images if isinstance(images, Mapping) else _by_class(images)
        for name, source in sources.items():
            text = isinstance(name, str)
            index = model.class_of_folder(name) if text else model.class_index(name)
            groups.setdefault(index, []).extend(collect(source))
    else:
        refs = collect(images)
        if isinstance(labels, str) or not isinstance(labels, Sized):
            raise ImageError(f"expected a list of labels, one for each image, got {brief(labels)}")
        if len(refs) != len(labels):
            raise ImageError(
                f"expected a label for each image, got {len(refs)} images and {len(labels)} labels"
            )
        for ref, label in zip(refs, labels, strict=True):
            groups.setdefault(model.class_index(label), []).append(ref)
    found: list[ImageRef] = []
    classes: list[int] = []
    for index, refs in groups.items():
        few = draw(refs, limit, seed)
        found += few
        classes += [index] * len(few)
    return _named_apart(found, [model.class_names[i] for i in classes]), classes


def _by_class(source: object) -> Mapping[str, ImageSource]:
    """Return images by the names of folders, or by the labels in a table."""
    if not isinstance(source, str | Path):
        raise ImageError(f"expected labels=, or {_EXPECTED}; got {type(source).__name__}")
    if Path(str(source)).suffix.lower() in _TABLES and not is_remote(source):
        table: Mapping[str, ImageSource] = from_table(source)
        return table
    folders = subfolders(source, _EXPECTED)
    if not folders:
        raise ImageError(f"expected {_EXPECTED}; there is no folder in {str(source)!r}")
    return dict(folders)


def _named_apart(refs: Sequence[ImageRef], classes: Sequence[str]) -> list[ImageRef]:
    """Return references of which no two have one name."""
    counts = Counter(ref.name for ref in refs)
    named = [
        ref if counts[ref.name] == 1 else replace(ref, name=f"{name}/{ref.name}")
        for ref, name in zip(refs, classes, strict=True)
    ]
    taken: set[str] = set()
    for i, ref in enumerate(named):
        free = ref.name
        while free in taken:
            free += "*"
        taken.add(free)
        named[i] = ref if free == ref.name else replace(ref, name=free)
    return named
