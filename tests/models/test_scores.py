"""Scores of one's own: detectors, segmentation, embeddings, several heads."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import vtcav
from tests.helpers import detectors
from tests.helpers.small import small_net, with_weights
from vtcav import ModelError, scores
from vtcav.method.integral.adaptive import integrate_adaptive
from vtcav.method.integral.integrand import Integrand

PREPROCESS = vtcav.Preprocess(32)
KINDS = {
    "faster": "detector.backbone.3", "retina": "detector.backbone.3", "fcos": "detector.backbone.3",
    "deeplab": "backbone.body.3", "detr": "model.backbone",
}  # fmt: skip


@pytest.fixture(scope="module")
def networks(libraries):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of transformers, on its own arguments
        found = {kind: detectors.detector(kind) for kind in ("faster", "retina", "fcos")}
        return found | {"deeplab": detectors.segmenter(), "detr": detectors.detr()}


def model_of(networks, kind, **options):
    net, score = networks[kind], scores.BoxScore(**options)
    if kind == "deeplab":
        return vtcav.Classifier(net, None, PREPROCESS, device="cpu", score=scores.RegionScore())
    net = net if kind == "detr" else scores.RawDetector(net)
    return vtcav.Classifier(net, None, PREPROCESS, device="cpu", score=score)


def images(count=2, seed=0):
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_attributions_of_detectors_and_segmenters_are_complete(networks, kind):
    model, x = model_of(networks, kind), images()
    layer = KINDS[kind]
    maps, z = model.activations_and_logits(x, [layer])
    F, T = maps[layer], z.shape[1]
    head = model.head(layer).of(x)
    torch.testing.assert_close(head(F), z, rtol=1e-4, atol=1e-5)
    # the feature maps of images by themselves have the scores of these images
    torch.testing.assert_close(head.rows(torch.tensor([1]))(F[1:]), z[1:], rtol=1e-4, atol=1e-5)
    z0 = head(torch.zeros_like(F))

    def sums(IG, on):
        return (IG * F[on][:, None]).sum((3, 4))

    integrand = Integrand(head, F, torch.arange(T).expand(2, T), z - z0, sums)
    found = integrate_adaptive(integrand, tolerance=0.01, batch_size=64)
    total = (found.IG * F[:, None]).sum((2, 3, 4))
    gap = (total - (z - z0)).abs().max() / (z - z0).abs().max()
    assert gap < 0.01, gap
    assert (z - z0).abs().max() > 0.01


def by_hand(networks, kind, x):
    """The score of one image as a module of its own, and its classes."""
    net = networks[kind]
    if kind == "deeplab":
        region = torch.nn.functional.one_hot(net(x)["out"].argmax(1), 3).movedim(-1, 1)
        return lambda y: (net(y)["out"] * region).sum((2, 3)) / region.sum((2, 3)).clamp(min=1)
    if kind == "detr":
        best = net(x).logits[0].argmax(0)
        return lambda y: net(y).logits[:, best, torch.arange(len(best))]

    def maps(y):
        return {"0": net.backbone(net.transform(list(y))[0].tensors)}

    if kind != "faster":
        best = net.head(list(maps(x).values()))["cls_logits"][0].argmax(0)
        return lambda y: net.head(list(maps(y).values()))["cls_logits"][
            :, best, torch.arange(len(best))
        ]
    heads, size = net.roi_heads, [(32, 32)]
    found = maps(x)
    [regions], _ = net.rpn(net.transform(list(x))[0], found)
    z, _ = heads.box_predictor(heads.box_head(heads.box_roi_pool(found, [regions], size)))
    chosen = regions[z.argmax(0)]

    def score(y):
        pooled = heads.box_roi_pool(maps(y), [chosen] * len(y), size * len(y))
        z, _ = heads.box_predictor(heads.box_head(pooled))
        return z.reshape(len(y), len(chosen), -1).diagonal(dim1=1, dim2=2)

    return score


class ByHand(nn.Module):
    def __init__(self, net, score):
        super().__init__()
        self.net, self.score = net, score

    def forward(self, x):
        return self.score(x)


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_those_of_a_module_wrapped_by_hand(networks, kind):
    bytes_of = [(images(n, n).movedim(1, -1) * 255).byte().numpy() for n in (8, 9)]
    concept, negatives = bytes_of[0] // 2 + np.uint8(120), bytes_of[1] // 2
    image = concept[0]
    x = PREPROCESS(vtcav.images.picture_of(image))[None]
    hand = ByHand(networks[kind], by_hand(networks, kind, x)).eval()
    with torch.no_grad():
        expected = hand(x)
    tables = []
    for model, prefix in (
        (model_of(networks, kind), ""),
        (vtcav.Classifier(hand, None, PREPROCESS, device="cpu", score=lambda z: z), "net."),
    ):
        layer = KINDS[kind]
        layer = prefix + (layer.removeprefix("detector.") if prefix else layer)
        torch.testing.assert_close(model.logits(x), expected, rtol=1e-4, atol=1e-5)
        explainer = vtcav.VisualTCAV(model, [layer], steps=20, fill=None)
        explainer.fit({"bright": concept}, negatives, null_cavs=0, min_examples=2)
        tables.append(explainer.explain(image, classes=list(model.class_names)))
    one, other = (table.attributions for table in tables)
    assert one["attribution"].max() > 0
    np.testing.assert_allclose(one["attribution"], other["attribution"], rtol=2e-3, atol=1e-5)


def test_a_box_is_matched_by_overlap_and_held():
    logits = torch.tensor([[[1.0, 9.0], [3.0, 2.0], [5.0, 1.0]]])
    boxes = torch.tensor([[[0, 0, 0.4, 0.4], [0.5, 0.5, 1, 1], [0.52, 0.5, 1, 1]]])
    output = {"logits": logits, "boxes": boxes}
    score = scores.BoxScore((0.5, 0.5, 1, 1))
    held = score.hold(output)
    assert held.tolist() == [[2, 1]]
    assert score(output).tolist() == [[5, 2]]
    # another pass has other logits and boxes, and the same candidates
    again = {"logits": logits.flip(1), "boxes": boxes.flip(1)}
    assert score.read(again, held).tolist() == [[1, 2]]
    assert scores.BoxScore((0.1, 0.1, 0.2, 0.2)).hold(output).tolist() == [[0, 0]]
    assert scores.BoxScore(classes=[1])(output).tolist() == [[9]]
    own = boxes[:, :, None].repeat(1, 1, 2, 1)
    assert score.choose(logits, own).tolist() == held.tolist()
    only = scores.BoxScore((0.5, 0.5, 1, 1), classes=[1])
    assert only.choose(logits, own).tolist() == [[1]]


class Parts(nn.Module):
    """A network of two heads, in a dataclass."""

    @dataclasses.dataclass
    class Output:
        colour: torch.Tensor
        shape: torch.Tensor

    def __init__(self):
        super().__init__()
        self.body = small_net(5)

    def forward(self, x):
        z = self.body(x)
        return self.Output(z[:, :3], z[:, 3:])


def test_several_heads_in_a_dataclass():
    model = vtcav.Classifier(
        Parts(), ["red", "green", "blue", "round", "square"], vtcav.Preprocess(16), device="cpu",
        score=lambda output: torch.cat([output.colour, output.shape], 1),
    )  # fmt: skip
    x = torch.rand(3, 3, 16, 16)
    assert model.logits(x).equal(small_net(5)(x).detach())
    assert model.probabilities(model.logits(x)).equal(model.logits(x))  # they have none
    assert "lambda" in model.logits_source
    assert model.head("body.1").resume == "single"


def test_similarity_to_references_is_explained():
    net = with_weights(nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6)
    ), 1)  # fmt: skip
    x = torch.rand(2, 3, 16, 16)
    reference = net(x).detach()
    score = scores.SimilarityScore(reference)
    model = vtcav.Classifier(
        net, ["like a", "like b"], vtcav.Preprocess(16), device="cpu", score=score
    )
    torch.testing.assert_close(model.logits(x).diagonal(), torch.ones(2))
    one = vtcav.Classifier(
        net, ["like a"], vtcav.Preprocess(16), device="cpu",
        score=scores.SimilarityScore(reference[0], embedding=lambda output: output),
    )  # fmt: skip
    assert one.logits(x).shape == (2, 1)
    rng = np.random.default_rng(0)
    bright, dark = (rng.integers(low, low + 100, (8, 16, 16, 3), np.uint8) for low in (150, 0))
    explainer = vtcav.VisualTCAV(one, ["1"])
    explainer.fit({"bright": bright}, dark, null_cavs=5, min_examples=2)
    local = explainer.explain(bright[0])
    assert local.attributions["class_name"].tolist() == ["like a"]
    assert np.isfinite(local.attributions["attribution"]).all()


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (lambda z: z["logits"], r"score .*failed on the network's output: .*It got a Tensor"),
        (lambda z: z.argmax(1), r"scores \[N, T\] of 3 images, got a torch.int64 tensor"),
        (lambda z: z[:1], r"of 3 images, got a torch.float32 tensor of shape \(1, 3\)"),
        (lambda z: z - z.mean(0), "other scores alone than in a batch"),
        (lambda z: z.detach().numpy(), "got ndarray"),
        ("logits", "a function of the network's output"),
    ],
)
def test_a_score_that_is_none_is_refused_with_what_came(score, message):
    with pytest.raises(ModelError, match=message):
        vtcav.Classifier(small_net(), None, vtcav.Preprocess(16), device="cpu", score=score)


def test_scores_say_what_they_take():
    with pytest.raises(ModelError, match=r"0 <= left < right <= 1"):
        scores.BoxScore((10, 10, 50, 50))
    with pytest.raises(ModelError, match="overlap in"):
        scores.BoxScore(overlap=0)
    with pytest.raises(ModelError, match="a detector of torchvision"):
        scores.RawDetector(small_net())
    with pytest.raises(ModelError, match="marks something"):
        scores.RegionScore(np.zeros((4, 4)))
    with pytest.raises(ModelError, match=r"logits \[N, T, h, w\]"):
        scores.RegionScore()(torch.zeros(2, 3))
    with pytest.raises(ModelError, match=r"embeddings \[N, D\]"):
        scores.SimilarityScore(torch.ones(3))({"features": torch.ones(1, 3)})
    with pytest.raises(ModelError, match="above length 0"):
        scores.SimilarityScore(torch.zeros(3))
    assert repr(scores.RegionScore(np.eye(3))) != repr(scores.RegionScore(np.ones((3, 3))))


def test_a_head_that_holds_needs_its_images(networks):
    model = model_of(networks, "deeplab")
    with pytest.raises(vtcav.LayerError, match=r"head\.of\(images\)"):
        model.head("backbone.body.3")(torch.zeros(1, 16, 8, 8))
