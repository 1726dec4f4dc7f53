"""Concepts from words: an image-text model is joined to the layer, and says how well."""

import html
import warnings

import numpy as np
import pytest
import torch

import vtcav
from tests.helpers.joint import linear_joint, pictures_of, save_tiny, unrelated_joint
from tests.helpers.small import pictures, small_model
from vtcav.errors import CavError, ConceptError, ModelError
from vtcav.explainer.settings import NEUTRAL
from vtcav.method.alignment import Ridge, held_out, r2, text_direction, text_level
from vtcav.models.joint_model import unit
from vtcav.report import build_report

FEW = {"null_cavs": 20, "bootstraps": 8}
LAYER = "3"
SHOWN = 20
PROBE = np.concatenate([pictures(SHOWN, seed=5, low=200), pictures(80, seed=6, high=120)])
"""Bright pictures first, then dark ones."""


def cosine(a, b):
    a, b = a.double(), b.double()
    return float(a @ b / (a.norm() * b.norm()))


def pooled(model, images):
    x = torch.stack([model.preprocess(picture) for picture in pictures_of(images)])
    return model.activations(x, [LAYER])[LAYER].mean((2, 3)).double()


@pytest.fixture(scope="module")
def related():
    """A network, a joint model that is linear in its layer, and the activations of the probe.

    The text is where other bright pictures are on average, neutral texts where dark ones are.
    """
    model = small_model()
    G = pooled(model, PROBE)
    A = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)).double())[0]
    others = pooled(model, pictures(30, seed=7, low=200)) @ A
    texts = {"bright": others.mean(0)} | dict.fromkeys(NEUTRAL, (G[SHOWN:] @ A).mean(0))
    return model, linear_joint(model, LAYER, A, texts), G


@pytest.fixture(scope="module")
def fitted(related):
    model, joint, _ = related
    explainer = vtcav.VisualTCAV(model, [LAYER])
    return explainer.fit(texts={"word": "bright"}, images=PROBE, text_model=joint, **FEW)


def test_a_linear_relation_is_found_with_the_direction_of_the_text(related, fitted):
    _, _, G = related
    cavs = fitted.cavs.layers[LAYER]
    [row] = fitted.cavs.table().to_dict("records")
    assert row["r2"] > 0.99
    assert row["r2_low"] > 0.99
    assert row["level"] == "fine"
    assert float(cavs.texts.embedding[0]) > 0.99
    assert cosine(cavs.v[0], G[:SHOWN].mean(0) - G[SHOWN:].mean(0)) > 0.95
    assert "the text 'bright' against 6 neutral texts, by a linear relation" in row["direction"]
    assert fitted.cavs.concepts[0].texts == ("bright",)


def test_examples_are_the_images_most_similar_to_the_text(related, fitted):
    model, joint, _ = related
    x = torch.stack([model.preprocess(picture) for picture in pictures_of(PROBE)])
    s = unit(joint.embed_images(x)) @ (
        joint.embed_texts(["bright"])[0] - joint.embed_texts(NEUTRAL).mean(0)
    )
    most = {f"array[{i}]" for i in s.topk(10).indices.tolist()}
    record = fitted.cavs.concepts[0]
    assert set(record.examples) == most
    assert len(record.negatives) == 90
    assert not most & set(record.negatives)
    # so emblems are the medians of raw maps over these images
    F = model.activations(x, [LAYER])[LAYER]
    R = torch.einsum("c,nchw->nhw", fitted.cavs.layers[LAYER].v[0], F).relu()
    values = R.square().sum((1, 2)) / (R.sum((1, 2)) + 1e-7)
    chosen = values[s.topk(10).indices].sort().values
    e_pos = fitted.cavs.layers[LAYER].e_pos[0]
    torch.testing.assert_close(e_pos, (chosen[4] + chosen[5]) / 2, rtol=1e-4, atol=1e-6)


