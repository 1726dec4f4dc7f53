"""The warning of pictures of which the centre crop leaves out much: once, from their sizes."""

import re
import warnings

import numpy as np
import pytest
from PIL import Image

import vtcav
from tests.helpers.colours import colour_net
from vtcav.images import cropping
from vtcav.images.cropping import warn_of_cropping
from vtcav.images.listing import collect

CROP = vtcav.Preprocess(224)
USUAL = vtcav.Preprocess(224, crop_pct=224 / 256)


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(cropping, "_WARNED", set())


def pictures(width, height, count=6):
    return collect([Image.new("RGB", (width, height))] * count)


def said(*sets, preprocess):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_cropping(sets, preprocess)
    return [str(one.message) for one in caught]


@pytest.mark.parametrize("preprocess", [CROP, USUAL])
@pytest.mark.parametrize("size", [(400, 300), (3, 4), (500, 333), (333, 500), (640, 400)])
def test_ordinary_photographs_are_cropped_without_a_word(size, preprocess):
    assert said(pictures(*size), preprocess=preprocess) == []


@pytest.mark.parametrize(
    ("size", "preprocess", "share"),
    [
        ((105, 59), CROP, 44),
        ((59, 105), CROP, 44),
        ((105, 59), USUAL, 57),
        ((300, 100), CROP, 67),
        ((100, 100), vtcav.Preprocess((224, 448)), 50),
    ],
)
def test_pictures_that_lose_much_are_named_with_the_share(size, preprocess, share):
    wide, high = size
    (text,) = said(pictures(*size), preprocess=preprocess)
    assert f"leaves out {share} % of a picture such as 'image[" in text
    assert f"({wide} x {high} pixels)" in text
    assert (
        'crop pictures to what matters before, or give vtcav.Preprocess(..., resize="pad")' in text
    )


@pytest.mark.parametrize(
    "preprocess",
    [
        vtcav.Preprocess(224, resize="pad"),
        vtcav.Preprocess(224, resize="stretch"),
        vtcav.Preprocess(None),
        lambda picture: None,
    ],
)
def test_what_crops_nothing_or_is_not_known_says_nothing(preprocess):
    assert said(pictures(300, 100), preprocess=preprocess) == []


def test_most_pictures_of_a_set_have_to_lose_it():
    wide, photo = pictures(160, 90, 4), pictures(400, 300, 6)
    assert said([*wide[:2], *photo[:3]], preprocess=CROP) == []
    assert len(said([*wide[:3], *photo[:2]], preprocess=CROP)) == 1


def test_it_is_said_once_for_a_share_and_the_worst_set_counts():
    (text,) = said(pictures(400, 300), pictures(160, 90), pictures(300, 100), preprocess=CROP)
    assert "leaves out 67 %" in text
    assert said(pictures(310, 100), preprocess=CROP) == []
    assert len(said(pictures(160, 90), preprocess=CROP)) == 1


def test_only_the_headers_of_a_few_files_are_read(tmp_path, monkeypatch):
    values = np.random.default_rng(0).integers(0, 255, (59, 105, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(values).save(tmp_path / "whole.jpg", exif=exif)
    data = (tmp_path / "whole.jpg").read_bytes()
    for i in range(50):
        (tmp_path / f"{i:02}.jpg").write_bytes(data[:900])  # pixels are missing
    (tmp_path / "whole.jpg").unlink()
    opened = []
    real = cropping.open_file
    monkeypatch.setattr(cropping, "open_file", lambda path: opened.append(path) or real(path))
    (text,) = said(collect(tmp_path), preprocess=CROP)
    assert "(59 x 105 pixels)" in text
    assert len(opened) == 5
    # neither a file that is no picture nor one that is gone is this warning's business
    (tmp_path / "00.jpg").write_bytes(b"text")
    refs = collect(tmp_path)
    (tmp_path / "10.jpg").unlink()
    cropping._WARNED.clear()
    assert len(said(refs, preprocess=CROP)) == 1
    elongated = [Image.new("RGB", (5000, 1)), Image.new("RGB", (0, 5))]
    assert said(collect(elongated), preprocess=CROP) == []  # neither can be resized


def test_learning_and_explaining_say_it_once(tmp_path):
    draw = np.random.default_rng(1)
    wide = draw.integers(0, 255, (24, 16, 32, 3)).astype(np.uint8)
    model = vtcav.Classifier(colour_net(), ["a", "b"], vtcav.Preprocess(16))
    explainer = vtcav.VisualTCAV(model, ["1"], 2, fill=None, progress=False, cache=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        explainer.fit({"x": wide[:6], "y": wide[6:12]}, wide[12:], null_cavs=0, bootstraps=0)
        explainer.explain_class("a", wide[:4])
        explainer.explain(wide[0])
    assert len(caught) == 1
    assert re.search(r"50 % of a picture such as 'array\[\d\]' \(32 x 16", str(caught[0].message))
    assert caught[0].filename == __file__
    cropping._WARNED.clear()
    with pytest.warns(UserWarning, match="leaves out 50 %"):
        explainer.explain(wide[0])
    cropping._WARNED.clear()
    with pytest.warns(UserWarning, match="leaves out 50 %"):
        explainer.rank(wide[:4], "x", "1")
