"""Archives of labelled images (NPZ, HDF5, WebDataset): bytes and contents changed."""

import io
import tarfile

import numpy as np
from PIL import Image

from tests.fuzz.mutators import mutated_array, mutated_bytes, mutated_dict
from tests.fuzz.trial import Kind, Trial
from tests.helpers.small import pictures
from vtcav import Preprocess, datasets
from vtcav.images.batches import Batches


class Sources(Kind):
    """Listed by label and decoded: each image is used, or named with a reason."""

    name = "source"
    share = 0.5
    needs = ("h5py",)

    def __init__(self, folder):
        super().__init__(folder)
        self.arrays = {"images": pictures(6), "labels": np.array([[0], [1], [0], [1], [1], [0]])}
        self.shard = _shard(self.arrays["images"], self.arrays["labels"])

    def trial(self, random):
        suffix = random.choice((".npz", ".h5", ".tar"))
        path = self.folder / f"some{suffix}"
        if suffix == ".tar":
            path.write_bytes(mutated_bytes(random, self.shard))
            return Trial("bytes of a shard", lambda: self.use(path), ("some.",))
        arrays, whole = self.arrays, random.random() < 0.5
        if not whole:
            arrays = mutated_dict(random, arrays, mutated_array)
        _write(path, arrays)
        if whole:
            path.write_bytes(mutated_bytes(random, path.read_bytes()))
        what = f"{'bytes' if whole else 'arrays'} of {suffix}"
        return Trial(what, lambda: self.use(path), ("some.",))

    def use(self, path):
        read = datasets.from_webdataset if path.suffix == ".tar" else datasets.from_arrays
        for refs in read(path).values():
            batches = Batches(refs, Preprocess(8), 4)
            used = [name for batch in batches for name in batch.names]
            assert len(used) + len(batches.skipped) == len(refs)


def _write(path, arrays):
    if path.suffix == ".npz":
        np.savez(path, **{name or "_": array for name, array in arrays.items()})
        return
    import h5py

    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            kind = np.dtype("S8") if array.dtype.kind == "U" else array.dtype
            file[name or "_"] = array.astype(kind)


def _shard(images, labels):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as shard:
        for i, (pixels, label) in enumerate(zip(images, labels, strict=True)):
            picture = io.BytesIO()
            Image.fromarray(pixels).save(picture, "PNG")
            for suffix, content in ("png", picture.getvalue()), ("cls", str(label[0]).encode()):
                entry = tarfile.TarInfo(f"{i:03}.{suffix}")
                entry.size = len(content)
                shard.addfile(entry, io.BytesIO(content))
    return data.getvalue()
