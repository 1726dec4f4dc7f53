"""The first concepts of an explorer, from folders or from images by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from vtcav.errors import ConceptError, ImageError
from vtcav.explorer import limits
from vtcav.explorer.pictures import Pictures
from vtcav.explorer.schemas import ConceptSpec, Example
from vtcav.images.concepts import concept_folders, negative_folders
from vtcav.images.listing import ImageSource, collect
from vtcav.images.references import Skipped, UnreadableError

__all__ = ["first_concepts"]


def first_concepts(
    concepts: str | Path | Mapping[str, ImageSource],
    negatives: ImageSource | None,
    pictures: Pictures,
) -> tuple[list[ConceptSpec], list[Skipped]]:
    """Return the first concepts, and the images that were left out.

    Args:
        concepts: A folder with one folder for each, or images by name.
        negatives: A folder; where it has one for each concept, these are the concepts' own.
        pictures: The explorer's pictures, to which all images are added.

    Raises:
        ConceptError: For a folder that does not exist, or concepts beyond the explorer's limits.
    """
    if not isinstance(concepts, Mapping):
        besides = negatives if isinstance(negatives, str | Path) else None
        concepts = concept_folders(concepts, besides=besides)
    own: Mapping[str, ImageSource] = {}
    if isinstance(negatives, str | Path):
        folders = negative_folders(negatives, concepts)
        own = folders if isinstance(folders, Mapping) else {}
    skipped: list[Skipped] = []
    try:
        specs = [
            ConceptSpec(
                name=name,
                examples=_examples(source, pictures, skipped),
                negatives=_examples(own[name], pictures, skipped) if own else (),
                shared=not own,
            )
            for name, source in concepts.items()
        ]
    except ImageError as error:
        raise ConceptError(f"one of the first concepts cannot be used: {error}") from error
    except ValidationError as error:
        raise ConceptError(
            f"one of the first concepts is not valid: {error.errors()[0]['msg']}. The explorer "
            f"takes {limits.EXAMPLES} images a set, and names of {limits.NAME_LETTERS} characters"
        ) from error
    return specs, skipped


def _examples(
    source: ImageSource, pictures: Pictures, skipped: list[Skipped]
) -> tuple[Example, ...]:
    """Add the pictures of a source, and note those that cannot be read."""
    examples = []
    for ref in collect(source):
        try:
            examples.append(Example(picture=pictures.add(ref, ref.name, "concept").key))
        except UnreadableError as error:
            skipped.append(Skipped(*error.args))
    return tuple(examples)
