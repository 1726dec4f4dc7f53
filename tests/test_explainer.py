"""Learning and explaining through the public API: what is used, what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vtcav
from tests.small import (
    CLASSES,
    concepts,
    negatives,
    pictures,
    small_explainer,
    small_model,
    small_net,
)

IMAGES = pictures(6, seed=11)


@pytest.fixture(scope="module")
def explainer():
    return small_explainer()


@pytest.fixture
def folder(tmp_path):
    """Twelve readable pictures, a broken one and an empty one."""
    for i, picture in enumerate(pictures(12, seed=6)):
        Image.fromarray(picture).save(tmp_path / f"{i:02}.png")
    (tmp_path / "broken.png").write_text("no picture")
    (tmp_path / "empty.jpg").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps to be 'adaptive' or a whole number of at least 1, got 0"),
        ({"steps": "many"}, "got 'many'"),
        ({"steps": True}, "got True"),
        ({"tolerance": 0}, "tolerance between 0 and 1, got 0"),
        ({"batch_size": 0}, "batch_size of at least 1, got 0"),
        ({"layers": ["9"]}, "no layer '9'"),
        ({"layers": []}, "layers is empty"),
        ({"layers": "3"}, "list of names"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(vtcav.VtcavError, match=message):
        vtcav.VisualTCAV(small_model(), **settings)


def test_a_bare_module_is_no_model():
    with pytest.raises(vtcav.ModelError, match="got Sequential; wrap the network"):
        vtcav.VisualTCAV(small_net())


def test_nothing_is_explained_before_concepts_are_learned():
    explainer = vtcav.VisualTCAV(small_model())
    for work in (
        lambda: explainer.cavs,
        lambda: explainer.explain(IMAGES[0]),
        lambda: explainer.explain_class("cat", IMAGES),
    ):
        with pytest.raises(vtcav.CavError, match="no concepts are learned yet"):
            work()


@pytest.mark.parametrize(
    ("given", "against", "message"),
    [
        ({}, negatives(), "at least one concept, got none"),
        (["striped"], negatives(), "mapping from names to images.* got list"),
        ({"": IMAGES}, negatives(), "printable text, got ''"),
        ({"a\nb": IMAGES}, negatives(), "printable text"),
        ({"few": IMAGES[:4]}, negatives(), "concept 'few': expected at least 5 images, got 4"),
        ({"a": IMAGES}, IMAGES[:3], "negatives: expected at least 5 images, got 3"),
        ({"a": IMAGES}, None, "expected negatives for 'a', got none"),
        ({"a": IMAGES, "b": IMAGES}, {"a": IMAGES}, "no negatives for 'b': .* given for 'a'"),
        ({"a": IMAGES}, {"a": IMAGES, "c": IMAGES}, "given for 'c', which is no concept"),
        ({"a": "nowhere"}, negatives(), "concept 'a': 'nowhere' does not exist"),
        ({"a": IMAGES.astype(float)}, negatives(), "concept 'a': expected uint8"),
        ({"a": []}, negatives(), "concept 'a': no images"),
    ],
)
def test_concepts_that_cannot_be_learned(given, against, message):
    with pytest.raises(vtcav.ConceptError, match=message):
        vtcav.VisualTCAV(small_model()).fit(given, against)


def test_fewer_examples_on_request():
    explainer = vtcav.VisualTCAV(small_model(), ["3"])
    explainer.fit({"few": IMAGES[:1]}, negatives(), min_examples=1)
    assert len(explainer.cavs.concepts[0].examples) == 1


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("cta", "unknown class 'cta'.*did you mean 'cat'"),
        (["cat", "cow"], "unknown class 'cow'"),
        ([3], "class index 3 is out of range"),
        ([-1], "out of range"),
        ([], "classes is empty"),
        (0, "at least 1"),
        (True, "got True"),
    ],
)
def test_classes_that_are_not_there(explainer, classes, message):
    with pytest.raises(vtcav.VtcavError, match=message):
        explainer.explain(IMAGES[0], classes)


def test_a_name_of_two_classes_is_ambiguous():
    explainer = small_explainer(small_model(classes=("crane", "dog", "crane")))
    with pytest.raises(vtcav.ModelError, match=r"stands for 2 classes, with indices \[0, 2"):
        explainer.explain(IMAGES[0], ["crane"])
    table = explainer.explain(IMAGES[0], [2]).attributions
    assert table["class_index"].unique().tolist() == [2]


def test_ways_of_naming_classes(explainer):
    def found(classes):
        return explainer.explain(IMAGES[0], classes).attributions["class_name"].unique().tolist()

    top = explainer.explain(IMAGES[0]).predictions["class_name"].tolist()
    assert found(2) == top[:2]
    assert found(99) == top
    assert found("dog") == ["dog"]
    assert found(["dog", 0, "1", np.int64(2)]) == ["dog", "cat", "fox"]


def test_one_image_is_explained(explainer, folder):
    with pytest.raises(vtcav.ImageError, match="takes one image, got 14; use explain_class"):
        explainer.explain(folder)
    with pytest.raises(vtcav.ImageError, match=r"broken.png.*not a picture"):
        explainer.explain(folder / "broken.png")
    for image in (folder / "00.png", str(folder / "00.png"), Image.open(folder / "00.png")):
        assert len(explainer.explain(image).attributions) == 12


def test_what_cannot_be_read_is_named_and_counted(folder):
    explainer = vtcav.VisualTCAV(small_model(), ["3"])
    with pytest.warns(vtcav.SkippedImageWarning, match="2 of 14 images are left out: .*broken"):
        explainer.fit({"some": folder}, negatives())
    record = explainer.cavs.concepts[0]
    assert len(record.examples) == 12
    assert [Path(skip.name).name for skip in record.skipped_examples] == ["broken.png", "empty.jpg"]
    assert "the file is empty" in record.skipped_examples[1].reason
    assert explainer.cavs.table()["skipped"].tolist() == [2]
    with pytest.warns(vtcav.SkippedImageWarning):
        glob = explainer.explain_class("cat", folder)
    assert [Path(skip.name).name for skip in glob.skipped] == ["broken.png", "empty.jpg"]
    images = glob.images
    assert images["used"].sum() == 12
    assert images[~images["used"]]["reason"].str.len().gt(5).all()
    assert glob.summary()["n"].tolist() == [12]
    assert glob.provenance.concepts == explainer.cavs.concepts


def test_strict_makes_an_error_of_it(folder, explainer):
    with pytest.raises(vtcav.ImageError, match=r"broken.png"):
        vtcav.VisualTCAV(small_model(), ["3"]).fit({"some": folder}, negatives(), strict=True)
    with pytest.raises(vtcav.ImageError, match=r"broken.png"):
        explainer.explain_class("cat", folder, strict=True)


def test_a_limit_draws_with_the_seed_and_not_the_first():
    def used(seed):
        explainer = vtcav.VisualTCAV(small_model(), ["3"])
        explainer.fit({"some": pictures(30, seed=1)}, negatives(), limit=6, seed=seed)
        return explainer.cavs.concepts[0].examples

    first = tuple(f"array[{i}]" for i in range(6))
    assert used(0) == used(0)
    assert len(used(0)) == 6
    assert len({used(seed) for seed in range(4)} | {first}) == 5


def test_explain_class_samples_too(explainer):
    many = pictures(30, seed=8)
    first = explainer.explain_class("cat", many, limit=7, seed=1)
    assert (
        first.images["image"].tolist()
        == explainer.explain_class("cat", many, limit=7, seed=1).images["image"].tolist()
    )
    assert len(first.images) == 7
    assert first.images["image"].tolist() != [f"array[{i}]" for i in range(7)]


def test_weights_that_changed_since_are_noticed():
    explainer = small_explainer()
    explainer.explain(IMAGES[0])
    with torch.no_grad():
        explainer.model.module[2].weight[0, 0, 0, 0] += 1
    with pytest.raises(vtcav.CavError, match="learned on another network"):
        explainer.explain(IMAGES[0])
    with pytest.raises(vtcav.CavError, match="learned on another network"):
        explainer.explain_class("cat", IMAGES)


def state(module):
    """Everything about a module that explaining could disturb."""
    return [
        (
            name,
            child.training,
            sorted(child.__dict__),
            dict(child._forward_hooks),
            dict(child._forward_pre_hooks),
            [(p.requires_grad, p.grad is None, id(p), p.dtype) for p in child.parameters()],
            [b.clone().tolist() for b in child.buffers()],
        )
        for name, child in module.named_modules()
    ]


def test_the_module_is_left_as_it_was_found_also_after_an_error(monkeypatch):
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, stride=2),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(inplace=True),
        torch.nn.Dropout(0.5),
        torch.nn.Conv2d(4, 6, 3),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(6, 3),
    ).train()
    net[1].eval()
    net[0].weight.requires_grad_(False)
    before = state(net)
    explainer = vtcav.VisualTCAV(small_model(net), ["2", "5"])
    explainer.fit(concepts(), negatives())
    first = explainer.explain(IMAGES[0]).attributions
    assert state(net) == before
    assert explainer.explain(IMAGES[0]).attributions.equals(first)  # no dropout, no new statistics

    def fail(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.autograd, "grad", fail)
    with pytest.raises(KeyboardInterrupt):
        explainer.explain(IMAGES[0])
    assert state(net) == before


def test_a_callable_preprocessing_shows_the_networks_input():
    def preprocess(image):
        pixels = torch.from_numpy(np.array(image.resize((16, 16)), np.float32))
        return pixels.permute(2, 0, 1) / 255

    explainer = small_explainer(small_model(preprocess=preprocess))
    local = explainer.explain(pictures(1, size=(40, 30))[0])
    assert local.picture.shape == (16, 16, 3)
    assert local.box == (0.0, 0.0, 1.0, 1.0)
    sized = small_explainer().explain(pictures(1, size=(40, 30))[0])
    assert sized.picture.shape == (40, 30, 3)
    assert sized.box == pytest.approx((0.0, 0.125, 1.0, 0.875), abs=0.03)


def test_single_logit_classes_are_named_the_right_way_round():
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 1, 1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(1, 1),
        torch.nn.Sigmoid(),
    )
    with torch.no_grad():
        net[0].weight.fill_(1 / 3)
        net[0].bias.zero_()
        net[4].weight.fill_(8.0)
        net[4].bias.fill_(-4.0)  # positive where the picture is bright
    preprocess = vtcav.Preprocess(16)
    model = vtcav.Classifier(net, ["dark", "bright"], preprocess, binary=True)
    explainer = vtcav.VisualTCAV(model, ["1"])
    light, dark = np.full((6, 16, 16, 3), 230, np.uint8), np.full((6, 16, 16, 3), 40, np.uint8)
    explainer.fit({"light": light}, dark)
    local = explainer.explain(light[0], classes=2)
    assert local.predictions["class_name"].tolist() == ["bright", "dark"]
    table = local.attributions.set_index("class_name")["attribution"]
    assert table["bright"] == pytest.approx(1, abs=1e-5)
    assert table["dark"] == 0
    assert explainer.explain_class("bright", light).summary()["mean"][0] == pytest.approx(1)
    assert (local.attributions["attribution"] <= 1).all()


def test_repr_says_what_it_is(explainer):
    assert "concepts=['bright', 'cold']" in repr(explainer)
    assert "CavBank(concepts=['bright', 'cold']" in repr(explainer.cavs)
    assert "3 classes" in repr(explainer.model)
    assert CLASSES[0] in explainer.model.class_names


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_devices(device):
    model = vtcav.Classifier(small_net(), CLASSES, vtcav.Preprocess(16), device=device)
    assert model.device.type == "cpu"
    assert len(small_explainer(model).explain(IMAGES[0]).attributions) == 12


def test_pictures_of_several_sizes_need_a_size():
    with pytest.warns(UserWarning, match="no preprocess given"):
        model = vtcav.Classifier(
            torch.nn.Sequential(
                torch.nn.Conv2d(3, 4, 3),
                torch.nn.ReLU(),
                torch.nn.AdaptiveAvgPool2d(1),
                torch.nn.Flatten(),
                torch.nn.Linear(4, 2),
            )
        )
    mixed = [*pictures(5, size=(20, 20)), *pictures(1, size=(24, 20))]
    with pytest.raises(vtcav.ImageError, match="expected inputs of one shape, got"):
        vtcav.VisualTCAV(model, ["1"]).fit({"mixed": mixed}, pictures(5, size=(20, 20)))
