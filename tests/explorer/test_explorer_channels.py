"""The explorer on networks beyond RGB: many channels, 16 bits and DICOM, and what it refuses."""

import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import vtcav
from tests.helpers.explorers import TOKEN, encoded
from tests.helpers.medical import dicom
from tests.helpers.small import CLASSES, with_weights
from vtcav.cli import main
from vtcav.errors import ConceptError, ImageError
from vtcav.explorer import ConceptSpec, Example, Session, create_app
from vtcav.explorer.erasing import erase_region
from vtcav.explorer.export import save_folders
from vtcav.explorer.pictures import Pictures
from vtcav.images.listing import collect

testclient = pytest.importorskip("starlette.testclient")

BOXES = [(2, 2, 18, 18), (14, 4, 34, 24), (8, 16, 30, 38), (20, 20, 44, 44), (0, 24, 20, 44)]
TILES = vtcav.Preprocess(16, channels=5, window=(0, 10000), shown=(3, 2, 1))
FILMS = vtcav.Preprocess(16, channels=1)


def model(preprocess):
    net = nn.Sequential(
        nn.Conv2d(preprocess.count, 4, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(96, 3),
    )
    return vtcav.Classifier(with_weights(net, 0), CLASSES, preprocess)


def values(seed, count, top, size=48):
    """Blobs of another size for each picture, [size, size, count]."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (rng.integers(3, 12), 6, count)).astype(np.uint8)
    bands = [Image.fromarray(coarse[..., c]).resize((size, size)) for c in range(count)]
    return np.stack([np.asarray(band) for band in bands], -1).astype(np.float32) / 255 * top


@pytest.fixture
def tiles(tmp_path):
    folder = tmp_path / "tiles"
    folder.mkdir()
    for i in range(11):
        np.save(folder / f"{i:02}.npy", values(i, 5, 10000).astype(np.uint16))
    return folder


@pytest.fixture
def films(tmp_path):
    pytest.importorskip("pydicom")
    folder = tmp_path / "films"
    folder.mkdir()
    window = {"WindowCenter": 1000, "WindowWidth": 2000, "PhotometricInterpretation": "MONOCHROME1"}
    for i in range(11):
        dicom(folder / f"{i:02}.dcm", values(i, 1, 2500)[..., 0].astype(np.uint16), **window)
    return folder


def spec(session, count=5):
    pictures = session.pictures.listed()
    boxes = [Example(picture=pictures[i].key, box=BOXES[i]) for i in range(count)]
    return ConceptSpec(name="blob", examples=tuple(boxes))


@pytest.mark.parametrize(("source", "preprocess"), [("tiles", TILES), ("films", FILMS)])
def test_numbers_are_those_of_explain(source, preprocess, request):
    folder = request.getfixturevalue(source)
    session = Session(model(preprocess), ["1", "3"], negatives=str(folder), images=str(folder))
    key = session.pictures.listed()[0].key
    session.integrate(key, "1", [0, 1])
    found = session.explain(key, spec(session), "1", [0, 1])

    patches = [ref.load().crop(box) for ref, box in zip(collect(folder), BOXES, strict=False)]
    refs = [vtcav.images.ImageRef(f"{i}", patch) for i, patch in enumerate(patches)]
    if source == "films":  # what DICOM says of its values stays with the patch
        x = [session.pictures.ref(e.picture, e.box).load() for e in spec(session).examples]
        expected = [preprocess(patch) for patch in patches]
        assert all((preprocess(a) == b).all() for a, b in zip(x, expected, strict=True))
        return
    explainer = vtcav.VisualTCAV(model(preprocess), ["1", "3"], steps=50, progress=False)
    explainer.fit({"blob": refs}, str(folder))
    local = explainer.explain(collect(folder)[0], classes=[0, 1])
    expected = local.attributions.query("layer == '1'")
    got = [row.attribution for row in found.rows]
    np.testing.assert_allclose(got, expected["attribution"], atol=2e-6)
    np.testing.assert_allclose(found.M, local.concept_map("1", "blob"), atol=1e-5)


@pytest.mark.parametrize(
    ("preprocess", "count", "said"),
    [(TILES, 0, "drawings"), (TILES, 11, "crops of the photos")],
)
def test_stand_ins_have_the_networks_channels(preprocess, count, said, tiles):
    images = sorted(tiles.iterdir())[:count] or None
    session = Session(model(preprocess), ["1"], images=images, steps=10)
    assert said in session.negatives.described
    assert session.negatives.stand_in
    session.warm()
    x = preprocess(session.shared[0].load())
    assert x.shape == (5, 16, 16)
    assert 0.05 < float(x.mean()) < 0.95
    assert not session._features.skipped(session.shared)


def test_a_page_states_what_is_shown_and_shows_it(tiles, tmp_path):
    session = Session(model(TILES), ["1"], images=str(tiles), steps=10)
    client = app(session, tmp_path)
    about = client.get("/api/session").json()
    assert about["shown"] == "channels 3, 2, 1 of 0 to 4, as red, green and blue"
    key = about["pictures"][0]["key"]
    shown = Image.open(io.BytesIO(client.get(f"/api/pictures/{key}").content)).convert("RGB")
    expected = np.load(tiles / "00.npy")[..., [3, 2, 1]] / 10000 * 255
    shown = np.asarray(shown, float)  # WebP with losses
    assert np.abs(shown - expected).mean() < 10 < 30 < np.abs(shown - expected[..., ::-1]).mean()
    erased = client.post("/api/erase", json={"picture": key, "classes": [0], "box": BOXES[0]})
    assert erased.json()["before"].startswith("data:image/")


def app(session, folder):
    made = create_app(session, token=TOKEN, hosts=["127.0.0.1:9"], output=folder)
    headers = {"X-Vtcav-Token": TOKEN}
    return testclient.TestClient(made, base_url="http://127.0.0.1:9", headers=headers)


def test_uploads_are_read_as_the_commands_read_them(tiles, tmp_path):
    session = Session(model(TILES), ["1"], images=str(tiles), steps=10)
    client = app(session, tmp_path)
    added = client.post("/api/pictures?name=t.npy", content=(tiles / "03.npy").read_bytes()).json()
    assert (added["width"], added["height"]) == (48, 48)
    looked = client.get(f"/api/look/{added['key']}").json()
    same = client.get(f"/api/look/{session.pictures.listed('sample')[3].key}").json()
    assert looked["predictions"] == same["predictions"]
    wrong = client.post("/api/pictures?name=p.png", content=encoded(Image.new("RGB", (20, 20))))
    assert wrong.status_code == 400
    assert "expected 5 channels, got RGB (20 x 20)" in wrong.json()["error"]
    erased = erase_region(session, added["key"], BOXES[0], [0])
    assert erased.picture.before.shape == (16, 16, 3)


def test_a_dicom_upload(films, tmp_path):
    session = Session(model(FILMS), ["1"], images=str(films), steps=10)
    added = session.pictures.upload((films / "02.dcm").read_bytes(), "film")
    x, same = (FILMS(ref.load()) for ref in (added.ref, collect(films)[2]))
    assert (x == same).all()
    assert float(x.std()) > 0.05


def archive(array):
    file = io.BytesIO()
    np.savez_compressed(file, image=array)
    return file.getvalue()


def claiming(shape):
    """An archive whose array says that it is of a shape, and is not."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("image.npy", header.getvalue())
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (claiming((30000, 20000)), "30000"),
        (claiming((13, 7000, 7000)), "637 million values"),
        (claiming((3, 21000, 64)), "64 x 21000 pixels"),
        (archive(np.zeros((4, 8, 8, 2), np.float32)), "it is a volume of 8 x 8 x 4"),
        (bytes(128) + b"DICM" + b"1.2.840.10008.1.2.1.99", "compressed as a whole"),
        (bytes(344) + b"n+1\0" + bytes(100), "NIfTI volume"),
        (b"PK\x03\x04 and no archive", "cannot be decoded"),
    ],
)
def test_uploads_that_are_refused(data, said):
    with pytest.raises(ImageError, match=said):
        Pictures(TILES).upload(data, "a")


