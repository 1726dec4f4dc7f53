"""True masks at the network's input: the picture's geometry, the input's own, refusals."""

import numpy as np
import pytest
import torch
from PIL import Image

from vtcav.errors import ExplanationError
from vtcav.evaluation.compare.true_masks import check_masks, mask_at_input
from vtcav.images.preprocess import Preprocess


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_a_mask_goes_where_the_picture_goes(resize):
    mask = np.zeros((60, 90), bool)
    mask[10:40, 25:70] = True
    picture = Image.fromarray(np.repeat(mask[..., None], 3, 2).astype(np.uint8) * 255)
    preprocess = Preprocess(30, resize=resize)
    seen = preprocess(picture)[0]
    found = mask_at_input(mask, picture, preprocess, (30, 30))
    assert found.shape == (30, 30)
    assert float((found - seen).abs().mean()) < 0.03
    assert float(found.mean()) == pytest.approx(float(seen.mean()), abs=0.02)


def test_a_mask_of_the_input_is_taken_as_it_is():
    mask = np.random.default_rng(0).random((8, 8))
    picture = Image.new("RGB", (20, 30))
    found = mask_at_input(mask, picture, lambda p: p, (8, 8))
    assert torch.allclose(found, torch.from_numpy(mask).float())


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((5, 5)), r"the picture's size \(30, 20\) .* got \(5, 5\)"),
        (np.full((8, 8), 255), "from 0 to 1, got 255"),
        (np.full((8, 8), np.nan), "from 0 to 1, got nan"),
        (np.zeros((30, 20)), "callable of unknown geometry"),
    ],
)
def test_refusals(mask, message):
    with pytest.raises(ExplanationError, match=message):
        mask_at_input(mask, Image.new("RGB", (20, 30)), lambda p: p, (8, 8))


def test_masks_belong_to_concepts_and_images():
    some = [np.zeros((4, 4))] * 3
    check_masks({"tag": {0: some}}, ["tag"], {0: 3})
    with pytest.raises(ExplanationError, match="given for 'tga'; the concepts are 'tag'"):
        check_masks({"tga": {0: some}}, ["tag"], {0: 3})
    with pytest.raises(ExplanationError, match="each of the 2 images of class 0, in order, got 3"):
        check_masks({"tag": {0: some}}, ["tag"], {0: 2})
    with pytest.raises(ExplanationError, match="got 0; an image without the concept"):
        check_masks({"tag": {0: some}}, ["tag"], {0: 3, 1: 2})
