"""Settings of a comparison: the number of images and the options of the other methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, get_args

from vtcav.errors import ExplanationError, VtcavError
from vtcav.evaluation.peers.linear_cav import LinearClassifier
from vtcav.evaluation.peers.saliency import Baseline
from vtcav.parameters import Flag, Settings, Whole, Words, parameter


@dataclass(frozen=True)
class CompareSettings(Settings):
    """Settings of `compare`; their meaning is documented there.

    Raises:
        ExplanationError: For a value out of range.
    """

    error: ClassVar[type[VtcavError]] = ExplanationError

    limit: int | None = parameter(None, Whole(1), "images of each class at most", none="all")
    seed: int = parameter(0, Whole(0), "seeds every draw")
    runs: int = parameter(20, Whole(1), "CAVs of each concept for TCAV")
    classifier: LinearClassifier = parameter(
        "sgd", Words(*get_args(LinearClassifier)), "how the CAVs of other methods are learned"
    )
    baseline: Baseline = parameter(
        "black", Words(*get_args(Baseline)), "where integrated gradients start"
    )
    steps: int = parameter(50, Whole(1), "quadrature points of integrated gradients")
    batch_size: int = parameter(16, Whole(1), "images per pass")
    strict: bool = parameter(False, Flag(), "stop at the first unreadable image")
