"""Concepts that go with wrong predictions: found where planted, seldom by chance."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import vtcav
from tests.helpers.colours import explainer_of, model, patches
from vtcav.cli import main
from vtcav.errors import ExplanationError, ImageError, ModelError
from vtcav.images.references import ImageRef
from vtcav.results.error_analysis import FEW, ErrorAnalysis, compared
from vtcav.results.figures.error_analysis import plot_errors
from vtcav.results.figures.page import save_figure

RED, BLUE = patches(0, 12, 5)[0], patches(2, 28, 6)[0]
IMAGES = np.concatenate([RED, BLUE])


@pytest.fixture(scope="module")
def explainer():
    made = explainer_of(red_or_blue())
    made.progress = False
    return made


def red_or_blue():
    """A network that takes what is red for class "a", and what is blue for "b"."""
    made = model()
    with torch.no_grad():
        made.module[6].weight.copy_(torch.tensor([[1.0, 0, 0], [0, 0, 1]]))
        made.module[6].bias.zero_()
    return vtcav.Classifier(made.module, ["a", "b"], vtcav.Preprocess(16))


@pytest.fixture(scope="module")
def labels():
    """All are of class "b", so exactly the red images are wrong."""
    return ["b"] * len(IMAGES)


@pytest.fixture(scope="module")
def analysis(explainer, labels):
    return explainer.errors(IMAGES, labels, pictures=3)


def test_the_planted_concept_comes_first(analysis, explainer, labels):
    table = analysis.table
    first = table.iloc[0]
    assert set(table["concept"]) == {"red", "blue"}
    assert (first["auc"], first["q_value"] < 0.05) in ((1.0, True), (0.0, True))
    red = table[table["concept"] == "red"].iloc[0]
    assert (red["auc"], red["present_wrong"], red["present_right"]) == (1, 1, 0)
    assert red["layer"] == analysis.layers["red"] == "layers together"
    wrong = analysis.images.query("concept == 'red' and true_class != predicted_class")
    assert set(wrong["image"]) == {f"array[{i}]" for i in range(len(RED))}
    expected = explainer.rank(IMAGES, "red").table.set_index("image")["presence"]
    own = analysis.images.query("concept == 'red'").set_index("image")["presence"]
    np.testing.assert_allclose(own, expected[own.index], atol=1e-6)
    sentence = next(text for text in analysis.findings() if text.startswith("'red'"))
    assert "'red' is present in 100 % of the" in sentence
    assert "in 0 % of the" in sentence
    assert analysis.described == "40 images, 12 predicted wrong"


def test_where_both_shares_are_equal_the_means_are_compared(analysis):
    rows = analysis.images.query("concept == 'red'")
    wrong = rows["true_class"] != rows["predicted_class"]
    faint = rows.assign(area=0.0, presence=np.where(wrong, 0.3, 0.1))
    faint.loc[faint.index[0], "presence"] = 0.6  # so that it is tested
    (sentence,) = replace(analysis, _rows=faint, _findings=compared(faint)).findings()
    means = [faint[own]["presence"].mean() for own in (wrong, ~wrong)]
    assert sentence.startswith(
        f"'red' has a mean presence of {means[0]:.3f} in the 12 images of 'b' that are predicted "
        f"wrong, and of {means[1]:.3f} in the 28 that are predicted right (AUC "
    )


def test_wrong_images_are_shown_with_their_maps(analysis):
    assert analysis.shown
    for group in analysis.shown:
        numbers = {int(one.image[6:-1]) for one in group.shown}
        assert numbers <= set(range(len(RED)))
        assert len(group.shown) == 3
        for one in group.shown:
            np.testing.assert_array_equal(one.picture, IMAGES[int(one.image[6:-1])])
    most = next(group for group in analysis.shown if group.concept == "red").shown
    assert most[0].presence == max(one.presence for one in most)


def test_saved_and_loaded(analysis, tmp_path):
    analysis.save(tmp_path)
    again = ErrorAnalysis.load(tmp_path)
    pd.testing.assert_frame_equal(again.table, analysis.table)
    pd.testing.assert_frame_equal(again.images, analysis.images)
    assert again.to_json() == analysis.to_json()
    np.testing.assert_array_equal(
        again.shown[0].shown[1].concept_map, analysis.shown[0].shown[1].concept_map
    )
    (tmp_path / "errors_table.csv").write_text("")
    with pytest.raises(ExplanationError, match="errors_table"):
        ErrorAnalysis.load(tmp_path)


def test_figures_with_and_without_findings(analysis, tmp_path):
    save_figure(lambda figure: plot_errors(analysis, figure), tmp_path / "some.png")
    none = replace(analysis, shown=(), _findings=analysis.table.assign(auc=np.nan))
    save_figure(lambda figure: plot_errors(none, figure), tmp_path / "none.png")
    assert (tmp_path / "some.png").stat().st_size > (tmp_path / "none.png").stat().st_size


def rows(random, counts, planted=0.0):
    """Images of a class with six concepts: right ones, and wrong ones of two kinds."""
    found = []
    for predicted, count in zip(("cat", "dog", "fox"), counts, strict=True):
        presence = random.beta(1, 3, (count, 6))
        if predicted == "dog":
            presence[random.random(count) < planted, 2] = 0.9
        for i in range(count):
            for k in range(6):
                one = {"image": f"{predicted}{i}", "concept": f"c{k}", "presence": presence[i, k]}
                found.append(one | {"predicted_class": predicted, "area": presence[i, k] > 0.5})
    return pd.DataFrame(found).assign(true_class="cat", layer="a", note="")


def test_a_planted_slice_comes_first_and_nothing_is_found_by_chance():
    random = np.random.default_rng(0)
    first = [compared(rows(random, (70, 30, 20), 0.9)).iloc[0] for _ in range(20)]
    assert all(row["concept"] == "c2" and row["q_value"] < 0.05 for row in first)
    assert {row["predicted_class"] for row in first} <= {"dog", ""}
    found = [compared(rows(random, (60, 15, 10)))["q_value"].min() for _ in range(60)]
    assert np.mean(np.array(found) <= 0.05) <= 0.12  # 5 % of 1,000 draws


def test_labels_are_indices_or_names_as_they_are_given():
    net = red_or_blue().module
    explainer = explainer_of(vtcav.Classifier(net, ["1", "0"], vtcav.Preprocess(16)))
    explainer.progress = False
    for labels in ([1] * 40, ["0"] * 40, np.ones(40, int)):  # all of them the second class
        images = explainer.errors(IMAGES, labels, pictures=0).images
        assert set(images["true_class"]) == {"0"}
        wrong = images[images["true_class"] != images["predicted_class"]]
        assert set(wrong["image"]) == {f"array[{i}]" for i in range(len(RED))}


def test_two_classes_of_one_name_are_told_apart():
    net = red_or_blue().module
    explainer = explainer_of(vtcav.Classifier(net, ["crane", "crane"], vtcav.Preprocess(16)))
    explainer.progress = False
    analysis = explainer.errors(IMAGES, [1] * 40, pictures=0)
    assert analysis.described == "40 images, 12 predicted wrong"
    assert set(analysis.table["true_class"]) == {"crane [2]"}


def test_images_of_one_name_are_told_apart(explainer):
    same = [ImageRef("b/same", RED[0]), ImageRef("same", RED[0]), ImageRef("same", BLUE[0])]
    images = explainer.errors(same, ["b", "b", "a"]).images
    assert images["image"].nunique() == 3
    assert images.groupby("true_class")["image"].nunique().to_dict() == {"a": 1, "b": 2}


def test_folders_are_named_as_in_studies(explainer):
    net = explainer.model.module
    made = explainer_of(vtcav.Classifier(net, ["red fox", "Blue jay"], vtcav.Preprocess(16)))
    made.progress = False
    images = made.errors({"Red_Fox": RED, "blue-jay": BLUE}, pictures=0).images
    assert set(images["true_class"]) == {"red fox", "Blue jay"}


def test_what_is_concluded_without_a_finding(explainer):
    none_wrong = explainer.errors(BLUE, ["b"] * len(BLUE))
    assert none_wrong.conclusion.startswith("The network gets every image right")
    few = explainer.errors(np.concatenate([RED[:2], BLUE]), ["b"] * (2 + len(BLUE)))
    assert few.conclusion == (
        "Nothing could be compared: it takes 5 wrong and 5 right images of a class, and 'b', which "
        f"has most, has 2 wrong and {len(BLUE)} right."
    )
    alike = replace(few, _findings=few.table.assign(q_value=0.4))
    assert alike.conclusion == (
        "Whether a concept goes with the errors cannot be told: none of 2 comparisons has q ≤ 0.05."
    )
    assert few.findings() == []
    shown = explainer.errors(IMAGES, ["b"] * len(IMAGES), pictures=0)
    assert shown.conclusion == ""


def test_without_place_filters_each_concept_is_read_at_its_best_layer():
    examples = {"red": patches(0, 8, 1)[0], "blue": patches(2, 8, 2)[0]}
    dark = np.random.default_rng(9).integers(0, 30, (12, 16, 16, 3)).astype(np.uint8)
    explainer = vtcav.VisualTCAV(red_or_blue(), ["1", "3"], fill=None, progress=False)
    explainer.fit(examples, dark, null_cavs=0, bootstraps=0)
    analysis = explainer.errors(IMAGES, ["b"] * len(IMAGES), pictures=0)
    assert analysis.layers == {name: explainer.best_layer(name) for name in ("red", "blue")}
    red = analysis.images.query("concept == 'red'").set_index("image")["presence"]
    expected = explainer.rank(IMAGES, "red").table.set_index("image")["presence"]
    np.testing.assert_allclose(red, expected[red.index], atol=1e-6)
    assert analysis.shown == ()


def test_few_images_and_concepts_that_are_not_seen_are_not_tested():
    random = np.random.default_rng(0)
    table = compared(rows(random, (60, 15, 3)))
    few = table[table["predicted_class"] == "fox"]
    assert set(few["note"]) == {FEW.format(3, 60, 5)}
    assert few["auc"].isna().all()
    faint = rows(random, (60, 15, 10))
    faint.loc[faint["concept"] == "c1", "presence"] *= 0.2
    own = compared(faint).query("concept == 'c1'")
    assert own["auc"].isna().all()
    assert own["note"].str.contains("no image responds nearly as the examples do").all()
    given = rows(random, (60, 15, 10))
    unseen = given["concept"] == "c1"
    given["area"] = given["area"].astype(float)
    given.loc[unseen, ["presence", "area"]] = np.nan
    given.loc[unseen, "note"] = "not seen"
    own = compared(given).query("concept == 'c1'")
    assert own[["auc", "q_value", "present_wrong"]].isna().all(axis=None)
    assert set(own["note"]) == {"not seen"}


def test_folders_tables_and_mappings_give_the_same(explainer, labels, analysis, tmp_path):
    by_class, lines = {}, ["path,label"]
    for n, (image, label) in enumerate(zip(IMAGES, labels, strict=True)):
        (tmp_path / "set" / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "set" / label / f"{n}.png")
        lines.append(f"set/{label}/{n}.png,{label}")
        by_class.setdefault(label, []).append(image)
    (tmp_path / "set.csv").write_text("\n".join(lines))
    numbers = ["concept", "wrong", "right", "auc", "q_value"]
    expected = analysis.table[numbers].sort_values(numbers, ignore_index=True)
    mapping = {name: np.stack(images) for name, images in by_class.items()}
    for source in (str(tmp_path / "set"), tmp_path / "set.csv", mapping):
        found = explainer.errors(source)
        assert found.images["image"].nunique() == len(IMAGES)
        table = found.table[numbers].sort_values(numbers, ignore_index=True)
        pd.testing.assert_frame_equal(table, expected)


def test_what_does_not_fit(explainer, labels, tmp_path):
    with pytest.raises(ImageError, match="for each image, got 40 images and 3 labels"):
        explainer.errors(IMAGES, labels[:3])
    with pytest.raises(ImageError, match=r"expected labels=, or a folder .* got ndarray"):
        explainer.errors(IMAGES)
    with pytest.raises(ImageError, match="there is no folder in"):
        explainer.errors(str(tmp_path))
    with pytest.raises(ModelError, match="unknown class 'zebra'"):
        explainer.errors({"zebra": IMAGES})
    several = vtcav.Classifier(
        explainer.model.module, ["a", "b"], vtcav.Preprocess(16), task="labels"
    )
    other = vtcav.VisualTCAV(several, cavs=explainer.cavs)
    with pytest.raises(ExplanationError, match=r"networks that choose one class.* 'labels'"):
        other.errors(IMAGES, labels)


def test_the_command(labels, tmp_path, monkeypatch, capsys):
    (tmp_path / "errornet.py").write_text(
        "from tests.explainer.test_errors import red_or_blue\n\n\n"
        "def build():\n    return red_or_blue()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    sets = {"concepts/red": patches(0, 8, 1)[0], "concepts/blue": patches(2, 8, 2)[0]}
    sets["random"] = np.random.default_rng(9).integers(0, 30, (12, 16, 16, 3)).astype(np.uint8)
    for n, label in enumerate(labels):
        sets.setdefault(f"test/{label}", []).append(IMAGES[n])
    for folder, images in sets.items():
        (tmp_path / folder).mkdir(parents=True)
        for i, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / folder / f"{i}.png")
    command = ["errors", "--images", "test", "--model", "python:errornet:build", "--layers", "1,3"]
    command += ["--concepts", "concepts", "--negatives", "random", "-o", "out"]
    assert main([*command, "--quiet"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "40 images, 12 predicted wrong" in said
    assert said.startswith("'blue' is present in 0 % of the 12 images")
    assert "'red' is present in 100 % of the" in said
    assert said.index("erasing it tells.") < said.index("Concepts that go with")
    assert ErrorAnalysis.load("out").table["q_value"].min() < 0.05
    assert main([*command, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["findings"] == ErrorAnalysis.load("out").findings()
    assert len(data["table"]) == len(ErrorAnalysis.load("out").table)
