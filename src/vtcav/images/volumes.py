"""Volumes: pictures of many slices, for networks that compute over three axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vtcav.errors import ImageError
from vtcav.images.decoding import AXES_MOVED, BandPicture, check_flat, described
from vtcav.images.scaling import Scale, in_bytes

_READ = (
    "a NIfTI file, an array [D, H, W] or [D, H, W, C] (NPY, NPZ), the pages of a TIFF file, or "
    "DICOM files that vtcav.datasets.volumes lists"
)


_PROBE_SLICES = 13


class VolumePicture(BandPicture):
    """A volume with `values` [D, H, W, C] in the type of its file; as a PIL image it shows nothing.

    Attributes:
        affine: The matrix [4, 4] from (slice, row, column, 1) to right, anterior, superior in
            millimetres; None where it is not known.

    Example:
        >>> volume = VolumePicture.of(np.zeros((5, 4, 6, 1), np.int16))
        >>> volume.size, volume.values.shape
        ((6, 4), (5, 4, 6, 1))
    """

    affine: NDArray[np.float64] | None = None

    @classmethod
    def read_by(
        cls,
        read: Callable[[], NDArray[Any]],
        height: int,
        width: int,
        affine: NDArray[np.float64] | None = None,
    ) -> VolumePicture:
        """Return the volume of slices [height, width] whose values a function reads when needed."""
        volume = cast("VolumePicture", cls.of(read, Image.new("F", (width, height))))
        volume.affine = affine
        return volume

    @classmethod
    def of(
        cls,
        values: NDArray[Any] | Callable[[], NDArray[Any]],
        base: Image.Image | None = None,
        holds: Any = "values",
    ) -> BandPicture:
        """Return the volume of values [D, H, W, C]."""
        if base is None:
            assert isinstance(values, np.ndarray)
            base = Image.new("F", (values.shape[2], values.shape[1]))
        return super().of(values, base, holds)

    def copy(self) -> Image.Image:
        """Copy the volume."""
        made = VolumePicture.of(self._read, Image.Image.copy(self))
        made.info = dict(self.info)
        cast("VolumePicture", made).affine = self.affine
        return made

    def crop(self, box: tuple[float, float, float, float] | None = None) -> Image.Image:
        """Refuse: patches are cut out of pictures."""
        check_flat(self)
        return self

    def transpose(self, method: Image.Transpose) -> Image.Image:
        """Refuse: a volume is turned by its `values`."""
        check_flat(self)
        return self


def volume_of(image: Image.Image) -> VolumePicture:
    """Return a picture as a volume: an array of three axes, or the pages of a file, are slices.

    Raises:
        ImageError: When it has no slices.

    Example:
        >>> picture = BandPicture.of(np.zeros((5, 4, 6), np.int16))
        >>> volume_of(picture).values.shape
        (5, 4, 6, 1)
    """
    if isinstance(image, VolumePicture):
        return image
    if not isinstance(image, BandPicture) or image.holds == "colours":
        raise ImageError(f"expected a volume, got {described(image)}: {_READ}")
    values = image.values
    if image.holds == "pages" or AXES_MOVED in image.info:
        values = np.moveaxis(values, -1, 0)
    volume = VolumePicture.of(values[..., None])
    volume.info = {k: v for k, v in image.info.items() if k != AXES_MOVED}
    return cast("VolumePicture", volume)


def fitted(
    volume: VolumePicture,
    scale: Scale,
    shape: Sequence[int],
    fit: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    resample: Image.Resampling,
) -> NDArray[np.float32]:
    """Return a volume on the scale 0..1 as a network sees it [D, H, W, C].

    Each slice is fitted as a picture is, then the slices are resampled.

    Args:
        volume: The volume.
        scale: Which values become 0 and 1.
        shape: D and C.
        fit: Resizes a slice [h, w, C].
        resample: The filter between slices.

    Raises:
        ImageError: When it has another number of channels, or values that do not fit the scale.
    """
    depth, channels = shape
    values, scale = _channels(volume, channels), _of_all(scale, volume.values)
    slices = np.stack([fit(scale.unit(each, volume.info)) for each in values])
    if len(slices) == depth:
        return slices
    flat = Image.fromarray(np.ascontiguousarray(slices.reshape(len(slices), -1)))
    resized = np.asarray(flat.resize((flat.width, depth), resample))
    return resized.reshape(depth, *slices.shape[1:])


def middle_slice(volume: VolumePicture, scale: Scale, channels: int) -> NDArray[np.uint8]:
    """Return the slice in the middle in 8 bits [H, W, C], as figures show an example.

    Raises:
        ImageError: As `fitted`.
    """
    values, scale = _channels(volume, channels), _of_all(scale, volume.values)
    return in_bytes(scale.unit(values[len(values) // 2], volume.info))


def takes_volumes(preprocess: object) -> bool:
    """Tell whether a preprocessing takes volumes: a size of three numbers, or `volumes = True`.

    Example:
        >>> takes_volumes(lambda volume: volume)
        False
    """
    # a test picture goes through a partial of a preprocessing with a second input
    return bool(getattr(getattr(preprocess, "func", preprocess), "volumes", False))


def probe_volume(picture: Image.Image, channels: int) -> VolumePicture:
    """Return a test volume of a picture in RGB: its columns move from slice to slice."""
    values = np.asarray(picture)[..., [c % 3 for c in range(channels)]]
    slices = [np.roll(values, 37 * k, 1) for k in range(_PROBE_SLICES)]
    return cast("VolumePicture", VolumePicture.of(np.stack(slices)))


def _channels(volume: VolumePicture, count: int) -> NDArray[Any]:
    values = volume.values
    if values.shape[3] == count:
        return values
    if values.shape[3] == 1 and count == 3:
        return np.broadcast_to(values, (*values.shape[:3], 3))
    raise ImageError(
        f"expected {count} channel{'s' * (count > 1)}, got {described(volume)}; "
        f"vtcav.Preprocess(..., channels={values.shape[3]})"
    )


def _of_all(scale: Scale, values: NDArray[Any]) -> Scale:
    """Return the scale with the percentiles of all slices together."""
    if scale.percentiles is None:
        return scale
    low, high = np.percentile(values, scale.percentiles, axis=(0, 1, 2))
    pairs = zip(low.tolist(), np.where(high > low, high, low + 1).tolist(), strict=True)
    return Scale(tuple(pairs), None, scale.clip)


def strongest_slice(M: NDArray[Any]) -> int:
    """Return the slice of a map or a region [d, h, w] with its highest value, from 0.

    Of several such slices the one with the largest sum is taken, and of an empty map the middle.

    Example:
        >>> strongest_slice(np.array([[[1.0, 0.0]], [[1.0, 0.5]], [[0.9, 0.9]]]))
        1
    """
    highest, total = M.max((1, 2)), M.sum((1, 2), dtype=float)
    if not highest.any():
        return len(M) // 2
    return int(np.where(highest == highest.max(), total, -1).argmax())


def slice_between(k: int, count: int, among: int) -> int:
    """Return the slice of so many that lies at the middle of slice k of `count`.

    Example:
        >>> slice_between(1, 4, among=16), slice_between(9, 16, among=4)
        (6, 2)
    """
    return int((k + 0.5) * among / count)


def slice_name(k: int, count: int) -> str:
    """Return a slice in words: "slice 3 of 0 to 15"."""
    return f"slice {k} of 0 to {count - 1}"


def check_pictures(preprocess: object, what: str) -> None:
    """Refuse a network of volumes where only pictures are served.

    Args:
        preprocess: The network's preprocessing.
        what: What serves pictures alone, as the beginning of a sentence.

    Raises:
        ImageError: When it takes volumes.
    """
    if takes_volumes(preprocess):
        raise ImageError(
            f"{what} takes pictures, and this network takes volumes; fit, explain, explain_class, "
            "rank, errors, correct, versus and diagnostics serve them"
        )
