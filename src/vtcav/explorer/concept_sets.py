"""The images of a concept on the page: patches; of a found one the whole photos that show it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from vtcav.errors import ConceptError
from vtcav.explorer.pictures import PictureRef, Pictures
from vtcav.explorer.schemas import ConceptSpec, Example
from vtcav.images.concepts import Concept, gather

FOUND = "found in photos"
"""The origin of the directions of found concepts."""

Check = Callable[[], None]
Given = Callable[[ConceptSpec, Check], Mapping[str, Tensor]]
"""Returns the directions [C] of a found concept by layer; at other layers they are learned."""


def nothing_found(concept: ConceptSpec, check: Check) -> Mapping[str, Tensor]:
    """Refuse a found concept where nothing was found yet.

    Raises:
        ConceptError: In any case.
    """
    raise ConceptError(f"what {name_of(concept)!r} was made of is not here any more; find it again")


def name_of(concept: ConceptSpec) -> str:
    """Return a name that CAVs can have."""
    return concept.name.strip() or "unnamed"


def examples_of(concept: ConceptSpec, pictures: Pictures) -> list[PictureRef]:
    """Return the examples of a concept.

    Raises:
        ImageError: For a picture that is not here, or a patch that is not inside it.
    """
    return _refs(concept, concept.examples, pictures)


def negatives_of(
    concept: ConceptSpec, pictures: Pictures, shared: Sequence[PictureRef]
) -> list[PictureRef]:
    """Return the negatives of a concept.

    Args:
        concept: The concept.
        pictures: The explorer's pictures.
        shared: The negatives of all concepts.

    Raises:
        ImageError: For a picture that is not here, or a patch that is not inside it.
    """
    own = _refs(concept, concept.negatives, pictures)
    if concept.found:
        shown = set(examples_of(concept, pictures))
        own = [ref for ref in own if ref not in shown]
    return [*(shared if concept.shared else ()), *own]


def gathered(
    concept: ConceptSpec, examples: Sequence[PictureRef], negatives: Sequence[PictureRef]
) -> Concept:
    """Return a concept to be learned.

    Raises:
        ConceptError: When there are no examples or no negatives.
    """
    if not examples:
        raise ConceptError("cut a patch out of a photo, or add a picture, to begin")
    if not negatives:
        raise ConceptError("there are no counter-examples: add some, or use the common ones")
    [found] = gather({name_of(concept): list(examples)}, list(negatives))
    return found


def check_is_learned(concept: ConceptSpec) -> None:
    """Refuse a found concept where the direction must be that of its images.

    Raises:
        ConceptError: For a found concept.
    """
    if concept.found:
        raise ConceptError(
            f"the direction of {name_of(concept)!r} was found, not learned from its images, so "
            "folders of them would give another concept; save it as a CAV file"
        )


def _refs(concept: ConceptSpec, marked: Sequence[Example], pictures: Pictures) -> list[PictureRef]:
    """Return patches; of a found concept the whole photos, as it was found in these."""
    if concept.found:
        whole = [pictures.ref(example.picture) for example in marked]
        return list(dict.fromkeys(whole))
    return [pictures.ref(example.picture, example.box) for example in marked]
