"""The bank of CAVs: files, refusals, and learning in bounded memory."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import vtcav
from tests.helpers.small import concepts, pictures, small_explainer, small_model, small_net
from vtcav.explainer.learning.example_passes import Pass
from vtcav.explainer.learning.learn import learn
from vtcav.explainer.settings import FitSettings
from vtcav.images.concepts import Concept, gather
from vtcav.method.cav import Cavs, direction, directions, emblem
from vtcav.method.resampling import Draws


@pytest.fixture(scope="module")
def explainer():
    return small_explainer()


@pytest.fixture
def path(explainer, tmp_path):
    explainer.cavs.save(tmp_path / "cavs.safetensors")
    return tmp_path / "cavs.safetensors"


def fit(null_cavs=0, bootstraps=0):
    return FitSettings(null_cavs=null_cavs, bootstraps=bootstraps)


def rewrite(path, **metadata):
    """Change entries of a saved bank's metadata."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        stored = json.loads(file.metadata()["vtcav"])
    save_file(load_file(path), path, metadata={"vtcav": json.dumps(stored | metadata)})


def test_a_bank_comes_back_as_it_was(explainer, path):
    bank, again = explainer.cavs, vtcav.CavBank.load(path)
    assert again.names == bank.names
    assert again.concepts == bank.concepts
    assert list(again.layers) == list(bank.layers)
    for layer, cavs in bank.layers.items():
        for field in ("v", "e_pos", "e_neg"):
            assert torch.equal(getattr(again.layers[layer], field), getattr(cavs, field))
    for name, thumbnails in bank.thumbnails.items():
        np.testing.assert_array_equal(again.thumbnails[name], thumbnails)
    assert again.versions == bank.versions
    assert again.settings == bank.settings
    assert again.table().equals(bank.table())


def test_cavs_are_what_the_documented_functions_give(explainer):
    bank = explainer.cavs
    for layer, cavs in bank.layers.items():
        for k, name in enumerate(bank.names):
            examples, negatives = (images.gap[layer] for images in bank.evidence(name))
            assert torch.equal(cavs.v[k], direction(examples, negatives))
            whole = Draws.whole(len(examples), len(negatives))
            torch.testing.assert_close(cavs.v[k], directions(examples, negatives, whole)[0])
            assert torch.equal(cavs.e_pos[k], emblem(cavs.values_pos[k]))
            assert torch.equal(cavs.e_neg[k], emblem(cavs.values_neg[k]))
        # directions and emblems alone, by their type
        assert {type(cavs.to(torch.device("cpu"))), type(cavs.part(range(1)))} == {Cavs}


def test_the_table_tells_emblems_and_counts(explainer):
    table = explainer.cavs.table()
    assert len(table) == len(explainer.layers) * len(explainer.cavs.names)
    assert (table["separated"] == (table["e_pos"] > table["e_neg"])).all()
    assert (table["examples"] >= 5).all()


def test_a_loaded_bank_explains_without_the_examples(explainer, path):
    again = vtcav.VisualTCAV(explainer.model, cavs=vtcav.CavBank.load(path))
    image = pictures(1, seed=9)[0]
    ours = again.explain(image).attributions
    assert ours.equals(explainer.explain(image).attributions)


def test_fewer_layers_of_a_bank(explainer, path):
    last = explainer.layers[-1]
    again = vtcav.VisualTCAV(explainer.model, [last], cavs=vtcav.CavBank.load(path))
    assert list(again.cavs.layers) == [last]
    with pytest.raises(vtcav.CavError, match=r"learned at .* not at 'x'"):
        explainer.cavs.select(["x"])


def test_another_network_is_refused_with_both_named(explainer, path):
    other = small_model(small_net(seed=5))
    with pytest.raises(vtcav.CavError) as caught:
        vtcav.VisualTCAV(other, cavs=vtcav.CavBank.load(path))
    assert "learned on another network" in str(caught.value)
    assert explainer.model.fingerprint[:12] in str(caught.value)
    assert other.fingerprint[:12] in str(caught.value)


