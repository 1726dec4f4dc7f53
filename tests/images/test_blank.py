"""Pictures with nothing in them are named, in fit, explain and explain_class."""

import warnings
from collections import defaultdict

import numpy as np
import pytest
from PIL import Image

import vtcav
from tests.helpers.colours import colour_net, patches
from vtcav.images.fitting import blank

RED, BLUE = patches(0, 6, 1)[0], patches(2, 6, 2)[0]


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(blank, "_WARNED", defaultdict(list))
    monkeypatch.setattr(blank, "NAMED", 5)


@pytest.fixture
def explainer():
    model = vtcav.Classifier(colour_net(), ["a", "b"], vtcav.Preprocess(16))
    return vtcav.VisualTCAV(model, ["1"], 2, placebos=0, progress=False)


def said(compute):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        compute()
    return [str(one.message) for one in caught if "nothing to see" in str(one.message)]


def folder_of(path, *blanks):
    path.mkdir()
    for i, picture in enumerate([*map(Image.fromarray, RED), *blanks]):
        picture.save(path / f"{i}.png")
    return path


TINY = Image.fromarray(RED[0]).resize((1, 1))
GREY = Image.new("RGB", (20, 30), "grey")
CLEAR = Image.fromarray(np.dstack([RED[1], np.zeros((16, 16), np.uint8)]))
COLOUR = "all of its pixels have one colour, or are transparent"


@pytest.mark.parametrize(
    ("picture", "why"),
    [(TINY, "it has 1 x 1 pixels"), (GREY, COLOUR), (CLEAR, COLOUR)],
)
def test_they_are_named_wherever_pictures_are_read(picture, why, tmp_path, explainer):
    folder = folder_of(tmp_path / "red", picture)
    fit = {"null_cavs": 0, "bootstraps": 0}
    (text,) = said(lambda: explainer.fit({"red": folder}, BLUE, **fit))
    name = str(folder / "6.png")
    assert text == (
        f"{name!r} has nothing to see in it: {why}. It counts as an image all the same; remove it "
        "unless you mean it"
    )
    assert said(lambda: explainer.explain_class("a", folder)) == [text]
    assert said(lambda: explainer.explain(name, ["a"])) == [text]
    assert said(lambda: explainer.explain(folder / "0.png", ["a"])) == []


def test_what_the_network_sees_may_be_blank_alone(tmp_path, explainer):
    wide = np.zeros((16, 80, 3), np.uint8)
    wide[:, :20] = RED[0, :, :1].repeat(20, 1)
    preprocess = explainer.model.preprocess
    x = preprocess(Image.fromarray(wide))
    picture = Image.fromarray(wide)
    (text,) = said(lambda: blank.warn_of_blank("wide.png", picture, x))
    assert "all that the network sees of it has one colour" in text
    framed = np.zeros((16, 16, 3), np.uint8)
    framed[5, 5] = 9
    picture = Image.fromarray(framed)
    assert said(lambda: blank.warn_of_blank("f.png", picture, preprocess(picture))) == []


def test_of_a_folder_five_are_named(tmp_path, explainer):
    folder = folder_of(tmp_path / "red", *[GREY] * 8)
    explainer.fit({"red": RED}, BLUE, null_cavs=0, bootstraps=0)
    texts = said(lambda: explainer.explain_class("a", folder))
    assert len(texts) == 5
    assert texts[-1].endswith("Further files in this folder are not reported")
