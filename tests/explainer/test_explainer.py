"""fit, explain and explain_class: what they refuse, what they leave out, what they leave alone."""

import numpy as np
import pandas as pd
import pytest
import torch
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
    with_weights,
)
from vtcav.errors import (
    CavError,
    ConceptError,
    ExplanationError,
    ImageError,
    LayerError,
    ModelError,
)
from vtcav.models.base import held
from vtcav.models.heads.gradient import logit_gradients

IMAGE = pictures(1, seed=4)[0]


@pytest.fixture(scope="module")
def explainer():
    return small_explainer(steps=4)


def folder_of(images, folder):
    folder.mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i:02}.png")
    return folder


def damage(path):
    path.write_bytes(path.read_bytes()[:60])
    return str(path)


# -- refusals ------------------------------------------------------------------------------------


def test_not_fitted():
    unfitted = vtcav.VisualTCAV(small_model(), ["3"])
    for use in (lambda: unfitted.cavs, lambda: unfitted.explain(IMAGE)):
        with pytest.raises(CavError, match=r"no concepts are learned yet: call fit\(concepts"):
            use()
    with pytest.raises(CavError, match="no concepts are learned yet"):
        unfitted.explain_class("cat", [IMAGE])


def test_a_bare_module_is_no_model():
    with pytest.raises(ModelError, match=r"got Sequential; wrap the network: vtcav\.Classifier"):
        vtcav.VisualTCAV(small_net())


FOUR = pictures(4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((concepts(), None), "expected negatives for 'bright', 'cold', got none; pass random"),
        (({}, negatives()), "expected at least one concept, got none"),
        ((["striped"], negatives()), r"expected concepts as a mapping .* got list"),
        (("concepts", negatives()), r"got str; .* vtcav.datasets.from_folders\('concepts'\)"),
        (({" ": FOUR}, negatives()), "printable text, got ' '"),
        (({"a\nb": FOUR}, negatives()), r"printable text, got 'a\\nb'"),
        (({7: FOUR}, negatives()), "printable text, got 7"),
        (({"few": FOUR}, negatives()), "concept 'few': expected at least 5 images, got 4; a direc"),
        ((concepts(), FOUR), "negatives: expected at least 5 images, got 4"),
        ((concepts(), {"bright": negatives()}), "no negatives for 'cold': .* given for 'bright'"),
        ((concepts(), {}), "expected negatives for 'bright', 'cold', got none"),
        (
            (concepts(), dict.fromkeys([*concepts(), "colt"], negatives())),
            "negatives are given for 'colt', which is no concept",
        ),
        (
            (concepts(), {"bright": negatives(), "cold": FOUR}),
            "negatives of concept 'cold': expected at least 5 images, got 4",
        ),
        (({"gone": "no/such/folder"}, negatives()), "concept 'gone': 'no/such/folder' does not ex"),
        (({"empty": []}, negatives()), "concept 'empty': no images: the list is empty"),
    ],
)
def test_concepts_that_cannot_be_learned(explainer, arguments, message):
    before = explainer.cavs
    with pytest.raises(ConceptError, match=message):
        explainer.fit(*arguments)
    assert explainer.cavs is before


def test_fewer_examples_than_usual_can_be_asked_for():
    explainer = vtcav.VisualTCAV(small_model(), ["3"]).fit({"few": FOUR}, FOUR, min_examples=4)
    assert explainer.cavs.settings["min_examples"] == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps to be 'adaptive' or a whole number of at least 1, got 0"),
        ({"steps": -3}, "got -3"),
        ({"steps": 2.5}, "got 2.5"),
        ({"steps": True}, "got True"),
        ({"steps": "fast"}, "got 'fast'"),
        ({"tolerance": 0}, "tolerance to be a number between 0 and 1, got 0"),
        ({"tolerance": 1.5}, "got 1.5"),
        ({"tolerance": float("nan")}, "got nan"),
        ({"tolerance": "tight"}, "tolerance to be a number between 0 and 1, got 'tight'"),
        ({"batch_size": 0}, "batch_size to be a whole number of at least 1, got 0"),
        ({"batch_size": 2.5}, "batch_size to be a whole number of at least 1, got 2.5"),
    ],
)
def test_settings_out_of_range(options, message):
    with pytest.raises(ExplanationError, match=message):
        vtcav.VisualTCAV(small_model(), ["3"], **options)