def test_another_preprocessing_is_refused_with_both_named(explainer, path):
    preprocess = vtcav.Preprocess(explainer.model.preprocess.size, mean=0.3)
    other = vtcav.Classifier(explainer.model.module, preprocess=preprocess)
    with pytest.raises(vtcav.CavError, match=r"another preprocessing: .*mean=\(0.3"):
        vtcav.VisualTCAV(other, explainer.layers, cavs=vtcav.CavBank.load(path))


def test_a_layer_of_other_width_is_refused(explainer, path):
    name, cavs = next(iter(explainer.cavs.layers.items()))
    narrow = {name: replace(cavs, v=cavs.v[:, :2])}
    bank = replace(explainer.cavs, layers=narrow)
    with pytest.raises(vtcav.CavError, match=r"have 2 channels, the network has \d+"):
        vtcav.VisualTCAV(explainer.model, cavs=bank)
    bank.save(path)
    with pytest.raises(vtcav.CavError, match=r"'1' has shape \[7, 4\], expected \[7, 2\]"):
        vtcav.VisualTCAV(explainer.model, cavs=vtcav.CavBank.load(path))


def test_another_network_is_refused_before_its_layers_are_looked_for(path):
    net = torch.nn.Sequential(small_net())  # the layers are "0.1" and "0.3" here
    with pytest.raises(vtcav.CavError, match="learned on another network"):
        vtcav.VisualTCAV(small_model(net), cavs=vtcav.CavBank.load(path))


def test_a_layer_that_was_not_learned_is_refused_with_both_named(explainer, path):
    with pytest.raises(
        vtcav.CavError, match=r"learned at layers '1' and '3', not at '0'; fit again"
    ):
        vtcav.VisualTCAV(explainer.model, ["0", "3"], cavs=vtcav.CavBank.load(path))


def test_files_that_are_no_bank(explainer, path, tmp_path):
    with pytest.raises(vtcav.CavError, match="no file of CAVs at"):
        vtcav.CavBank.load(tmp_path / "nowhere")
    (tmp_path / "noise").write_bytes(b"not safetensors at all")
    with pytest.raises(vtcav.CavError, match="cannot read CAVs"):
        vtcav.CavBank.load(tmp_path / "noise")
    (tmp_path / "cut").write_bytes(path.read_bytes()[:-40])
    with pytest.raises(vtcav.CavError, match="cannot read CAVs"):
        vtcav.CavBank.load(tmp_path / "cut")
    save_file({"a": torch.ones(1)}, tmp_path / "foreign")
    with pytest.raises(vtcav.CavError, match="expected format 3, got no vtcav metadata"):
        vtcav.CavBank.load(tmp_path / "foreign")
    rewrite(path, format=99)
    with pytest.raises(vtcav.CavError, match="expected format 3, got 99"):
        vtcav.CavBank.load(path)
    rewrite(path, format=3, layers=["lost"])
    with pytest.raises(vtcav.CavError, match="are incomplete"):
        vtcav.CavBank.load(path)
    with pytest.raises(vtcav.CavError, match="no file of CAVs at"):
        vtcav.CavBank.load(tmp_path)


@pytest.mark.parametrize("length", [0, 7, 8, 100, 2000])
def test_truncated_anywhere(path, length):
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(vtcav.CavError, match="cannot read CAVs"):
        vtcav.CavBank.load(path)


