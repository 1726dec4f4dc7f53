"""The interface of networks: feature maps of layers, heads after them, and logits.

Everything above `vtcav.models` uses only this interface, with channels-first tensors.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol, SupportsIndex

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vtcav.errors import ModelError, brief
from vtcav.models.joint_model import JointModel
from vtcav.parameters import did_you_mean

__all__ = ["Head", "LayerInfo", "Model", "held", "recomputes"]

_LISTED = 10
"""The most classes whose names a message lists."""


@dataclass(frozen=True)
class LayerInfo:
    """A layer that can be explained.

    Attributes:
        name: The name to pass in `layers`.
        kind: The class of the layer's module.
        shape: (C, h, w) of its feature maps for one input image; (C, d, h, w) for a volume.
        recommended: Whether `layers=None` uses it (the last layer of each stage).
        layout: How the layer itself holds its maps: "NCHW", "NHWC", or for example
            "tokens(1+14x14)": one prefix token (the class token) before a grid of 14 x 14.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    recommended: bool = False
    layout: str = "NCHW"


class Head(Protocol):
    """The rest of the network after a layer: feature maps F [N, C, h, w] to logits z [N, T].

    Where a layer has prefix tokens (a class token) beside its maps, the rest of the network reads
    those, too. They are held at their values for each image: `of` takes the images, and `rows`
    chooses among them. Without prefix tokens both return the head itself.

    Attributes:
        layer: Name of the layer.
        resume: The way in which the rest is run.
        takes_images: Whether the rest reads more of an image than its maps, so that it needs `of`.
        per_image: Whether the head is bound to N images and takes maps of these, row by row.
    """

    layer: str
    resume: str

    @property
    def takes_images(self) -> bool:
        """Whether the rest reads more of an image than its maps, so that it needs `of`."""
        ...

    @property
    def per_image(self) -> bool:
        """Whether the head is bound to N images and takes maps of these, row by row."""
        ...

    def __call__(self, F: Tensor) -> Tensor:
        """Return the logits z [N, T], differentiable with respect to F."""
        ...

    def held(self) -> AbstractContextManager[Head]:
        """Yield the head for one pass whose gradients are taken inside."""
        ...

    def of(self, images: Tensor) -> Head:
        """Return the head for maps of these preprocessed images [N, 3, H, W], row by row."""
        ...

    def rows(self, index: Tensor) -> Head:
        """Return the head for maps of the images at these positions [n] among the N."""
        ...


def held(head: Head) -> AbstractContextManager[Head]:
    """Hold a head for one pass and its gradients; a plain function of F needs no holding.

    Example:
        >>> with held(lambda F: F.sum((2, 3))) as head:
        ...     callable(head)
        True
    """
    return head.held() if hasattr(head, "held") else nullcontext(head)


def recomputes(head: Head) -> bool:
    """Tell whether parts of a head run again when a gradient is taken."""
    return bool(getattr(head, "recomputes", False))


class Model(ABC):
    """A classifier, as far as the method needs it.

    Attributes:
        class_names: One name per class, by index; [negative, positive] for a binary network.
        binary: Whether the network has a single logit, positive above 0.
        preprocess: Turns an RGB picture into the network's input [3, H, W].
        device: The device that the network computes on.
        fingerprint: SHA-256 over the architecture and every weight.
        described: The network in words, for provenance and messages.
        logits_source: Where the pre-softmax scores were found, in words.
        joint: The image-text model that the network is the vision tower of, if it is one.
        assumed: How pictures become inputs where nobody said how, in words; else empty.
    """

    class_names: tuple[str, ...]
    binary: bool
    preprocess: Callable[[Image.Image], Tensor]
    device: torch.device
    described: str
    logits_source: str
    joint: JointModel | None = None
    assumed: str = ""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 over the architecture and every weight."""

    @property
    def runtime(self) -> str:
        """What computes forward passes, in words."""
        return "torch"

    @property
    def runtime_differences(self) -> dict[str, dict[str, float]]:
        """How far its first results were from those of the plain pass, by what computed them."""
        return {}

    @property
    def picture_channels(self) -> int | None:
        """How many channels of the input are the picture's; None for all."""
        return None

    @abstractmethod
    def layers(self) -> list[LayerInfo]:
        """Return the layers that can be explained, in the order in which they compute."""

    @abstractmethod
    def check_layers(self, names: Sequence[str] | None) -> list[LayerInfo]:
        """Return the named layers (the recommended ones for None) or raise `LayerError`."""

    @abstractmethod
    def activations(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Return F [N, C, h, w] of each layer, from one pass that stops after the deepest."""

    @abstractmethod
    def activations_and_logits(
        self, images: Tensor, layers: Sequence[str]
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return F of each layer and the logits z [N, T], from one whole pass."""

    @abstractmethod
    def head(self, layer: str) -> Head:
        """Return the network after `layer`, checked against the plain pass when first used.

        For a layer with prefix tokens call `head(layer).of(images)` before running it.
        """

    @abstractmethod
    def logits(self, images: Tensor) -> Tensor:
        """Return the pre-softmax scores z [N, T]."""

    def images_together(self, count: int) -> int:
        """Return how many images to give to `logits` where there is memory for `count`."""
        return count

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """Return class probabilities [N, T] (for a binary network [N, 2]) of logits."""

    def class_index(self, wanted: str | SupportsIndex) -> int:
        """Return the index of a class given by name or index.

        A text is first read as a name, then, if it is a number, as an index.

        Raises:
            ModelError: For an unknown or ambiguous name, or an index out of range.
        """
        names = self.class_names
        if isinstance(wanted, str):
            matches = [i for i, name in enumerate(names) if name == wanted]
            if len(matches) == 1:
                return matches[0]
            if matches:
                raise ModelError(
                    f"the class name {wanted!r} stands for {len(matches)} classes, "
                    f"with indices {matches}; name the one you mean by its index"
                )
        index = _whole_number(wanted)
        if index is None:
            known = f" ({', '.join(map(repr, names))})" if len(names) <= _LISTED else ""
            raise ModelError(
                f"unknown class {brief(wanted)}: expected one of {len(names)} class names{known} "
                f"or an index from 0 to {len(names) - 1}{did_you_mean(wanted, names, 3)}"
            )
        if not 0 <= index < len(names):
            raise ModelError(
                f"class index {index} is out of range: the network has {len(names)} classes, "
                f"0 to {len(names) - 1}"
            )
        return index

    def class_of_folder(self, name: str) -> int:
        """Return the class that a folder of images is named after.

        Case and punctuation do not matter if the name then fits one class only ("Egyptian_cat"). It
        may also be an index.

        Raises:
            ModelError: When there is no such class.
        """

        def plain(text: str) -> str:
            return "".join(c if c.isalnum() else " " for c in text.casefold()).strip()

        alike = [i for i, known in enumerate(self.class_names) if plain(known) == plain(name)]
        if len(alike) == 1 and not name.isdecimal():
            return alike[0]
        return self.class_index(name)


def _whole_number(value: object) -> int | None:
    """Return a whole number given as a number or as digits, or None for anything else."""
    if isinstance(value, str):
        return int(value) if value.isdecimal() else None
    if isinstance(value, bool | np.bool_) or not isinstance(value, SupportsIndex):
        return None
    try:
        return operator.index(value)
    except TypeError:  # an array of floats or of several values
        return None
