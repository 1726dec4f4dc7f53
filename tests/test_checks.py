"""Arguments are checked in one way, and warnings point at the user's line."""

import warnings

import numpy as np
import pytest

import vtcav
from tests.helpers.small import pictures, small_explainer
from vtcav.errors import ConceptError, ExplanationError, ImageError
from vtcav.parameters import Between, Whole, Words, check


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_a_whole_number_becomes_an_int(value):
    assert type(check("points", value, Whole(1))) is int
    assert check("points", value, Whole(3)) == 3


@pytest.mark.parametrize("value", [2, -1, True, 2.5, 3.0, "3", None, np.nan, np.array([3])])
def test_no_whole_number(value):
    with pytest.raises(
        ConceptError, match=r"^expected points to be a whole number of at least 3, got"
    ):
        check("points", value, Whole(3), error=ConceptError)


def test_none_is_taken_where_it_means_something():
    assert check("workers", None, Whole(1), none="one per GPU") is None
    with pytest.raises(ExplanationError, match="at least 1, got 0; None takes one per GPU"):
        check("workers", 0, Whole(1), none="one per GPU")


@pytest.mark.parametrize("value", ["gray", None, 1, np.array(["keep", "grey"])])
def test_no_word_of_the_list(value):
    assert check("outside", "grey", Words("keep", "grey")) == "grey"
    with pytest.raises(ImageError, match="expected outside to be 'keep' or 'grey', got"):
        check("outside", value, Words("keep", "grey"), error=ImageError)


@pytest.mark.parametrize("value", [0, 1, 95, np.nan, "0.9", None])
def test_no_number_between(value):
    assert check("confidence", np.float32(0.5), Between(0, 1)) == 0.5
    with pytest.raises(ExplanationError, match="confidence to be a number between 0 and 1, got"):
        check("confidence", value, Between(0, 1))


def test_warnings_point_at_the_line_that_called(tmp_path):
    """However deep in the package, in whichever context manager or loop they arise."""
    explainer = small_explainer(steps=2, progress=False)
    images = tmp_path / "images.part"
    images.mkdir()
    (images / "a.png").write_bytes(b"no picture")
    good = [*pictures(2, seed=1)]
    run = tmp_path / "run"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        explainer.explain_class("cat", [*good, images / "a.png"], run=run)
        (run / "run.json").write_text("{")
        explainer.explain_class("cat", good, run=run)
        explainer.fit({"a": [*pictures(6, seed=2), images / "a.png"]}, pictures(6, seed=3))
    kinds = {warning.category for warning in caught}
    assert {vtcav.SkippedImageWarning, vtcav.DamagedPartWarning} <= kinds
    assert {warning.filename for warning in caught} == {__file__}
