"""Pictures of more than 8 bits: windows of values, and full depth for other preprocessings."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import vtcav
from vtcav import ImageError, Preprocess
from vtcav.datasets.patches import Box, Patches, PatchImage
from vtcav.explainer.learning.learning_cache import preprocess_key
from vtcav.images.batches import Batches, prepared
from vtcav.images.listing import collect
from vtcav.images.preprocess import to_tensor, without_window
from vtcav.images.references import ImageRef, write_picture
from vtcav.images.signature import same_preprocessing, signature

TWELVE = np.array([[0, 819, 2048, 3276, 4095, 60000]], np.uint16)


def greys(path, preprocess):
    """The shades of the only row, 0 to 255."""
    _, x = prepared(preprocess, collect(path)[0])
    assert (x[0] == x[1]).all()
    assert (x[0] == x[2]).all()
    return (x[0, 0] * 255).round().int().tolist()


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.tiff"])
def test_twelve_bits_in_a_file_of_sixteen(tmp_path, name):
    Image.fromarray(TWELVE).save(tmp_path / name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # 819 / 4095 * 255 = 51, 2048 / 4095 * 255 = 127.53, 3276 / 4095 * 255 = 204
        assert greys(tmp_path / name, Preprocess(None, window=(0, 4095))) == [
            *(0, 51, 128, 204, 255, 255)
        ]
        # (2048 - 1000) / 2000 * 255 = 133.62
        assert greys(tmp_path / name, Preprocess(None, window=(1000, 3000))) == [
            *(0, 0, 134, 255, 255, 255)
        ]


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_negative_values_as_of_hounsfield_units(tmp_path, kind):
    values = np.array([[-1024, -160, -60, 40, 240, 3000]], kind)
    Image.fromarray(values).save(tmp_path / "ct.tif")
    # 100 / 400 * 255 = 63.75, 200 / 400 * 255 = 127.5, to the even number
    assert greys(tmp_path / "ct.tif", Preprocess(None, window=(-160, 240))) == [
        *(0, 0, 64, 128, 255, 255)
    ]
    with pytest.raises(ImageError, match=r"which values are black and white: .*window="):
        prepared(Preprocess(None), collect(tmp_path / "ct.tif")[0])


def test_without_a_window_the_rules_are_fixed(tmp_path):
    Image.fromarray(TWELVE).save(tmp_path / "x.png")
    assert greys(tmp_path / "x.png", Preprocess(None)) == [0, 3, 8, 13, 16, 233]
    assert "window" not in Preprocess(8).describe()
    assert preprocess_key(Preprocess(8)) == (
        'vtcav.Preprocess {"crop_pct": 1.0, "fill": [0, 0, 0], "interpolation": "bilinear", '
        '"mean": [0.0, 0.0, 0.0], "resize": "crop", "size": [8, 8], "std": [1.0, 1.0, 1.0]}'
    )


def test_eight_bits_have_a_window_too(tmp_path):
    Image.fromarray(np.array([[0, 50, 100, 150, 255]], np.uint8)).save(tmp_path / "x.png")
    assert greys(tmp_path / "x.png", Preprocess(None, window=(50, 150))) == [0, 0, 128, 255, 255]
    colour = Image.new("RGB", (1, 1), (60, 100, 240))
    assert Preprocess(None, window=(50, 150)).rgb(colour).getpixel((0, 0)) == (26, 128, 255)
    with pytest.raises(ImageError, match=r"has 8 bits, and the window \(0, 4095\) is of deeper"):
        prepared(Preprocess(None, window=(0, 4095)), collect(tmp_path / "x.png")[0])


@pytest.mark.parametrize(
    "window", [(4095, 0), (1, 1), (0, float("nan")), (0, float("inf")), (1,), "ab", 4095, (0, "x")]
)
def test_other_windows_are_refused(window):
    with pytest.raises(ImageError, match="window"):
        Preprocess(8, window=window)


def test_a_window_is_part_of_what_a_preprocessing_is():
    ends = [None, (0, 4095), (0, 4000), (5, 4095), (0, 0.01), (0, 0.02), (0.001, 0.011)]
    made = [Preprocess(16, window=window) for window in ends]
    assert len({preprocess_key(each) for each in made}) == len(made)
    marks = [signature(each) for each in made]
    for i, one in enumerate(marks):
        assert [same_preprocessing(one, other) for other in marks] == [i == j for j in range(7)]
    assert Preprocess(**made[1].describe()) == made[1]
    assert without_window(made[1]) == made[0]


def test_callables_get_the_values_of_the_file(tmp_path):
    Image.fromarray(np.tile(TWELVE, (6, 1))).save(tmp_path / "x.png")
    modes = []

    def own(image):
        modes.append(image.mode)
        values = np.asarray(image).astype(np.float32) / 4095
        values = values if values.ndim == 3 else values[..., None].repeat(3, 2)
        return torch.from_numpy(values).permute(2, 0, 1)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (batch,) = Batches(collect(tmp_path), own, 4)
    assert modes[0] == "I;16"
    torch.testing.assert_close(batch.x[0, 0, 0], torch.from_numpy(TWELVE[0] / 4095).float())
    assert batch.pictures[0].mode == "RGB"


@pytest.mark.parametrize("resized", [False, True])
def test_callables_that_convert_get_no_clipped_picture(tmp_path, resized):
    """Pillow's convert cuts 16 bits off at 255."""
    values = np.array([[0, 25700, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "x.png")

    def own(image):
        image = image.resize((3, 1)) if resized else image
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255

    x = to_tensor(own, collect(tmp_path / "x.png")[0].load(), "x.png")
    assert (x[:, 0] * 255).round().int().tolist() == [[0, 100, 255]] * 3


def test_callables_for_rgb_alone_get_rgb(tmp_path):
    Image.fromarray(TWELVE[:, :5]).save(tmp_path / "x.png")

    def own(image):
        red, green, blue = image.split()  # fails for one channel
        return torch.from_numpy(np.stack([red, green, blue])).float() / 255

    picture = collect(tmp_path / "x.png")[0].load()
    with pytest.warns(UserWarning, match=r"no value above 4095: .* window=\(0, 4095\)"):
        assert to_tensor(own, picture, str(tmp_path / "x.png")).shape == (3, 1, 5)


def test_sixteen_bits_of_colour_go_through_a_window(tmp_path):
    values = np.random.default_rng(0).integers(0, 4096, (4, 5, 3), np.uint16)
    cv2 = pytest.importorskip("cv2")
    cv2.imwrite(str(tmp_path / "x.png"), values[..., ::-1])
    ref = collect(tmp_path / "x.png")[0]
    _, x = prepared(Preprocess(None, window=(0, 4095)), ref)
    assert (x.permute(1, 2, 0).numpy() == (values / 4095).astype(np.float32)).all()
    with pytest.warns(UserWarning, match=r"no value above 4095: .* window=\(0, 4095\)"):
        prepared(Preprocess(None), ref)


def test_patches_keep_their_depth(tmp_path):
    values = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    Image.fromarray(values).save(tmp_path / "x.png")
    ref = collect(tmp_path / "x.png")[0]
    patch = PatchImage.of(ref, Box(0, 0, 40, 40), Patches(pad=0))
    assert (np.asarray(patch.load()) == values[:40, :40]).all()
    file = write_picture(patch.load(), tmp_path, "patch")
    assert (np.asarray(collect(file)[0].load()) == values[:40, :40]).all()
    grey = PatchImage.of(ref, Box(0, 0, 40, 40), Patches(pad=0, outside="grey"))
    assert grey.load().getpixel((0, 39)) == (10, 10, 10)  # 39 * 64 / 257 = 9.7
    with pytest.raises(ImageError, match=r"cannot be applied: .* keep their surroundings"):
        prepared(Preprocess(None, window=(0, 4095)), grey)


def test_pictures_in_memory_differ_by_all_their_bits():
    one, other = (Image.fromarray(np.full((4, 4), value, np.uint16)) for value in (1000, 1001))
    assert ImageRef("a", one).digest() != ImageRef("a", other).digest()


def test_a_turned_and_a_transparent_picture(tmp_path):
    image = Image.fromarray(np.array([[100, 200]], np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6  # its left is the top
    image.save(tmp_path / "x.png", exif=exif)
    window = Preprocess(None, window=(100, 200))
    picture = window.rgb(collect(tmp_path / "x.png")[0].load())
    assert picture.size == (1, 2)
    assert picture.getpixel((0, 1)) == (255, 255, 255)
    image.save(tmp_path / "clear.png", transparency=100)
    assert greys(tmp_path / "clear.png", window) == [255, 255]


def test_a_network_explains_through_the_window(tmp_path):
    """The same picture in 8 bits, and in 12 bits of 16 through a window, has the same numbers."""
    eight = np.random.default_rng(0).integers(0, 256, (24, 32, 32), np.uint8)
    for i, values in enumerate(eight):
        for kind, stretched in (("eight", values), ("twelve", values.astype(np.uint16) * 16 + 100)):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(stretched).save(tmp_path / kind / f"{i:02d}.png")
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(), torch.nn.Linear(8, 2),
    )  # fmt: skip
    tables = []
    for kind, window in (("eight", None), ("twelve", (100, 100 + 255 * 16))):
        model = vtcav.Classifier(net, ["a", "b"], Preprocess(32, window=window), device="cpu")
        explainer = vtcav.VisualTCAV(model, layers=["1"])
        files = sorted((tmp_path / kind).iterdir())
        explainer.fit({"c": files[:11]}, files[11:22], null_cavs=0, min_examples=2)
        local = explainer.explain(files[23])
        tables.append(local.attributions["attribution"])
        assert local.picture.std() > 50
    assert tables[0].tolist() == tables[1].tolist()


def pgm(path, maximum, values):
    path.write_bytes(b"P5 %d 1 %d\n" % (len(values), maximum) + np.array(values, ">u2").tobytes())


def test_values_are_those_of_the_file_whatever_pillow_makes_of_them(tmp_path):
    pgm(tmp_path / "x.pgm", 4095, [0, 819, 4095])  # Pillow scales them to 65535
    assert greys(tmp_path / "x.pgm", Preprocess(None, window=(0, 4095))) == [0, 51, 255]
    assert greys(tmp_path / "x.pgm", Preprocess(None, window=(0, 819))) == [0, 255, 255]
    assert greys(tmp_path / "x.pgm", Preprocess(None)) == [0, 51, 255]
    tifffile = pytest.importorskip("tifffile")
    dark = np.array([[0, 16384, 65535]], np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", dark, photometric="miniswhite")  # as of X-ray films
    assert greys(tmp_path / "x.tif", Preprocess(None)) == [255, 191, 0]
    # 16384 / 32768 is 0.5, of which nothing is rounded: 127.5, to the even number
    assert greys(tmp_path / "x.tif", Preprocess(None, window=(0, 32768))) == [255, 128, 0]
    tifffile.imwrite(tmp_path / "i.tif", np.array([[-100, 0, 100]], np.int8))
    assert greys(tmp_path / "i.tif", Preprocess(None, window=(-100, 100))) == [0, 128, 255]
    tifffile.imwrite(tmp_path / "u.tif", np.array([[3_000_000_000]], np.uint32))
    with pytest.raises(ImageError, match="above 2147483647"):
        prepared(Preprocess(None, window=(0, 4e9)), collect(tmp_path / "u.tif")[0])
