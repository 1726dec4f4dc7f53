"""Images by label from data sets of Hugging Face's `datasets`."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vtcav.datasets.cells import LabelReader, image_of
from vtcav.datasets.concept_images import ConceptImages, Wanted, check_known, group, names
from vtcav.errors import DatasetError, brief, check_system, text_of
from vtcav.images.references import ImageRef, UnreadableError


def from_huggingface(
    dataset: Any,
    concepts: Wanted = None,
    *,
    image: str = "image",
    label: str = "label",
    rows: int | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> ConceptImages:
    """List the images of a Hugging Face data set by label.

    Images of a `Dataset` are read when they are needed, without its transform or format.
    An `IterableDataset` is read once, to its end or for `rows` rows; with a limit only the encoded
    bytes of the images drawn are kept.

    Args:
        dataset: A `Dataset` or an `IterableDataset`, not a `DatasetDict` of them.
        concepts: The labels wanted, or a mapping from new names to labels; None takes all.
        image: The column of images: an `Image` feature, bytes, {"bytes", "path"}, or paths.
        label: The column of labels: a `ClassLabel`, numbers or texts, or lists of these.
        rows: The most rows of an iterable to read; None reads all.
        limit: At most this many images of each concept, drawn with `seed`.
        seed: Seeds the draw.

    Raises:
        DatasetError: For another kind of object, a missing column, or an unknown label.

    Example:
        >>> from PIL import Image
        >>> pixels = np.zeros((8, 8, 3), np.uint8)
        >>> rows = [{"image": Image.fromarray(pixels), "label": name} for name in ("a", "b", "a")]
        >>> from_huggingface(iter(rows))
        ConceptImages(a: 2, b: 1)
    """
    if isinstance(dataset, Mapping):
        raise DatasetError(
            f"expected one data set, got several: {names(dataset)}; choose a split, such as "
            f"dataset[{next(iter(dataset), 'train')!r}]"
        )
    features = getattr(dataset, "features", None)
    if features is not None:
        for column in (image, label):
            check_known("column", column, features)
        dataset = _undecoded(dataset, image, features[image])
    classes = None if features is None else _class_names(features[label])
    title = _title(dataset)
    if isinstance(dataset, str) or not isinstance(dataset, Iterable):
        raise DatasetError(f"expected a data set of Hugging Face, got {brief(dataset)}")
    pairs: Iterable[tuple[str, ImageRef]]
    if hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__"):
        try:
            cells = list(dataset[label])
        except (LookupError, TypeError, ValueError) as error:
            raise DatasetError(
                f"expected a data set with the column {brief(label)}, got {brief(dataset)}"
            ) from error
        reader = LabelReader(title, classes)
        pairs = [
            (text, RowImage(f"{title}[{i}]", dataset=dataset, row=i, column=image))
            for i, cell in enumerate(cells[:rows])
            for text in reader.read(i, cell)
        ]
        reader.finish()
    else:
        pairs = _drawn(_stream(dataset, image, label, classes, title, rows), limit, seed)
    return group(pairs, concepts, limit=limit, seed=seed, known=classes)


def _undecoded(dataset: Any, column: str, feature: Any) -> Any:
    """Return the data set with bytes and paths in place of decoded images, without its transform.

    A transform or format of the data set would change the labels and images of its rows.
    """
    if hasattr(dataset, "with_format"):
        dataset = dataset.with_format(None)
    if type(feature).__name__ != "Image":
        return dataset
    return dataset.cast_column(column, type(feature)(decode=False))


def _title(dataset: Any) -> str:
    info = getattr(dataset, "info", None)
    name = getattr(info, "dataset_name", None) or "dataset"
    split = getattr(dataset, "split", None)
    return f"{name}/{split}" if split is not None else str(name)


def _class_names(feature: Any) -> list[str] | None:
    """Return the names of numbered labels; None where the data set has none."""
    inner = getattr(feature, "feature", feature)
    if isinstance(inner, list) and inner:
        inner = inner[0]
    found: list[str] | None = getattr(inner, "names", None)
    return found


def _stream(
    dataset: Iterable[Any],
    image: str,
    label: str,
    classes: Sequence[str] | None,
    title: str,
    rows: int | None,
) -> Iterator[tuple[str, ImageRef]]:
    """Yield the labels and the image of each row of an iterable."""
    reader = LabelReader(title, classes)
    for i, row in enumerate(itertools.islice(dataset, rows)):
        if not isinstance(row, Mapping):
            raise DatasetError(
                f"expected rows with the columns {image!r} and {label!r}, got "
                f"{type(row).__name__} in row {i}"
            )
        for column in (image, label):
            check_known("column", column, row)
        if texts := reader.read(i, row[label]):
            ref = image_of(f"{title}[{i}]", row[image])
            yield from ((text, ref) for text in texts)
    reader.finish()


def _drawn(
    pairs: Iterable[tuple[str, ImageRef]], limit: int | None, seed: int
) -> list[tuple[str, ImageRef]]:
    """Draw images of each label at random from a stream of unknown length."""
    random = np.random.default_rng(seed)
    kept: dict[str, list[tuple[int, str, ImageRef]]] = {}
    counts: Counter[str] = Counter()
    for i, (label, ref) in enumerate(pairs):
        own = kept.setdefault(label, [])
        counts[label] += 1
        if limit is None or len(own) < limit:
            own.append((i, label, ref))
        elif (place := int(random.integers(counts[label]))) < limit:
            own[place] = i, label, ref
    drawn = sorted((entry for own in kept.values() for entry in own), key=lambda entry: entry[0])
    return [(label, ref) for _, label, ref in drawn]


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class RowImage(ImageRef):
    """The image in a row of a data set.

    Attributes:
        dataset: The data set, its images undecoded.
        row: The row.
        column: The column of the image.
    """

    dataset: Any = field(repr=False)
    row: int
    column: str

    def fetch(self) -> ImageRef:
        """Return the image with its bytes or path.

        Raises:
            ImageError: When the row has none.
        """
        try:
            cell = self.dataset[self.row][self.column]
        except Exception as error:
            # a data set is foreign code, which fails in its own ways
            check_system(error)
            raise UnreadableError(self.name, text_of(error) or type(error).__name__) from error
        return image_of(self.name, cell)
