"""Settings of the method: how concepts are learned, and how the integral is taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias, get_args

from vtcav.errors import ExplanationError, VtcavError
from vtcav.method.erasure.fill_names import FILL_NAMES, FillName, check_installed
from vtcav.method.variants import PAPER, VARIANTS, Variant
from vtcav.models.settings import Precision
from vtcav.parameters import Between, Constraint, Flag, Settings, Text, Whole, Words, parameter

When: TypeAlias = Literal["present", "always"]
"""Which images a correction changes."""

MARGIN, MARGIN_OF_ONE = 0.15, 0.3
"""The difference that two networks may have and still count as alike, where none is given: with
several trainings of each, and with a single one, as trainings of one recipe differ by so much
(`benchmarks/versus.py`)."""


def _margin(value: Any) -> float:
    if isinstance(value, str | bool) or not 0 <= float(value) < 1:
        raise ValueError
    return float(value)


MARGINS = Constraint("a number from 0 to below 1", _margin, float, metavar="X")
"""The values that a margin may have."""


@dataclass(frozen=True)
class IntegralSettings(Settings):
    """How the integral of step 5 is taken.

    Attributes:
        steps: "adaptive", or the number of steps of the trapezoid rule.
        tolerance: The relative error that "adaptive" aims at.
        batch_size: Feature maps per pass through a head, and images per pass; None chooses it.
        precision: The precision of the gradients: None for the network's own, "bf16" or "fp16" for
            mixed precision, "auto" for bf16 where it is measured to be exact enough.

    Raises:
        ExplanationError: For a value out of range.
    """

    error: ClassVar[type[VtcavError]] = ExplanationError

    steps: int | Literal["adaptive"] = parameter(
        "adaptive",
        Whole(1, "adaptive"),
        "adaptive, or a number of trapezoid steps; the paper uses 50",
    )
    tolerance: float = parameter(0.01, Between(0, 1), "the relative error that adaptive aims at")
    batch_size: int | None = parameter(
        None,
        Whole(1),
        "images, or feature maps, per pass",
        none="what fits into memory",
    )
    precision: Precision | None = parameter(
        None,
        Words(*get_args(Precision)),
        (
            "mixed precision for gradients, whose error is measured; auto takes bf16 at the layers "
            "where that is a third of the tolerance or less"
        ),
        none="the network's own",
    )

    @property
    def images(self) -> int:
        """Images per pass through the network."""
        from vtcav.models.memory import IMAGES

        return self.batch_size or IMAGES


class Filling(Words):
    """Ways to fill in a region, by name, or a callable; "none" is None."""

    def __init__(self) -> None:
        super().__init__(*FILL_NAMES, "none")
        by_name = self.accept

        def accept(value: Any) -> Any:
            if callable(value):
                return value
            check_installed(by_name(value))
            return None if value == "none" else value

        object.__setattr__(self, "accept", accept)


@dataclass(frozen=True)
class ErasureSettings(Settings):
    """How the regions of concepts are erased from images.

    Attributes:
        fill: How a region is filled in; None erases nothing.
        placebos: Regions of the same size elsewhere in an image, or in the images of a class, which
            say what chance does.
        features: Whether concepts are also taken out of the feature maps of every layer.

    Raises:
        ExplanationError: For a value out of range.
        ExtraError: For a fill that needs OpenCV, when it is not installed.
    """

    error: ClassVar[type[VtcavError]] = ExplanationError

    fill: FillName | Callable[[Any, Any], Any] | None = parameter(
        "convolution", Filling(), "how a concept's region is filled in", none="no erasure"
    )
    placebos: int = parameter(20, Whole(0), "regions elsewhere to compare each effect with")
    features: bool = parameter(
        False,
        Flag(),
        "also take concepts out of feature maps: a second opinion",
    )

    @property
    def asked(self) -> bool:
        """Whether anything is erased."""
        return self.fill is not None or self.features

    def describe(self) -> dict[str, Any]:
        """Return the settings as JSON data; a callable by its name."""
        name = getattr(self.fill, "__qualname__", type(self.fill).__name__)
        return {
            "fill": name if callable(self.fill) else self.fill,
            "placebos": self.placebos,
            "features": self.features,
        }


@dataclass(frozen=True)
class ExplainerSettings(IntegralSettings, ErasureSettings):
    """The settings of `VisualTCAV`: integral, erasure, and how a concept is found in an image.

    Attributes:
        variant: "paper", "filter" for Fisher's linear discriminant, or "places" for place filters.
    """

    variant: Variant = parameter(
        PAPER,
        Words(*VARIANTS),
        "paper, the CAV; filter, Fisher's linear discriminant; places, one of single locations",
    )


NEUTRAL = "a photo", "an image", "a picture of something", "a texture", "an object", "a scene"
"""The texts that the text of a concept is compared with, where no others are given."""

SHARE = 0.1
"""The share of the probe images that are taken for examples of a text, where no other is given."""


@dataclass(frozen=True)
class FitSettings(Settings):
    """How concepts are learned (steps 1 to 3), and the CAVs that they are judged by.

    Attributes:
        limit: At most this many images of each set, drawn with `seed`; None takes all.
        seed: Seeds every draw.
        min_examples: The fewest readable images a set may have.
        strict: Whether an unreadable image is an error.
        null_cavs: CAVs of random images, which p-values are taken against; None takes as many as
            it takes for a single true effect to show (`enough_null_cavs`).
        bootstraps: CAVs of resampled examples, which intervals come from.

    Raises:
        ExplanationError: For a value out of range.
    """

    error: ClassVar[type[VtcavError]] = ExplanationError

    limit: int | None = parameter(
        None,
        Whole(1),
        "the most images of each folder, drawn with the seed",
        none="all",
    )
    seed: int = parameter(0, Whole(0), "the seed of every random choice")
    min_examples: int = parameter(
        5, Whole(1), "the fewest images of a concept, and of its negatives"
    )
    strict: bool = parameter(False, Flag(), "make an unreadable image an error")
    null_cavs: int | None = parameter(
        None,
        Whole(0),
        "CAVs of random images, for p-values; 0: no test",
        none="500, or more for many values",
    )
    bootstraps: int = parameter(100, Whole(0), "CAVs of resampled examples, for intervals")


@dataclass(frozen=True)
class ErrorSettings(Settings):
    """How wrong images are compared with right ones.

    Attributes:
        pictures: How many wrong images of each finding are kept with their maps.

    Raises:
        ExplanationError: For a value out of range.
    """

    error: ClassVar[type[VtcavError]] = ExplanationError

    pictures: int = parameter(6, Whole(0), "wrong images of each finding kept with their maps")


@dataclass(frozen=True)
class CorrectionSettings(Settings):
    """How concepts are taken out of a network.

    Attributes:
        layer: The layer; None takes the one that sees them best.
        when: "present" corrects images that show a concept, where it is; "always" every image at
            every location.
        rounds: How often, at most, what is left of the concepts is learned again and taken out.
        anyway: Whether to take out a concept that diagnostics advise not to use.
        attributions: Whether attributions are compared, which costs two integrals an image and
            layer; accuracies and effects take forward passes alone.

    Raises:
        ExplanationError: For a value out of range.
    """

    error: ClassVar[type[VtcavError]] = ExplanationError

    layer: str | None = parameter(
        None,
        Text("the name of a layer"),
        "the layer whose feature maps are corrected",
        none="the one that sees the concepts best",
    )
    when: When = parameter(
        "present",
        Words(*get_args(When)),
        "present: correct images that show a concept, where it is; always: every image everywhere",
    )
    rounds: int = parameter(
        3, Whole(1), "how often, at most, what is left of the concepts is learned and taken out"
    )
    anyway: bool = parameter(False, Flag(), "take out a concept that diagnostics advise not to use")
    attributions: bool = parameter(
        False,
        Flag(),
        "also compare attributions, from the layer on: two integrals an image and layer",
    )


@dataclass(frozen=True)
class RankSettings(Settings):
    """How images are ranked by a concept.

    Attributes:
        layer: The layer whose maps are ranked; None takes the layers together.
        pictures: How many images are kept with their maps.

    Raises:
        ExplanationError: For a value out of range.
    """

    error: ClassVar[type[VtcavError]] = ExplanationError

    layer: str | None = parameter(
        None,
        Text("the name of a layer"),
        "the layer whose maps are ranked",
        none="the layers together",
    )
    pictures: int = parameter(
        48,
        Whole(0),
        "images kept with their maps: half of them the first in order, a quarter spread over the "
        "rest, a quarter the last",
    )


@dataclass(frozen=True)
class DiscoverySettings(Settings):
    """How concepts that nobody named are looked for.

    Attributes:
        k: The number of concepts at each layer; "auto" takes the largest that is stable.
        attributed: Images whose attributions are computed; 0 for none.
        erased: Whether concepts are also erased from these images.
        seed: Seeds every draw.
        strict: Whether an unreadable image is an error.

    Raises:
        ExplanationError: For a value out of range.
    """

    error: ClassVar[type[VtcavError]] = ExplanationError

    k: int | Literal["auto"] = parameter(
        "auto",
        Whole(2, "auto"),
        "concepts at each layer; auto: the largest number of which most are stable",
    )
    attributed: int = parameter(
        24, Whole(0), "images whose classes the concepts are attributed to; 0: none"
    )
    erased: bool = parameter(
        False, Flag(), "also erase each concept from these images: does the class use it?"
    )
    seed: int = parameter(0, Whole(0), "the seed of every random choice")
    strict: bool = parameter(False, Flag(), "make an unreadable image an error")
