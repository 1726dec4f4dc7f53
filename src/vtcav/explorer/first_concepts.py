"""The concepts that the explorer begins with, from folders or images by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from vtcav.errors import ConceptError, ImageError
from vtcav.explorer import limits
from vtcav.explorer.pictures import Pictures
from vtcav.explorer.schemas import ConceptSpec, Example
from vtcav.images.concepts import concept_folders, negative_folders
from vtcav.images.references import ImageSource, Skipped, UnreadableError, collect

__all__ = ["given_concepts"]


def given_concepts(
    concepts: str | Path | Mapping[str, ImageSource],
    negatives: ImageSource | None,
    pictures: Pictures,
) -> tuple[list[ConceptSpec], list[Skipped]]:
    """Return the concepts to begin with, and the images that were left out.

    Args:
        concepts: A folder with one folder for each, or images by name.
        negatives: A folder; where it has one for each concept, these are the concepts' own.
        pictures: Gets to know all images.

    Raises:
        ConceptError: For a folder that is none, and what is more than the explorer takes.
    """
    if not isinstance(concepts, Mapping):
        besides = Path(negatives) if isinstance(negatives, str | Path) else None
        concepts = concept_folders(concepts, besides=besides)
    own: Mapping[str, ImageSource] = {}
    if isinstance(negatives, str | Path):
        found = negative_folders(negatives, concepts)
        own = found if isinstance(found, Mapping) else {}
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
        raise ConceptError(f"a concept to begin with cannot be used: {error}") from error
    except ValidationError as error:
        raise ConceptError(
            f"a concept to begin with does not fit: {error.errors()[0]['msg']}. The explorer "
            f"takes {limits.EXAMPLES} images a set, and names of {limits.NAME_LETTERS} letters"
        ) from error
    return specs, skipped


def _examples(
    source: ImageSource, pictures: Pictures, skipped: list[Skipped]
) -> tuple[Example, ...]:
    """Make the pictures of a source known, and note those that cannot be read."""
    found = []
    for ref in collect(source):
        try:
            found.append(Example(picture=pictures.add(ref, ref.name, "given").key))
        except UnreadableError as error:
            skipped.append(Skipped(*error.args))
    return tuple(found)