def test_words_are_concepts_like_any_other(related, fitted, tmp_path):
    fitted.cavs.save(tmp_path / "cavs.safetensors")
    bank = vtcav.CavBank.load(tmp_path / "cavs.safetensors")
    assert bank.table().equals(fitted.cavs.table())
    assert bank.concepts == fitted.cavs.concepts
    assert bank.settings["texts"]["probe"] == 100
    image = pictures(1, seed=9)[0]
    one, other = (
        each.explain(image).attributions
        for each in (fitted, vtcav.VisualTCAV(related[0], cavs=bank))
    )
    assert one.equals(other)
    assert one["p_value"].notna().any()
    assert not one["note"].str.contains("the text").any()
    drawn = bank.resampling.bootstrap[0]
    v = bank.layers[LAYER].resampled.v[drawn.start : drawn.stop]
    assert len(v.unique(dim=0)) == 8  # the probe images are drawn again
    assert all(cosine(each, bank.layers[LAYER].v[0]) > 0.8 for each in v)
    found = fitted.diagnostics()
    page = build_report([fitted.explain(image)], diagnostics=found)
    said = "the text 'bright' against 6 neutral"
    assert f"It comes from: {said}" in html.unescape(page)
    assert said in html.unescape(bank._repr_html_())
    findings = found.table.set_index("check")
    assert findings.loc["text", "level"] == "fine"
    assert findings.loc["split half", "level"] == "not applicable"
    assert "is that of a text" in findings.loc["split half", "meaning"]


def test_an_unrelated_model_is_not_to_be_used():
    model = small_model()
    explainer = vtcav.VisualTCAV(model, ["1", LAYER])
    with pytest.warns(UserWarning, match="is not shown to know what the text of 'word' means: R2"):
        explainer.fit(
            texts={"word": "bright"}, images=PROBE, text_model=unrelated_joint(model), **FEW
        )
    assert set(explainer.cavs.table()["level"]) == {"do not use"}
    assert (explainer.cavs.table()["r2"] < 0.1).all()
    rows = explainer.explain(pictures(1)[0]).attributions
    assert rows["note"].str.contains("not shown to know the text .*: do not use").all()
    found = explainer.diagnostics()
    assert set(found.summary()["level"]) == {"do not use"}
    assert explainer.cavs.best_layers == {}


def test_words_and_folders_are_learned_together(related):
    model, joint, _ = related
    explainer = vtcav.VisualTCAV(model, [LAYER]).fit(
        {"bright": pictures(7, seed=1, low=150)},
        pictures(20, seed=3),
        texts={"word": ["bright", "bright"]},
        images=PROBE,
        text_model=joint,
        share=0.2,
        **FEW,
    )
    bank = explainer.cavs
    assert bank.names == ("bright", "word")
    assert [len(record.examples) for record in bank.concepts] == [7, 20]
    assert len(bank.concepts[1].negatives) == 20
    assert len(bank.sets) == 3
    levels = bank.table()["level"].tolist()
    assert levels == ["", "fine"]
    assert np.isnan(bank.table()["r2"][0])
    assert bank.of_concepts(["bright"]).table()["level"].tolist() == [""]


def test_similarities_that_say_who_is_an_example_give_the_difference_of_means():
    """Step 1 of the method is the special case of similarities 1 and 0."""
    G = torch.randn(50, 9, generator=torch.Generator().manual_seed(2)).double()
    y = torch.zeros(50).double()
    y[:12] = 1
    difference = G[:12].mean(0) - G[12:].mean(0)
    torch.testing.assert_close(text_direction(G, y, None), difference * 12 * 38 / 50**2)
    # a regression that knows them all changes nothing
    S = torch.stack([y, 1 - y], 1)
    W = torch.linalg.lstsq(G - G.mean(0), S - S.mean(0)).solution
    ridge = Ridge.fit(G, (G - G.mean(0)) @ W)
    known = text_direction(G, (G - G.mean(0)) @ W[:, 0], ridge)
    assert cosine(known, difference) > 0.9999


