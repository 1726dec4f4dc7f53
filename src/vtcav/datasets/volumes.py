"""Medical volumes whole: series of DICOM files, files of many frames, NIfTI."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vtcav.datasets.slices import Series, medical_files, name_of, series_of
from vtcav.errors import DatasetError, ImageError
from vtcav.images.medical.dicom import DicomPlace, frame_axes, read_dicom
from vtcav.images.medical.nifti import slice_count
from vtcav.images.references import ImageRef
from vtcav.images.volumes import VolumePicture
from vtcav.parameters import Flag, check

_UNEVEN = 0.02  # of the usual distance between slices
_FEWEST = 2


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class SeriesVolume(ImageRef):
    """A volume of DICOM slices.

    Attributes:
        series: Its slices in order.
        positions: Their positions along the normal, in millimetres, or their numbers.
    """

    series: Series
    positions: tuple[float, ...]

    def _decoded(self) -> Image.Image:
        _check_even(self.positions, known=self.series.known)
        slices = [read_dicom(file, frame) for file, frame in self.series.frames]
        first = slices[0]
        for picture in slices:
            if picture.mode == "RGB":
                raise ImageError("its slices are in colour; expected grey ones")
            if picture.size != first.size:
                raise ImageError(
                    f"its slices are of several sizes: {first.width} x {first.height} and "
                    f"{picture.width} x {picture.height}"
                )
        values = np.stack([np.asarray(picture) for picture in slices])[..., None]
        volume = VolumePicture.read_by(lambda: values, first.height, first.width, self._affine())
        volume.info = dict(first.info)
        return volume

    def _affine(self) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]] | None:
        """Return the matrix from (slice, row, column) to millimetres, where the files tell it."""
        axes = frame_axes(self.series.frames[0][0]) if self.series.known else None
        several = any(frame is not None for _, frame in self.series.frames)
        if axes is None or several or len(self.positions) < _FEWEST:
            return None
        normal = np.cross(axes[:3, 2], axes[:3, 1])
        step = (self.positions[-1] - self.positions[0]) / (len(self.positions) - 1)
        axes[:3, 0] = normal / np.linalg.norm(normal) * step
        # DICOM counts to the left and posterior
        return np.diag([-1.0, -1.0, 1.0, 1.0]) @ axes

    def digest(self) -> str:
        """Return the SHA-256 of the files' contents, in order."""
        files = dict.fromkeys(file for file, _ in self.series.frames)
        whole = hashlib.sha256()
        for file in files:
            whole.update(ImageRef(self.name, file).digest().encode())
        return whole.hexdigest()


def volumes(source: str | Path, *, hashed: bool = True) -> list[ImageRef]:
    """List volumes, each as one image, for a network that takes volumes.

    - A folder of DICOM files: one volume for each series, its slices in the order of their
      positions, or of their instance numbers where these are not known. Slices must lie evenly:
      a series with one missing is named when it is read.
    - A DICOM file of many frames: one volume.
    - NIfTI files, or a folder of these: one volume each, axial slices from below, turned as
      `slices` turns them.

    Patients' names are never read. Volumes are named by a hash of the series' identifier or of the
    file's name, such as "series-1b4f0e985197".

    Args:
        source: A folder or a file.
        hashed: Whether names are hashes; False shows the files' names.

    Returns:
        At least one reference.

    Raises:
        DatasetError: For `hashed` that is no bool.
        ImageError: When there is no volume.
        ExtraError: When pydicom or nibabel is needed and not installed.

    Warns:
        SkippedImageWarning: For files that are neither, or damaged, by name.
    """
    check("hashed", hashed, Flag(), error=DatasetError)
    places, files = medical_files(source, lambda file: slice_count(file, "axial"), hashed=hashed)
    found: list[ImageRef] = [_of_series(each, places, hashed=hashed) for each in series_of(places)]
    return found + [ImageRef(name_of(file, hashed=hashed), file) for file in files]


def _of_series(series: Series, places: dict[Path, DicomPlace], *, hashed: bool) -> SeriesVolume:
    name = f"series-{series.name}" if hashed else str(series.frames[0][0])
    return SeriesVolume(name, series=series, positions=tuple(_positions(series, places)))


def _positions(series: Series, places: dict[Path, DicomPlace]) -> list[float]:
    """Return the positions of files, or their numbers; those of frames in a file are even."""
    files = [file for file, _ in series.frames]
    if len(set(files)) == 1:
        return list(map(float, range(len(files))))
    found = [places[file].position if series.known else places[file].number for file in files]
    return [float(each or 0) for each in found]


def _check_even(positions: Sequence[float], *, known: bool) -> None:
    """Refuse slices that do not lie evenly: one may be missing, or there are several scans."""
    if len(positions) < _FEWEST:
        raise ImageError("it holds a single slice; expected a series of them")
    apart = np.diff(positions)
    usual = float(np.median(apart))
    if usual <= 0 or (np.abs(apart - usual) > _UNEVEN * usual).any():
        unit = "mm" if known else "instance numbers"
        raise ImageError(
            f"its slices do not lie evenly: they are {apart.min():g} to {apart.max():g} {unit} "
            "apart. Is one missing, or are these several scans of one series?"
        )
