"""Images and labels in files of arrays: NPZ archives, as those of MedMNIST, and HDF5."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtcav.datasets import probes
from vtcav.datasets.cells import LabelReader
from vtcav.datasets.concept_images import ConceptImages, Wanted, group, unknown
from vtcav.errors import DatasetError, ExtraError
from vtcav.files.apart import can_run, run_apart
from vtcav.files.paths import given_path
from vtcav.images.decoding import reason_of
from vtcav.images.opening import picture_of
from vtcav.images.references import ImageRef, UnreadableError

_HDF5 = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class ArrayRowImage(ImageRef):
    """A row of an array of images in a file.

    Attributes:
        file: The file.
        array: The array's name in it.
        row: The row.
    """

    file: Path
    array: str
    row: int

    def fetch(self) -> ImageRef:
        """Return the image with its values.

        Raises:
            ImageError: When they cannot be read, or are no picture.
        """
        try:
            with _opened(self.file) as arrays:
                return ImageRef(self.name, picture_of(np.asarray(arrays[self.array][self.row])))
        except Exception as error:
            # damaged files are met with exceptions of every kind
            raise UnreadableError(self.name, reason_of(error)) from error


def from_arrays(
    file: str | Path,
    concepts: Wanted = None,
    *,
    images: str = "images",
    labels: str = "labels",
    classes: Sequence[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> ConceptImages:
    """List the images of an NPZ archive or an HDF5 file by label.

    Rows of an HDF5 file are read when they are needed; an array of an archive is read whole at its
    first row, and the last two are kept.

    Args:
        file: The file.
        concepts: The labels wanted, or a mapping from new names to labels; None takes all.
        images: The name of the array of images, [N, H, W], [N, H, W, C] or [N, C, H, W] of any
            type ("train_images" in an archive of MedMNIST).
        labels: The name of the array of labels: numbers or texts [N] or [N, 1]; or 0 and 1 [N, L],
            of L labels that each holds or not ("train_labels").
        classes: The names of numbered labels.
        limit: At most this many images of each concept, drawn with `seed`.
        seed: Seeds the draw.

    Raises:
        DatasetError: For a file that is neither, an unknown array or label, or labels that do not
            fit the images.
        ExtraError: When h5py is needed and not installed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/cells.npz", train_images=np.zeros((3, 8, 8), np.uint8),
        ...              train_labels=np.array([[0], [1], [0]]))
        ...     from_arrays(f"{folder}/cells.npz", images="train_images", labels="train_labels",
        ...                 classes=["benign", "malignant"])
        ConceptImages(benign: 2, malignant: 1)
    """
    file = given_path("file", file, DatasetError)
    cells = _labels(file, images, labels)
    reader = LabelReader(str(file), classes)
    pairs = [
        (text, ArrayRowImage(f"{file}[{images}][{i}]", file=file, array=images, row=i))
        for i, cell in enumerate(cells)
        for text in reader.read(i, cell)
    ]
    reader.finish()
    return group(pairs, concepts, limit=limit, seed=seed, known=classes)


def _labels(file: Path, images: str, labels: str) -> list[Any]:
    """Return the label of each image.

    Raises:
        DatasetError: When the file cannot be read, or the arrays do not fit each other.
        ExtraError: When h5py is needed and not installed.
    """
    try:
        with _opened(file, images, labels) as arrays:
            known = list(arrays)
            missing = [name for name in (images, labels) if name not in known]
            if missing:
                raise DatasetError(f"{unknown('array', missing[0], known)} in {str(file)!r}")
            shape = tuple(arrays[images].shape)
            cells: NDArray[Any] = np.asarray(arrays[labels][...])
        if len(shape) in (3, 4) and cells.ndim in (1, 2) and len(cells) == shape[0]:
            return _cells(cells)
    except (DatasetError, ExtraError):
        raise
    except Exception as error:
        # zipfile, NumPy and HDF5 meet damaged files with exceptions of every kind
        raise DatasetError(f"cannot read {str(file)!r}: {error or type(error).__name__}") from error
    raise DatasetError(
        f"expected images [N, H, W] or [N, H, W, C] and as many labels [N] or [N, L], got "
        f"images {list(shape)} and labels {list(cells.shape)} in {str(file)!r}"
    )


def _cells(cells: NDArray[Any]) -> list[Any]:
    """Return the label of each row, or a list of those that hold."""
    if cells.dtype.kind == "S":
        cells = np.char.decode(cells, "utf-8")
    if cells.dtype == object:
        cells = np.array([c.decode() if isinstance(c, bytes) else c for c in cells.ravel()])
    if cells.ndim == 1 or cells.shape[1] == 1:
        return [cell.item() for cell in cells.reshape(-1)]
    return [[int(i) for i in np.flatnonzero(row)] for row in cells]


@contextmanager
def _opened(file: Path, *arrays_to_probe: str) -> Iterator[Any]:
    """Open a file as a mapping from names to arrays.

    Args:
        file: The file.
        arrays_to_probe: Images and labels that another process reads first.
    """
    with file.open("rb") as opened:
        start = opened.read(8)
    if start == _HDF5:
        try:
            import h5py
        except ModuleNotFoundError:
            raise ExtraError("HDF5 files need h5py: pip install h5py") from None
        if arrays_to_probe:
            _probe(file, *arrays_to_probe)
        with h5py.File(file, "r") as arrays:
            yield _Hdf5(arrays)
    elif start.startswith(b"PK\x03\x04"):
        yield _Archive(file)
    else:
        raise DatasetError(f"expected an NPZ archive or an HDF5 file, got {str(file)!r}")


class _Hdf5:
    """The arrays of an HDF5 file by name; links to other files are left out.

    Args:
        file: The opened file.
    """

    def __init__(self, file: Any) -> None:
        self._file = file

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._file if self._own(name))

    def __getitem__(self, name: str) -> Any:
        if not self._own(name):
            raise ValueError(f"{name!r} is no array of this file")
        return self._file[name]

    def _own(self, name: str) -> bool:
        import h5py

        if not isinstance(self._file.get(name, getlink=True), h5py.HardLink):
            return False
        item = self._file[name]
        return isinstance(item, h5py.Dataset) and not (item.is_virtual or item.external)


def _probe(file: Path, images: str, labels: str) -> None:
    """Read a file in a process of its own, which HDF5 may end where it is damaged."""
    if can_run():
        run_apart(probes.__file__, ["hdf5", str(file), images, labels], file, "HDF5")


class _Archive:
    """The arrays of an NPZ archive by name."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __iter__(self) -> Iterator[str]:
        with self._file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            return iter(list(arrays.files))

    def __getitem__(self, name: str) -> NDArray[Any]:
        return _array(self._file, self._file.stat().st_mtime_ns, name)


@lru_cache(maxsize=2)
def _array(file: Path, changed: int, name: str) -> NDArray[Any]:
    with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
        values: NDArray[Any] = arrays[name]
    return values
