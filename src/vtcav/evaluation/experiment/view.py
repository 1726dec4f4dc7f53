"""Images and texts of the page of an experiment, on drawn scenes or on a user's photographs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vtcav.evaluation.experiment.photo_unit import PhotoExperiment
from vtcav.evaluation.experiment.trial import Trial
from vtcav.evaluation.experiment.unit import DrawnExperiment, UnitResult, draw_test_scenes

__all__ = ["View", "drawn_view", "photo_view"]


@dataclass(frozen=True, eq=False)
class View:
    """Images and texts of the page of an experiment.

    Attributes:
        intro: The experiment in a paragraph.
        truth: The truth that values are compared with.
        versions: Test images by version.
        versions_text: Their caption.
        trial: The images whose maps are shown.
        maps: Their maps, by layer and cue.
        maps_text: Their caption.
        limits: The limits of the numbers.
    """

    intro: str
    truth: str
    versions: Mapping[str, NDArray[np.uint8]]
    versions_text: str
    trial: Trial
    maps: Mapping[str, Mapping[str, NDArray[np.float32]]]
    maps_text: str
    limits: str = ""


def drawn_view(units: Mapping[tuple[int, float], UnitResult], experiment: DrawnExperiment) -> View:
    """Return the view of an experiment on drawn scenes."""
    seed, q = _shown(units)
    some = draw_test_scenes(2, seed)
    trial, maps = experiment.sample_maps(units[seed, q].weights, seed)
    return View(
        intro=(
            "Small networks learned images whose class shows in a texture and in a tag, which "
            "agrees with the class in a share q of the training images. The use that each network "
            "makes of the two was measured by removing one or the other from test images."
        ),
        truth=(
            "Each point is a class of a network and a cue: the mean value of the method over the "
            "class's test images, against the causal effect of removing the cue from them, as a "
            "share of the class's logit gap."
        ),
        versions={
            "as it is": some.images(),
            "without tag": some.images(tag=False),
            "without texture": some.images(texture=False),
            "without both": some.images(tag=False, texture=False),
        },
        versions_text="Test images of the first seed, two of each class, and their versions.",
        trial=trial,
        maps=maps,
        maps_text=_maps_text("tag and texture", seed, q),
    )


def photo_view(units: Mapping[tuple[int, float], UnitResult], experiment: PhotoExperiment) -> View:
    """Return the view of an experiment on a user's photographs."""
    seed, q = _shown(units)
    trial, plain, _ = experiment.shown(units[seed, q].weights, seed, each=2)
    few, _, maps = experiment.shown(units[seed, q].weights, seed, each=1)
    frozen = experiment.frozen
    networks = (
        "Small networks were trained from scratch"
        if frozen is None
        else f"Four blocks of convolutions were trained after {frozen.layer!r}, frozen, of "
        f"{frozen.model.described},"
    )
    return View(
        intro=(
            f"{networks} on photographs with tags, which agree with the class in a share q of the "
            "training photographs. The use that each network makes of the tag was measured by "
            "removing it from test photographs."
        ),
        truth=(
            "Each point is a class of a network: the mean value of the method for the class's tag "
            "over the class's test photographs, against the causal effect of removing the tag from "
            "them, as a share of the logit gap between these and other classes' photographs "
            "without tags."
        ),
        versions={"with tag": trial.pictures, "without tag": plain},
        versions_text="Test photographs of the first seed, with and without their class's tag.",
        trial=few,
        maps=maps,
        maps_text=_maps_text("tag", seed, q),
        limits=(
            "Only the tag is known and can be removed. The effect of everything else in the "
            "photographs was not measured, so these numbers do not tell how well its attribution "
            "is found. Photographs are repeated in training and among the concepts' examples; test "
            "photographs are in neither."
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
