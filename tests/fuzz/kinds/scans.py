"""DICOM and NIfTI files: bytes, elements and headers changed; decoded, or named with a reason."""

import gzip

import numpy as np

from tests.fuzz.mutators import mutated_bytes
from tests.fuzz.trial import Kind, Trial
from tests.helpers.medical import dicom, volume
from vtcav import Preprocess
from vtcav.datasets import volumes
from vtcav.images.batches import prepared
from vtcav.images.listing import collect

_ELEMENTS = (
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "PixelData"),
    *("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "VOILUTFunction"),
)
_NUMBERS = (0, 1, -1, 3, 7, 65_535, float("nan"), float("inf"), 1e308, "", "x", None)


class Scans(Kind):
    """A file of a scanner, as a picture or as the slices of a volume."""

    name = "scan"
    needs = ("pydicom", "nibabel")

    def __init__(self, folder):
        super().__init__(folder)
        values = np.arange(-200, 200, dtype=np.int16).reshape(20, 20)
        scaled = {"RescaleSlope": 2, "RescaleIntercept": -100}
        window = {"WindowCenter": [40, 300], "WindowWidth": [400, 2000]}
        made = (
            dicom(folder / "one.dcm", values, **scaled, **window),
            dicom(folder / "frames.dcm", np.stack([values] * 3)),
            volume(folder / "some.nii", np.stack([values] * 4, -1)),
        )
        self.good = {path.suffix: [] for path in made}
        for path in made:
            self.good[path.suffix].append(path.read_bytes())
        self.place = folder / "scans"
        self.place.mkdir()

    def trial(self, random):
        suffix = random.choice(sorted(self.good))
        data = random.choice(self.good[suffix])
        for old in self.place.iterdir():
            old.unlink()
        path = self.place / f"some{suffix}"
        path.write_bytes(data)
        if suffix == ".dcm" and random.random() < 0.6:
            what = _element(random, path)
        else:
            what, packed = "bytes", suffix == ".nii" and random.random() < 0.3
            changed = mutated_bytes(random, data)
            if packed:
                path.unlink()
                path, changed = path.with_suffix(".nii.gz"), gzip.compress(changed)
                changed = mutated_bytes(random, changed) if random.random() < 0.5 else changed
            path.write_bytes(changed)
        use = random.choice((self.use, self.use_whole))
        return Trial(f"{path.name}: {what}", lambda: use(path), ("some.",))

    def use(self, path):
        for ref in collect(path)[:4]:
            assert prepared(Preprocess(8, channels=1), ref)[1].isfinite().all()

    def use_whole(self, path):
        preprocess = Preprocess((3, 8, 8), window=(-1000, 1000))
        for ref in volumes(path, hashed=False):
            assert prepared(preprocess, ref)[1].isfinite().all()


def _element(random, path):
    """Change an element of a DICOM file and write it as a device with a fault would."""
    import pydicom

    data = pydicom.dcmread(path)
    name, value = random.choice(_ELEMENTS), random.choice(_NUMBERS)
    try:
        if random.random() < 0.3:
            del data[name]
            value = "gone"
        elif name == "PixelData":
            data.PixelData = mutated_bytes(random, data.PixelData)
        else:
            setattr(data, name, value)
        data.save_as(path)
    except Exception as error:  # noqa: BLE001 - what no library writes is no file
        return f"{name} not {value!r}: {type(error).__name__}"
    return f"{name} = {value!r}"
