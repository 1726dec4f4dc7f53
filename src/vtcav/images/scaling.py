"""Values of pictures on the scale 0..1, at the depth of their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vtcav.errors import ImageError, warn
from vtcav.images.decoding import (
    CUT,
    INVERTED,
    VOI,
    WHITE,
    WINDOW,
    BandPicture,
    as_rgb,
    check_flat,
    described,
    shallow,
)

Range: TypeAlias = tuple[float, float]

_DARK = 2**14  # values below fill a quarter of 16 bits at most
_WARNED: set[Path] = set()  # folders of dark files of 16 bits
_LUMA = np.array([0.299, 0.587, 0.114])  # of ITU-R 601, as Pillow's
_ADVICE = "leave such pictures out, or make all of one depth"


@dataclass(frozen=True)
class Scale:
    """Which values become 0 and 1.

    Attributes:
        windows: A range for all channels, or one for each; empty where none is stated.
        percentiles: The percentiles of each channel of each picture that are its range; None where
            `windows` or the type of the values say it.
        clip: Whether values outside of a range are moved to its ends.
    """

    windows: Sequence[Range] = ()
    percentiles: Range | None = None
    clip: bool = True

    @property
    def stated(self) -> bool:
        """Whether a range is stated."""
        return bool(self.windows) or self.percentiles is not None

    def unit(self, values: NDArray[Any], info: Mapping[Any, Any]) -> NDArray[np.float32]:
        """Return values [H, W, C] on the scale 0..1.

        Args:
            values: Integers or floating point.
            info: What the picture says about them.

        Raises:
            ImageError: Values are not finite, or do not fit the scale.
        """
        if not np.isfinite(values).all():
            raise ImageError(f"it holds values that are not finite; {_ADVICE}")
        if VOI in info and not self.stated:
            unit = np.asarray(info[VOI](values.astype(np.float64)))
        else:
            low, high = self._ends(values, info)
            unit = (values.astype(np.float64) - low) / (high - low)
        unit = unit.clip(0, 1) if self.clip else unit
        if info.get(INVERTED):
            unit = 1 - unit
        if "transparency" in info:
            unit[values == info["transparency"]] = 1
        return unit.astype(np.float32)

    def _ends(
        self, values: NDArray[Any], info: Mapping[Any, Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the values that become 0 and 1, of one channel or of all."""
        if self.windows:
            low, high = np.array(self.windows, float).T
            if values.dtype == np.uint8 and high.max() > 255:
                window = ", ".join(f"({a:g}, {b:g})" for a, b in self.windows)
                raise ImageError(
                    f"it has 8 bits, and the window {window} is of deeper pictures; {_ADVICE}"
                )
            return low, high
        if self.percentiles is not None:
            low, high = np.percentile(values, self.percentiles, axis=(0, 1))
            return low, np.where(high > low, high, low + 1)
        bits = np.iinfo(values.dtype).bits if values.dtype.kind in "iu" else 0
        most = 255 if values.dtype == np.uint8 else info.get(WHITE, 65535) if bits else 1
        if values.min() < 0 or values.max() > most:
            kind = f"an integer picture must hold values in 0..{most}"
            if not bits:
                kind = "a floating-point picture must hold values in 0..1"
            raise ImageError(f"{kind}, got [{values.min():g}, {values.max():g}]; {WINDOW}")
        return np.zeros(1), np.full(1, float(most))


def channels_of(image: Image.Image, channels: int | None) -> NDArray[Any]:
    """Return the values [H, W, C] of a picture for a network of so many channels.

    Args:
        image: A picture of any depth.
        channels: C; None for 3 of a picture in RGB, or of the first page of a file of several.

    Returns:
        The values; for C = 1 those of a deep picture in RGB, whose `luma` comes after the scale.

    Raises:
        ImageError: When the picture has another number of channels, and there is no rule for it.
    """
    check_flat(image)
    C = 3 if channels is None else channels
    values = _own_values(image, C, asked=channels is not None)
    if values.shape[2] == C:
        return values
    if values.shape[2] == 1 and C == 3:
        return np.repeat(values, 3, 2)
    if values.shape[2] == 3 and C == 1 and values.dtype == np.uint8:
        return np.asarray(Image.fromarray(values).convert("L"))[..., None]
    if values.shape[2] == 3 and C == 1:
        return values  # luma comes after the scale
    raise ImageError(
        f"expected {C} channel{'s' * (C > 1)}, got {described(image)}"
        + (": of grey and RGB each becomes the other, nothing else does" if C in (1, 3) else "")
    )


