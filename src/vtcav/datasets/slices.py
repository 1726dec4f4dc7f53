"""Slices of medical volumes: series of DICOM files, files of many frames, NIfTI."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from PIL import Image

from vtcav.errors import DatasetError, ImageError
from vtcav.images.decoding import reason_of
from vtcav.images.listing import collect
from vtcav.images.medical.dicom import DicomPlace, is_dicom, place_of, read_dicom
from vtcav.images.medical.nifti import AXES, Axis, is_nifti, read_slice, slice_count
from vtcav.images.references import ImageRef, Skipped, UnreadableError, report_skipped
from vtcav.parameters import Flag, Text, Whole, Words, check

T = TypeVar("T")


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class SliceImage(ImageRef):
    """A slice of a file.

    Attributes:
        file: The file.
        index: The slice in it; None for a file that holds one.
        axis: The direction that a NIfTI volume is cut in; None for DICOM.
    """

    file: Path
    index: int | None = None
    axis: Axis | None = None

    def _decoded(self) -> Image.Image:
        if self.axis is not None:
            return read_slice(self.file, self.axis, self.index or 0)
        return read_dicom(self.file, self.index)

    def status(self) -> tuple[int, int]:
        """Return size and time (ns) of the file."""
        status = self.file.stat()
        return status.st_size, status.st_mtime_ns

    def digest(self) -> str:
        """Return the SHA-256 of the file's content and of the slice."""
        whole = ImageRef(self.name, self.file).digest()
        if self.index is None:
            return whole
        return hashlib.sha256(f"{whole}[{self.axis or 'frame'} {self.index}]".encode()).hexdigest()


def slices(
    source: str | Path,
    *,
    axis: Axis = "axial",
    every: int = 1,
    hashed: bool = True,
) -> list[ImageRef]:
    """List the slices of a volume or a series, as images.

    - A folder of DICOM files: the slices of each series in the order of their positions, or of
      their instance numbers where these are not known. Pixels are as they are stored.
    - A DICOM file of many frames: its frames.
    - A NIfTI file (`.nii`, `.nii.gz`), or a folder of these: the slices along an axis, turned as
      films are hung: the patient's right at the left of axial and coronal slices, anterior at the
      top of axial and at the left of sagittal ones, superior at the top of the others.

    Patients' names are never read. Names of slices are made of a hash of the series' identifier or
    of the file's name, such as "series-1b4f0e985197[slice 12]".

    Args:
        source: A folder or a file.
        axis: "axial", "coronal" or "sagittal", of NIfTI volumes.
        every: Take every n-th slice.
        hashed: Whether names are hashes; False shows the files' names.

    Returns:
        At least one reference.

    Raises:
        DatasetError: For an axis or a number out of range.
        ImageError: When there is no slice.
        ExtraError: When pydicom or nibabel is needed and not installed.

    Warns:
        SkippedImageWarning: For files that are neither, or damaged, by name.
    """
    check("axis", axis, Words(*AXES), error=DatasetError)
    check("every", every, Whole(1), error=DatasetError)
    check("hashed", hashed, Flag(), error=DatasetError)
    places, volumes = medical_files(source, lambda file: slice_count(file, axis), hashed=hashed)
    found = [*_of_series(places, every, hashed=hashed)]
    found += [
        SliceImage(f"{name_of(file, hashed=hashed)}[{axis} {i}]", file=file, index=i, axis=axis)
        for file, count in volumes.items()
        for i in range(0, count, every)
    ]
    return [*found]


def medical_files(
    source: str | Path, read: Callable[[Path], T], *, hashed: bool
) -> tuple[dict[Path, DicomPlace], dict[Path, T]]:
    """Return where the slices of DICOM files belong, and what is read of NIfTI files.

    Args:
        source: A folder or a file.
        read: Reads what is wanted of a NIfTI file.
        hashed: Whether files that are left out are named by hashes.

    Raises:
        ImageError: When there is neither.

    Warns:
        SkippedImageWarning: For files that are neither, or damaged, by name.
    """
    check("source", source, Text("a folder or a file"), error=DatasetError)
    files = [ref.path for ref in collect(source) if ref.path is not None]
    places: dict[Path, DicomPlace] = {}
    volumes: dict[Path, T] = {}
    skipped: list[Skipped] = []
    for file in files:
        try:
            with file.open("rb") as opened:
                start = opened.read(1024)
            if is_nifti(start):
                volumes[file] = read(file)
            elif is_dicom(start) or file.suffix.lower() in (".dcm", ".dicom"):
                places[file] = place_of(file)
            else:
                raise ImageError("it is neither DICOM nor NIfTI")
        except (ImageError, OSError) as error:
            skipped.append(Skipped(name_of(file, hashed=hashed), reason_of(error)))
    report_skipped(len(files), len(files) - len(skipped), skipped)
    if not places and not volumes:
        raise UnreadableError(str(source), "no DICOM or NIfTI file is in it")
    return places, volumes


@dataclass(frozen=True)
class Series:
    """The slices of a DICOM series, or of a file of many frames, in order.

    Attributes:
        name: A hash of its identifier, or of the file's name.
        frames: Files, each with the slice in it; None for a file that holds one.
        known: Whether they are in the order of their positions, or else of their numbers.
    """

    name: str
    frames: tuple[tuple[Path, int | None], ...]
    known: bool


def series_of(places: Mapping[Path, DicomPlace]) -> list[Series]:
    """Return the series of DICOM files."""
    series: dict[str, list[Path]] = defaultdict(list)
    for file, place in places.items():
        series[place.series or _hash(file.name)].append(file)
    found = []
    for name, files in series.items():
        known = all(places[file].position is not None for file in files)
        files.sort(key=lambda f: (places[f].position if known else places[f].number, str(f)))
        frames = tuple(
            (file, frame if places[file].frames > 1 else None)
            for file in files
            for frame in range(places[file].frames)
        )
        found.append(Series(name, frames, known))
    return found


def _of_series(places: dict[Path, DicomPlace], every: int, *, hashed: bool) -> Iterable[SliceImage]:
    """Yield the slices of DICOM files, series by series, in order."""
    for series in series_of(places):
        for i, (file, frame) in enumerate(series.frames[::every]):
            label = f"series-{series.name}[slice {i * every}]" if hashed else str(file)
            label += f"[{frame}]" if not hashed and frame is not None else ""
            yield SliceImage(label, file=file, index=frame)


def name_of(file: Path, *, hashed: bool) -> str:
    """Return the name of a file, or a hash of it."""
    return f"file-{_hash(file.name)}" if hashed else str(file)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:12]
