"""Input with nothing to find in it: a result that says so, and no NaN in a row without a reason."""

import numpy as np
import pytest
import torch

import vtcav
from tests.helpers.small import concepts, negatives, pictures, small_model, small_net
from vtcav.evaluation import insertion_deletion, localise_folder
from vtcav.evaluation.compare.compute import compare

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


@pytest.mark.parametrize("variant", ["paper", "filter", "places"])
@pytest.mark.parametrize(
    ("learned", "others", "says"),
    [
        (concepts()["bright"], negatives(), "tested with a CAV of 4 of the 7 examples"),
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


@pytest.mark.parametrize("variant", ["paper", "filter", "places"])
@pytest.mark.parametrize("bias", [1.0, -1.0], ids=["constant maps", "maps of zeros"])
def test_maps_that_are_alike_for_every_image(variant, bias):
    own = explainer(variant, dead(bias)).fit(concepts(), MANY, null_cavs=30, bootstraps=20)
    local = own.explain(IMAGE, classes=3)
    check(local.attributions)
    assert (local.attributions["attribution"] == 0).all()
    assert not local.attributions["separated"].any()
    assert (local.concept_map("1", "bright") == 0).all()
    check(own.explain_class("cat", pictures(3, seed=5)).summary())


@pytest.mark.parametrize("variant", ["paper", "filter", "places"])
def test_a_class_that_no_image_raises(variant):
    own = explainer(variant, deaf_to_fox()).fit(concepts(), MANY, null_cavs=30, bootstraps=20)
    local = own.explain(IMAGE, classes=["fox"]).attributions
    check(local)
    assert (local["attribution"] == 0).all()
    assert local["note"].str.contains("does not raise this class").all()
    check(own.explain_class("fox", pictures(3, seed=5)).summary())


CASES = {
    "one concept": (None, {"bright": concepts()["bright"]}, negatives()),
    "examples that are the negatives": (None, {"bright": negatives()}, negatives()),
    "constant images": (None, {"bright": GREY[:10]}, GREY),
    "constant maps": (dead(1.0), concepts(), MANY),
    "maps of zeros": (dead(-1.0), concepts(), MANY),
    "a class that is never raised": (deaf_to_fox(), concepts(), MANY),
}


@pytest.fixture(scope="module", params=["paper", "filter"])
def variant(request):
    return request.param


@pytest.fixture(scope="module", params=CASES)
def fitted(request, variant):
    net, learned, others = CASES[request.param]
    return explainer(variant, net).fit(learned, others, null_cavs=10, bootstraps=0)


def reasoned(table, *columns):
    """Every row without one of these numbers has a note, and no number is infinite."""
    assert len(table)
    assert not np.isinf(table.select_dtypes("number").to_numpy(float)).any()
    missing = table[list(columns)].isna().any(axis=1)
    assert (table.loc[missing, "note"] != "").all(), table[missing].T


@pytest.mark.parametrize("count", [1, 3])
def test_methods_side_by_side(fitted, count):
    found = compare(fitted, {"fox": pictures(count, seed=5)}, runs=3, steps=4, progress=False)
    reasoned(found.table, "value")
    summary = found.summary()
    reasoned(summary, "mean")
    reasoned(summary[summary["n"] > 0], "std")
    # the other methods have no test of their own
    ours = summary["method"].str.startswith(("tcav", "visual_tcav"))
    reasoned(summary[ours], "p_value")
    reasoned(found.ranks(), "spearman")
    shares = found.table[found.table["region"] != ""]
    reasoned(shares, "area")


@pytest.mark.parametrize("count", [1, 3])
def test_interventions_and_maps_in_masks(fitted, count):
    images = pictures(count, seed=5)
    removed = insertion_deletion(fitted, images, "fox", controls=3, points=3)
    masks = np.zeros((count, 16, 16), bool)
    masks[:, 4:8, 4:8] = True
    placed = localise_folder(fitted, images, masks, "bright")
    for table in (removed.table, removed.summary(), placed.table, placed.summary()):
        reasoned(table, *table.select_dtypes("number"))


def test_diagnostics_never_call_it_fine_where_nothing_differs(fitted):
    found = fitted.diagnostics(resamples=20)
    assert not found.summary()["meaning"].str.contains(r"\bnan\b|\binf\b").any()
    same = not any(own.separated.any() for own in fitted.cavs.layers.values())
    if same:
        assert (found.summary()["level"] == "do not use").all()
    reasoned(found.table, *found.table.select_dtypes("number"))
