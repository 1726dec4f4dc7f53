"""Pictures of 1 to C channels, from files of many kinds to the network's input."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from vtcav import ImageError, Preprocess
from vtcav.datasets.patches import Box, Patches, PatchImage
from vtcav.explainer.learning.learning_cache import preprocess_key
from vtcav.images.batches import prepared
from vtcav.images.decoding import BandPicture
from vtcav.images.listing import collect
from vtcav.images.opening import picture_of
from vtcav.images.preprocess import to_tensor
from vtcav.images.references import ImageRef, write_picture
from vtcav.images.signature import same_preprocessing, signature

tifffile = pytest.importorskip("tifffile")


def values_of(count, kind=np.uint16, size=(6, 9), seed=0):
    return np.random.default_rng(seed).integers(0, 4096, (*size, count)).astype(kind)


def write(path, values):
    """Write values [H, W, C] as the suffix says; "pages" and "planes" are kinds of TIFF."""
    kind = path.stem
    if path.suffix == ".npy":
        np.save(path, np.moveaxis(values, -1, 0) if kind == "first" else values)
    elif path.suffix == ".npz":
        np.savez_compressed(path, image=values, label=3)
    elif kind == "pages":
        tifffile.imwrite(path, np.moveaxis(values, -1, 0), photometric="minisblack")
    elif kind == "planes":
        planes = np.moveaxis(values, -1, 0)
        tifffile.imwrite(path, planes, photometric="minisblack", planarconfig="separate")
    else:
        options = {"compression": "zlib"} if kind == "packed" else {}
        tifffile.imwrite(path, values, photometric="minisblack", planarconfig="contig", **options)
    return path


FORMS = ["x.npy", "first.npy", "x.npz", "x.tif", "packed.tif", "planes.tif", "pages.tif"]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("count", [2, 5, 13])
def test_values_of_the_file_reach_the_network_exactly(tmp_path, name, count):
    values = values_of(count, size=(16, 19))
    ref = collect(write(tmp_path / name, values))[0]
    picture, x = prepared(Preprocess(None, channels=count, window=(0, 4095)), ref)
    assert x.dtype == torch.float32
    assert (x.permute(1, 2, 0).numpy() == (values / 4095).astype(np.float32)).all()
    assert picture.mode == "RGB"
    assert picture.size == (19, 16)
    if name != "pages.tif":  # of which other programs see the first page
        assert (np.asarray(ref.load()) == values).all()


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16, np.int32])
def test_floating_point_and_negative_values(tmp_path, kind):
    values = (values_of(5, np.float64) - 1000).astype(kind)
    x = Preprocess(None, channels=5, window=(-1000, 3096))(
        collect(write(tmp_path / "x.npy", values))[0].load()
    )
    expected = ((values.astype(np.float64) + 1000) / 4096).astype(np.float32)
    assert (x.permute(1, 2, 0).numpy() == expected.clip(0, 1)).all()


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.npy"])
def test_one_channel_of_sixteen_bits(tmp_path, name):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    if name.endswith(".npy"):
        np.save(tmp_path / name, values)
    else:
        Image.fromarray(values).save(tmp_path / name)
    x = prepared(Preprocess(None, channels=1), collect(tmp_path / name)[0])[1]
    assert x.shape == (1, 256, 256)
    assert ((x[0].double() * 65535).round().numpy() == values).all()
    three = prepared(Preprocess(None, channels=3), collect(tmp_path / name)[0])[1]
    assert (three == x).all()


def test_sixteen_bits_in_four_channels_of_png(tmp_path):
    cv2 = pytest.importorskip("cv2")
    values = values_of(4)
    cv2.imwrite(str(tmp_path / "x.png"), values[..., [2, 1, 0, 3]])
    ref = collect(tmp_path / "x.png")[0]
    x = Preprocess(None, channels=4, window=(0, 4095))(ref.load())
    assert (x.permute(1, 2, 0).numpy() == (values / 4095).astype(np.float32)).all()
    assert Preprocess(None, channels=3, window=(0, 4095))(ref.load()).equal(x[:3])


def test_grey_and_rgb_become_each_other_and_nothing_else_does(tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    colour = Image.fromarray(np.random.default_rng(1).integers(0, 256, (8, 8, 3), np.uint8))
    Image.fromarray(grey).save(tmp_path / "grey.png")
    colour.save(tmp_path / "colour.png")
    of_grey = collect(tmp_path / "grey.png")[0].load()
    one, three = Preprocess(5, channels=1)(of_grey), Preprocess(5)(of_grey)
    assert one.shape == (1, 5, 5)
    assert (three == one).all()
    assert Preprocess(5, channels=3)(of_grey).equal(three)
    luma = np.asarray(colour.convert("L")).astype(np.float32) / np.float32(255)
    assert (Preprocess(None, channels=1)(colour)[0].numpy() == luma).all()
    for count in (2, 4, 13):
        with pytest.raises(ImageError, match=rf"'colour\.png': expected {count} channels, got RGB"):
            to_tensor(Preprocess(8, channels=count), colour, "colour.png")


def test_luma_of_deep_colours_is_that_of_eight_bits(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (6, 6, 3)).astype(np.uint16) * 257
    deep = Preprocess(None, channels=1)(collect(write(tmp_path / "x.npy", values))[0].load())
    shallow = Preprocess(None, channels=1)(Image.fromarray((values // 257).astype(np.uint8)))
    torch.testing.assert_close(deep, shallow, rtol=0, atol=0.51 / 255)


def test_transparency_is_a_channel_for_those_who_ask(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (6, 6, 4), np.uint8)
    Image.fromarray(values).save(tmp_path / "x.png")
    picture = collect(tmp_path / "x.png")[0].load()
    assert picture.mode == "RGB"
    x = Preprocess(None, channels=4)(picture)
    assert ((x * 255).round().byte().permute(1, 2, 0).numpy() == values).all()
    white = Image.new("RGBA", (6, 6), "white")
    on_white = Image.alpha_composite(white, Image.fromarray(values)).convert("RGB")
    assert Preprocess(None, channels=3)(picture).equal(Preprocess(None)(on_white))
    assert (np.asarray(picture) == np.asarray(on_white)).all()
    assert picture.resize((3, 3)).convert("L").size == (3, 3)


@pytest.mark.parametrize(
    ("values", "channels", "message"),
    [
        (values_of(5), 13, r"expected 13 channels, got 5 channels \(9 x 6, uint16\)"),
        (values_of(5), 1, r"expected 1 channel, got 5 channels .* of grey and RGB each becomes"),
        (values_of(5), None, r"in RGB or grey, got 5 channels .*Preprocess\(\.\.\., channels=5\)"),
        (values_of(1)[..., 0], 2, r"expected 2 channels, got 1 channel \(9 x 6\)"),
        (values_of(5, np.float32), 5, r"floating-point picture must hold values in 0\.\.1, got \["),
        (np.full((3, 4, 2), np.nan), 2, "not finite"),
        (values_of(2).astype(np.int32) + 70000, 2, r"values in 0\.\.65535, got \[70"),
        (values_of(2).astype(np.complex64), 2, "integers or floating point, got complex64"),
        (np.zeros((4, 3, 2, 1)), 2, r"it is a volume of 2 x 3 x 4: list its slices"),
        (np.zeros((2,) * 5), 2, r"\[C, D, H, W\], got \[2, 2, 2, 2, 2\]"),
        (np.zeros((40000, 30000), np.uint8)[:0], 1, r"got \[0, 30000\]"),
        (np.array([[{}]], dtype=object), 1, "integers or floating point, got object"),
    ],
)
def test_a_shape_that_does_not_fit_names_file_and_channels(tmp_path, values, channels, message):
    np.save(tmp_path / "tile.npy", values)
    with pytest.raises(ImageError, match=message) as caught:
        prepared(Preprocess(None, channels=channels), collect(tmp_path / "tile.npy")[0])
    assert "tile.npy" in str(caught.value)


def test_damaged_and_hostile_files_are_named(tmp_path):
    np.save(tmp_path / "x.npy", values_of(5))
    whole = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "short.npy").write_bytes(whole[:-7])
    (tmp_path / "header.npy").write_bytes(whole[:30])
    huge = whole.replace(b"(6, 9, 5)", b"(66666666, 99999, 5)")
    (tmp_path / "huge.npy").write_bytes(huge)
    np.savez(tmp_path / "two.npz", a=values_of(2), b=values_of(2))
    (tmp_path / "zip.npz").write_bytes(b"PK\x03\x04" + bytes(40))
    write(tmp_path / "x.tif", values_of(13, size=(40, 40)))
    (tmp_path / "short.tif").write_bytes((tmp_path / "x.tif").read_bytes()[:900])
    for name, reason in {
        "short.npy": "cannot be decoded",
        "header.npy": "cannot be decoded",
        "huge.npy": "more than the limit of",
        "two.npz": "an archive that holds 'a', 'b'",
        "zip.npz": "cannot be decoded",
        "short.tif": "cannot be decoded",
    }.items():
        with pytest.raises(ImageError, match=f"{name}.*{reason}"):
            collect(tmp_path / name)[0].load()


def test_percentiles_windows_by_channel_and_values_beyond_them():
    values = values_of(2, size=(20, 20)).astype(np.float64)
    picture = BandPicture.of(values)
    low, high = np.percentile(values, (5, 95), axis=(0, 1))
    x = Preprocess(None, channels=2, percentiles=(5, 95))(picture).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(x, ((values - low) / (high - low)).clip(0, 1), rtol=1e-6)
    two = Preprocess(None, channels=2, window=[(0, 100), (1000, 3000)], clip=False)
    x = two(picture).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(x, (values - [0, 1000]) / [100, 2000], rtol=1e-5, atol=1e-6)
    assert x.max() > 30
    flat = BandPicture.of(np.full((3, 3, 2), 7, np.uint16))
    assert (Preprocess(None, channels=2, percentiles=(0, 100))(flat) == 0).all()


def test_dark_pictures_are_reported_at_full_depth_too(tmp_path):
    Image.fromarray(values_of(1)[..., 0]).save(tmp_path / "x.png")
    with pytest.warns(UserWarning, match=r"no value above 40\d\d: .* window=\(0, 4095\)"):
        prepared(Preprocess(None, channels=1), collect(tmp_path / "x.png")[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepared(Preprocess(None, channels=1, window=(0, 5000)), collect(tmp_path / "x.png")[0])


def test_geometry_is_that_of_each_channel():
    values = np.random.default_rng(0).integers(0, 256, (30, 40, 5), np.uint8)
    options = {"resize": "pad", "mean": [0.1, 0.2, 0.3, 0.4, 0.5], "std": [1, 2, 3, 4, 5]}
    x = Preprocess(20, channels=5, fill=(1, 2, 3, 4, 5), **options)(BandPicture.of(values))
    assert x.shape == (5, 20, 20)
    for c in range(5):
        one = {"mean": options["mean"][c], "std": options["std"][c], "resize": "pad"}
        alone = Preprocess(20, channels=1, fill=c + 1, **one)(Image.fromarray(values[..., c]))
        assert x[c].equal(alone[0])
    deep = Preprocess(20, channels=5, **options)(BandPicture.of(values.astype(np.uint16) * 257))
    inside = (slice(None), slice(3, 17))
    scale = torch.tensor(options["std"])[:, None, None]
    assert ((deep - x)[inside] * scale).abs().max() < 1.01 / 255  # 8 bits are rounded when resized


def test_patches_and_turns_keep_all_channels(tmp_path):
    values = values_of(13, size=(12, 10))
    write(tmp_path / "x.tif", values)
    ref = collect(tmp_path / "x.tif")[0]
    patch = PatchImage.of(ref, Box(2, 3, 8, 9), Patches(pad=0)).load()
    assert (patch.values == values[3:9, 2:8]).all()
    file = write_picture(patch, tmp_path, "patch")
    assert (collect(file)[0].load().values == values[3:9, 2:8]).all()
    assert (ref.load().crop((-1, -1, 2, 2)).values[1:, 1:] == values[:2, :2]).all()
    grey = PatchImage.of(ref, Box(2, 3, 8, 9), Patches(pad=0, outside="grey"))
    with pytest.raises(ImageError, match="got 13 channels"):
        grey.load()
    tifffile.imwrite(
        tmp_path / "turned.tif", values, photometric="minisblack", planarconfig="contig",
        extratags=[(274, "H", 1, 6, True)],
    )  # fmt: skip
    assert (collect(tmp_path / "turned.tif")[0].load().values == np.rot90(values, 3)).all()
    assert (
        ImageRef("a", picture_of(values)).digest() != ImageRef("a", picture_of(values + 1)).digest()
    )


def test_figures_say_which_channels_they_show():
    values = values_of(13)
    picture, window = BandPicture.of(values), (0, 4095)
    first = Preprocess(None, channels=13, window=window)
    assert first.shown_as == "channel 0 of 0 to 12, in grey"
    shown = np.asarray(first.rgb(picture))
    assert (shown == np.rint(values[..., :1] / 4095 * 255)).all()
    three = Preprocess(None, channels=13, window=window, mean=0.5, std=0.25, shown=(3, 2, 1))
    assert three.shown_as == "channels 3, 2, 1 of 0 to 12, as red, green and blue"
    shown = np.asarray(three.rgb(picture))
    assert (shown == np.rint(values[..., [3, 2, 1]] / 4095 * 255)).all()
    assert (three.pixels(three(picture)) == shown).all()
    assert [Preprocess(8, channels=c).shown_as for c in (None, 1, 3)] == [""] * 3
    assert Preprocess(8, channels=4).shown_as.startswith("channels 0, 1, 2 of 0 to 3")


def test_channels_are_part_of_what_a_preprocessing_is():
    made = [
        Preprocess(8), Preprocess(8, channels=1), Preprocess(8, channels=13),
        Preprocess(8, channels=13, window=(0, 9)), Preprocess(8, channels=13, clip=False),
        Preprocess(8, channels=13, percentiles=(1, 99)), Preprocess(8, channels=13, shown=4),
    ]  # fmt: skip
    assert len({preprocess_key(each) for each in made}) == len(made)
    assert [Preprocess(**each.describe()) for each in made] == made
    windows = [(0, c + 1) for c in range(13)]
    each = Preprocess(8, channels=13, window=windows, mean=[c / 13 for c in range(13)])
    assert Preprocess(**each.describe()) == each
    assert signature(each)[:3] == (13, 8, 8)
    assert not same_preprocessing(signature(made[3]), signature(made[2]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, "channels to be a whole number of at least 1"),
        ({"channels": 2, "mean": (0, 0, 0)}, "mean to be 1 or 2 numbers, got 3"),
        ({"channels": 2, "window": [(0, 1)] * 3}, r"or 2 of these, one for each channel; got 3"),
        ({"percentiles": (99, 1)}, "low < high"),
        ({"percentiles": (1, 101)}, r"percentiles in 0\.\.100"),
        ({"percentiles": (1, 99), "window": (0, 1)}, "a window or percentiles, got both"),
        ({"channels": 5, "shown": 5}, "from 0 to 4, got 5"),
        ({"channels": 5, "shown": (0, 1)}, "a channel or three"),
        ({"channels": 5, "fill": (1, 2, 3)}, "fill to be 5 whole numbers"),
    ],
)
def test_wrong_channels_say_what_was_expected(options, message):
    with pytest.raises(ImageError, match=message):
        Preprocess(8, **options)
