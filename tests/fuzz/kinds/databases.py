"""LMDB databases of labelled pictures: bytes of the file, keys and values changed."""

import io

from PIL import Image

from tests.fuzz.mutators import mutated_bytes
from tests.fuzz.trial import Kind, Trial
from tests.helpers.small import pictures
from vtcav import Preprocess, datasets
from vtcav.images.batches import Batches

_LABELS = (b"0", b"7", b"", b"nan", b"\xff\xfe", b'{"a": 1}', b"9" * 5000)


class Databases(Kind):
    """Listed by label and decoded: each image is used, or named with a reason."""

    name = "database"
    needs = ("lmdb",)

    def __init__(self, folder):
        super().__init__(folder)
        self.values = {}
        for i, pixels in enumerate(pictures(40)):
            picture = io.BytesIO()
            Image.fromarray(pixels).save(picture, "PNG")
            self.values[f"{i:03}.png"] = picture.getvalue() + bytes(6000 * (i % 7 == 0))
            self.values[f"{i:03}.cls"] = b"%d" % (i % 2)
        self.good = _database(folder / "good.lmdb", self.values)
        self.count = 0

    def trial(self, random):
        self.count += 1  # a database is opened once in a process
        for old in self.folder.glob("some-*"):
            old.unlink()
        path = self.folder / f"some-{self.count}.lmdb"
        if random.random() < 0.7:
            path.write_bytes(mutated_bytes(random, self.good))
            return Trial("bytes", lambda: self.use(path), ("some-",))
        values = dict(self.values)
        key = random.choice(sorted(values))
        if key.endswith("png"):
            values[key] = mutated_bytes(random, values[key])
        else:
            values[key] = random.choice(_LABELS)
        if random.random() < 0.3:
            del values[random.choice(sorted(values))]
        _database(path, values)
        return Trial("values", lambda: self.use(path), ("some-",))

    def use(self, path):
        for refs in datasets.from_lmdb(path).values():
            batches = Batches(refs, Preprocess(8), 8)
            used = [name for batch in batches for name in batch.names]
            assert len(used) + len(batches.skipped) == len(refs)


def _database(path, values):
    import lmdb

    with lmdb.open(str(path), map_size=2**22, subdir=False) as made, made.begin(write=True) as put:
        for key, value in values.items():
            put.put(key.encode(), value)
    path.with_name(f"{path.name}-lock").unlink(missing_ok=True)
    return path.read_bytes().rstrip(b"\0")
