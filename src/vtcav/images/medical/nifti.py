"""NIfTI volumes, whole or as slices, turned as films are hung."""

from __future__ import annotations

import gzip
import zlib
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vtcav.errors import ExtraError, ImageError
from vtcav.images.medical.arrays import grey_picture
from vtcav.images.volumes import VolumePicture

Axis: TypeAlias = Literal["axial", "coronal", "sagittal"]
"""The direction that a volume is cut in."""

AXES: tuple[str, ...] = get_args(Axis)
_MAGIC = {344: (b"n+1\0", b"ni1\0"), 4: (b"n+2\0",)}
_LARGEST = 2**31  # values of a volume
_ALONG = {"axial": 2, "coronal": 1, "sagittal": 0}


def is_nifti(start: bytes) -> bool:
    """Tell whether a file that begins with these bytes is NIfTI, packed or not."""
    if start[:2] == b"\x1f\x8b":
        try:
            with gzip.open(BytesIO(start)) as file:
                start = file.read(352)
        except (EOFError, OSError, zlib.error):
            start = _unpacked(start)  # of the beginning of a file no more can be
    return any(start[at : at + 4] in magic for at, magic in _MAGIC.items())


def slice_count(file: Path, axis: Axis) -> int:
    """Return how many slices a volume has along an axis.

    Raises:
        ImageError: When it is no volume.
        ExtraError: When nibabel is not installed.
    """
    return int(_header(file)[_ALONG[axis]])


def read_slice(file: Path, axis: Axis, index: int) -> Image.Image:
    """Decode a slice of a volume.

    The volume is turned to the axes that its header states. Axial and coronal slices have the
    patient's right at their left; anterior is at the top of axial slices and at the left of
    sagittal ones, superior at the top of the others.

    Args:
        file: The file.
        axis: The direction that it is cut in.
        index: The slice, from 0: from below, behind or the left of the patient on.

    Raises:
        ImageError: When it cannot be decoded.
        ExtraError: When nibabel is not installed.
    """
    status = file.stat()
    volume = _volume(file, status.st_mtime_ns)
    along = _ALONG[axis]
    if not 0 <= index < volume.shape[along]:
        raise ImageError(f"it has {volume.shape[along]} {axis} slices, and no slice {index}")
    # [x, y] to the right and anterior, [x, z] and [y, z]: all descend in the picture
    values = volume.take(index, along)[::-1, ::-1].T
    return grey_picture(values)


def read_volume(file: Path) -> Image.Image:
    """Return a whole volume: its axial slices from below, each as `read_slice` turns it.

    One of a single slice is that picture.

    Args:
        file: The file.

    Raises:
        ImageError: When it cannot be decoded.
        ExtraError: When nibabel is not installed.
    """
    image = _open(file)
    right, anterior, superior = image.shape[:3]
    if superior == 1:
        return read_slice(file, "axial", 0)
    # from (slice, row, column): rows descend to posterior, columns to the left
    turned = np.array(
        [[0, 0, -1, right - 1], [0, -1, 0, anterior - 1], [1, 0, 0, 0], [0, 0, 0, 1]], float
    )

    def read() -> NDArray[Any]:
        return _values(image).transpose(2, 1, 0)[:, ::-1, ::-1, None]

    return VolumePicture.read_by(read, anterior, right, np.asarray(image.affine) @ turned)


def write_volume(file: Path, values: NDArray[Any], affine: NDArray[np.float64] | None) -> None:
    """Write values [d, h, w] as NIfTI.

    Args:
        file: Ends in .nii or .nii.gz.
        values: The values.
        affine: The matrix [4, 4] from (slice, row, column, 1) to right, anterior, superior in
            millimetres. None writes the axes as they are, a unit apart.

    Raises:
        ExtraError: When nibabel is not installed.
    """
    package = _nibabel()
    image = package.Nifti1Image(values, np.eye(4) if affine is None else affine)
    package.save(image if affine is None else package.as_closest_canonical(image), file)


def _nibabel() -> Any:
    try:
        import nibabel
    except ModuleNotFoundError:
        raise ExtraError("NIfTI files need nibabel: pip install 'vtcav[medical]'") from None
    return nibabel


def _open(file: Path) -> Any:
    """Open a volume, with its axes turned; its values are not read yet."""
    package = _nibabel()
    try:
        image = package.load(file)
        shape = tuple(int(side) for side in image.shape)
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        if len(shape) != 3 or min(shape) < 1:
            raise ImageError(f"expected a volume of three axes, got {list(image.shape)}")
        if np.prod(shape, dtype=object) > _LARGEST:
            raise ImageError(f"it has {' x '.join(map(str, shape))} values, more than 2147483648")
        if image.get_data_dtype().kind not in "iuf":
            raise ImageError(f"expected integers or floating point, got {image.get_data_dtype()}")
        return package.as_closest_canonical(image.slicer[..., 0] if image.ndim == 4 else image)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  (damaged files raise anything)
        raise _damaged(error) from None


def _header(file: Path) -> tuple[int, ...]:
    return tuple(int(side) for side in _open(file).shape[:3])


@lru_cache(maxsize=1)
def _volume(file: Path, changed: int) -> NDArray[Any]:
    """Return the values of a volume; the last one is kept, for its other slices."""
    return _values(_open(file))


def _values(image: Any) -> NDArray[Any]:
    try:
        values: NDArray[Any] = np.asanyarray(image.dataobj).reshape(image.shape[:3])
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  (damaged files raise anything)
        raise _damaged(error) from None
    native: NDArray[Any] = values.astype(values.dtype.newbyteorder("="))
    return native


def _damaged(error: Exception) -> ImageError:
    """Tell of an error no more than its kind: messages may hold texts of the file."""
    return ImageError(
        f"it cannot be decoded as NIfTI ({type(error).__name__}); is it damaged or truncated?"
    )


def _unpacked(start: bytes) -> bytes:
    """Return what can be unpacked of the beginning of a packed file."""
    try:
        return zlib.decompressobj(31).decompress(start, 352)
    except zlib.error:
        return b""