def test_numbers_of_numpy_are_numbers(explainer):
    numbers = vtcav.VisualTCAV(
        explainer.model, ["3"], np.int64(4), batch_size=np.int32(2), cavs=explainer.cavs
    )
    top = numbers.explain(IMAGE, classes=np.int64(2))
    assert top.attributions["class_index"].nunique() == 2
    some = numbers.explain(IMAGE, classes=np.array([2, 0]))
    assert some.attributions["class_name"].unique().tolist() == ["fox", "cat"]
    assert numbers.explain_class(np.int64(1), [IMAGE]).class_name == "dog"


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["three"], "the network has no layer 'three'"),
        ([], "layers is empty"),
        ("3", "layers must be a list of names, got the text '3'"),
        (["3", "7"], "layer '7' cannot be explained"),
    ],
)
def test_layers(layers, message):
    with pytest.raises(LayerError, match=message):
        vtcav.VisualTCAV(small_model(), layers)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["dgo"], r"unknown class 'dgo': expected one of 3 class names.* did you mean 'dog'\?"),
        ("zebra", "unknown class 'zebra'"),
        ([3], "class index 3 is out of range: the network has 3 classes, 0 to 2"),
        ([-1], "class index -1 is out of range"),
    ],
)
def test_unknown_classes(explainer, classes, message):
    with pytest.raises(ModelError, match=message):
        explainer.explain(IMAGE, classes)
    (one,) = [classes] if isinstance(classes, str) else classes
    with pytest.raises(ModelError, match=message):
        explainer.explain_class(one, [IMAGE])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (0, "number of top classes .at least 1. or a list of names or indices, got 0"),
        (-1, "got -1"),
        (True, "got True"),
        (None, "got None"),
        (1.5, "got 1.5"),
        ([], "classes is empty"),
    ],
)
def test_classes_out_of_range(explainer, classes, message):
    with pytest.raises(ExplanationError, match=message):
        explainer.explain(IMAGE, classes)


def test_ambiguous_class_name():
    model = small_model(classes=["crane", "dog", "crane"])
    explainer = vtcav.VisualTCAV(model, ["3"], 2).fit(concepts(), negatives())
    with pytest.raises(ModelError, match=r"'crane' stands for 2 classes, with indices \[0, 2\]"):
        explainer.explain(IMAGE, ["crane"])
    assert explainer.explain(IMAGE, [2]).attributions["class_name"].unique() == ["crane"]


def test_explain_takes_one_image(explainer, tmp_path):
    folder = folder_of(FOUR, tmp_path / "many")
    for many in (folder, str(folder), FOUR, [IMAGE, IMAGE]):
        with pytest.raises(
            ImageError, match=r"explain takes one image, got [24]; use explain_class"
        ):
            explainer.explain(many)
    broken = damage(folder / "00.png")
    with pytest.raises(ImageError, match=r"cannot read '.*00\.png'"):
        explainer.explain(broken)
    with pytest.raises(ImageError, match="does not exist"):
        explainer.explain(tmp_path / "nowhere.png")


class Overflow(nn.Module):
    """Gives infinite values for white pictures."""

    def forward(self, x):
        return torch.where(x.mean((1, 2, 3), keepdim=True) > 0.99, torch.inf, x)


def test_values_that_are_not_finite_are_refused():
    white = np.full((5, 16, 16, 3), 255, np.uint8)
    model = small_model(nn.Sequential(Overflow(), *small_net()))
    message = r"infinite values or NaN at layer '2' for '{}'; a network in half precision"
    explainer = vtcav.VisualTCAV(model, ["2", "4"], 2)
    with pytest.raises(ModelError, match=message.format(r"array\[0\]")):
        explainer.fit({"white": white}, negatives())
    explainer.fit(concepts(), negatives())
    with pytest.raises(ModelError, match=message.format(r"array\[0\]")):
        explainer.explain(white[0])
    with pytest.raises(ModelError, match=message.format(r"array\[1\]")):
        explainer.explain_class("cat", [IMAGE, white[0]])


class Unit(nn.Module):
    """Divides features by their norm, which is 0 / 0 at zero feature maps."""

    def forward(self, x):
        return x / x.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("steps", [4, "adaptive"])
def test_a_head_that_is_not_finite_at_zero_feature_maps_is_refused(steps):
    net = nn.Sequential(*small_net()[:5], Unit(), *small_net()[5:])
    explainer = vtcav.VisualTCAV(small_model(net), ["3"], steps).fit(concepts(), negatives())
    with pytest.raises(ExplanationError, match="layer '3' cannot be explained: between zero"):
        explainer.explain(IMAGE)


