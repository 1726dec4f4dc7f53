"""Concept insertion and deletion: planted concepts, stated results, files and figure."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.text import Text
from PIL import Image
from torch import nn

import vtcav
from tests.helpers.small import (
    concepts,
    negatives,
    pictures,
    small_explainer,
    small_model,
    small_net,
)
from tests.helpers.tokens import Transformer
from vtcav.evaluation import insertion_deletion
from vtcav.evaluation.removal.compute import NO_DIRECTION, NOT_SEPARATED, NOTHING_THERE
from vtcav.evaluation.removal.curves import area
from vtcav.evaluation.removal.result import NO_CONTROLS, NOT_RAISED, ONE_IMAGE, removal_row
from vtcav.method.attribution import pooled_cav
from vtcav.method.concept_part import coefficient, concept_part

# -- a network whose classes are colours -------------------------------------------------------


def colour_net():
    """Layer "1" has 64 channels: red, green, blue and others that hold a bit of each."""
    net = nn.Sequential(
        nn.Conv2d(3, 64, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 2)
    )
    mix = torch.rand(61, 3, generator=torch.Generator().manual_seed(0)) * 0.2
    with torch.no_grad():
        net[0].weight.copy_(torch.cat([torch.eye(3), mix])[:, :, None, None])
        net[0].bias.zero_()
        net[4].weight.zero_()
        net[4].weight[:, :3] = torch.tensor([[10.0, 0.0, 0.0], [0.0, 10.0, 0.0]])
        net[4].bias.zero_()
    return net


def patches(channel, count=8, seed=0):
    """Grey noise with a square of one colour at a random place."""
    random = np.random.default_rng(seed)
    images = random.integers(40, 60, (count, 8, 8, 3)).astype(np.uint8)
    if channel is not None:
        for image in images:
            y, x = random.integers(0, 5, 2)
            image[y : y + 4, x : x + 4, channel] = 220
    return images


@pytest.fixture(scope="module")
def colours():
    model = vtcav.Classifier(colour_net(), ["red", "green"], vtcav.Preprocess(8))
    explainer = vtcav.VisualTCAV(model, ["1"])
    examples = {"red": patches(0, seed=1), "blue": patches(2, seed=2)}
    return explainer.fit(examples, patches(None, seed=3))


@pytest.fixture(scope="module")
def red(colours):
    images = np.concatenate([patches(0, 3, seed=4), patches(2, 1, seed=5)])
    return insertion_deletion(
        colours, images, "red", patches(None, seed=3), points=5, controls=19, seed=1
    )


def test_a_planted_concept_falls_more_than_random_directions(red):
    rows = red.table.set_index(["image", "concept"])
    for image in ("array[0]", "array[1]", "array[2]"):
        row = rows.loc[(image, "red")]
        assert row["p_value"] == 1 / 20
        assert row["area_deletion"] < row["control_mean"] - 0.2
        assert row["logit_removed"] < row["logit"] - 1
        assert row["relative_area"] < 0.8
        assert row["note"] == ""


def test_a_concept_of_another_class_does_not(red):
    row = red.table.set_index(["image", "concept"]).loc[("array[3]", "blue")]
    assert row["changed"] > 0.1
    assert row["relative_area"] > 0.97
    assert row["p_value"] > 0.1


def test_the_area_is_what_the_linear_head_says(colours, red):
    """z = 10 mean(F_red), so the logit falls by 10 mean(D_red) from t = 0 to 1."""
    image = patches(0, 3, seed=4)[0]
    x = torch.from_numpy(image / 255).movedim(-1, 0)[None].float()
    maps = colours.model.activations(x, ["1"])["1"]
    p = colours.cavs.layers["1"].v[0].relu()
    grey = torch.from_numpy(patches(None, seed=3) / 255).movedim(-1, 1).float()
    beta = coefficient(colours.model.activations(grey, ["1"])["1"], p).mean()
    fall = 10 * concept_part(maps, p, beta)[0, 0].mean()
    row = red.table.iloc[0]
    assert row["logit"] == pytest.approx(10 * float(maps[0, 0].mean()), rel=1e-5)
    assert row["logit_removed"] == pytest.approx(row["logit"] - float(fall), rel=1e-5)
    assert row["area_deletion"] == pytest.approx(row["logit"] - float(fall) / 2, rel=1e-5)
    assert row["relative_area"] == pytest.approx(row["area_deletion"] / row["logit"], rel=1e-5)


def test_a_row_by_hand():
    t = np.array([0.0, 0.5, 1.0])
    logits = np.array([[6.0, 4.0, 4.0], [6.0, 5.0, 5.0], [6.0, 4.0, 4.0], [6.0, 2.0, 2.0]])
    row = removal_row(logits, t, zero=2.0, changed=0.3)
    assert (row["logit"], row["logit_removed"], row["logit_zero"]) == (6, 4, 2)
    assert row["area_deletion"] == row["area_insertion"] == 4.5
    assert row["relative_area"] == (4.5 - 2) / (6 - 2)
    assert row["control_mean"] == (5.25 + 4.5 + 3.0) / 3
    # two controls leave as little, and the concept counts itself
    assert row["p_value"] == 3 / 4
    assert row["note"] == ""


def test_insertion_is_deletion_backwards(red):
    table, points = red.table, red.curves
    np.testing.assert_allclose(table["area_insertion"], table["area_deletion"])
    first = points[(points["image"] == "array[0]") & (points["concept"] == "red")]
    assert first["t"].tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert first["deletion_logit"].is_monotonic_decreasing
    assert first["insertion_logit"].tolist() == first["deletion_logit"].tolist()[::-1]
    assert first["insertion_probability"].tolist() == first["deletion_probability"].tolist()[::-1]
    assert first["deletion_logit"].iloc[0] == pytest.approx(table["logit"].iloc[0])
    assert first["deletion_probability"].iloc[-1] < first["deletion_probability"].iloc[0]


def test_summary_tests_the_mean_against_each_controls_mean(red):
    rows = red.table[red.table["concept"] == "red"]
    found = red.summary().iloc[0]
    assert found["n"] == 4
    assert found["area_deletion"] == pytest.approx(rows["area_deletion"].mean())
    assert found["relative_area"] == pytest.approx(rows["relative_area"].mean())
    assert found["control_mean"] == pytest.approx(rows["control_mean"].mean())
    lines = red.control_curves.query("concept == 'red'")["deletion_logit"].to_numpy().reshape(19, 5)
    as_small = (area(lines, np.linspace(0, 1, 5)) <= found["area_deletion"]).sum()
    assert found["p_value"] == (1 + as_small) / 20 == 1 / 20
    assert found["ci_low"] < found["relative_area"] < found["ci_high"]


def test_controls_remove_as_much():
    from vtcav.evaluation.removal.compute import _orders

    cavs = small_explainer().cavs
    orders = _orders(cavs, 4, 0)
    for layer, own in cavs.layers.items():
        K, C = own.v.shape
        assert orders[layer].shape == (K, 4, C)
        assert (orders[layer].sort(-1).values == torch.arange(C)).all()
        assert len({tuple(order) for order in orders[layer].flatten(0, 1).tolist()}) > 6
        assert torch.equal(orders[layer], _orders(cavs, 4, 0)[layer])
        assert not torch.equal(orders[layer], _orders(cavs, 4, 1)[layer])


# -- stated results ----------------------------------------------------------------------------


def test_an_image_without_the_concept(colours):
    black = np.zeros((1, 8, 8, 3), np.uint8)
    found = insertion_deletion(colours, black, "red", patches(None, seed=3), controls=3, points=3)
    assert found.table["note"].tolist() == [f"{NOTHING_THERE}; {NOT_RAISED}"] * 2
    assert found.table["p_value"].tolist() == [1, 1]
    assert (found.table["area_deletion"] == found.table["logit"]).all()
    assert (found.table["control_mean"] == found.table["logit"]).all()
    assert (found.table["changed"] == 0).all()
    assert found.table["relative_area"].isna().all()
    summary = found.summary()
    assert summary["p_value"].tolist() == [1, 1]
    assert summary["relative_area"].isna().all()
    assert NOT_RAISED in summary["note"].iloc[0]


def test_a_concept_that_is_its_negatives():
    model = vtcav.Classifier(colour_net(), ["red", "green"], vtcav.Preprocess(8))
    grey = patches(None)
    explainer = vtcav.VisualTCAV(model, ["1"]).fit({"grey": grey}, grey)
    found = insertion_deletion(explainer, patches(0, 1), "red", grey, controls=2)
    assert found.table["note"].tolist() == [f"{NOT_SEPARATED}; {NO_DIRECTION}"]
    assert found.table["p_value"].tolist() == [1]
    assert found.table["relative_area"].tolist() == [1]
    note = found.summary()["note"].iloc[0]
    assert note == f"{NOT_SEPARATED}; {NO_DIRECTION}; {ONE_IMAGE}"


def test_without_controls_there_is_no_p_value(colours):
    found = insertion_deletion(
        colours, patches(0, 2), "red", patches(None, seed=3), controls=0, points=2
    )
    assert found.table["p_value"].isna().all()
    assert set(found.table["note"]) == {NO_CONTROLS}
    assert found.summary()["p_value"].isna().all()
    assert found.summary()["note"].iloc[0] == NO_CONTROLS
    assert found.control_curves.empty


def test_no_number_is_missing_without_a_reason():
    found = insertion_deletion(
        small_explainer(), pictures(4, seed=8), "fox", negatives(), controls=3, points=3
    )
    for table in (found.table, found.summary()):
        assert (table["note"] != "")[table.isna().any(axis=1)].all()


# -- networks ----------------------------------------------------------------------------------


def test_classes_of_a_binary_network_mirror_each_other():
    model = small_model(small_net(1), ["no", "yes"], binary=True)
    explainer = small_explainer(model, layers=["3"])
    settings = {"controls": 4, "points": 3}
    yes = insertion_deletion(explainer, pictures(2), "yes", negatives(), **settings).table
    no = insertion_deletion(explainer, pictures(2), "no", negatives(), **settings).table
    for column in ("logit", "logit_removed", "logit_zero", "area_deletion", "control_mean"):
        np.testing.assert_allclose(yes[column], -no[column], atol=1e-6)
    assert yes["logit"].abs().max() > 0.01


def test_probabilities_are_those_of_the_network():
    explainer = small_explainer()
    image = pictures(1, seed=8)
    found = insertion_deletion(explainer, image, "dog", negatives(), controls=0)
    first = found.curves.query("t == 0")
    said = explainer.explain(image[0], ["dog"]).predictions.set_index("class_name")
    np.testing.assert_allclose(
        first["deletion_probability"], said.loc["dog", "probability"], atol=1e-6
    )


def test_where_maps_go_negative_channels_keep_their_signs():
    """A channel that is negative inside the concept has a negative entry in the direction."""
    from vtcav.evaluation.removal.compute import _Run

    explainer = small_explainer(small_model(small_net(act=nn.Tanh)))
    usual = {layer: cavs.v for layer, cavs in explainer.cavs.layers.items()}
    run = _Run(explainer, 0, usual, {}, torch.linspace(0, 1, 3), 16)
    x = torch.from_numpy(pictures(6, seed=8, high=120) / 255).movedim(-1, 1).float()
    turned = 0
    for layer, maps in explainer.model.activations(x, explainer.layers).items():
        d, v = run._directions(layer, maps), explainer.cavs.layers[layer].v
        assert (d * v >= 0).all()
        assert (d.abs().amax(2) <= 1).all()
        turned += int((d < 0).sum())
    assert turned


def test_batches_and_seeds(colours):
    images, grey = patches(0, 3, seed=4), patches(None, seed=3)
    one = insertion_deletion(colours, images, "red", grey, controls=4, batch_size=1)
    many = insertion_deletion(colours, images, "red", grey, controls=4, batch_size=64)
    pd.testing.assert_frame_equal(one.table, many.table, rtol=1e-5)
    other = insertion_deletion(colours, images, "red", grey, controls=4, seed=1)
    assert (other.table["control_mean"] != many.table["control_mean"]).any()


def test_negatives_are_by_default_those_of_the_fit(colours):
    images, grey = patches(0, 2, seed=4), patches(None, seed=3)
    given = insertion_deletion(colours, images, "red", grey, controls=2).table
    pd.testing.assert_frame_equal(
        insertion_deletion(colours, images, "red", controls=2).table, given, rtol=1e-5
    )
    other = insertion_deletion(colours, images, "red", grey * 2, controls=2).table
    assert (other["changed"] < given["changed"]).any()


def test_negatives_by_concept():
    explainer = small_explainer(layers=["3"])
    shared = insertion_deletion(explainer, pictures(1, seed=8), 0, negatives(), controls=0)
    own = insertion_deletion(
        explainer,
        pictures(1, seed=8),
        0,
        {"bright": negatives(), "cold": concepts()["cold"]},
        controls=0,
    )
    same, other = (
        (shared.table["area_deletion"] == own.table["area_deletion"])
        & (shared.table["changed"] == own.table["changed"])
    ).tolist()
    assert same
    assert not other


def test_the_network_is_left_as_it_was():
    model = small_model()
    model.module.train()
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    insertion_deletion(small_explainer(model), pictures(2), 0, negatives(), controls=2)
    assert model.module.training
    assert all(parameter.requires_grad for parameter in model.module.parameters())
    assert all(parameter.grad is None for parameter in model.module.parameters())
    assert not any(module._forward_hooks for module in model.module.modules())
    for name, value in model.module.state_dict().items():
        assert torch.equal(value, before[name])


# -- errors, files and figure ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"points": 1}, "points to be a whole number of at least 2, got 1"),
        ({"controls": -1}, "controls to be a whole number of at least 0, got -1"),
        ({"controls": 2.5}, "controls to be a whole number"),
        ({"batch_size": True}, "batch_size to be a whole number of at least 1, got True"),
    ],
)
def test_settings_out_of_range(colours, settings, message):
    with pytest.raises(vtcav.ExplanationError, match=message):
        insertion_deletion(colours, patches(0, 1), "red", patches(None), **settings)


def test_errors(colours):
    with pytest.raises(vtcav.ExplanationError, match="no negatives for 'blue': add a set"):
        insertion_deletion(colours, patches(0, 1), "red", {"red": patches(None)})
    with pytest.raises(vtcav.ModelError, match="unknown class 'pink'"):
        insertion_deletion(colours, patches(0, 1), "pink", patches(None))
    with pytest.raises(vtcav.ExplanationError, match="confidence to be a number between 0 and 1"):
        insertion_deletion(
            colours, patches(0, 1), "red", patches(None), controls=0, points=2
        ).summary(95)
    with pytest.raises(vtcav.CavError, match="no concepts are learned yet"):
        insertion_deletion(vtcav.VisualTCAV(colours.model, ["1"]), patches(0, 1), 0, patches(None))


def test_a_picture_that_cannot_be_read_is_named(colours, tmp_path):
    from PIL import Image

    Image.fromarray(patches(0, 1)[0]).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.warns(vtcav.SkippedImageWarning, match=r"b\.png"):
        found = insertion_deletion(colours, tmp_path, "red", patches(None), controls=0)
    assert [skip.name for skip in found.skipped] == [str(tmp_path / "b.png")]
    with pytest.raises(vtcav.ImageError, match=r"b\.png"):
        insertion_deletion(colours, tmp_path, "red", patches(None), strict=True)


def test_save(red, tmp_path):
    red.save(tmp_path)
    stems = ("table", "summary", "curves", "controls")
    names = {f"insertion_{stem}.{kind}" for stem in stems for kind in ("csv", "parquet")}
    assert {path.name for path in tmp_path.iterdir()} == {
        "insertion.json",
        "insertion.png",
        *names,
    }
    data = json.loads((tmp_path / "insertion.json").read_text())
    assert data["kind"] == "insertion"
    assert data["class_name"] == "red"
    assert data["provenance"]["settings"]["insertion_deletion"]["controls"] == 19
    assert data["summary"][0]["p_value"] == 1 / 20
    kept = pd.read_parquet(tmp_path / "insertion_table.parquet")
    pd.testing.assert_frame_equal(kept, red.table, check_dtype=False, check_like=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(vtcav.ExplanationError, match="cannot save the insertion"):
        red.save(tmp_path / "file")


def test_plot(red):
    import matplotlib.pyplot as plt

    figure = red.plot()
    panels = {axes.get_label(): axes for axes in figure.axes if "/" in axes.get_label()}
    assert set(panels) == {"1/red", "1/blue"}
    lines = panels["1/red"].get_lines()
    assert len(lines) == 20
    mean = red.curves.query("concept == 'red'").groupby("t")["deletion_logit"].mean()
    np.testing.assert_allclose(lines[-1].get_ydata(), mean)
    texts = " ".join(text.get_text() for text in figure.findobj(Text))
    assert "p 0.050" in texts
    assert "4 images; grey: 19 random directions" in texts
    plt.close(figure)


def test_plot_without_controls_and_without_relative_area(colours):
    import matplotlib.pyplot as plt

    found = insertion_deletion(
        colours, np.zeros((1, 8, 8, 3), np.uint8), "red", patches(None), controls=0
    )
    texts = " ".join(text.get_text() for text in found.plot().findobj(Text))
    assert "relative area \N{EN DASH}" in texts
    assert "grey" not in texts
    plt.close("all")


# -- layers with class tokens ------------------------------------------------------------------


@pytest.mark.parametrize("prefix", [1, 3])
def test_prefix_tokens_stay_as_each_image_gave_them(prefix):
    """Against the blocks run by hand on tokens whose grid alone is changed."""
    net = Transformer(prefix=prefix, blocks=4)
    model = small_model(net, layouts={"blocks.1": f"tokens({prefix}+4x4)"})
    explainer = vtcav.VisualTCAV(model, ["blocks.1"]).fit(concepts(), negatives())
    images = pictures(3, seed=4)
    found = insertion_deletion(explainer, images, "dog", points=3, controls=2, seed=5)
    x = torch.stack([model.preprocess(Image.fromarray(picture)) for picture in images])
    with torch.no_grad():
        tokens = net.blocks[1](net.blocks[0](net.tokens(x)))
    [cavs] = explainer.cavs.layers.values()
    F = tokens[:, prefix:].mT.unflatten(2, (4, 4))
    p = pooled_cav(cavs.v, F, cavs.maps(F)) * cavs.v.sign()
    usual = [explainer.cavs.evidence(c)[1].gap["blocks.1"].mean(0) for c in explainer.cavs.names]

    def by_hand(n, maps):
        own = torch.cat([tokens[n : n + 1, :prefix], maps.flatten(2).mT], 1)
        with torch.no_grad():
            z = net.fc(net.norm(net.blocks[3](net.blocks[2](own)))[:, 0])
        return float(z[0, 1])

    curves = found.curves
    zeros, moved = set(), 0
    for n in range(3):
        for k, concept in enumerate(explainer.cavs.names):
            d, one = p[n, k], F[n : n + 1]
            beta = coefficient(usual[k][None, :, None, None], d).squeeze()
            D = concept_part(one, d, beta)
            moved += bool(D.any())
            own = curves[(curves["image"] == found.table["image"].unique()[n])
                         & (curves["concept"] == concept)]  # fmt: skip
            expected = [by_hand(n, one - t * D) for t in (0.0, 0.5, 1.0)]
            assert own["deletion_logit"].to_numpy() == pytest.approx(expected, abs=1e-5)
        zeros.add(round(by_hand(n, torch.zeros_like(F[:1])), 4))
    assert moved >= 2
    assert len(zeros) == 3  # the class token carries what each image is


def test_images_of_class_tokens_are_not_mixed_in_a_batch():
    model = small_model(Transformer(), layouts={"blocks.1": "tokens(1+4x4)"})
    explainer = vtcav.VisualTCAV(model, ["blocks.1"]).fit(concepts(), negatives())
    images = pictures(4, seed=4)
    together = insertion_deletion(explainer, images, "dog", points=3, controls=2, seed=5)
    apart = insertion_deletion(explainer, images, "dog", points=3, controls=2, seed=5, batch_size=1)
    numbers = together.table.select_dtypes("number").columns
    np.testing.assert_allclose(together.table[numbers], apart.table[numbers], atol=1e-5)
