"""Images by label from data sets of torchvision and others of their kind."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vtcav.datasets.cells import (
    image_of,
    missing,
    plain,
    report_unlabelled,
    told_apart,
    vector_length,
    whole_label,
)
from vtcav.datasets.concept_images import ConceptImages, Wanted, check_known, group, names
from vtcav.errors import DatasetError, brief, check_system, text_of
from vtcav.images.references import ImageRef, UnreadableError

# Attributes of torchvision's data sets with the paths of images and the numbers of labels.
_FILES = (("_image_files", "_labels"), ("_images", "_labels"), ("_image_files", "_targets"))
_IMAGES = "image", "img", "picture", "pixel_values"
_LABELS = "label", "labels", "target", "class"


def from_torch(
    dataset: Any,
    concepts: Wanted = None,
    *,
    class_names: Sequence[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> ConceptImages:
    """List the images of a data set of pairs of image and label, as torchvision's are.

    If a data set keeps files (ImageFolder, DTD, Flowers102, Food101, ...), the files are taken
    without its transform. From others (CIFAR10, MNIST, your own) an item is fetched when its image
    is needed; it must be a PIL image or a uint8 array, so give the data set no transform. A
    `torch.utils.data.Subset` stands for its own images; the parts of a `ConcatDataset` are labelled
    by their own class names. Items may also be mappings with "image" and "label".

    Args:
        dataset: A data set with `len` and indices, whose labels are numbers or texts.
        concepts: The labels wanted, or a mapping from new names to labels; None takes all.
        class_names: The names of numbered labels; None takes the data set's `classes`.
        limit: At most this many images of each concept, drawn with `seed`.
        seed: Seeds the draw.

    Raises:
        DatasetError: For another kind of data set, a number without a name, or an unknown label.

    Example:
        >>> from PIL import Image
        >>> pairs = [(Image.new("RGB", (4, 4)), i % 2) for i in range(5)]
        >>> from_torch(pairs, class_names=["cat", "dog"])
        ConceptImages(cat: 3, dog: 2)
    """
    if not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        raise DatasetError(
            "expected a data set with len() and indices, whose items are pairs of image and label, "
            f"got {type(dataset).__name__}; a Hugging Face data set goes to from_huggingface"
        )
    if not len(dataset):
        raise DatasetError(f"the data set {type(dataset).__name__} is empty")
    classes = _all_class_names(dataset)
    class_names = None if class_names is None else told_apart(class_names)
    if class_names is not None and len(set(classes)) > 1:
        raise DatasetError(
            "the joined data sets number their classes differently, so one list of class_names "
            "cannot name them: leave class_names out, and each part's own names are taken"
        )
    items = list(_items(dataset, class_names))
    pairs = [(label, ref) for label, ref in items if label is not None]
    report_unlabelled(len(items) - len(pairs), len(items), type(dataset).__name__)
    if class_names is not None:
        for label in dict.fromkeys(label for label, _ in pairs):
            check_known("class name", label, class_names)
    known = dict.fromkeys(class_names or itertools.chain(*classes))
    return group(pairs, concepts, limit=limit, seed=seed, known=known)


def _items(
    dataset: Any, class_names: Sequence[str] | None, prefix: str = ""
) -> Iterator[tuple[str | None, ImageRef]]:
    """Yield the label and the image of every item; the label is None where it is missing."""
    if _joined(dataset):
        for i, part in enumerate(dataset.datasets):
            # the parts may number their classes differently
            yield from _items(part, class_names, f"{prefix}part {i}: ")
        return
    if hasattr(dataset, "indices") and hasattr(dataset, "dataset"):
        inner = list(_items(dataset.dataset, class_names, prefix))
        _check_same_labels(dataset, [inner[int(i)][0] for i in dataset.indices], class_names)
        for i in dataset.indices:
            yield inner[int(i)]
        return
    numbered = class_names if class_names is not None else _class_names(dataset)
    if (files := _files(dataset)) is not None:
        for i, (path, label) in enumerate(files):
            yield _name(label, numbered, i), ImageRef(str(path), Path(path))
        return
    title = f"{prefix}{type(dataset).__name__}"
    for i, label in enumerate(_labels(dataset)):
        yield _name(label, numbered, i), ItemImage(f"{title}[{i}]", dataset=dataset, index=i)


def _joined(dataset: Any) -> bool:
    """Tell whether a data set joins others, as torch's ConcatDataset does."""
    return hasattr(dataset, "datasets") and hasattr(dataset, "cumulative_sizes")


def _files(dataset: Any) -> list[tuple[Any, Any]] | None:
    """Return the paths and labels of a data set of files; None for any other."""
    samples = getattr(dataset, "samples", None)
    if isinstance(samples, list) and samples and _is_file(samples[0]):
        return samples
    for files, labels in _FILES:
        paths, numbers = getattr(dataset, files, None), getattr(dataset, labels, None)
        if paths is None or numbers is None or len(paths) != len(dataset):
            continue
        if len(numbers) == len(paths) and isinstance(paths[0], str | Path):
            return list(zip(paths, numbers, strict=True))
    return None