# -- images that cannot be read --------------------------------------------------------------------


@pytest.fixture
def damaged(tmp_path):
    """Folders of examples, negatives and class images, with the one damaged file of each."""
    folders = {
        "bright": folder_of(concepts()["bright"], tmp_path / "bright"),
        "negatives": folder_of(negatives(), tmp_path / "negatives"),
        "cats": folder_of(pictures(4, seed=6), tmp_path / "cats"),
    }
    return folders, {name: damage(folder / "01.png") for name, folder in folders.items()}


def test_unreadable_examples_are_named(damaged):
    folders, lost = damaged
    explainer = vtcav.VisualTCAV(small_model(), ["3"], 4)
    with pytest.warns(vtcav.SkippedImageWarning) as warned:
        explainer.fit({"bright": folders["bright"]}, folders["negatives"])
    messages = [str(warning.message) for warning in warned]
    assert len(messages) == 2
    assert messages[0].startswith(f"1 of 7 images is left out: {lost['bright']!r} (")
    assert messages[1].startswith(f"1 of 9 images is left out: {lost['negatives']!r} (")
    (record,) = explainer.cavs.concepts
    assert [skip.name for skip in record.skipped_examples] == [lost["bright"]]
    assert [skip.name for skip in record.skipped_negatives] == [lost["negatives"]]
    assert record.skipped_examples[0].reason
    assert len(record.examples) == 6
    assert lost["bright"] not in record.examples
    assert explainer.cavs.table()["skipped"].tolist() == [2]
    assert explainer.explain(IMAGE).provenance.concepts == (record,)

    rest = sorted(set(folders["bright"].iterdir()) - {folders["bright"] / "01.png"})
    others = sorted(set(folders["negatives"].iterdir()) - {folders["negatives"] / "01.png"})
    clean = vtcav.VisualTCAV(small_model(), ["3"], 4).fit({"bright": rest}, others)
    torch.testing.assert_close(clean.cavs.layers["3"].v, explainer.cavs.layers["3"].v)


def test_unreadable_class_images_are_named(explainer, damaged):
    folders, lost = damaged
    with pytest.warns(vtcav.SkippedImageWarning, match="1 of 4 images is left out"):
        glob = explainer.explain_class("cat", folders["cats"])
    assert [skip.name for skip in glob.skipped] == [lost["cats"]]
    assert glob.attributions["image"].nunique() == 3
    table = glob.images.set_index("image")
    assert table["used"].tolist() == [True, True, True, False]
    assert table.loc[lost["cats"], "reason"] == glob.skipped[0].reason
    assert np.isnan(table.loc[lost["cats"], "probability"])
    assert glob.summary()["n"].eq(3).all()


@pytest.mark.parametrize("name", ["bright", "negatives"])
def test_strict_fit(damaged, name):
    folders, lost = damaged
    other = {"bright": concepts()["bright"], "negatives": negatives()}
    sources = {**other, name: folders[name]}
    with pytest.raises(ImageError, match="cannot read") as error:
        vtcav.VisualTCAV(small_model(), ["3"]).fit(
            {"bright": sources["bright"]}, sources["negatives"], strict=True
        )
    assert lost[name] in str(error.value)


def test_strict_explain_class(explainer, damaged):
    folders, lost = damaged
    with pytest.raises(ImageError, match="cannot read") as error:
        explainer.explain_class("cat", folders["cats"], strict=True)
    assert lost["cats"] in str(error.value)


def test_too_few_readable_examples(tmp_path):
    folder = folder_of(concepts()["bright"], tmp_path / "bright")
    for path in sorted(folder.iterdir())[:3]:
        damage(path)
    message = r"concept 'bright': expected at least 5 images, got 4 \(3 more could not be read\)"
    explainer = vtcav.VisualTCAV(small_model(), ["3"])
    with (
        pytest.warns(vtcav.SkippedImageWarning, match="3 of 7"),
        pytest.raises(ConceptError, match=message),
    ):
        explainer.fit({"bright": folder}, negatives())


def test_no_readable_example_at_all(tmp_path):
    folder = folder_of(concepts()["bright"], tmp_path / "bright")
    for path in folder.iterdir():
        damage(path)
    explainer = vtcav.VisualTCAV(small_model(), ["3"])
    with pytest.raises(vtcav.VtcavError, match=r"concept 'bright': none of the 7 images can be"):
        explainer.fit({"bright": folder}, negatives())
    with pytest.raises(ImageError, match="none of the 7 images can be read"):
        small_explainer(steps=1).explain_class("cat", folder)


