"""Images and labels in NPZ archives, HDF5 files and tar shards."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from vtcav import DatasetError, ImageError, Preprocess, SkippedImageWarning
from vtcav.datasets import from_arrays, from_webdataset
from vtcav.images.batches import Batches

RNG = np.random.default_rng(0)


def test_an_archive_as_of_medmnist(tmp_path):
    images = RNG.integers(0, 256, (6, 8, 8, 3), np.uint8)
    labels = np.array([[0], [1], [1], [2], [0], [1]], np.uint8)
    np.savez(tmp_path / "path.npz", train_images=images, train_labels=labels, val_images=images[:1])
    found = from_arrays(
        tmp_path / "path.npz", images="train_images", labels="train_labels",
        classes=["adipose", "debris", "mucus", "unused"],
    )  # fmt: skip
    assert {name: len(refs) for name, refs in found.items()} == {
        "adipose": 2, "debris": 3, "mucus": 1,
    }  # fmt: skip
    ref = found["debris"][1]
    assert ref.name.endswith("path.npz[train_images][2]")
    assert (np.asarray(ref.load()) == images[2]).all()
    assert ref.digest() != found["debris"][0].digest()
    with pytest.raises(DatasetError, match="there is no array 'images'; there are 'train_images'"):
        from_arrays(tmp_path / "path.npz")


def test_deep_arrays_of_many_channels_in_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    images = RNG.integers(0, 10000, (4, 5, 16, 18)).astype(np.uint16)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["images"], file["labels"] = images, ["field", "forest", "field", "field"]
        file["many"] = np.array([[1, 0], [1, 1], [0, 0], [0, 1]])
    found = from_arrays(tmp_path / "x.h5", "field")
    preprocess = Preprocess(None, channels=5, window=(0, 10000))
    (batch,) = Batches(found["field"], preprocess, 8)
    assert batch.x.shape == (3, 5, 16, 18)
    assert (batch.x[1].numpy() == (images[2] / 10000).astype(np.float32)).all()
    with pytest.warns(UserWarning, match="1 of 4 rows"):
        both = from_arrays(tmp_path / "x.h5", labels="many", classes=["wet", "dry"])
    assert {name: len(refs) for name, refs in both.items()} == {"wet": 2, "dry": 2}


def test_files_that_do_not_fit_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", images=np.zeros((3, 4, 4)), labels=np.zeros(2))
    with pytest.raises(DatasetError, match=r"as many labels .* got images .* labels \[2\]"):
        from_arrays(tmp_path / "x.npz")
    (tmp_path / "x.txt").write_text("no arrays")
    with pytest.raises(DatasetError, match="expected an NPZ archive or an HDF5 file"):
        from_arrays(tmp_path / "x.txt")
    with pytest.raises(DatasetError, match="cannot read"):
        from_arrays(tmp_path / "absent.npz")
    (tmp_path / "short.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(40))
    with pytest.raises(DatasetError, match="cannot read"):
        from_arrays(tmp_path / "short.h5")


def test_damaged_archives_are_named(tmp_path):
    np.savez(tmp_path / "x.npz", images=np.ones((3, 4, 4)), labels=np.zeros(3))
    whole = (tmp_path / "x.npz").read_bytes()
    at = whole.index(np.ones(4).tobytes())
    for name, data in (("cut.npz", whole[:-40]), ("changed.npz", whole[:at] + whole[at + 1 :])):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DatasetError, match=f"cannot read '.*{name}'"):
            from_arrays(tmp_path / name)
    np.savez(tmp_path / "none.npz", images=np.ones((3, 4, 4)), labels=np.zeros((3, 2), int))
    with pytest.raises(DatasetError, match=r"none of the 3 rows of '?.*none.npz'? has a label"):
        from_arrays(tmp_path / "none.npz", classes=["wet", "dry"])


def test_hdf5_arrays_of_other_files_and_groups_are_left_out(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["images"] = np.ones((2, 4, 4))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["labels"] = [0, 1]
        file["images"] = h5py.ExternalLink("secret.h5", "images")
        file.create_group("more")
    for name in ("images", "more"):
        with pytest.raises(DatasetError, match=f"no array '{name}'.* there are 'labels' in .*x.h5"):
            from_arrays(tmp_path / "x.h5", images=name)


def shard(path, samples):
    with tarfile.open(path, "w") as file:
        for name, content in samples:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def png(value):
    buffer = io.BytesIO()
    Image.new("L", (4, 4), value).save(buffer, "PNG")
    return buffer.getvalue()


def test_shards_are_read_where_they_are(tmp_path):
    for i in range(2):
        samples = []
        for n in range(3):
            samples += [(f"a/{n}.png", png(10 * i + n)), (f"a/{n}.cls", str(n % 2).encode())]
        shard(tmp_path / f"train-{i:03d}.tar", [*samples, ("a/9.cls", b"1")])
    for pattern in ("train-{000..001}.tar", "train-*.tar"):
        found = from_webdataset(str(tmp_path / pattern), classes=["even", "odd"])
        assert {name: len(refs) for name, refs in found.items()} == {"even": 4, "odd": 2}
    assert [ref.load().getpixel((0, 0))[0] for ref in found["even"]] == [0, 2, 10, 12]
    assert found["odd"][1].name.endswith("train-001.tar/a/1.png")
    content = (tmp_path / "train-001.tar").read_bytes()
    (tmp_path / "train-001.tar").write_bytes(content[:1600])
    with pytest.raises(ImageError, match="ends before the image does"):
        found["even"][3].load()
    with pytest.warns(SkippedImageWarning, match="1 of 4"):
        list(Batches(found["even"], Preprocess(4), 4))


def test_labels_of_shards_in_json_and_text(tmp_path):
    meta = [json.dumps({"species": name}).encode() for name in ("zebra", "horse")]
    path = shard(
        tmp_path / "x.tar",
        [("1.jpg", png(1)), ("1.json", meta[0]), ("2.jpg", png(2)), ("2.json", meta[1]),
         ("3.jpg", png(3))],
    )  # fmt: skip
    with pytest.warns(UserWarning, match="1 of 3 rows"):
        found = from_webdataset(path, label="json", key="species")
    assert sorted(found) == ["horse", "zebra"]
    (tmp_path / "x.tar.gz").write_bytes(b"\x1f\x8b" + bytes(30))
    with pytest.raises(DatasetError, match="not compressed"):
        from_webdataset(tmp_path / "x.tar.gz")
    with pytest.raises(DatasetError, match="no shard"):
        from_webdataset(tmp_path / "none-*.tar")
    empty = shard(tmp_path / "empty.tar", [("1.cls", b"1")])
    with pytest.raises(DatasetError, match="no images in 1 shards"):
        from_webdataset(empty)