def luma(unit: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the luma [H, W, 1] of red, green and blue."""
    values: NDArray[np.float32] = (unit @ _LUMA[:, None]).astype(np.float32)
    return values


def _own_values(image: Image.Image, C: int, *, asked: bool) -> NDArray[Any]:
    """Return the values [H, W, c] that a picture gives to a network of C channels."""
    if isinstance(image, BandPicture):
        of_pages = image.holds == "pages"
        deep = image.holds == "colours" and not image.in_bytes
        if image.holds == "values" or (asked and image.values.shape[2] == C):
            return image.values
        if deep:
            return image.values[..., :3]
        if of_pages and not shallow(image):
            return np.asarray(image)[..., None]
    elif len(image.getbands()) == C != 3 and image.mode in ("LA", "RGBA", "RGBX", "CMYK"):
        return np.asarray(image)
    if not shallow(image):
        return np.asarray(image)[..., None]
    if CUT in image.info:
        raise ImageError(
            "of its 16 bits only the upper 8 are left, so that a window or a number of channels "
            "cannot be applied: patches have all bits where they keep their surroundings "
            "(outside='keep'), TIFF files in colour where tifffile is installed (pip install "
            "'vtcav[tiff]')"
        )
    return np.asarray(as_rgb(image))


def windowed(image: Image.Image, low: float, high: float) -> Image.Image:
    """Map values linearly from `low` to `high` to 0..255, and convert to RGB.

    Args:
        image: A PIL image of any depth; it is not changed.
        low: The value that becomes 0, as all below.
        high: The value that becomes 255, as all above.

    Raises:
        ImageError: Values are not finite, the window is of deeper pictures, or bits were lost
            before.

    Example:
        >>> grey = Image.fromarray(np.array([[0, 1000, 4095, 5000]], np.uint16))
        >>> np.asarray(windowed(grey, 0, 4095))[0, :, 0].tolist()
        [0, 62, 255, 255]
    """
    values = channels_of(image, None)
    unit = Scale([(low, high)]).unit(values, image.info)
    return Image.fromarray(in_bytes(unit))


def in_bytes(unit: NDArray[Any]) -> NDArray[np.uint8]:
    """Return values on the scale 0..1 as whole numbers in 0..255."""
    values: NDArray[np.uint8] = np.rint(unit.clip(0, 1) * 255).astype(np.uint8)
    return values


def eight_bits(image: Image.Image, name: str) -> Image.Image:
    """Convert a picture of more than 8 bits as `as_rgb` does; say where few grey levels are left.

    Args:
        image: A picture; one of 8 bits is returned as it is.
        name: Its name, for the warning.

    Raises:
        ImageError: As `as_rgb`.

    Warns:
        UserWarning: Once a folder, where 16 bits hold values of 14 or fewer.
    """
    cut = CUT in image.info
    if shallow(image) and not cut:
        return image
    picture = as_rgb(image)
    picture.info.clear()
    if image.mode != "F" and WHITE not in image.info and VOI not in image.info:
        largest = int(np.asarray(image).max()) * (256 if cut else 1) + 255 * cut
        warn_of_darkness(name, largest, f"{largest // 257 + 1} of 256 grey levels are left")
    return picture


def warn_of_darkness(name: str, largest: int, left: str = "") -> None:
    """Say that the values of a picture of 16 bits fill a small part of these.

    Args:
        name: The picture's name.
        largest: Its largest value.
        left: What is left of the values, in words; empty for the part of the scale.

    Warns:
        UserWarning: Once a folder, where 14 bits or fewer hold it.
    """
    folder = Path(name).parent
    if not 0 < largest < _DARK or folder in _WARNED:
        return
    _WARNED.add(folder)
    most = 2 ** largest.bit_length() - 1
    warn(
        f"{name!r} has 16 bits and no value above {largest}: as 65535 is white, "
        f"{left or f'all values lie below {largest / 65535 + 0.0005:.3f}'}; say which value is "
        f"white, for example vtcav.Preprocess(..., window=(0, {most})). "
        "Further files in this folder are not reported"
    )
