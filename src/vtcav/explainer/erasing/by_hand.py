"""Erasing a region that a person marked: the same fills, placebos and numbers as for a concept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vtcav.errors import ExplanationError
from vtcav.explainer.erasing.allotment import Allotment
from vtcav.explainer.erasing.eraser import Eraser, Regions
from vtcav.explainer.erasing.targets import Targets
from vtcav.explainer.forward_pass import ForwardPass
from vtcav.explainer.settings import ErasureSettings
from vtcav.images.input_box import shown_input
from vtcav.images.marked_region import RegionSource, marked_region
from vtcav.models.base import Model
from vtcav.models.foreign_errors import network_errors
from vtcav.results.erased import ErasedPicture
from vtcav.results.rows import EffectRow

BY_HAND = "by hand"
"""The layer of an effect whose region was marked by hand."""
OUTSIDE = "{:.0%} of the marked region lies outside of what the network sees"
_SAID = 0.005


@dataclass(frozen=True)
class HandEraser:
    """Erases regions that are marked by hand.

    Attributes:
        model: The network.
        settings: How to fill.
        batch_size: Pictures per pass through the network.
        reference: Mean and standard deviation of the logits of negatives [2, T_all], for shares;
            None where none are known.
    """

    model: Model
    settings: ErasureSettings
    batch_size: int
    reference: Tensor | None = None

    def erase(
        self,
        region: RegionSource,
        picture: Image.Image,
        images: ForwardPass,
        classes: Sequence[int],
    ) -> tuple[ErasedPicture, list[EffectRow]]:
        """Erase a region from one image.

        Args:
            region: A box or a mask.
            picture: The upright picture.
            images: The pass of this one image.
            classes: T class indices.

        Returns:
            The picture without the region, and a row for each class, without q-values.

        Raises:
            ImageError: For a region that does not fit the picture (`marked_region`).
            ModelError: When the network gives infinite values or NaN.
            ExplanationError: When `fill` is None.
        """
        if self.settings.fill is None:
            raise ExplanationError(
                "this explainer was made with fill=None, which erases nothing; name a way to fill, "
                'such as fill="convolution"'
            )
        x, z = images.x[0], images.z[0]
        marked = marked_region(region, picture, self.model.preprocess, x)
        reference = self.reference
        if reference is None:
            reference = torch.full((2, len(z)), torch.nan)
        targets = Targets(BY_HAND, (marked.name,), {}, {}, torch.tensor([torch.nan]), reference)
        eraser = Eraser(self.model, targets, self.settings, self.batch_size)
        shown: dict[tuple[int, int], Tensor] = {}
        # no random concepts: all placebos have the region's shape
        regions = Regions(marked.H.to(x)[None, None], x.new_zeros(1, 0, 1, 1))
        allotment = Allotment(self.settings.placebos)
        with network_errors("for an image without the marked region"):
            rows = eraser.rows(images, regions, classes, allotment, shown)
        if marked.outside >= _SAID:
            note = OUTSIDE.format(marked.outside)
            rows = [row._replace(note="; ".join(filter(None, (row.note, note)))) for row in rows]
        erased = ErasedPicture(
            images.names[0],
            marked.name,
            self._picture(x, x),
            marked.H.bool().cpu().numpy(),
            self._picture(shown[0, 0], x),
            rows[0].drop,
            rows[0].share,
        )
        return erased, rows

    def _picture(self, x: Tensor, like: Tensor) -> NDArray[np.uint8]:
        return shown_input(x, self.model.preprocess, like)
