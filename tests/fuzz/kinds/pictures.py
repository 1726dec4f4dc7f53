"""Picture files of every usual format: damaged, with other headers, truncated, of other kinds."""

import contextlib
import io
import struct
import warnings
import zlib

import numpy as np
from PIL import Image

from tests.fuzz.mutators import mutated_bytes
from tests.fuzz.trial import Kind, Trial
from tests.helpers.small import pictures
from vtcav import Preprocess
from vtcav.cli.terminal import show_warning
from vtcav.images.batches import Batches
from vtcav.images.listing import collect

_FORMATS = {
    "png": ("RGB", "RGBA", "P", "L", "I;16", "1", "LA"),
    "jpg": ("RGB", "L", "CMYK"),
    "webp": ("RGB", "RGBA"),
    "gif": ("P", "L"),
    "bmp": ("RGB", "L"),
    "tif": ("RGB", "I;16", "F", "L", "CMYK"),
    "ppm": ("RGB", "L"),
    "tga": ("RGB",),
    "ico": ("RGBA",),
    "npy": ("RGB", "L"),
    "npz": ("RGB",),
}


class Pictures(Kind):
    """A folder of three, one of them changed: each is used, or named with a reason."""

    name = "picture"

    def __init__(self, folder):
        super().__init__(folder)
        self.place = folder / "pictures"
        self.place.mkdir()
        pixels = pictures(2, size=(20, 24))
        for i, each in enumerate(pixels):
            Image.fromarray(each).save(self.place / f"{i}.png")
        self.good = {
            (kind, mode): _saved(pixels[0], kind, mode)
            for kind, modes in _FORMATS.items()
            for mode in modes
        }

    def trial(self, random):
        kind, mode = key = random.choice(sorted(self.good))
        data = self.good[key]
        changed = _png(random, data) if kind == "png" and random.random() < 0.5 else None
        for old in self.place.glob("some.*"):
            old.unlink()
        path = self.place / f"some.{random.choice((kind, kind, 'png', 'jpg', 'tif'))}"
        path.write_bytes(changed or mutated_bytes(random, data))
        return Trial(f"{kind} {mode}", self.use, ("some.",))

    def use(self):
        told = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stderr(told):
            warnings.simplefilter("always")
            warnings.showwarning = show_warning  # as commands do
            refs = collect(str(self.place))
            batches = Batches(refs, Preprocess(16), 2)
            used = [name for batch in batches for name in batch.names]
            lost = [skip.name for skip in batches.skipped]
        assert sorted([*used, *lost]) == sorted(ref.name for ref in refs)
        assert len(refs) == 3
        for line in told.getvalue().splitlines():
            assert "some." in line, f"which file? {line}"


def _saved(pixels, kind, mode):
    image = Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    elif mode == "F":
        image = Image.fromarray(pixels[..., 0].astype(np.float32) / 255)
    else:
        image = image.convert(mode)
    data = io.BytesIO()
    if kind in ("npy", "npz"):
        (np.save if kind == "npy" else np.savez)(data, np.asarray(image))
        return data.getvalue()
    exif = Image.Exif()
    exif[0x0112] = 6
    name = {"jpg": "JPEG", "tif": "TIFF"}.get(kind, kind.upper())
    image.save(data, name, **({"exif": exif} if kind in ("png", "jpg", "webp") else {}))
    return data.getvalue()


def _png(random, data):
    """Change a chunk of a PNG and make its checksum right."""
    chunks, at = [], 8
    while at < len(data):
        size = struct.unpack(">I", data[at : at + 4])[0]
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    i = random.randrange(len(chunks))
    name, body = chunks[i]
    if random.random() < 0.2:
        chunks.insert(random.randrange(len(chunks)), chunks[i])
    elif random.random() < 0.2:
        del chunks[i]
    else:
        chunks[i] = name, mutated_bytes(random, body)
    whole = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    ]
    return data[:8] + b"".join(whole)