@pytest.mark.parametrize("position", [0, 3, 20, -1, -1000])
def test_a_wrong_byte_anywhere(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(vtcav.CavError, match=r"cannot read CAVs|damaged or was edited"):
        vtcav.CavBank.load(path)


def test_thumbnails_are_spread_over_the_readable_examples(explainer):
    many = pictures(40, seed=3)
    bank = vtcav.VisualTCAV(explainer.model, ["3"]).fit({"many": many}, many).cavs
    found = bank.thumbnails["many"]
    assert found.shape == (6, 96, 96, 3)
    assert found.dtype == np.uint8
    spread = [
        i for i in range(40) for t in found if abs(t.mean((0, 1)) - many[i].mean((0, 1))).max() < 4
    ]
    assert {0, 39} <= set(spread)
    assert len(set(spread)) >= 6


def test_the_arrays_of_a_bank_survive_a_second_save(path, tmp_path):
    vtcav.CavBank.load(path).save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_a_bank_is_saved_into_a_new_folder(explainer, tmp_path):
    explainer.cavs.save(str(tmp_path / "new" / "cavs.safetensors"))
    assert vtcav.CavBank.load(str(tmp_path / "new" / "cavs.safetensors")).names == (
        "bright",
        "cold",
    )


def test_numbers_of_numpy_in_the_settings_can_be_saved(explainer, tmp_path):
    again = vtcav.VisualTCAV(explainer.model, ["3"])
    again.fit(
        concepts(), pictures(9), limit=np.int64(6), seed=np.int64(2), min_examples=np.int64(5)
    )
    again.cavs.save(tmp_path / "cavs")
    assert vtcav.CavBank.load(tmp_path / "cavs").settings["limit"] == 6
    again.explain_class("cat", pictures(4), limit=np.int64(2), seed=np.int64(1)).save(tmp_path)


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=repr)
def test_a_save_that_fails_leaves_the_old_file(explainer, path, monkeypatch, error):
    before = path.read_bytes()

    def fail(tensors, partial, **_options):
        partial.write_bytes(b"half of it")
        raise error

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    expected = vtcav.CavError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match=r"cannot write the CAVs .*disk full|^$"):
        explainer.cavs.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_nothing_kept_between_the_passes_gives_the_same(tmp_path):
    model = small_model(small_net())
    files = []
    for i, picture in enumerate(pictures(9, seed=2)):
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(np.asarray(picture)).save(files[-1])
    (tmp_path / "broken.png").write_text("no picture")
    listed = [files[0], tmp_path / "broken.png", *files, files[3]]
    gathered = gather({"some": listed}, pictures(7, seed=5))
    layers = [layer.name for layer in model.layers()]
    banks = []
    for kept_bytes in (1 << 30, 0, 20_000):
        with pytest.warns(vtcav.SkippedImageWarning, match="broken.png"):
            bank = learn(Pass(model, layers, 4), gathered, fit(), kept_bytes=kept_bytes)
        banks.append(bank)
    for bank in banks[1:]:
        assert bank.concepts == banks[0].concepts
        assert len(bank.concepts[0].examples) == 11
        assert [skip.name for skip in bank.concepts[0].skipped_examples] == [
            str(tmp_path / "broken.png")
        ]
        for layer in layers:
            for field in ("v", "e_pos", "e_neg"):
                ours, theirs = (getattr(b.layers[layer], field) for b in (bank, banks[0]))
                torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def entangled():
    """Concepts whose sets are examples of one, of two, and negatives of another."""
    [a, b] = gather({"a": pictures(14, seed=1, low=150), "b": pictures(8, seed=2)}, pictures(30))
    [c] = gather({"c": pictures(6, seed=3, low=90)}, pictures(20, seed=4))
    return [
        a,
        b,
        Concept("against a", c.examples, a.examples),
        Concept("b, other negatives", b.examples, c.negatives),
    ]


