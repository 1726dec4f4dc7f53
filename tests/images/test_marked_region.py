"""Regions marked by hand: boxes and masks of every kind, on the network's input."""

import numpy as np
import pytest
import torch
from PIL import Image

import vtcav
from vtcav.errors import ImageError
from vtcav.images.marked_region import marked_region
from vtcav.images.references import ImageRef

PICTURE = Image.new("RGB", (40, 20), "grey")


def on_input(region, preprocess=None, picture=PICTURE):
    preprocess = preprocess or vtcav.Preprocess(20)
    return marked_region(region, picture, preprocess, preprocess(picture))


def white(size, box):
    mask = Image.new("L", size)
    mask.paste(255, box)
    return mask


@pytest.mark.parametrize(
    ("preprocess", "expected"),
    [
        (vtcav.Preprocess(20), (0, 0, 5, 20)),  # columns 10 to 30 of the picture
        (vtcav.Preprocess(20, resize="stretch"), (4, 0, 8, 20)),
        (vtcav.Preprocess(40, resize="pad"), (8, 10, 15, 30)),
        (vtcav.Preprocess(None), (8, 0, 15, 20)),
        (vtcav.Preprocess(20, mean=0.5, std=0.2, interpolation="lanczos"), (0, 0, 5, 20)),
    ],
)
def test_a_box_lies_where_the_picture_does(preprocess, expected):
    found = on_input((8, 0, 15, 20), preprocess)
    left, top, right, bottom = expected
    inside = torch.zeros_like(found.H)
    inside[top:bottom, left:right] = 1
    assert (found.H - inside).abs().sum(1).max() <= 1  # half a pixel of a stretched one
    assert found.H.sum() == pytest.approx(inside.sum().item(), abs=found.H.shape[0])


def test_what_is_outside_is_counted():
    found = on_input((5, 0, 15, 20))
    assert found.outside == pytest.approx(0.5)
    assert found.name == "box 5, 0, 15, 20"
    assert on_input((10, 0, 20, 20)).outside == 0


def masks():
    box = (12, 4, 20, 10)
    grey = white((40, 20), box)
    clear = Image.new("RGBA", (40, 20), (255, 255, 255, 0))
    clear.paste((255, 255, 255, 255), box)
    marked = np.asarray(grey) > 0
    labels = Image.fromarray(marked.astype(np.uint8))
    palette = labels.convert("P")
    palette.putpalette([0, 0, 0, 128, 0, 0])
    tinted = np.where(marked, 240, 20).astype(np.uint8)
    return {
        "grey": grey,
        "bits": grey.convert("1"),
        "colour": grey.convert("RGB"),
        "transparent white is not marked": clear,
        "labels 0 and 1": labels,
        "a palette": palette,
        "no true black": Image.fromarray(tinted),
        "16 bits": Image.fromarray(marked.astype(np.uint16) * 65535),
        "bool": marked,
        "shares": marked.astype(np.float32),
        "bytes": np.asarray(grey),
        "channels": np.asarray(grey.convert("RGB")),
    }


@pytest.mark.parametrize("kind", masks())
def test_a_mask_is_as_good_as_its_box(kind, tmp_path):
    mask, expected = masks()[kind], on_input((12, 4, 20, 10)).H
    assert torch.equal(on_input(mask).H, expected)
    if isinstance(mask, Image.Image):
        mask.save(tmp_path / "mask.png")
        found = on_input(tmp_path / "mask.png")
        assert torch.equal(found.H, expected)
        assert found.name.endswith("mask.png")


def test_a_turned_photograph_counts_as_it_is_displayed(tmp_path):
    """EXIF orientation 6: the file lies on its side, and viewers show it upright."""
    shown = Image.new("RGB", (20, 40), "grey")
    lying = shown.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    lying.save(tmp_path / "photo.jpg", exif=exif)
    mask = white((20, 40), (0, 10, 20, 15)).transpose(Image.Transpose.ROTATE_90)
    mask.save(tmp_path / "mask.jpg", exif=exif, quality=95)
    picture = ImageRef("photo", tmp_path / "photo.jpg").load()
    assert picture.size == (20, 40)
    expected = torch.zeros(20, 20)
    expected[:5] = 1
    assert torch.equal(on_input((0, 10, 20, 15), picture=picture).H, expected)
    assert torch.equal(on_input(tmp_path / "mask.jpg", picture=picture).H, expected)


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ((30, 0, 10, 20), r"40 x 20: 0 <= left < right <= 40 .*got 30, 0, 10, 20"),
        ((0, 0, 41, 20), "got 0, 0, 41, 20"),
        ((0, 0, 10), r"expected a box \(left, top, right, bottom\)"),
        ((0, 0, 10.5, 20), "or a mask of its size, got"),
        (("a", 0, 1, 1), "or a mask of its size, got"),
        ((0, 0, 8, 20), "does not see the region .*: its input is the box 10, 0, 30, 20"),
        (white((20, 40), (0, 0, 9, 9)), r"of 40 x 20 pixels like the picture .* of 20 x 40"),
        (white((40, 20), (0, 0, 9, 9)), "does not see the region 'mask'"),
        (Image.new("L", (40, 20)), "the mask marks nothing: its brightest pixel is 0 of 255"),
        (np.full((20, 40), np.nan), "expected a mask of floating point in 0..1"),
        (np.zeros((20, 40, 2), np.uint8), r"expected a mask \[H, W\]"),
        ("nowhere.png", "nowhere.png"),
    ],
)
def test_what_fits_no_picture_says_what_to_do(region, message):
    with pytest.raises(ImageError, match=message):
        on_input(region)


def test_what_is_no_picture_is_named(tmp_path):
    (tmp_path / "mask.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"cannot read the mask .*mask.png"):
        on_input(tmp_path / "mask.png")


def test_less_than_a_pixel_of_the_input_is_refused():
    picture = Image.new("RGB", (400, 400))
    with pytest.raises(ImageError, match="smaller than a pixel of the network's input \\(20 x 20"):
        on_input((100, 100, 102, 102), picture=picture)


def test_a_callable_is_tried_out():
    known = vtcav.Preprocess(20, mean=0.4, std=0.3)

    def linear(picture):
        return known(picture.convert("RGB"))[:1] * 3 - 1

    assert torch.equal(on_input((12, 4, 20, 10), linear).H, on_input((12, 4, 20, 10)).H)

    def standardised(picture):
        x = known(picture)
        return (x - x.mean()) / (x.std() + 1)

    with pytest.raises(ImageError, match="more than resize, crop and scale"):
        on_input((12, 4, 20, 10), standardised)


def test_an_array_of_truth_marks_also_where_all_of_it_is_true():
    assert on_input(np.ones((20, 40), bool)).H.all()
    with pytest.raises(ImageError, match="marks nothing"):
        on_input(np.zeros((20, 40), bool))
