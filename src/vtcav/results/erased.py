"""A picture before and after a region of it was filled in, for everybody to judge the fill."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vtcav.files.schema import checked_array
from vtcav.images.volumes import slice_name, strongest_slice
from vtcav.results.saved import ErasedNumbers, read_picture


@dataclass(frozen=True, eq=False)
class ErasedPicture:
    """What was erased from a picture, and how far a class's score falls.

    Attributes:
        image: The name of the picture.
        concept: The concept, or the region marked by hand.
        before: The picture as the network sees it, uint8 [H, W, 3].
        region: Which pixels were filled in, bool [H, W].
        after: The picture without the region, uint8 [H, W, 3].
        drop: How far the class's logit falls.
        share: The drop as a share of the logit above that of the negatives; NaN where there is
            none.
        slice: The slice that is shown of a volume, in words; empty for a picture.
    """

    image: str
    concept: str
    before: NDArray[np.uint8] = field(repr=False)
    region: NDArray[np.bool_] = field(repr=False)
    after: NDArray[np.uint8] = field(repr=False)
    drop: float
    share: float
    slice: str = ""

    def __post_init__(self) -> None:
        for array in (self.before, self.region, self.after):
            array.setflags(write=False)

    @classmethod
    def shown(
        cls,
        names: tuple[str, str],
        before: NDArray[np.uint8],
        region: NDArray[np.bool_],
        after: NDArray[np.uint8],
        numbers: tuple[float, float],
    ) -> ErasedPicture:
        """Return it as it is shown: of a volume, the slice with most of the region.

        Args:
            names: Those of the picture and the concept.
            before: uint8 [H, W, 3], or slices [D, H, W, 3].
            region: bool [H, W], or [D, H, W].
            after: As `before`.
            numbers: The drop and the share.
        """
        if region.ndim == 2:
            return cls(*names, before, region, after, *numbers)
        k = strongest_slice(region)
        text = slice_name(k, len(region))
        return cls(*names, before[k], region[k], after[k], *numbers, text)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return its arrays by name, to be saved; outside of the region `after` is black."""
        # which compresses well
        after = self.after * self.region[..., None]
        return {"before": self.before, "region": self.region, "after": after}

    def numbers(self) -> dict[str, Any]:
        """Return the rest of it as JSON data."""
        share = None if math.isnan(self.share) else self.share
        numbers = {"image": self.image, "concept": self.concept, "drop": self.drop, "share": share}
        return numbers | ({"slice": self.slice} if self.slice else {})

    @classmethod
    def read(
        cls, numbers: ErasedNumbers, arrays: Mapping[str, NDArray[Any]], prefix: str = ""
    ) -> ErasedPicture:
        """Return what `numbers` and `arrays` gave; the names of the arrays have a prefix.

        Raises:
            ValueError: When an array is missing or of another size.
        """
        before = read_picture(arrays, f"{prefix}before")
        region = checked_array(arrays, f"{prefix}region", "bool", *before.shape[:2])
        after = checked_array(arrays, f"{prefix}after", "uint8", *before.shape)
        return cls(
            image=numbers.image,
            concept=numbers.concept,
            before=before,
            region=region,
            after=np.where(region[..., None], after, before),
            drop=numbers.drop,
            share=math.nan if numbers.share is None else numbers.share,
            slice=numbers.slice,
        )

    def shrunk(self, side: int) -> ErasedPicture:
        """Return the same with at most so many pixels along the longer edge."""
        before, after = (Image.fromarray(picture) for picture in (self.before, self.after))
        before.thumbnail((side, side))
        after.thumbnail((side, side))
        region = Image.fromarray(self.region).resize(before.size, Image.Resampling.NEAREST)
        return replace(
            self, before=np.array(before), region=np.array(region), after=np.array(after)
        )

    @property
    def change(self) -> str:
        """The change of the score as a text: "-78 %"."""
        return change_text(self.drop, self.share)


def change_text(drop: float, share: float) -> str:
    """Return the change of a score without a region, as a share or in logits.

    Example:
        >>> change_text(3.9, 0.78), change_text(-0.5, float("nan")), change_text(0.0, 0.0)
        ('-78 %', '+0.50 logits', '0 %')
        >>> change_text(0.001, float("nan"))
        '0.00 logits'
    """
    if math.isnan(drop):
        return "–"
    if math.isnan(share):
        logits = f"{-drop:+z.2f} logits"
        return logits.removeprefix("+") if round(drop, 2) == 0 else logits
    percent = round(-100 * share)
    return f"{percent:+d} %" if percent else "0 %"