def test_a_class_image_listed_twice_counts_twice(explainer, tmp_path):
    path = folder_of(FOUR, tmp_path / "cats") / "02.png"
    glob = explainer.explain_class("cat", [path, path])
    assert glob.images["image"].tolist() == [str(path)] * 2
    assert glob.summary()["n"].eq(2).all()
    assert glob.summary()["std"].eq(0).all()


# -- a limit -----------------------------------------------------------------------------------


def examples_used(**options):
    explainer = vtcav.VisualTCAV(small_model(), ["3"])
    explainer.fit({"many": pictures(30, seed=5)}, pictures(30, seed=6), **options)
    (record,) = explainer.cavs.concepts
    return record


def test_a_limit_draws_by_its_seed_and_is_not_the_beginning():
    drawn = examples_used(limit=8, seed=1)
    assert len(drawn.examples) == len(drawn.negatives) == 8
    assert drawn == examples_used(limit=8, seed=1)
    assert drawn.examples != examples_used(limit=8, seed=2).examples
    first = tuple(f"array[{i}]" for i in range(8))
    assert all(examples_used(limit=8, seed=seed).examples != first for seed in range(4))
    assert examples_used(limit=99).examples == tuple(f"array[{i}]" for i in range(30))


def test_a_limit_of_class_images(explainer):
    images = pictures(30, seed=7)

    def drawn(seed):
        return explainer.explain_class("cat", images, limit=4, seed=seed).images["image"].tolist()

    assert drawn(0) == drawn(0) != drawn(1)
    assert len(drawn(0)) == 4
    assert all(drawn(seed) != [f"array[{i}]" for i in range(4)] for seed in range(4))


def test_limits_and_seeds_are_in_the_provenance(explainer):
    explainer = vtcav.VisualTCAV(explainer.model, ["3"], 4)
    explainer.fit(concepts(), negatives(), limit=6, seed=5)
    settings = explainer.explain_class("cat", FOUR, limit=3, seed=2).provenance.settings
    assert (settings["limit"], settings["seed"], settings["steps"]) == (3, 2, 4)
    assert (settings["fit"]["limit"], settings["fit"]["seed"]) == (6, 5)


# -- the network is left as it was found -----------------------------------------------------------


class Raising(nn.Module):
    """Passes its input on, unless told to raise."""

    told = False

    def forward(self, x):
        if Raising.told:
            raise ValueError("told to raise")
        return x


@pytest.fixture
def moody():
    """A network with every kind of state that could be disturbed."""
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Conv2d(4, 6, 3),
        nn.ReLU(),
        Raising(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 3),
    )
    with_weights(net, 0).train()
    net[1].eval()
    net[0].weight.requires_grad_(False)
    net[2].register_forward_hook(lambda module, inputs, output: None)
    net[5].register_forward_pre_hook(lambda module, inputs: None)
    net[4].forward = net[4].forward  # patched, as other libraries do
    return net


def state(net):
    """Everything about a network that explaining could disturb."""
    return [
        (
            name,
            child.training,
            {key: id(value) for key, value in vars(child).items() if "hooks" not in key},
            {key: dict(value) for key, value in vars(child).items() if "hooks" in key and value},
            [(id(p), p.requires_grad, p.grad, p.dtype, p.tolist()) for p in child.parameters()],
            [(id(b), b.tolist()) for b in child.buffers()],
        )
        for name, child in net.named_modules()
    ]


def test_the_network_is_left_as_it_was_found(moody):
    before = state(moody)
    model = small_model(moody)
    explainer = vtcav.VisualTCAV(model, ["2", "5"]).fit(concepts(), negatives())
    first = explainer.explain(IMAGE).attributions
    explainer.explain_class(0, FOUR)
    assert state(moody) == before
    again = explainer.explain(IMAGE).attributions
    pd.testing.assert_frame_equal(again, first)  # no dropout, no new statistics
    assert torch.is_grad_enabled()