def test_ridge_against_its_literal_definition():
    generator = torch.Generator().manual_seed(3)
    G = torch.randn(40, 5, generator=generator).double()
    E = G @ torch.randn(5, 3, generator=generator).double()
    E += torch.randn(40, 3, generator=generator).double()
    found = Ridge.fit(G, E)
    X = G - G.mean(0)
    top = torch.linalg.matrix_norm(X, 2) ** 2

    def weights(rows, share):
        A, B = G[rows] - G[rows].mean(0), E[rows] - E[rows].mean(0)
        return torch.linalg.solve(A.T @ A + share * top * torch.eye(5).double(), A.T @ B)

    torch.testing.assert_close(found.weights, weights(slice(None), found.penalty))

    def left_out(share):
        """The penalty is the same for every image, of which each is left out in turn."""
        errors = []
        for i in range(40):
            rest = [j for j in range(40) if j != i]
            W = weights(rest, share)
            errors.append(E[i] - E[rest].mean(0) - (G[i] - G[rest].mean(0)) @ W)
        return float(torch.stack(errors).square().mean())

    shares = [10.0**k for k in range(-8, 2)]
    assert found.penalty == pytest.approx(min(shares, key=left_out))
    predicted, mean = held_out(G, E)
    assert 0 < r2(E, predicted, mean) < r2(E, found.predict(G), E.mean(0))
    assert text_level(0.6) == "fine"


def test_ridge_of_nothing():
    G = torch.ones(20, 3)
    E = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    predicted, mean = held_out(G, E)
    assert abs(r2(E.double(), predicted, mean)) < 1e-9
    assert not text_direction(G, E[:, 0], Ridge.fit(G, E)).any()


# -- models of transformers ---------------------------------------------------------------------


