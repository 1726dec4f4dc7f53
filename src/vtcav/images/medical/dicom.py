"""DICOM files as pictures: modality values, and the window that the file states.

Nothing that identifies a patient is read: only the elements that the pixels need.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from io import BytesIO
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vtcav.errors import ExtraError, ImageError, VtcavError
from vtcav.images.decoding import INVERTED, VOI, WINDOW
from vtcav.images.medical.arrays import grey_picture, in_colour

P = ParamSpec("P")
R = TypeVar("R")

_PIXELS = (
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "NumberOfFrames"),
    *("PixelData", "FloatPixelData", "DoubleFloatPixelData"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
    *(
        f"{segmented}{colour}PaletteColorLookupTableData"
        for segmented in ("", "Segmented")
        for colour in ("Red", "Green", "Blue")
    ),
    *(f"{colour}PaletteColorLookupTableDescriptor" for colour in ("Red", "Green", "Blue")),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)
_PLACE = (
    *("SeriesInstanceUID", "InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient"),
    *("NumberOfFrames", "Rows", "Columns", "BitsAllocated"),
)
_STORED = "PixelData", "FloatPixelData", "DoubleFloatPixelData"
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_PREFIX = 128  # bytes before the letters DICM


def is_dicom(start: bytes) -> bool:
    """Tell whether a file that begins with these bytes says that it is DICOM.

    Example:
        >>> is_dicom(bytes(128) + b"DICM")
        True
    """
    return start[_PREFIX : _PREFIX + 4] == b"DICM"


@dataclass(frozen=True)
class DicomPlace:
    """Where the slices of a file belong.

    Attributes:
        series: A hash of the series' identifier; empty where it has none.
        number: The instance's number in the series; 0 where it has none.
        position: The position along the normal of the slices, in millimetres; None where it is not
            known.
        frames: How many slices the file holds.
    """

    series: str
    number: int
    position: float | None
    frames: int


def _decoding(function: Callable[P, R]) -> Callable[P, R]:
    """Tell of any error as `_part` does: pydicom decodes an element when it is first used."""

    @wraps(function)
    def told(*args: P.args, **kwargs: P.kwargs) -> R:
        return _part(lambda: function(*args, **kwargs))

    return told


@_decoding
def place_of(file: Path) -> DicomPlace:
    """Return where the slices of a file belong, without its pixels.

    Raises:
        ImageError: When it is no DICOM file with pixels.
        ExtraError: When pydicom is not installed.
    """
    header = _read(file, _PLACE, pixels=False)
    if "Rows" not in header or "BitsAllocated" not in header:
        raise ImageError("it is a DICOM file without pixels")
    try:
        return _place(header, file)
    except (TypeError, ValueError) as error:
        raise ImageError("it is a DICOM file whose place among slices is damaged") from error


def _place(header: Any, file: Path) -> DicomPlace:
    frames = int(header.get("NumberOfFrames") or 1)
    if not 1 <= frames <= file.stat().st_size:
        raise ImageError(f"it is a DICOM file that states {frames:g} slices")
    series, position = str(header.get("SeriesInstanceUID", "")), None
    where, axes = header.get("ImagePositionPatient"), header.get("ImageOrientationPatient")
    if where is not None and axes is not None and len(where) == 3 and len(axes) == 6:
        normal = np.cross(np.array(axes[:3], float), np.array(axes[3:], float))
        position = round(float(np.dot(np.array(where, float), normal)), 4)
    return DicomPlace(
        hashlib.sha256(series.encode()).hexdigest()[:12] if series else "",
        int(header.get("InstanceNumber") or 0),
        position,
        frames,
    )


@_decoding
def stated_shape(data: bytes) -> tuple[int, ...]:
    """Return height, width, samples and slices that the bytes of a file state, without its pixels.

    Raises:
        ImageError: When it is no DICOM file with pixels, or is compressed as a whole, so that
            whatever it holds would be unpacked before its size is known.
        ExtraError: When pydicom is not installed.
    """
    if _DEFLATED in data:
        raise ImageError(
            "it is a DICOM file that is compressed as a whole (deflated), which is not unpacked "
            "here; save it with another transfer syntax"
        )
    header = _read(data, (*_PLACE, "SamplesPerPixel"), pixels=False)
    if "Rows" not in header or "BitsAllocated" not in header:
        raise ImageError("it is a DICOM file without pixels")
    held = ("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames")
    return tuple(int(header.get(name) or 1) for name in held)


@_decoding
def frame_axes(file: Path) -> NDArray[np.float64] | None:
    """Return where the rows and columns of a slice lie, in DICOM's coordinates [4, 4].

    The second and third column are a step from row to row and from column to column, in
    millimetres, and the last is the first pixel; the first column is left free. None where the file
    does not say it.
    """
    header = _read(file, ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"))
    position, along, spacing = (
        _numbers(header.get(name))
        for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    )
    if len(position) != 3 or len(along) != 6 or len(spacing) != 2:
        return None
    axes = np.eye(4)
    axes[:3, 1], axes[:3, 2] = (
        np.multiply(along[3:], spacing[0]),
        np.multiply(along[:3], spacing[1]),
    )
    axes[:3, 3] = position
    return axes


@_decoding
def read_dicom(source: Path | bytes, frame: int | None = None) -> Image.Image:
    """Decode a slice of a DICOM file.

    Args:
        source: The file, or its bytes.
        frame: The slice of a file that holds several; None for a file that holds one.

    Returns:
        A picture in RGB, or a `DeepPicture` of modality values (such as Hounsfield units), which
        knows the window that the file states.

    Raises:
        ImageError: When it cannot be decoded; nothing of the file's text is told.
        ExtraError: When pydicom is not installed.
    """
    data = _read(source, _PIXELS)
    count = int(data.get("NumberOfFrames") or 1)
    _check(data)
    if frame is None and count > 1:
        raise ImageError(
            f"it holds {count} slices: list them with vtcav.datasets.slices, or take them whole "
            "with vtcav.datasets.volumes"
        )
    data = _of_frame(data, frame or 0)
    values = _pixels(data, frame or 0)
    if values.ndim == 3:
        return in_colour(values)
    if data.PhotometricInterpretation == "PALETTE COLOR":
        return in_colour(_part(lambda: pydicom().pixels.apply_color_lut(values, data)))
    values = _part(lambda: pydicom().pixels.apply_modality_lut(values, data))
    picture = grey_picture(values)
    picture.info[VOI] = _window(data)
    if data.PhotometricInterpretation == "MONOCHROME1":
        picture.info[INVERTED] = True
    return picture


def pydicom() -> Any:
    """Return pydicom.

    Raises:
        ExtraError: When it is not installed.
    """
    try:
        import pydicom
        import pydicom.pixels
    except ModuleNotFoundError:
        raise ExtraError("DICOM files need pydicom: pip install 'vtcav[medical]'") from None
    return pydicom


def _read(source: Path | bytes, tags: Sequence[str], *, pixels: bool = True) -> Any:
    """Read some elements of a file."""
    package = pydicom()
    file = source if isinstance(source, Path) else BytesIO(source)
    options = {"force": True, "stop_before_pixels": not pixels, "specific_tags": list(tags)}
    return _part(lambda: package.dcmread(file, **options))


def _part(work: Callable[[], R]) -> R:
    """Do a part of the decoding; tell of an error no more than its kind.

    The messages of pydicom may hold values of the file.
    """
    try:
        return work()
    except (VtcavError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  (damaged files raise anything)
        raise ImageError(
            f"it cannot be decoded as DICOM ({type(error).__name__}); is it damaged or truncated?"
        ) from None


def _check(data: Any) -> None:
    """Refuse a file without pixels, or with too many."""
    held = [
        name for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData") if name in data
    ]
    size = [data.get(name) for name in ("Rows", "Columns")]
    if not held or not all(isinstance(side, int) and side > 0 for side in size):
        raise ImageError("it is a DICOM file without pixels")
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and size[0] * size[1] > limit:
        raise ImageError(
            f"it has {size[1]} x {size[0]} pixels, more than the limit of {limit}; if you trust "
            "it, raise PIL.Image.MAX_IMAGE_PIXELS (None: no limit)"
        )


def _pixels(data: Any, frame: int) -> NDArray[Any]:
    """Return the stored values of a slice, [H, W] or, in RGB, [H, W, 3]."""
    package = pydicom()
    syntax = getattr(data.file_meta, "TransferSyntaxUID", None)
    if syntax is None:
        raise ImageError("it does not say how its pixels are encoded (no transfer syntax)")
    if syntax.is_compressed and not _can_decode(package, syntax):
        raise ImageError(
            f"its pixels are compressed ({syntax.name}), and pydicom has no decoder for that: pip "
            "install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
        )
    values: NDArray[Any] = _part(lambda: package.pixels.pixel_array(data, index=frame))
    return values.astype(values.dtype.newbyteorder("="))


def _can_decode(package: Any, syntax: Any) -> bool:
    try:
        return bool(package.pixels.get_decoder(syntax).is_available)
    except NotImplementedError:
        return True  # deflated, which pydicom undoes as it reads


def _of_frame(data: Any, frame: int) -> Any:
    """Return the data with what functional groups say of a slice."""
    groups = [
        group
        for name, at in (
            ("SharedFunctionalGroupsSequence", 0),
            ("PerFrameFunctionalGroupsSequence", frame),
        )
        for group in (data.get(name) or [])[at : at + 1]
    ]
    for group in groups:
        for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for item in (group.get(name) or [])[:1]:
                data.update({element.tag: element for element in item})
    return data


def _window(data: Any) -> Callable[[NDArray[Any]], NDArray[np.float64]]:
    """Return the function that takes modality values to 0..1 as the file states it."""
    if data.get("VOILUTSequence"):
        item = data.VOILUTSequence[0]
        first, bits = int(item.LUTDescriptor[1]), int(item.LUTDescriptor[2])
        table = np.asarray(_part(lambda: pydicom().pixels.apply_voi(_ramp(item), data)), float)
        top = float(2**bits - 1)
        return lambda v: table[(np.rint(v) - first).clip(0, len(table) - 1).astype(int)] / top
    centres, widths = (_numbers(data.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if centres and widths and widths[0] > 0:
        centre, width = centres[0], widths[0]
        kind = str(data.get("VOILUTFunction") or "LINEAR")
        if kind == "SIGMOID":
            return lambda v: 1 / (1 + np.exp(-4 * (v - centre) / width))
        if kind == "LINEAR_EXACT":
            return lambda v: ((v - centre) / width + 0.5).clip(0, 1)
        across = max(width - 1, 1e-6)
        return lambda v: ((v - (centre - 0.5)) / across + 0.5).clip(0, 1)
    bits = int(data.get("BitsStored") or 16)
    if bits <= 8 and not data.get("PixelRepresentation") and "RescaleSlope" not in data:
        return lambda v: v / float(2**bits - 1)
    return _unknown


def _ramp(item: Any) -> NDArray[np.int64]:
    count, first = int(item.LUTDescriptor[0]) or 2**16, int(item.LUTDescriptor[1])
    return np.arange(first, first + count)


def _unknown(values: NDArray[Any]) -> NDArray[np.float64]:
    raise ImageError(
        f"the file states no window, and its values lie in [{values.min():g}, {values.max():g}]; "
        f"{WINDOW}, or percentiles=(1, 99)"
    )


def _numbers(value: Any) -> list[float]:
    """Return the numbers of an element that may hold one, several or none."""
    if value is None or value == "":
        return []
    several = value if hasattr(value, "__len__") and not isinstance(value, str) else [value]
    return [float(one) for one in several]