def _is_file(sample: Any) -> bool:
    return isinstance(sample, tuple) and len(sample) == 2 and isinstance(sample[0], str | Path)


def _labels(dataset: Any) -> list[Any]:
    """Return the label of every item, without fetching images where labels are kept apart."""
    for name in ("targets", "labels", "_labels"):
        labels = getattr(dataset, name, None)
        if labels is not None and hasattr(labels, "__len__") and len(labels) == len(dataset):
            return list(labels)
    try:
        return [_pair(dataset[i], i)[1] for i in range(len(dataset))]
    except LookupError as error:
        raise DatasetError(
            f"expected a data set with items 0 to {len(dataset) - 1}, got {brief(dataset)}"
        ) from error


def _pair(item: Any, index: int) -> tuple[Any, Any]:
    """Return the image and the label of an item: a pair, or a mapping with usual names."""
    if isinstance(item, Mapping):
        return _of_mapping(item, _IMAGES, index), _of_mapping(item, _LABELS, index)
    if not isinstance(item, tuple | list) or len(item) < 2:
        raise DatasetError(
            f"expected item {index} to be a pair of image and label, got {type(item).__name__}"
        )
    return item[0], item[1]


def _of_mapping(item: Mapping[str, Any], usual: Sequence[str], index: int) -> Any:
    for name in usual:
        if name in item:
            return item[name]
    raise DatasetError(
        f"expected one of {', '.join(usual)} in item {index}, got a mapping with {names(item)}"
    )


def _all_class_names(dataset: Any) -> list[tuple[str, ...]]:
    """Return the class names of a data set, or of each part of a joined one that has some."""
    while not _joined(dataset) and _class_names(dataset) is None:
        if not hasattr(dataset, "dataset"):
            return []
        dataset = dataset.dataset
    if _joined(dataset):
        return [classes for part in dataset.datasets for classes in _all_class_names(part)]
    return [tuple(_class_names(dataset) or ())]


def _class_names(dataset: Any) -> Sequence[str] | None:
    """Return the names of a data set's classes by number; None where it has none."""
    classes: Any = getattr(dataset, "classes", None)
    numbers: Any = classes if isinstance(classes, Mapping) else getattr(dataset, "class_to_idx", {})
    # where both have the same names, the numbers count
    if isinstance(classes, Mapping) or (
        isinstance(classes, list) and set(map(str, classes)) == set(numbers)
    ):
        classes = sorted(numbers, key=numbers.__getitem__)
    if isinstance(classes, list | tuple | np.ndarray):
        return told_apart(classes) or None
    features = getattr(dataset, "features", None)  # of Hugging Face
    labels = [features[name] for name in _LABELS if name in features] if features else []
    return next((label.names for label in labels if hasattr(label, "names")), None)


def _check_same_labels(
    dataset: Any, labels: Sequence[str | None], class_names: Sequence[str] | None
) -> None:
    """Refuse a wrapper of a data set that labels its items otherwise.

    Raises:
        DatasetError: Naming the first item.
    """
    from torch.utils.data import Subset

    if isinstance(dataset, Subset) and type(dataset).__getitem__ is Subset.__getitem__:
        return
    names = class_names if class_names is not None else _class_names(dataset.dataset)
    for i, known in enumerate(labels):
        label = _name(_pair(dataset[i], i)[1], names, i)
        if label != known:
            raise DatasetError(
                f"item {i} of {type(dataset).__name__} has the label {label!r}, in the data set "
                f"inside it {known!r}; give a list of pairs of image and label"
            )


def _name(label: Any, names: Sequence[str] | None, index: int) -> str | None:
    """Return the name of a label; None where it is missing, or below 0."""
    label = plain(label)
    if missing(label):
        return None
    if isinstance(label, str):
        return str(label)
    if vector_length(label):
        raise DatasetError(
            f"expected the label of item {index} to be a whole number or a text, got {label}; of a "
            "vector with a single 1 give its position, vector.argmax()"
        )
    number = whole_label(label, f"item {index}")
    if number < 0:  # how data sets such as STL10 mark what has no label
        return None
    if names is None:
        return str(number)
    if not 0 <= number < len(names):
        raise DatasetError(
            f"item {index} has the label {number}, and there are names for 0 to {len(names) - 1}"
        )
    return str(names[number])


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class ItemImage(ImageRef):
    """An item of a data set.

    Attributes:
        dataset: The data set.
        index: The item's index.
    """

    dataset: Any = field(repr=False)
    index: int

    def fetch(self) -> ImageRef:
        """Fetch the item and return its image.

        Raises:
            ImageError: When it cannot be fetched, or is none.
        """
        try:
            item = self.dataset[self.index]
            mapping = isinstance(item, Mapping)
            value = _of_mapping(item, _IMAGES, self.index) if mapping else next(iter(item))
        except Exception as error:
            # a data set is foreign code, which fails in its own ways
            check_system(error)
            raise UnreadableError(self.name, text_of(error) or type(error).__name__) from error
        try:
            return image_of(self.name, value)
        except UnreadableError as error:
            reason = f"{error.args[1]}; make the data set without a transform"
            raise UnreadableError(self.name, reason) from error
