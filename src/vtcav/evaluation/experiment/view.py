"""What the page of an experiment shows and says: of drawn scenes, or of a user's photographs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from vtcav.evaluation.experiment.photo_unit import PhotoExperiment
    from vtcav.evaluation.experiment.trial import Trial
    from vtcav.evaluation.experiment.unit import UnitResult, UnitSettings

__all__ = ["View", "drawn_view", "photo_view"]


@dataclass(frozen=True, eq=False)
class View:
    """What the page of an experiment shows and says.

    Attributes:
        intro: What was done.
        truth: What values are held against.
        versions: Test images by version.
        versions_text: What they are.
        trial: The images whose maps are shown.
        maps: Their maps, by layer and cue.
        maps_text: What they are.
        limits: What the numbers cannot say.
    """

    intro: str
    truth: str
    versions: Mapping[str, NDArray[np.uint8]]
    versions_text: str
    trial: Trial
    maps: Mapping[str, Mapping[str, NDArray[np.float32]]]
    maps_text: str
    limits: str = ""


def drawn_view(units: Mapping[tuple[int, float], UnitResult], settings: UnitSettings) -> View:
    """Return what is shown of drawn scenes."""
    from vtcav.evaluation.experiment.unit import draw_test_scenes, sample_maps, trial_of

    seed, q = _shown(units)
    some = draw_test_scenes(2, seed)
    scenes, maps = sample_maps(units[seed, q].weights, settings, seed)
    return View(
        intro=(
            "Small networks learned images whose class can be read off a texture and off a tag, "
            "which agrees with the class in a share q of the training images. What each network "
            "uses was measured by taking the one or the other out of test images."
        ),
        truth=(
            "Each point is a class of a network and a cue: the mean value of the method over the "
            "class's test images, against the causal effect of taking the cue out of them, as a "
            "share of the class's logit gap."
        ),
        versions={
            "as it is": some.images(),
            "without tag": some.images(tag=False),
            "without texture": some.images(texture=False),
            "without both": some.images(tag=False, texture=False),
        },
        versions_text="Test images of the first seed, two of each class, and their versions.",
        trial=trial_of(scenes),
        maps=maps,
        maps_text=_maps_text("tag and texture", seed, q),
    )


def photo_view(units: Mapping[tuple[int, float], UnitResult], experiment: PhotoExperiment) -> View:
    """Return what is shown of a user's photographs."""
    seed, q = _shown(units)
    trial, plain, _ = experiment.shown(units[seed, q].weights, seed, each=2)
    few, _, maps = experiment.shown(units[seed, q].weights, seed, each=1)
    frozen = experiment.frozen
    networks = (
        "Small networks were trained from nothing"
        if frozen is None
        else f"Four blocks of convolutions were trained after {frozen.layer!r}, frozen, of "
        f"{frozen.model.described},"
    )
    return View(
        intro=(
            f"{networks} on photographs with tags, which agree with the class in a share q of "
            "those to learn from. What each network uses of the tag was measured by taking it off "
            "test photographs."
        ),
        truth=(
            "Each point is a class of a network: the mean value of the method for the class's tag "
            "over the class's test photographs, against the causal effect of taking the tag off "
            "them, as a share of the logit gap between these and other classes' photographs "
            "without tags."
        ),
        versions={"with tag": trial.pictures, "without tag": plain},
        versions_text="Test photographs of the first seed, with and without their class's tag.",
        trial=few,
        maps=maps,
        maps_text=_maps_text("tag", seed, q),
        limits=(
            "Only the tag is known and can be taken off. What the photographs show beside it was "
            "not measured, so these numbers say nothing on how well its attribution is found. "
            "Photographs come several times in training and among the concepts' examples; those "
            "tested are in neither."
        ),
    )


def _shown(units: Mapping[tuple[int, float], UnitResult]) -> tuple[int, float]:
    """Return the first seed, and the q among its networks that is nearest to 75 %."""
    seed = next(iter(units))[0]
    return seed, min((q for own, q in units if own == seed), key=lambda q: abs(q - 0.75))


def _maps_text(cues: str, seed: int, q: float) -> str:
    return (
        f"Visual-TCAV's maps of each image's own {cues}, network of seed {seed} and q = {q:g}; "
        "black is 0, bright is 1, the white line is the true mask."
    )
