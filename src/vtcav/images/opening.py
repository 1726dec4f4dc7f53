"""Picture files opened by their content: what Pillow reads, NumPy, TIFF, DICOM and NIfTI."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from vtcav.errors import SUBJECT, ImageError
from vtcav.images.decoding import (
    AXES_MOVED,
    BandPicture,
    deep,
    identify,
    open_file,
    orientation,
    put_upright,
    signed,
    upright,
)
from vtcav.images.medical.arrays import in_colour
from vtcav.images.medical.dicom import is_dicom, read_dicom, stated_shape
from vtcav.images.medical.nifti import is_nifti, read_volume
from vtcav.images.volumes import VolumePicture

T = TypeVar("T")

_SIDES = TiffImagePlugin.IMAGELENGTH, TiffImagePlugin.IMAGEWIDTH
_NPY, _ZIP = b"\x93NUMPY", b"PK\x03\x04"
_TIFF = b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"
_PAGES = 1024
_IN_NIFTI = "it is a NIfTI volume: list its slices with vtcav.datasets.slices"
_NAMES = "image", "img", "picture", "x", "data"
_GREY = "L", "I;16", "I;16B", "I;16L", "I", "F"


def decoded(source: Path | bytes) -> Image.Image:
    """Decode a picture file into an independent, upright picture at its full depth.

    Args:
        source: The file, or its bytes.

    Returns:
        A picture of mode RGB; a `DeepPicture` of a grey one of more than 8 bits; a `BandPicture` of
        one that holds more.

    Raises:
        ImageError: When it is no picture, or too large.
        Exception: What decoders raise for damaged files.
    """
    if isinstance(source, Path):
        with open_file(source) as file:
            return _decoded(file, source)
    return _decoded(BytesIO(source), source)


def _decoded(file: BufferedReader | BytesIO, source: Path | bytes) -> Image.Image:
    prefix = file.read(1024)
    file.seek(0)
    named = isinstance(source, Path) and source.suffix.lower() in (".dcm", ".dicom")
    if is_dicom(prefix) or (named and not prefix.startswith((*_TIFF, _NPY, _ZIP))):
        return read_dicom(source)
    if is_nifti(prefix):
        return _volume(source)
    if prefix.startswith(_NPY):
        return picture_of(_read_array(file))
    if prefix.startswith(_ZIP):
        return picture_of(_read_archive(file, _read_array))
    if prefix.startswith(_TIFF):
        return _tiff(file, source)
    return upright(identify(file))


def stated(data: bytes) -> tuple[str, tuple[int, ...]]:
    """Return the format of a picture file and the shape that it states, before it is decoded.

    Args:
        data: The bytes of the file.

    Returns:
        "NPY", "NPZ", "DICOM", or a format by Pillow's name; and height, width and, where there are
        several, channels, pages or slices, in the order of the file.

    Raises:
        ImageError: When it is no picture, or a volume in NIfTI.
        Exception: What decoders raise for damaged files.

    Example:
        >>> from io import BytesIO
        >>> np.save(file := BytesIO(), np.zeros((13, 8, 9)))
        >>> stated(file.getvalue())
        ('NPY', (13, 8, 9))
    """
    file = BytesIO(data)
    if is_dicom(data):
        return "DICOM", stated_shape(data)
    if is_nifti(data[:1024]):
        raise ImageError(_IN_NIFTI)
    if data.startswith(_NPY):
        return "NPY", _array_header(file)[0]
    if data.startswith(_ZIP):
        return "NPZ", _read_archive(file, _array_header)[0]
    samples, _ = _samples(file) if data.startswith(_TIFF) else (1, set())
    if samples > 4:
        tags = _tags(file)
        high, wide = (tags.get(tag, 0) for tag in _SIDES)
        return "TIFF", (int(high), int(wide), samples)
    image = identify(file)
    pages = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
    return image.format or "", (image.height, image.width, int(pages))


def _volume(source: Path | bytes) -> Image.Image:
    """Return a volume; one of a single slice as a picture."""
    if not isinstance(source, Path):
        raise ImageError(_IN_NIFTI)
    return read_volume(source)


def picture_of(values: NDArray[Any]) -> Image.Image:
    """Return the picture of an array: [H, W] in grey, else [H, W, C], or [C, H, W].

    The channels are the last axis, or the first where that is the shortest of the three. An array
    [D, H, W, C] or [C, D, H, W] is a volume, and so is one of three axes, [D, H, W], for a
    preprocessing that takes volumes.

    Raises:
        ImageError: For an array of another shape or type.

    Example:
        >>> picture_of(np.zeros((13, 64, 64), np.float32)).values.shape
        (64, 64, 13)
    """
    _check(values.shape, values.dtype)
    if moved := values.ndim > 2 and values.shape[0] < min(values.shape[1:]):
        values = np.moveaxis(values, 0, -1)
    if values.ndim == 4:
        return VolumePicture.of(np.ascontiguousarray(values))
    if values.ndim == 3 and values.shape[2] > 1:
        values = np.ascontiguousarray(values)
        if values.shape[2] == 3 and values.dtype == np.uint8:
            return Image.fromarray(values)
        picture = _of_colours(values) or BandPicture.of(values)
        picture.info |= {AXES_MOVED: True} if moved else {}
        return picture
    grey = values.reshape(values.shape[:2])
    if grey.dtype.kind in "iu" and grey.dtype not in (np.uint8, np.uint16):
        if grey.min() < -(2**31) or grey.max() >= 2**31:
            raise ImageError("it holds integers of more than 32 bits; save it as floating point")
        grey = grey.astype(np.int32)
    elif grey.dtype.kind == "f":
        grey = grey.astype(np.float32)
    return upright(Image.fromarray(np.ascontiguousarray(grey)))


def _of_colours(values: NDArray[Any]) -> Image.Image | None:
    """Return the picture of values [H, W, 3] of 16 bits, in RGB for other programs."""
    return in_colour(values) if values.shape[2] == 3 and values.dtype == np.uint16 else None


def _check(shape: Sequence[int], kind: np.dtype[Any]) -> None:
    """Refuse an array that is no picture, before it is read."""
    if kind.kind not in "iuf":
        raise ImageError(f"expected an array of integers or floating point, got {kind}")
    if len(shape) not in (2, 3, 4) or 0 in shape:
        raise ImageError(
            "expected an array [H, W], [H, W, C] or [C, H, W], or a volume [D, H, W, C] or "
            f"[C, D, H, W], got {list(shape)}"
        )
    most, pixels = Image.MAX_IMAGE_PIXELS, int(np.prod(sorted(shape)[-2:], dtype=object))
    if most is not None and (pixels > most or np.prod(shape, dtype=object) > 16 * most):
        raise ImageError(
            f"it has the shape {list(shape)}, more than the limit of {most} pixels; if you trust "
            "it, raise PIL.Image.MAX_IMAGE_PIXELS (None: no limit)"
        )


# -- NumPy ------------------------------------------------------------------------------------


def _array_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and type of an array in NumPy's format."""
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0
    shape, _, kind = (header if version == (1, 0) else np.lib.format.read_array_header_2_0)(file)
    _check(shape, kind)
    return shape, kind


