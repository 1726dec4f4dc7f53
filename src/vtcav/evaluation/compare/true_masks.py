"""Masks of the true location of concepts, brought to the network's input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vtcav.errors import ExplanationError
from vtcav.evaluation.metrics import at_resolution
from vtcav.images.input_box import input_box
from vtcav.images.preprocess import Preprocess

TrueMasks: TypeAlias = Mapping[str, Mapping[int, Sequence[NDArray[Any]]]]
"""By concept, by class index, a mask for every image of the class."""


def check_masks(masks: TrueMasks, concepts: Sequence[str], counts: Mapping[int, int]) -> None:
    """Check that masks are of known concepts, with one for each image of a class.

    Args:
        masks: The masks.
        concepts: The names of all concepts.
        counts: How many images each class has.

    Raises:
        ExplanationError: Naming the concept.
    """
    for concept, classes in masks.items():
        if concept not in concepts:
            known = ", ".join(map(repr, concepts))
            raise ExplanationError(f"masks are given for {concept!r}; the concepts are {known}")
        for t, count in counts.items():
            came = len(classes[t]) if t in classes else 0
            if came != count:
                raise ExplanationError(
                    f"expected a mask of concept {concept!r} for each of the {count} images of "
                    f"class {t}, in order, got {came}; an image without the concept has an empty "
                    "mask"
                )


def mask_at_input(
    mask: NDArray[Any], picture: Image.Image, preprocess: object, size: tuple[int, int]
) -> Tensor:
    """Return a mask at the network's input, cropped and scaled like the picture.

    Args:
        mask: Boolean, or between 0 and 1; of the picture's size, or of the input's.
        picture: The picture as it came.
        preprocess: A `Preprocess`, whose geometry is known, or another callable.
        size: H and W of the network's input.

    Returns:
        The mask [H, W] in [0, 1]; what was padded around the picture is 0.

    Raises:
        ExplanationError: For a mask of another size or range, or one of the picture's size where
            the geometry of the preprocessing is not known.

    Example:
        >>> left = np.zeros((2, 4), bool)
        >>> left[:, :2] = True
        >>> mask_at_input(left, Image.new("RGB", (4, 2)), Preprocess(2, resize="stretch"), (2, 2))
        tensor([[1., 0.],
                [1., 0.]])
    """
    values = np.asarray(mask)
    of_picture = (picture.height, picture.width)
    if values.shape not in (of_picture, size):
        raise ExplanationError(
            f"expected a mask of the picture's size {of_picture} (height, width) or of the "
            f"input's {size}, got {values.shape}"
        )
    box = 0.0, 0.0, 1.0, 1.0
    if isinstance(preprocess, Preprocess) and values.shape == of_picture:
        box = input_box(picture, preprocess)
    elif values.shape != size:
        raise ExplanationError(
            f"the preprocessing is a callable of unknown geometry: give masks of the input's size "
            f"{size}, got {values.shape}"
        )
    return torch.from_numpy(at_resolution(values, size, box)).float()