def test_a_sample_of_other_channels_is_left_out_by_name(tiles):
    np.save(tiles / "odd.npy", np.zeros((48, 48, 4), np.uint16))
    session = Session(model(TILES), ["1"], images=str(tiles), steps=10)
    [skip] = session.skipped
    assert "odd.npy" in skip.name
    assert "expected 5 channels, got 4 channels" in skip.reason


@pytest.mark.parametrize(("source", "preprocess"), [("tiles", TILES), ("films", FILMS)])
def test_saved_patches_give_the_same_input(source, preprocess, request, tmp_path):
    folder = request.getfixturevalue(source)
    session = Session(model(preprocess), ["1"], images=str(folder), steps=10)
    refs = [session.pictures.ref(e.picture, e.box) for e in spec(session).examples]
    refs.append(session.pictures.listed()[0].ref)
    save_folders(tmp_path / "out", "blob", {"concepts": refs}, preprocess, replace=False)
    saved = [preprocess(ref.load()) for ref in collect(tmp_path / "out/concepts/blob")]
    assert all((x == preprocess(ref.load())).all() for x, ref in zip(saved, refs, strict=True))


def test_patches_whose_values_no_file_explains_are_refused(films, tmp_path):
    window = vtcav.Preprocess(16, channels=1, window=(0, 2500))
    session = Session(model(window), ["1"], images=str(films), steps=10)
    refs = [session.pictures.ref(e.picture, e.box) for e in spec(session).examples]
    with pytest.raises(ConceptError, match=r"00\.dcm .*save the concept as a CAV file"):
        save_folders(tmp_path / "out", "blob", {"concepts": refs}, window, replace=False)