@pytest.fixture(scope="module", params=["CLIP", "Siglip"])
def tiny(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("joint") / request.param
    return request.param, folder, save_tiny(folder, request.param)


def test_a_folder_of_transformers(tiny):
    from transformers import AutoTokenizer, CLIPImageProcessor

    from vtcav.models.sources.joint_towers import load_joint_model

    kind, folder, network = tiny
    joint = load_joint_model(folder)
    assert joint.described == f"{kind}Model of {kind}"
    picture = pictures_of(pictures(1, size=(40, 50)))[0]
    pixels = CLIPImageProcessor.from_pretrained(folder)(picture, return_tensors="pt")
    padding = {"padding": "max_length", "max_length": 12} if kind == "Siglip" else {"padding": True}
    texts = ["a photo of a cat", "dog"]
    tokens = AutoTokenizer.from_pretrained(folder)(texts, return_tensors="pt", **padding)
    inputs = {"input_ids": tokens["input_ids"], **pixels}
    if kind == "CLIP":
        inputs["attention_mask"] = tokens["attention_mask"]
    with torch.no_grad():
        expected = network(**inputs)
    x = joint.preprocess(picture)
    # the processor's own normalisation, and resizing to its rounding
    torch.testing.assert_close(x, pixels["pixel_values"][0], rtol=0, atol=0.03)
    E, T = joint.embed_images(pixels["pixel_values"]), joint.embed_texts(texts)
    torch.testing.assert_close(unit(E).float(), expected.image_embeds, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(T.float(), expected.text_embeds, rtol=1e-4, atol=1e-5)
    # zero-shot: prompts are the classes
    model = vtcav.load_model(f"hf:{folder}", texts, device="cpu")
    assert model.class_names == tuple(texts)
    z = model.logits(pixels["pixel_values"])
    torch.testing.assert_close(z, expected.logits_per_image, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.preprocess(picture), x)
    assert model.layers()


def test_a_zero_shot_network_understands_words_itself(tiny):
    _, folder, _ = tiny
    model = vtcav.load_model(f"hf:{folder}", ["a photo of a cat", "a photo of a dog"])
    layer = next(info.name for info in reversed(model.layers()) if info.recommended)
    explainer = vtcav.VisualTCAV(model, [layer], fill=None)
    probe = pictures(24, seed=4, size=(32, 32))
    explainer.fit(texts={"bright": "a bright texture"}, images=probe, **FEW)
    [record] = explainer.cavs.concepts
    assert "by the text tower of" in record.origin
    assert explainer.cavs.settings["texts"]["regression"] is False
    assert explainer.cavs.table()["level"].tolist() == [""]
    x = torch.stack([model.preprocess(picture) for picture in pictures_of(probe)])
    G = model.activations(x, [layer])[layer].mean((2, 3)).double()
    joint = model.joint
    t = joint.embed_texts(["a bright texture"])[0]
    t = t - joint.embed_texts(explainer.cavs.settings["texts"]["neutral"]).mean(0)
    s = unit(joint.embed_images(x)) @ t
    expected = (G - G.mean(0)).T @ (s - s.mean()) / len(G)
    torch.testing.assert_close(
        explainer.cavs.layers[layer].v[0].double(), expected, rtol=1e-4, atol=1e-7
    )
    assert len(explainer.explain(probe[0]).attributions) == 2


def test_a_folder_as_text_model(tiny):
    _, folder, _ = tiny
    explainer = vtcav.VisualTCAV(small_model(), [LAYER])
    texts = {"bright": "a bright texture"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # random weights mean little
        explainer.fit(texts=texts, images=PROBE[:40], text_model=folder, **FEW)
    assert explainer.cavs.table()["r2"].notna().all()


def test_models_that_cannot_be_loaded(tiny, tmp_path):
    kind, folder, _ = tiny
    explainer = vtcav.VisualTCAV(small_model(), [LAYER])

    def fit(model):
        return explainer.fit(texts={"word": "a cat"}, images=PROBE, text_model=model)

    with pytest.raises(ModelError, match=r"downloads nothing\. Get a model once.*hf download"):
        fit(tmp_path / "none")
    with pytest.raises(ModelError, match="expected a folder with an image-text model, got none"):
        fit("")
    with pytest.raises(ModelError, match=r"has no classes of its own: pass prompts"):
        vtcav.load_model(f"hf:{folder}")
    with pytest.raises(ModelError, match="drop weights, binary and output"):
        vtcav.load_model(f"hf:{folder}", ["a", "b"], weights="random")
    with pytest.raises(ModelError, match="has 14 tokens, and the model reads 12: shorten it"):
        vtcav.load_model(f"hf:{folder}", ["cat " * 12, "dog"])
    bare = tmp_path / "bare"
    save_tiny(bare, kind, processor=False)
    tokens = [*bare.glob("tokenizer*")]
    with pytest.raises(ModelError, match=r"without preprocessor_config.json"):
        fit(bare)
    for file in tokens:
        file.unlink()
    with pytest.raises(ModelError, match="has no file with its words"):
        fit(bare)


def test_what_words_need(related):
    model, joint, _ = related
    explainer = vtcav.VisualTCAV(model, [LAYER])
    words = {"texts": {"word": "bright"}, "images": PROBE, "text_model": joint}
    for change, error, match in (
        ({"images": None}, ConceptError, "expected probe images for the texts"),
        ({"text_model": None}, ConceptError, "expected text_model=FOLDER.*hf download"),
        ({"texts": {"word": " "}}, ConceptError, "one text or several, got ' '"),
        ({"texts": {"word": NEUTRAL[0]}}, ConceptError, "is the same as the neutral texts"),
        ({"images": PROBE[:12]}, ConceptError, "probe images: expected at least 20 images, got 12"),
        ({"share": 1.5}, ConceptError, "expected share to be a number between 0 and 1"),
        ({"neutral": []}, ConceptError, "expected neutral to have one text or several"),
    ):
        with pytest.raises(error, match=match):
            explainer.fit(**(words | change))
    with pytest.raises(ConceptError, match="expected at least one concept"):
        explainer.fit()
    with pytest.raises(CavError, match="expected variant='paper'"):
        vtcav.VisualTCAV(model, [LAYER], variant="filter").fit(**words)
    broken = vtcav.JointModel(
        lambda x: x.mean() / 0 * x[:, :, 0, 0], lambda t: torch.ones(1, 3), model.preprocess
    )
    with pytest.raises(ModelError, match="NaN or infinite values for images"):
        broken.embed_images(torch.zeros(2, 3, 4, 4))
    with pytest.raises(
        ModelError, match=r"expected the image-text model to return embeddings \[2, D\]"
    ):
        broken.embed_texts(["a", "b"])
