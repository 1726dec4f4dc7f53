"""Images by label from data sets of torchvision and others of their kind."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vtcav.datasets.concept_images import ConceptImages, Wanted, group
from vtcav.errors import DatasetError, ImageError
from vtcav.images.references import ImageRef, UnreadableError

__all__ = ["ItemImage", "from_torch"]

# Attributes of torchvision's data sets with the paths of images and the numbers of labels.
_FILES = (("_image_files", "_labels"), ("_images", "_labels"), ("_image_files", "_targets"))


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
    `torch.utils.data.Subset` stands for its own images.

    Args:
        dataset: A data set with `len` and indices, whose labels are numbers or texts.
        concepts: The labels wanted, or a mapping from new names to labels; None takes all.
        class_names: The names of numbered labels; None takes the data set's `classes`.
        limit: At most this many images of each concept, drawn with `seed`.
        seed: Seeds the draw.

    Raises:
        DatasetError: For another kind of data set, a number without a name, or an unknown label.

    Example:
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
    names = class_names if class_names is not None else _class_names(dataset)
    pairs = [(_name(label, names, i), ref) for i, (label, ref) in enumerate(_items(dataset))]
    known = None if names is None else dict.fromkeys(map(str, names))
    return group(pairs, concepts, limit=limit, seed=seed, known=known)


def _items(dataset: Any) -> Iterator[tuple[Any, ImageRef]]:
    """Yield the label and the image of every item."""
    if hasattr(dataset, "indices") and hasattr(dataset, "dataset"):
        inner = list(_items(dataset.dataset))
        for i in dataset.indices:
            yield inner[int(i)]
        return
    if (files := _files(dataset)) is not None:
        for path, label in files:
            yield label, ImageRef(str(path), Path(path))
        return
    title = type(dataset).__name__
    for i, label in enumerate(_labels(dataset)):
        yield label, ItemImage(f"{title}[{i}]", dataset=dataset, index=i)


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
    return [_pair(dataset[i], i)[1] for i in range(len(dataset))]


def _pair(item: Any, index: int) -> tuple[Any, Any]:
    if not isinstance(item, tuple | list) or len(item) < 2:
        raise DatasetError(
            f"expected item {index} to be a pair of image and label, got {type(item).__name__}"
        )
    return item[0], item[1]


def _class_names(dataset: Any) -> Sequence[str] | None:
    while dataset is not None:
        names = getattr(dataset, "classes", None)
        if isinstance(names, list | tuple) and names:
            # ImageNet's are tuples of synonyms
            return [n if isinstance(n, str) else ", ".join(map(str, n)) for n in names]
        dataset = getattr(dataset, "dataset", None)
    return None


def _name(label: Any, names: Sequence[str] | None, index: int) -> str:
    """Return the name of a label."""
    if isinstance(label, str):
        return label
    try:
        number = int(label)
    except (TypeError, ValueError) as error:
        raise DatasetError(
            f"expected the label of item {index} to be a number or a text, got "
            f"{type(label).__name__}"
        ) from error
    if names is None:
        return str(number)
    if not 0 <= number < len(names):
        raise DatasetError(
            f"item {index} has the label {number}, and there are names for 0 to {len(names) - 1}"
        )
    return str(names[number])


@dataclass(frozen=True, eq=False, kw_only=True)
class ItemImage(ImageRef):
    """An item of a data set.

    Attributes:
        dataset: The data set.
        index: The item's index.
    """

    dataset: Any = field(repr=False)
    index: int

    def load(self) -> Image.Image:
        """Fetch the item's image.

        Raises:
            ImageError: When it cannot be fetched, or is no PIL image or uint8 array.
        """
        try:
            value = next(itertools.islice(iter(self.dataset[self.index]), 1))
            if not isinstance(value, Image.Image) and not (
                isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim in (2, 3)
            ):
                raise ImageError(
                    "expected a PIL image or a uint8 array [H, W, 3] from the data set, got "
                    f"{type(value).__name__}; make the data set without a transform"
                )
        except Exception as error:
            # a data set is foreign code, which fails in its own ways
            raise UnreadableError(self.name, str(error) or type(error).__name__) from error
        return ImageRef(self.name, value).load()
