"""Erasing in the explorer: a region that the user marks, or the region of a concept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
import torch

from vtcav.errors import ConceptError
from vtcav.explainer.attributor import Attributor
from vtcav.explainer.erasing.allotment import Allotment
from vtcav.explainer.erasing.by_hand import HandEraser
from vtcav.explainer.settings import ErasureSettings
from vtcav.explorer.concept_sets import name_of
from vtcav.explorer.pictures import Box
from vtcav.explorer.schemas import ConceptSpec
from vtcav.explorer.session import Session
from vtcav.images.input_box import shown_input
from vtcav.results.effect_tables import effect_table
from vtcav.results.erased import ErasedPicture
from vtcav.results.verdicts import image_sentences

FEWEST = 5
"""Examples that a concept must have to be looked for at single places."""
_SETTINGS = ErasureSettings()
Check = Callable[[], None]


@dataclass(frozen=True, eq=False)
class Erased:
    """What erasing a region says about some classes.

    Attributes:
        sentences: One for each class.
        picture: The picture before and after; None where nothing was erased.
        effects: The columns of `LocalExplanation.effects`, one row per class.
    """

    sentences: list[str]
    picture: ErasedPicture | None
    effects: pd.DataFrame


def erase_region(
    session: Session,
    picture: str,
    box: Box,
    classes: Sequence[int],
    check: Check = lambda: None,
) -> Erased:
    """Erase a box from a picture, as `VisualTCAV.erase` does; shares are of the common negatives.

    Args:
        session: The session.
        picture: The key of the picture.
        box: Left, top, right and bottom in pixels of the upright picture.
        classes: Class indices.
        check: Called between steps; raises when the answer is no longer needed.

    Raises:
        ImageError: For an unknown picture, or a box that does not fit it.
    """
    images = session.look(picture).images
    reference = session.reference(check)
    hand = HandEraser(session.model, _SETTINGS, session.settings.images, reference)
    with session.lock.hold():
        check()
        erased, rows = hand.erase(box, session.pictures.decoded(picture), images, classes)
    effects = effect_table(rows)
    said = [image_sentences(effects.iloc[[i]], "the marked region")[0] for i in range(len(rows))]
    return Erased(said, erased, effects)


def erase_concept(
    session: Session,
    picture: str,
    concept: ConceptSpec | str,
    classes: Sequence[int],
    check: Check = lambda: None,
    *,
    beside: Sequence[ConceptSpec] = (),
) -> Erased:
    """Erase a concept from a picture, as `VisualTCAV.explain` does.

    Args:
        session: The session.
        picture: The key of the picture.
        concept: The concept, or the name of a learned one.
        classes: Class indices.
        check: Called between steps; raises when the answer is no longer needed.
        beside: Other concepts, which places that look more like them go to.

    Raises:
        ConceptError: For a concept with fewer than five examples, or one that was learned without
            place filters.
        ImageError: For an unknown picture, or one that cannot be read.
    """
    if isinstance(concept, ConceptSpec) and len(concept.examples) < FEWEST:
        raise ConceptError(
            f"from {FEWEST} examples on, the concept is erased from the photo to see how far the "
            "scores fall"
        )
    images = session.look(picture).images
    others = _learnable(beside, concept)
    bank = session.bank(
        concept, session.names, beside=others, judge=False, erasure=True, check=check
    )
    name = concept if isinstance(concept, str) else bank.names[0]
    k = bank.names.index(name)
    with session.lock.hold(urgent=False):
        check()
        attributor = Attributor(session.model, bank, session.settings, _SETTINGS)
        if not attributor.eraser.works:
            raise ConceptError("these CAVs hold no place filters, so nothing is erased; fit again")
        regions = attributor.eraser.regions(images)
        alone = set(range(len(bank.names))) - {k, *regions.rivals.get((0, k), ())}
        regions.H[:, sorted(alone)] = 0  # others need not be erased
        shown: dict[tuple[int, int], torch.Tensor] = {}
        allotment = Allotment(_SETTINGS.placebos)
        rows = attributor.effects(images, regions, classes, allotment, shown)
    own = [row for row in rows if row.concept == name]
    effects, x = effect_table(own), images.x[0]
    every = effect_table(rows)
    erased = None
    if (0, k) in shown:
        before, after = (
            shown_input(seen, session.model.preprocess, x) for seen in (x, shown[0, k])
        )
        region = regions.H[0, k].bool().cpu().numpy()
        erased = ErasedPicture(
            images.names[0], name, before, region, after, own[0].drop, own[0].share
        )
    of_class = [every[every["class_index"] == row.class_index] for row in own]
    said = [image_sentences(table, only=name)[0] for table in of_class]
    return Erased(said, erased, effects)


def _learnable(beside: Sequence[ConceptSpec], concept: ConceptSpec | str) -> list[ConceptSpec]:
    """Return those of other concepts that can be looked for at single places, one of each name."""
    if isinstance(concept, str):
        return []
    by_name = {
        name_of(each): each
        for each in beside
        if len(each.examples) >= FEWEST and not each.found and (each.shared or each.negatives)
    }
    by_name.pop(name_of(concept), None)
    return list(by_name.values())
