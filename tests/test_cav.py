"""The bank of CAVs: files, refusals, and learning in bounded memory."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import vtcav
from tests.small import concepts, pictures, small_explainer, small_model, small_net
from vtcav.concepts import gather
from vtcav.learning import learn


@pytest.fixture(scope="module")
def explainer():
    return small_explainer()


@pytest.fixture
def path(explainer, tmp_path):
    explainer.cavs.save(tmp_path / "cavs.safetensors")
    return tmp_path / "cavs.safetensors"


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
    tensors = load_file(path)
    key = f"cav/{explainer.layers[0]}/v"
    tensors[key] = tensors[key][:, :2].contiguous()
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(vtcav.CavError, match=r"have 2 channels, the network has \d+"):
        vtcav.VisualTCAV(explainer.model, cavs=vtcav.CavBank.load(path))


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
    with pytest.raises(vtcav.CavError, match="expected format 1, got no vtcav metadata"):
        vtcav.CavBank.load(tmp_path / "foreign")
    rewrite(path, format=99)
    with pytest.raises(vtcav.CavError, match="expected format 1, got 99"):
        vtcav.CavBank.load(path)
    rewrite(path, format=1, layers=["lost"])
    with pytest.raises(vtcav.CavError, match="are incomplete"):
        vtcav.CavBank.load(path)


def test_a_save_that_fails_leaves_the_old_file(explainer, path, monkeypatch):
    before = path.read_bytes()

    def fail(*_arguments, **_options):
        raise OSError("disk full")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(vtcav.CavError, match=r"cannot write the CAVs .*disk full"):
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
            bank = learn(
                model, layers, gathered, batch_size=4, min_examples=5, kept_bytes=kept_bytes
            )
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