def _read_array(file: IO[bytes]) -> NDArray[Any]:
    """Read an array in NumPy's format, which holds no code."""
    _array_header(file)
    file.seek(0)
    values: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return values


def _read_archive(file: IO[bytes], read: Callable[[IO[bytes]], T]) -> T:
    """Read the array that is the picture in an archive of NumPy's arrays, or its header."""
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        chosen = names if len(names) == 1 else [f"{n}.npy" for n in _NAMES if f"{n}.npy" in names]
        if len(chosen) != 1:
            holds = ", ".join(repr(name.removesuffix(".npy")) for name in names[:5]) or "no array"
            raise ImageError(
                f"it is an archive that holds {holds}; expected one array, or one named "
                f"{' or '.join(map(repr, _NAMES))}"
            )
        with archive.open(chosen[0]) as member:
            return read(member)


# -- TIFF -------------------------------------------------------------------------------------


def _tiff(file: BufferedReader | BytesIO, source: Path | bytes) -> Image.Image:
    """Decode a TIFF file by Pillow, or by tifffile where that takes more from it."""
    samples, bits = _samples(file)
    if samples > 4:
        return _by_tifffile(file, needed=True)
    if samples > 1 and bits != {8}:
        with suppress(ModuleNotFoundError):
            return _by_tifffile(file, needed=False)
        file.seek(0)
    try:
        image = identify(file)
    except ImageError:
        return _by_tifffile(file, needed=True)
    pages = getattr(image, "n_frames", 1)
    image.seek(0)
    several = image.mode in _GREY and 1 < pages <= _PAGES
    picture = upright(image)
    return BandPicture.of(lambda: _pages(source), picture, "pages") if several else picture