def test_the_network_is_left_as_it_was_found_after_an_exception(moody, monkeypatch):
    before = state(moody)
    explainer = vtcav.VisualTCAV(small_model(moody), ["2", "5"], 2).fit(concepts(), negatives())
    explainer.explain(IMAGE)
    with monkeypatch.context() as patch:
        patch.setattr(Raising, "told", True)
        for use, error in (
            (lambda: explainer.explain(IMAGE), ModelError),
            (lambda: explainer.explain_class(0, FOUR), ModelError),
            (lambda: explainer.model.head("5")(torch.ones(1, 6, 5, 5)), ValueError),
        ):
            with pytest.raises(error, match="told to raise"):
                use()
            assert state(moody) == before
        with pytest.raises(ModelError, match="told to raise"):
            explainer.fit(concepts(), negatives())
        assert state(moody) == before

    def interrupt(*_arguments, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch.autograd, "grad", interrupt)
        # this network's images raise no class, so that explaining them takes no gradient
        F, one, index = torch.ones(1, 6, 5, 5), torch.ones(1), torch.tensor([[0]])
        with pytest.raises(KeyboardInterrupt), held(explainer.model.head("5")) as head:
            logit_gradients(head, F, index, one)
    assert state(moody) == before
    assert torch.is_grad_enabled()


def test_the_caller_may_have_turned_gradients_off(explainer):
    expected = explainer.explain(IMAGE).attributions
    with torch.no_grad():
        pd.testing.assert_frame_equal(explainer.explain(IMAGE).attributions, expected)


# -- CAVs and the network belong together ----------------------------------------------------------


def step(net):
    with torch.no_grad():
        net[2].weight[0, 0, 0, 0] += 0.1


def load(net):
    net.load_state_dict(small_net(seed=1).state_dict())


def replace(net):
    net[0].weight = nn.Parameter(net[0].weight.detach() + 0.1)


def data(net):
    net[0].weight.data.add_(0.1)  # unseen by the version counter


@pytest.mark.parametrize("change", [step, load, replace, data])
def test_weights_that_changed_after_fit(change):
    net = small_net()
    explainer = vtcav.VisualTCAV(small_model(net), ["3"], 2).fit(concepts(), negatives())
    explainer.explain(IMAGE)
    change(net)
    for use in (lambda: explainer.explain(IMAGE), lambda: explainer.explain_class(0, [IMAGE])):
        with pytest.raises(CavError, match=r"learned on another network: .*fingerprint.*fit again"):
            use()
    explainer.fit(concepts(), negatives())
    assert len(explainer.explain(IMAGE).attributions) == 6


def test_a_loaded_bank_explains_without_the_concept_images(tmp_path):
    folders = {name: folder_of(images, tmp_path / name) for name, images in concepts().items()}
    apart = folder_of(negatives(), tmp_path / "negatives")
    fitted = vtcav.VisualTCAV(small_model(), ["1", "3"], 4).fit(folders, apart)
    fitted.cavs.save(tmp_path / "cavs.safetensors")
    for folder in (*folders.values(), apart):
        for path in folder.iterdir():
            path.unlink()
    bank = vtcav.CavBank.load(tmp_path / "cavs.safetensors")
    loaded = vtcav.VisualTCAV(small_model(), steps=4, cavs=bank)
    assert loaded.layers == ["1", "3"]
    one, other = fitted.explain(IMAGE), loaded.explain(IMAGE)
    pd.testing.assert_frame_equal(one.attributions, other.attributions)
    np.testing.assert_array_equal(one.concept_map("3", "cold"), other.concept_map("3", "cold"))
    assert one.provenance.concepts == other.provenance.concepts


# -- results are frozen ----------------------------------------------------------------------------


def test_an_explanation_cannot_be_changed(explainer):
    local, glob = explainer.explain(IMAGE), explainer.explain_class("cat", FOUR)
    for explanation in (local, glob):
        for name in ("layers", "attributions", "_rows", "anything"):
            with pytest.raises(AttributeError):
                setattr(explanation, name, None)
        before = explanation.attributions
        assert before is not explanation.attributions
        table = explanation.attributions
        table["attribution"] = -1.0
        table.loc[0, "concept"] = "?"
        pd.testing.assert_frame_equal(explanation.attributions, before)
        for array in explanation.thumbnails.values():
            with pytest.raises(ValueError, match="read-only"):
                array[:] = 0
    M = local.concept_map("3", "cold")
    kept = M.copy()
    M[:] = 9
    np.testing.assert_array_equal(local.concept_map("3", "cold"), kept)
    predictions = local.predictions
    predictions["probability"] = 0
    assert local.predictions["probability"].sum() == pytest.approx(1)
    with pytest.raises(ValueError, match="read-only"):
        local.picture[:] = 0
    images = glob.images
    images["used"] = False
    assert glob.images["used"].all()


