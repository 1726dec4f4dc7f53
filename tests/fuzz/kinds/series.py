"""DICOM series: a folder of slices, some of them changed, missing, doubled or of another series."""

import shutil

import numpy as np

from tests.fuzz.mutators import mutated_bytes
from tests.fuzz.trial import Kind, Trial
from tests.helpers.medical import dicom
from vtcav import Preprocess
from vtcav.datasets import slices, volumes
from vtcav.images.batches import Batches

_ELEMENTS = (
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "InstanceNumber"),
    *("SeriesInstanceUID", "SliceThickness", "Rows", "Columns", "RescaleSlope", "PixelData"),
    *("BitsAllocated", "PhotometricInterpretation", "NumberOfFrames"),
)
_VALUES = (
    *(0, 1, -1, 7, 65_535, 2**31, 1e30, "", "x", None, "1.2.9", float("nan"), float("inf")),
    *([0, 0, 0], [1, 0, 0, 1, 0, 0], [1e30, 0, 0], [0, 0], ["nan", 0, 2], [1, 0, 0, 0, 1, 0, 0]),
)


class SeriesFolders(Kind):
    """As volumes and as slices: each is used, or named with a reason."""

    name = "series"
    needs = ("pydicom",)

    def __init__(self, folder):
        super().__init__(folder)
        self.good, self.place = folder / "good", folder / "some-series"
        self.good.mkdir()
        values = np.arange(-200, 200, dtype=np.int16).reshape(20, 20)
        for i in range(5):
            dicom(
                self.good / f"{i}.dcm",
                values + i,
                SeriesInstanceUID="1.2.5",
                InstanceNumber=i,
                ImagePositionPatient=[0, 0, 2 * i],
                ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
                PixelSpacing=[1, 1],
            )

    def trial(self, random):
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.copytree(self.good, self.place)
        done = [self._changed(random) for _ in range(random.choice((1, 1, 2, 4)))]
        use = random.choice((self.use, self.use_whole))
        return Trial(", ".join(done), use, ("some-series",))

    def _changed(self, random):
        path = random.choice(sorted(self.place.iterdir()))
        kind = random.randrange(5)
        if kind == 0:
            path.write_bytes(mutated_bytes(random, path.read_bytes()))
            return "bytes"
        if kind == 1 and len(list(self.place.iterdir())) > 1:
            path.unlink()
            return "gone"
        if kind == 2:
            shutil.copy(path, path.with_name(f"{path.stem}-again.dcm"))
            return "twice"
        return _element(random, path)

    def use(self):
        self._used(slices(self.place, hashed=False), Preprocess(8, channels=1))

    def use_whole(self):
        preprocess = Preprocess((3, 8, 8), window=(-1000, 1000))
        self._used(volumes(self.place, hashed=False), preprocess)

    def _used(self, refs, preprocess):
        batches = Batches(refs, preprocess, 2)
        used = [name for batch in batches for name in batch.names]
        assert len(used) + len(batches.skipped) == len(refs)
        for skip in batches.skipped:
            assert skip.reason


def _element(random, path):
    import pydicom

    name, value = random.choice(_ELEMENTS), random.choice(_VALUES)
    try:
        data = pydicom.dcmread(path)
        if random.random() < 0.3:
            del data[name]
        else:
            setattr(data, name, value)
        data.save_as(path)
    except Exception as error:  # noqa: BLE001 - what no library writes is no file
        return f"{name} not {value!r}: {type(error).__name__}"
    return f"{name} = {value!r}"
