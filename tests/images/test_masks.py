"""Masks: which file belongs to which image, and which of its values mean the concept."""

import numpy as np
import pytest
from PIL import Image

from vtcav import ExplanationError, ImageError
from vtcav.images.listing import collect
from vtcav.images.masks import MaskReader, find_masks

LABELS = np.array([[0, 1, 2], [2, 2, 0]], np.uint8)


def read(source, value=None):
    return MaskReader(value).read(source, "mask")


# -- values ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mask",
    [
        np.array([[False, True]]),
        np.array([[0, 255]], np.uint8),
        np.array([[0, 1]], np.int64),
        np.array([[0.0, 1.0]]),
        np.array([[[0], [255]]], np.uint8),
        np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8),
        Image.fromarray(np.array([[False, True]])),
        Image.fromarray(np.array([[0, 65535]], np.uint16)),
    ],
    ids=["bool", "255", "one", "float", "channel", "grey colours", "bilevel", "16 bits"],
)
def test_what_needs_no_value(mask):
    np.testing.assert_array_equal(read(mask), [[0.0, 1.0]])


def test_shares_are_kept():
    np.testing.assert_array_equal(read(np.array([[0.0, 0.25, 1.0]])), [[0.0, 0.25, 1.0]])


def test_one_value_alone():
    assert not read(np.zeros((2, 2), np.uint8)).any()
    assert read(np.full((2, 2), 255, np.uint8)).all()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2, [[0, 0, 1], [1, 1, 0]]),
        ([1, 2], [[0, 1, 1], [1, 1, 0]]),
        ("nonzero", [[0, 1, 1], [1, 1, 0]]),
        (0, [[1, 0, 0], [0, 0, 1]]),
        (7, [[0, 0, 0], [0, 0, 0]]),
        ("#010101", [[0, 1, 0], [0, 0, 0]]),
    ],
)
def test_labels(value, expected):
    np.testing.assert_array_equal(read(LABELS, value), expected)


def test_a_palette_counts_by_index_and_colours_by_colour():
    picture = Image.fromarray(LABELS).convert("P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    picture = Image.frombytes("P", picture.size, LABELS.tobytes())
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    np.testing.assert_array_equal(read(picture, 2), LABELS == 2)
    colours = picture.convert("RGB")
    np.testing.assert_array_equal(read(colours, "#0000FF"), LABELS == 2)
    with pytest.raises(ImageError, match='in colours: pass the one of the concept, value="#rrggb'):
        read(colours)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (LABELS, r"values 0, 1, 2: pass the value that means the concept, or \"nonzero\""),
        (np.arange(20, dtype=np.uint8)[None], r"values 0, 1, 2, 3, 4, 5, \.\.\.: pass"),
        (np.array([[1, 2]], np.uint8), "values 1, 2: pass"),
        (np.array([[0.5, 3.0]]), "numbers from 0.5 to 3: expected shares from 0 to 1"),
        (np.array([[np.nan, 1.0]]), "numbers from nan to nan"),
        (np.zeros((2, 2, 4)), r"expected a mask \[H, W\], got an array of shape \[2, 2, 4\]"),
        (np.zeros(3), r"got an array of shape \[3\]"),
        (np.zeros((0, 3)), r"expected a mask of numbers, got float64 of shape \[0, 3\]"),
        (np.array([["a"]]), "expected a mask of numbers, got <U1"),
    ],
)
def test_what_is_no_mask(mask, message):
    with pytest.raises(ImageError, match=message):
        read(mask)


def test_labels_that_differ_between_masks_are_refused():
    reader = MaskReader()
    reader.read(np.zeros((2, 2), np.uint8), "empty")
    reader.read(np.array([[0, 3]]), "first")
    reader.read(np.array([[3, 3]]), "full")
    with pytest.raises(
        ExplanationError, match=r"labels, not one value .* 3 in 'first' and 5 in 'se"
    ):
        reader.read(np.array([[0, 5]]), "second")


@pytest.mark.parametrize("value", ["red", "#ff00", "#gggggg", ""])
def test_values_that_are_none(value):
    with pytest.raises(ExplanationError, match='"nonzero" or a colour like "#ff0000", got'):
        MaskReader(value)


def test_files(tmp_path):
    Image.fromarray(LABELS).save(tmp_path / "a.bmp")
    np.save(tmp_path / "b.npy", LABELS)
    for name in ("a.bmp", "b.npy"):
        np.testing.assert_array_equal(read(tmp_path / name, 1), LABELS == 1)
    (tmp_path / "c.png").write_bytes(b"no picture")
    (tmp_path / "d.npy").write_bytes(b"no array")
    np.save(tmp_path / "e.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ImageError, match="not a picture"):
        read(tmp_path / "c.png")
    for name in ("d.npy", "e.npy"):
        with pytest.raises(ImageError, match=r"cannot be decoded: .*pickle"):
            read(tmp_path / name)
    with pytest.raises(ImageError, match="no such file"):
        read(tmp_path / "f.png")


# -- which mask belongs to which image ---------------------------------------------------------


@pytest.fixture
def place(tmp_path):
    """Two images of one name in two folders, a third one, and a mask for each."""
    for name in ("images/a/1.jpg", "images/b/1.jpg", "images/2.jpg", "masks/a/1.png"):
        _write(tmp_path / name)
    for name in ("masks/b/1.PNG", "masks/c/2.bmp", "masks/.hidden.png", "masks/notes.txt"):
        _write(tmp_path / name)
    return tmp_path


def _write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        Image.new("L", (4, 4)).save(file, "PNG")


def names(found):
    return [path and path.as_posix().split("masks/")[1] for path in found]


def test_by_path_then_by_stem(place):
    images = place / "images"
    found = find_masks(collect(images), images, place / "masks")
    assert names(found) == ["c/2.bmp", "a/1.png", "b/1.PNG"]


def test_a_stem_that_two_masks_have_is_not_guessed(place):
    _write(place / "elsewhere/1.jpg")
    files = [place / "elsewhere/1.jpg", str(place / "images/2.jpg")]
    found = find_masks(collect(files), files, str(place / "masks"))
    assert names(found) == [None, "c/2.bmp"]


def test_masks_in_a_list(place):
    refs = collect(np.zeros((2, 4, 4, 3), np.uint8))
    mask = np.zeros((4, 4), bool)
    found = find_masks(refs, None, [mask, str(place / "masks/a/1.png")])
    assert found[0] is mask
    assert found[1] == place / "masks/a/1.png"
    with pytest.raises(ExplanationError, match="one mask for each of 2 images, got 1; or pass a"):
        find_masks(refs, None, [mask])


def test_errors(place):
    refs = collect(place / "images")
    with pytest.raises(ExplanationError, match=r"folder of masks, got .*missing.* does not exist"):
        find_masks(refs, place / "images", place / "missing")
    with pytest.raises(ExplanationError, match=r"folder of masks, got .*1.png', which is a file"):
        find_masks(refs, place / "images", place / "masks/a/1.png")
    with pytest.raises(
        ExplanationError, match=r"no masks in .*images.*expected files of the kinds"
    ):
        find_masks(refs, place / "images", place / "images")
    with pytest.raises(ExplanationError, match=r"matched by file names, and 'array\[0\]' has none"):
        find_masks(collect(np.zeros((1, 4, 4, 3), np.uint8)), None, place / "masks")
    _write(place / "masks/a/1.bmp")
    with pytest.raises(
        ExplanationError, match=r"one mask for each image, got .*1.bmp' and .*1.png"
    ):
        find_masks(refs, place / "images", place / "masks")
