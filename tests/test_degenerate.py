"""Input with nothing to find in it: a result that says so, and no NaN in a row without a reason."""

import numpy as np
import pytest
import torch

import vtcav
from tests.small import concepts, negatives, pictures, small_model, small_net

IMAGE = pictures(1, seed=5)[0]
MANY = pictures(30, seed=9)
GREY = np.full((30, 16, 16, 3), 128, np.uint8)


def explainer(variant, net=None):
    return vtcav.VisualTCAV(small_model(net), ["1", "3"], variant=variant, progress=False)


def dead(bias):
    """A network whose first maps are the same for every image."""
    net = small_net()
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].bias.fill_(bias)
    return net


def deaf_to_fox():
    net = small_net()
    with torch.no_grad():
        net[7].weight[2].zero_()
        net[7].bias[2] = -50
    return net


def check(table):
    """Every number is there, or the row says why not; null CAVs or not, attributions are."""
    assert len(table)
    assert table[["attribution"] if "attribution" in table else ["mean"]].notna().all(axis=None)
    numbers = table.select_dtypes("number")
    unexplained = numbers.isna().any(axis=1) & (table["note"] == "")
    assert not unexplained.any(), table[unexplained].T


@pytest.mark.parametrize("variant", ["paper", "filter"])
@pytest.mark.parametrize(
    ("learned", "others", "says"),
    [
        (concepts()["bright"], negatives(), "not tested: null CAVs for 7 examples need at least"),
        (negatives(), negatives(), "not separated"),
        (MANY[:10], MANY, ""),
        (
            np.full((10, 16, 16, 3), 128, np.uint8),
            np.full((30, 16, 16, 3), 128, np.uint8),
            "not se",
        ),
    ],
    ids=["one concept", "examples that are the negatives", "among them", "constant images"],
)
def test_one_concept_and_one_image(variant, learned, others, says):
    own = explainer(variant).fit({"a": learned}, others, null_cavs=30, bootstraps=20)
    local = own.explain(IMAGE, classes=3).attributions
    check(local)
    assert local["note"].str.contains(says, regex=False).all()
    glob = own.explain_class("cat", [IMAGE])
    check(glob.attributions)
    summary = glob.summary()
    check(summary)
    assert summary["note"].str.contains("one image: no spread, no interval").all()
    assert len(own.diagnostics(resamples=20).summary())


@pytest.mark.parametrize("variant", ["paper", "filter"])
@pytest.mark.parametrize("bias", [1.0, -1.0], ids=["constant maps", "maps of zeros"])
def test_maps_that_are_alike_for_every_image(variant, bias):
    own = explainer(variant, dead(bias)).fit(concepts(), MANY, null_cavs=30, bootstraps=20)
    local = own.explain(IMAGE, classes=3)
    check(local.attributions)
    assert (local.attributions["attribution"] == 0).all()
    assert not local.attributions["separated"].any()
    assert (local.concept_map("1", "bright") == 0).all()
    check(own.explain_class("cat", pictures(3, seed=5)).summary())


@pytest.mark.parametrize("variant", ["paper", "filter"])
def test_a_class_that_no_image_raises(variant):
    own = explainer(variant, deaf_to_fox()).fit(concepts(), MANY, null_cavs=30, bootstraps=20)
    local = own.explain(IMAGE, classes=["fox"]).attributions
    check(local)
    assert (local["attribution"] == 0).all()
    assert local["note"].str.contains("does not raise this class").all()
    check(own.explain_class("fox", pictures(3, seed=5)).summary())
