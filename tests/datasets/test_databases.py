"""Pictures and labels in LMDB databases."""

import io
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from vtcav import DatasetError, ImageError
from vtcav.datasets import from_lmdb

lmdb = pytest.importorskip("lmdb")
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 9, 11, 3), np.uint8)


def encoded(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def database(path, values, *, folder=True):
    with lmdb.open(str(path), map_size=2**24, subdir=folder) as made, made.begin(write=True) as put:
        for key, value in values.items():
            put.put(key.encode(), value)
    return path


@pytest.mark.parametrize("folder", [True, False])
def test_labels_beside_the_pictures(tmp_path, folder):
    values = {f"{i:03}.png": encoded(PIXELS[i]) for i in range(5)}
    values |= {f"{i:03}.cls": str(i % 2).encode() for i in range(5)} | {"__len__": b"5"}
    path = database(tmp_path / "x.lmdb", values, folder=folder)
    found = from_lmdb(path, classes=["cat", "dog"])
    assert {name: len(refs) for name, refs in found.items()} == {"cat": 3, "dog": 2}
    ref = pickle.loads(pickle.dumps(found["dog"][1]))
    assert ref.name.endswith("x.lmdb[003.png]")
    assert (np.asarray(ref.load()) == PIXELS[3]).all()
    assert ref.digest() != found["dog"][0].digest()


def test_labels_in_keys_in_json_and_by_a_callable(tmp_path):
    array = io.BytesIO()
    np.save(array, np.arange(24, dtype=np.uint16).reshape(4, 6))
    path = database(tmp_path / "x", {
        "train/cat/1.png": encoded(PIXELS[0]), "train/dog/2.npy": array.getvalue(),
        "train/dog/2.json": json.dumps({"kind": "wolf"}).encode(), "3": encoded(PIXELS[1]),
    })  # fmt: skip
    with pytest.warns(UserWarning, match="1 of 3 rows"):
        found = from_lmdb(path, label="folder")
    assert {name: len(refs) for name, refs in found.items()} == {"cat": 1, "dog": 1}
    assert np.asarray(found["dog"][0].load())[3, 5] == 23
    with pytest.warns(UserWarning, match="2 of 3 rows"):
        assert list(from_lmdb(path, label="json", key="kind")) == ["wolf"]
    own = from_lmdb(path, "three", label=lambda key: "three" if key == "3" else "other")
    assert own["three"][0].name.endswith("[3]")


def test_what_is_no_database_is_refused_by_name(tmp_path):
    with pytest.raises(DatasetError, match=r"a folder with data\.mdb, got .*nowhere"):
        from_lmdb(tmp_path / "nowhere")
    (tmp_path / "text.lmdb").write_bytes(b"no database" * 900)
    with pytest.raises(DatasetError, match=r"cannot open the database .*text\.lmdb"):
        from_lmdb(tmp_path / "text.lmdb")
    path = database(tmp_path / "n.lmdb", {"a": b"5"}, folder=False)
    with pytest.raises(DatasetError, match=r"no value in .*n\.lmdb.* is a picture"):
        from_lmdb(path)
    big = {f"{i}/{i}.png": encoded(RNG.integers(0, 256, (90, 90, 3), np.uint8)) for i in range(9)}
    whole = database(tmp_path / "big.lmdb", big, folder=False).read_bytes()
    (tmp_path / "cut.lmdb").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"cut\.lmdb.* is cut off"):
        from_lmdb(tmp_path / "cut.lmdb")


def test_a_picture_that_is_gone_is_named(tmp_path):
    path = database(tmp_path / "x.lmdb", {"a/1.png": encoded(PIXELS[0])}, folder=False)
    [ref] = from_lmdb(path, label="folder")["a"]
    assert ref.load().size == (11, 9)
    deletes = (  # in a process of its own: LMDB opens a database once in each
        "import lmdb, sys\n"
        "with lmdb.open(sys.argv[1], subdir=False) as made, made.begin(write=True) as put:\n"
        "    put.delete(b'a/1.png')\n"
    )
    subprocess.run([sys.executable, "-c", deletes, str(path)], check=True)
    with pytest.raises(ImageError, match=r"a/1\.png.*no longer has this key"):
        ref.load()


@pytest.mark.parametrize("kind", [0, 1, 4])  # of a page: none, a branch, an overflow
def test_a_damaged_database_ends_another_process(tmp_path, kind):
    values = {f"{i:03}.png": encoded(PIXELS[i % 6]) for i in range(300)}
    path = database(tmp_path / "x.lmdb", values, folder=False)
    data = bytearray(path.read_bytes())
    for page in range(2 * 4096, len(data), 4096):
        if data[page + 10] == 2:  # a leaf
            data[page + 10] = kind
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"cannot read the database .*x\.lmdb"):
        from_lmdb(path, label=lambda key: "a")