def test_the_command_to_go_on_with_says_how_the_network_is_loaded(tmp_path, monkeypatch):
    given = {}
    monkeypatch.setattr("vtcav.explorer.serve", lambda model, **more: given.update(more))
    monkeypatch.setattr("vtcav.cli.options.Arguments.load", lambda self: None)
    text = "{size: 16, channels: 5}"
    words = ["--model", "python:m:build", "--preprocess", text, "--binary", "--task=labels"]
    assert main(["explore", *words, "--images", "tiles", "--no-browser"]) == 0
    assert given["described"] == [
        *("python:m:build", "--preprocess", text, "--binary", "--task=labels")
    ]


class WithAge(nn.Module):
    """Scores of an image and a number."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU())
        self.head = nn.Linear(5, 3)

    def forward(self, images, age):
        return self.head(torch.cat([self.body(images).mean((2, 3)), age], 1))


def test_patches_have_the_second_input_of_their_photo(tmp_path):
    for i in range(11):
        pixels = values(i, 3, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i:02}.png")
    ages = {f"{i:02}.png": [i / 11] for i in range(11)}
    made = vtcav.Classifier(WithAge(), CLASSES, vtcav.Preprocess(16), second=ages)
    session = Session(made, ["network.body.1"], images=str(tmp_path), steps=10)
    assert "crops of the photos" in session.negatives.described
    key = session.pictures.listed()[3].key
    session.integrate(key, "network.body.1", [0])
    found = session.explain(key, spec(session), "network.body.1", [0])
    assert not found.record.skipped_examples
    assert not found.record.skipped_negatives
    patch = session.pictures.ref(key, BOXES[0])
    x = made.preprocess.named(patch.name)(patch.load())
    assert float(x[3].flatten()[0]) == pytest.approx(3 / 11)