@pytest.mark.parametrize("variant", ["paper", "filter"])
@pytest.mark.parametrize("kept_bytes", [0, 30_000, 1 << 30])
def test_concepts_that_share_sets_are_as_learned_alone(variant, kept_bytes):
    model, every = small_model(), entangled()
    run = Pass(model, ["1", "3"], 4)
    bank = learn(run, every, fit(5, 4), variant, shown=False, kept_bytes=kept_bytes)
    for k, concept in enumerate(every):
        alone = learn(run, [concept], fit(5, 4), variant, shown=False)
        columns = [*bank.resampling.null[k], *bank.resampling.bootstrap[k]]
        assert len(columns) == 5 + 4
        for layer in ("1", "3"):
            ours, theirs = bank.layers[layer], alone.layers[layer]
            for name in ("v", "w", "e_pos", "e_neg", "location_pos", "location_neg"):
                if (expected := getattr(theirs, name)) is not None:
                    torch.testing.assert_close(getattr(ours, name)[k], expected[0])
            for name in ("v", "w", "e_pos", "e_neg"):
                if (expected := getattr(theirs.resampled, name)) is not None:
                    torch.testing.assert_close(getattr(ours.resampled, name)[columns], expected)
            torch.testing.assert_close(ours.values_pos[k], theirs.values_pos[0])
            torch.testing.assert_close(ours.values_neg[k], theirs.values_neg[0])


@pytest.mark.parametrize(
    ("images_kept", "passed"),
    [
        (16, 40),  # the negatives, and the examples of each concept after those of another
        (12, 44),  # room for the examples of one comes first: half the negatives pass again
        (8, 48),
        (4, 40 + 8 + 4 * 4),
        (0, 80),
    ],
)
def test_what_one_concept_needed_makes_room_for_the_next(images_kept, passed, monkeypatch):
    model, seen = small_model(), []
    every = {f"c{k}": pictures(8, seed=k, low=20 * k) for k in range(4)}
    found = gather(every, pictures(8, seed=9))
    one = model.activations(torch.zeros(1, 3, 16, 16), ["1", "3"])
    size = sum(F.nbytes for F in one.values())

    def count(name):
        original = getattr(vtcav.Classifier, name)

        def counted(self, x, layers):
            seen.append(len(x))
            return original(self, x, layers)

        monkeypatch.setattr(vtcav.Classifier, name, counted)

    count("activations")
    count("activations_and_logits")
    run, options = Pass(model, ["1", "3"], 4), {"kept_bytes": images_kept * size, "shown": False}
    learn(run, found, fit(), **options)
    assert sum(seen) == passed + 1  # and a test picture
    if images_kept == 16:  # and so it is where each has negatives of its own
        seen.clear()
        others = {name: pictures(8, seed=20 + k) for k, name in enumerate(every)}
        learn(run, gather(every, others), fit(), **options)
        assert sum(seen) == 64 + 1


def test_too_few_readable_images_count_after_skipping(tmp_path):
    model = small_model(small_net())
    for i in range(6):
        (tmp_path / f"{i}.png").write_text("no picture")
    for i, picture in enumerate(pictures(4, seed=2)):
        Image.fromarray(np.asarray(picture)).save(tmp_path / f"ok{i}.png")
    explainer = vtcav.VisualTCAV(model)
    with (
        pytest.warns(vtcav.SkippedImageWarning),
        pytest.raises(vtcav.ConceptError, match=r"at least 5 images, got 4 \(6 more could not"),
    ):
        explainer.fit({"some": tmp_path}, pictures(7, seed=5))


def test_negatives_of_their_own_are_those_of_a_fit_alone():
    model = small_model(small_net())
    examples = concepts()
    names = list(examples)
    own = {name: pictures(6 + i, seed=20 + i) for i, name in enumerate(names)}
    together = vtcav.VisualTCAV(model).fit(examples, own).cavs
    for k, name in enumerate(names):
        alone = vtcav.VisualTCAV(model).fit({name: examples[name]}, own[name]).cavs
        for layer, cavs in together.layers.items():
            torch.testing.assert_close(cavs.v[k], alone.layers[layer].v[0])
            torch.testing.assert_close(cavs.e_neg[k], alone.layers[layer].e_neg[0])