def test_a_new_fit_leaves_earlier_explanations_alone():
    explainer = small_explainer(steps=2)
    local = explainer.explain(IMAGE)
    before = local.attributions
    explainer.fit({"other": pictures(6, seed=9)}, negatives())
    pd.testing.assert_frame_equal(local.attributions, before)
    assert set(local.thumbnails) == {"bright", "cold"}
    assert list(explainer.explain(IMAGE).concepts) == ["other"]


def test_the_repr_names_the_network_layers_and_concepts(explainer):
    assert "3 classes" in repr(explainer)
    assert "layers=['1', '3'], concepts=['bright', 'cold']" in repr(explainer)
    assert repr(explainer.cavs) == "CavBank(concepts=['bright', 'cold'], layers=['1', '3'])"
    assert "concepts" not in repr(vtcav.VisualTCAV(explainer.model))


# -- networks and preprocessings of other kinds ----------------------------------------------------


def test_a_callable_preprocessing_shows_the_networks_input():
    def preprocess(image):
        pixels = torch.from_numpy(np.array(image.resize((16, 16)), np.float32))
        return pixels.permute(2, 0, 1) / 255

    explainer = small_explainer(small_model(preprocess=preprocess), steps=2)
    local = explainer.explain(pictures(1, size=(40, 30))[0])
    assert local.picture.shape == (16, 16, 3)
    assert local.box == (0.0, 0.0, 1.0, 1.0)
    sized = small_explainer(steps=2).explain(pictures(1, size=(40, 30))[0])
    assert sized.picture.shape == (40, 30, 3)
    assert sized.box == pytest.approx((0.0, 0.125, 1.0, 0.875), abs=0.03)


def test_single_logit_classes_are_named_the_right_way_round():
    net = nn.Sequential(
        nn.Conv2d(3, 1, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(1, 1),
        nn.Sigmoid(),
    )
    with torch.no_grad():
        net[0].weight.fill_(1 / 3)
        net[0].bias.zero_()
        net[4].weight.fill_(8.0)
        net[4].bias.fill_(-4.0)  # positive where the picture is bright
    explainer = vtcav.VisualTCAV(small_model(net, ["dark", "bright"], binary=True), ["1"])
    light, dark = np.full((6, 16, 16, 3), 230, np.uint8), np.full((6, 16, 16, 3), 40, np.uint8)
    explainer.fit({"light": light}, dark)
    local = explainer.explain(light[0], classes=2)
    assert local.predictions["class_name"].tolist() == ["bright", "dark"]
    table = local.attributions.set_index("class_name")["attribution"]
    assert table["bright"] == pytest.approx(1, abs=1e-5)
    assert table["dark"] == 0
    assert explainer.explain_class("bright", light).summary()["mean"][0] == pytest.approx(1)
    assert (local.attributions["attribution"] <= 1).all()


def test_pictures_of_several_sizes_need_a_size():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    with pytest.warns(UserWarning, match="no preprocess given"):
        model = vtcav.Classifier(net)
    mixed = [*pictures(5, size=(20, 20)), *pictures(1, size=(24, 20))]
    with pytest.raises(ImageError, match="expected inputs of one shape, got"):
        vtcav.VisualTCAV(model, ["1"]).fit({"mixed": mixed}, pictures(5, size=(20, 20)))


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_devices(device):
    explainer = small_explainer(small_model(device=device), steps=1)
    assert explainer.explain(IMAGE).provenance.model["device"] == "cpu"


def test_an_image_that_a_concept_was_learned_from_is_marked():
    explainer = small_explainer()
    bright = concepts()["bright"]
    table = explainer.explain(bright[0]).attributions
    marked = table["note"].str.contains("among those that the concept was learned from")
    assert marked.tolist() == (table["concept"] == "bright").tolist()
    images = [bright[0], negatives()[0], pictures(1, seed=77)[0]]
    rows = explainer.explain_class("cat", images).attributions
    marked = rows["note"].str.contains("among those that the concept was learned from")
    assert rows[marked].groupby("image")["concept"].unique().map(sorted).tolist() == [
        ["bright"],
        ["bright", "cold"],
    ]


def test_new_weights_leave_nothing_of_the_old_ones_behind():
    net = small_net()
    explainer = small_explainer(small_model(net), steps=6)
    explainer.explain(pictures(1, seed=5)[0], classes=3)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(-0.7).add_(0.05)
    again = explainer.fit(concepts(), negatives()).explain(pictures(1, seed=5)[0], classes=3)
    fresh = small_explainer(small_model(net), steps=6).explain(pictures(1, seed=5)[0], classes=3)
    pd.testing.assert_frame_equal(again.attributions, fresh.attributions)
