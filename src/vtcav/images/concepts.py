"""Concepts: a name, example images, and the negatives they are contrasted with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vtcav.errors import ConceptError, ImageError, brief
from vtcav.files.paths import expanded
from vtcav.images.file_names import is_parquet
from vtcav.images.listing import ImageSource, collect, is_remote, subfolders
from vtcav.images.references import ImageRef

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class ImageSet:
    """A set of images: the examples of a concept, or negatives.

    Attributes:
        role: The set's name in messages: "concept 'striped'" or "negatives".
        refs: The images, not opened yet.
    """

    role: str
    refs: tuple[ImageRef, ...]


@dataclass(frozen=True, eq=False)
class Concept:
    """A concept and its negatives.

    Attributes:
        name: The concept's name, any text.
        examples: Images that show the concept.
        negatives: Images that do not; several concepts may share one set.
        directions: Its direction v [C] by layer where it is given; empty where it is learned.
        redrawn: The direction from as many other draws of the images that it comes from as there
            are bootstrap CAVs [B, C], by layer; empty where it does not depend on images here.
        origin: Where a given direction comes from, in words.
        texts: The texts that it is the direction of; empty for other concepts.
    """

    name: str
    examples: ImageSet
    negatives: ImageSet
    directions: Mapping[str, Tensor] = field(default_factory=dict)
    redrawn: Mapping[str, Tensor] = field(default_factory=dict)
    origin: str = ""
    texts: tuple[str, ...] = ()


def gather(
    concepts: Mapping[str, ImageSource],
    negatives: ImageSource | Mapping[str, ImageSource] | None,
    *,
    limit: int | None = None,
    seed: int = 0,
    min_examples: int = 1,
) -> list[Concept]:
    """List the images of concepts and their negatives.

    Args:
        concepts: Example images by concept name.
        negatives: One set for all concepts, or a set for each concept by its name.
        limit: At most this many images from each set, drawn with `seed`.
        seed: Seeds the draw.
        min_examples: The fewest images a set may have.

    Returns:
        The concepts in the order given.

    Raises:
        ConceptError: For no concepts, a bad name, a concept without negatives or with too few
            images, or a source that cannot be read; the message names the concept.

    Example:
        >>> import numpy as np
        >>> black = np.zeros((5, 8, 8, 3), np.uint8)
        >>> [(c.name, len(c.examples.refs)) for c in gather({"dark": black}, black + 255)]
        [('dark', 5)]
    """
    _check_names(concepts)
    sources = _negatives_by_concept(concepts, negatives)

    def image_set(role: str, source: ImageSource) -> ImageSet:
        try:
            refs = collect(source, limit=limit, seed=seed)
        except ImageError as error:
            raise ConceptError(f"{role}: {error}") from error
        check_enough(role, len(refs), min_examples)
        return ImageSet(role, tuple(refs))

    examples = {name: image_set(f"concept {name!r}", source) for name, source in concepts.items()}
    sets: dict[int, ImageSet] = {}  # concepts with the same source share one set
    for name, source in sources.items():
        if id(source) not in sets:
            of = f" of concept {name!r}" * isinstance(negatives, Mapping)
            sets[id(source)] = image_set(f"negatives{of}", source)
    return [Concept(name, examples[name], sets[id(sources[name])]) for name in examples]


def concept_folders(
    root: str | Path, *, besides: str | Path | None = None
) -> dict[str, str | Path]:
    """Return the concepts of a folder, here or behind a URI, that holds one folder per concept.

    Args:
        root: The folder or URI.
        besides: A folder inside it that is no concept: the negatives.

    Raises:
        ConceptError: When it is no folder or has no folders in it.
    """
    folders = subfolders(root, "a folder with one folder per concept", ConceptError)
    if besides is not None:
        folders = {name: path for name, path in folders.items() if not _same(path, besides)}
    if not folders:
        example = f"{str(root).rstrip('/')}/striped" if is_remote(root) else Path(root) / "striped"
        raise ConceptError(
            f"expected one folder per concept in {str(root)!r}, found none; put the example images "
            f"of a concept into a folder of its name, for example {str(example)!r}"
        )
    return folders


def negative_folders(
    root: str | Path, concepts: Mapping[str, object]
) -> ImageSource | Mapping[str, ImageSource]:
    """Return a folder of negatives, or its folders by concept where it has one for each.

    Args:
        root: A folder or URI of images, or of folders named like the concepts; or a glob or a
            Parquet file.
        concepts: The concepts by name.

    Raises:
        ConceptError: When there is no such folder.
    """
    text = str(root)
    if "*" in text or is_parquet(text):
        return root
    folders = subfolders(root, "a folder of negatives", ConceptError)
    if all(name in folders for name in concepts):
        return {name: folders[name] for name in concepts}
    return root


def _same(one: str | Path, other: str | Path) -> bool:
    if is_remote(one) or is_remote(other):
        return str(one).rstrip("/") == str(other).rstrip("/")
    return expanded(one).resolve() == expanded(other).resolve()


def _check_names(concepts: Mapping[str, ImageSource]) -> None:
    if not isinstance(concepts, Mapping):
        folder = isinstance(concepts, str | Path)
        hint = f"; for a folder of each concept: vtcav.datasets.from_folders({str(concepts)!r})"
        raise ConceptError(
            "expected concepts as a mapping from names to images, {'striped': FOLDER, ...}, got "
            f"{type(concepts).__name__}{hint if folder else ''}"
        )
    if not concepts:
        raise ConceptError("expected at least one concept, got none")
    for name in concepts:
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise ConceptError(
                f"expected a concept's name to be a printable text, got {brief(name)}"
            )


def _negatives_by_concept(
    concepts: Mapping[str, ImageSource],
    negatives: ImageSource | Mapping[str, ImageSource] | None,
) -> dict[str, ImageSource]:
    """Return the source of each concept's negatives."""
    if negatives is None:
        raise ConceptError(
            f"expected negatives for {_names(concepts)}, got none; pass random images that do not "
            "show the concepts, negatives=FOLDER, or a set for each concept, negatives={NAME: ...}"
        )
    if not isinstance(negatives, Mapping):
        return dict.fromkeys(concepts, negatives)
    missing = [name for name in concepts if name not in negatives]
    unknown = [name for name in negatives if name not in concepts]
    if missing:
        raise ConceptError(
            f"no negatives for {_names(missing)}: negatives are given for {_names(negatives)}; "
            "add a set for each concept, or pass one set for all"
        )
    if unknown:
        raise ConceptError(f"negatives are given for {_names(unknown)}, which is no concept")
    return {name: negatives[name] for name in concepts}


def check_enough(role: str, count: int, min_examples: int, *, skipped: int = 0) -> None:
    """Raise `ConceptError` when a set has too few images."""
    if count < min_examples:
        lost = f" ({skipped} more could not be read)" if skipped else ""
        raise ConceptError(
            f"{role}: expected at least {min_examples} images, got {count}{lost}; a direction from "
            "so few depends on the choice of images. Add images (30 or more are usual), or lower "
            "min_examples knowing this"
        )


def _names(names: Mapping[str, object] | list[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