def _samples(file: IO[bytes]) -> tuple[int, set[int]]:
    """Return how many samples a pixel of a TIFF file has, and of how many bits they are."""
    tags = _tags(file)
    samples = tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
    return int(samples), set(map(int, np.ravel(tags.get(TiffImagePlugin.BITSPERSAMPLE, 8))))


def _tags(file: IO[bytes]) -> Any:
    """Return the tags of the first page of a TIFF file, as far as they can be read."""
    tags: Any = {}
    with suppress(Exception):  # Pillow says what is wrong with it
        start = file.read(8)
        start += file.read(8) if 43 in start[2:4] else b""
        tags = TiffImagePlugin.ImageFileDirectory_v2(start)
        file.seek(tags.next)
        tags.load(file)
    file.seek(0)
    return tags


def _pages(source: Path | bytes) -> NDArray[Any]:
    """Return the pages of a TIFF file as channels [H, W, C]."""
    if isinstance(source, Path):
        with open_file(source) as file:
            return _pages(file.read())
    image = identify(BytesIO(source))
    count: int = getattr(image, "n_frames", 1)
    found: list[NDArray[Any]] = []
    for i in range(count):
        image.seek(i)
        if image.size[::-1] != (found or [np.zeros(image.size[::-1])])[0].shape:
            raise ImageError(f"its pages are of different sizes: page {i} is {image.size}")
        tiles = list(getattr(image, "tile", []))
        image.load()
        values = np.array(image) if image.mode == "L" else np.asarray(deep(image, tiles))
        found.append(values.view(np.int8) if signed(image) and image.mode == "L" else values)
    image.seek(0)
    picture = put_upright(BandPicture.of(np.stack(found, -1)), orientation(image))
    assert isinstance(picture, BandPicture)
    return picture.values


def _with_name(record: logging.LogRecord) -> bool:
    """Put the name of the file into a message of a decoder."""
    if subject := SUBJECT.get():
        record.msg, record.args = f"{subject!r}: {record.getMessage()}", ()
    return True


def _by_tifffile(file: IO[bytes], *, needed: bool) -> Image.Image:
    """Decode the first page of a TIFF file whose pixels have many samples, or deep ones.

    Raises:
        ModuleNotFoundError: When tifffile is not installed and not `needed`.
    """
    try:
        import tifffile
    except ModuleNotFoundError:
        if not needed:
            raise
        raise ImageError(
            "it is a TIFF file that Pillow cannot read; with tifffile it may be read: pip install "
            "'vtcav[tiff]'"
        ) from None
    file.seek(0)
    logging.getLogger("tifffile").addFilter(_with_name)  # a second time it changes nothing
    with tifffile.TiffFile(file) as whole:
        page: Any = whole.pages[0]
        _check(page.shape, np.dtype(page.dtype))
        values: NDArray[Any] = page.asarray()
        if page.axes.startswith("S"):
            values = np.moveaxis(values, 0, -1)
        turned = int(page.tags.valueof("Orientation", 1))
    values = np.ascontiguousarray(values)
    if values.ndim == 2:
        return put_upright(picture_of(values), turned)
    return put_upright(_of_colours(values) or BandPicture.of(values), turned)
