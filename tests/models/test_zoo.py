"""Classifier on the networks that people have: torchvision, timm, transformers, real weights."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import vtcav
from tests.helpers.nets import decides, in_evaluation, noise, state
from tests.helpers.small import pictures
from tests.helpers.zoo import CASES, MORE, build, named, parameters
from vtcav.errors import ExtraError, LayerError
from vtcav.models.inspection.trace import record

# of small pictures, in which attention sees all at once
pytestmark = pytest.mark.filterwarnings("ignore:the maps of .* change everywhere alike")

CENTRE = {"mean": 0.5, "std": 0.25}


def classifier(net, size):
    return vtcav.Classifier(net, None, vtcav.Preprocess(size, **CENTRE))


@pytest.fixture(scope="module")
def packages(libraries):
    """The libraries of the zoo."""
    transformers = pytest.importorskip("transformers")
    return SimpleNamespace(**vars(libraries), transformers=transformers)


@pytest.fixture(scope="module", params=parameters(CASES))
def zoo(request, packages):
    """A network with random weights and mixed flags, and its model."""
    net = build(request.param, packages).train()
    next(net.children()).eval()
    next(net.parameters()).requires_grad_(False)
    before = state(net)
    yield named(request.param, net), net, classifier(net, request.param.size)
    assert state(net) == before  # after all the tests below


def spread(names, count):
    """Some of the names, evenly spread, with the first and the last."""
    return [names[i] for i in np.unique(np.linspace(0, len(names) - 1, count).astype(int))]


def usable(model):
    return [layer.name for layer in model.layers()]


def replay(net, model, layer, x, F):
    """The logits and their gradient from a whole pass of the images, with F in the layer."""
    leaf, layout = F.clone().requires_grad_(), model.head(layer).layout

    def exchange(_module, _inputs, output):
        return layout.from_maps(leaf.clone(), output, layout.prefix_of(output))

    handle = net.get_submodule(layer).register_forward_hook(exchange)
    with in_evaluation(net):
        output = net(x)
    handle.remove()
    return derived(scores(output), leaf)


def scores(output):
    return getattr(output, "logits", output)


def derived(z, leaf):
    weights = torch.randn(z.shape, generator=torch.Generator().manual_seed(3))
    return z.detach(), torch.autograd.grad((z * weights).sum(), leaf)[0]


def check_head(net, model, layer, size):
    """The head is the plain pass on real maps, and a full replay on others, with gradients."""
    x = noise(2, size)
    maps, z = model.activations_and_logits(x, [layer])
    head, F = model.head(layer).of(x), 0.7 * maps[layer]
    with torch.no_grad():
        torch.testing.assert_close(head(maps[layer]), z, rtol=1e-4, atol=1e-5)
    assert (z[0] - z[1]).abs().max() > 1e-3 * z.abs().max()  # the images count
    expected_z, expected_G = replay(net, model, layer, x, F)
    leaf = F.clone().requires_grad_()
    got_z, got_G = derived(head(leaf), leaf)
    scale = float(expected_G.abs().max())
    assert scale > 0
    torch.testing.assert_close(got_z, expected_z, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got_G, expected_G, rtol=1e-3, atol=1e-4 * scale)
    return head.resume


def missing_share(model, layer, x):
    """How far sum(IG F) of all logits' weighted sum is from z(F) - z(0), of what moves them.

    The points crowd towards alpha = 0, u^8 for equidistant u: a normalisation makes nearly a
    step of the way from zero maps.
    """
    maps, z = model.activations_and_logits(x, [layer])
    F, head, n = maps[layer], model.head(layer).of(x), 16
    u = (torch.arange(n) + 0.5) / n
    alpha, weight = u**8, 8 * u**7 / n
    t = torch.linspace(-1, 1, z.shape[1])
    total = torch.zeros_like(F[0])
    for some in torch.arange(n).split(8):
        leaf = (alpha[some, None, None, None] * F).requires_grad_()
        (G,) = torch.autograd.grad((head(leaf) @ t).sum(), leaf)
        total += (weight[some, None, None, None] * G).sum(0)
    D = total * F[0]
    with torch.no_grad():
        rise = ((z - head(0 * F)) @ t).item()
    return abs(float(D.sum()) - rise) / max(float(D.abs().sum()), abs(rise))


def test_recommended_layers(zoo):
    row, _, model = zoo
    assert [layer.name for layer in model.check_layers(None)] == row.recommended
    assert model.logits_source in ("the network's output", "the `logits` of the network's output")


def test_heads(zoo):
    row, net, model = zoo
    for layer in {*spread(usable(model), 2), *row.recommended}:
        assert check_head(net, model, layer, row.size) in ("single", "expanded")


def test_integrated_gradients_are_complete(zoo):
    row, _, model = zoo
    for layer in row.recommended:
        assert missing_share(model, layer, noise(1, row.size)) < 0.03


def test_every_recommended_layer_is_explained(zoo):
    row, _, model = zoo
    size = (row.size, row.size)
    explainer = vtcav.VisualTCAV(model, steps=4, progress=False)
    explainer.fit(
        {"bright": pictures(5, seed=1, low=150, size=size)}, pictures(5, seed=3, size=size)
    )
    local = explainer.explain(pictures(1, seed=5, size=size)[0], classes=2)
    table = local.attributions
    assert list(dict.fromkeys(table["layer"])) == row.recommended
    assert table["attribution"].between(0, 1).all()
    for layer in model.check_layers(None):
        assert local.concept_map(layer.name, "bright").shape == layer.shape[1:]


def test_usable_layers_are_those_that_decide_the_logits(zoo):
    row, net, model = zoo
    shape = model.logits(noise(1, row.size)).shape
    with in_evaluation(net):
        trace = record(net, noise(1, row.size), lambda out: scores(out).view(shape))
    runs = Counter(call.name for call in trace.calls)
    once = [c.name for c in trace.calls if runs[c.name] == 1 and c.shape and c.part == ()]
    found = {name: decides(net, name, noise(2, row.size), scores) for name in spread(once, 7)}
    assert {name: name in trace.cuts for name in found} == found
    assert not set(usable(model)) - trace.cuts


def test_a_bypassed_layer_is_refused(zoo):
    row, _, model = zoo
    if row.bypassed:
        with pytest.raises(LayerError, match=f"'{row.bypassed}' cannot be .*nearest usable"):
            model.head(row.bypassed)


def test_feature_maps_of_all_layers_from_one_pass(zoo):
    row, _, model = zoo
    x, names = noise(1, row.size), usable(model)
    maps = model.activations(x, names)
    assert list(maps) == names
    for layer in spread(model.layers(), 5):
        assert maps[layer.name].shape == (1, *layer.shape)
        assert torch.equal(maps[layer.name], model.activations(x, [layer.name])[layer.name])


def test_a_pass_stops_after_the_deepest_layer(zoo):
    row, _, model = zoo
    layer, ran = row.recommended[1], []
    with model.network.running() as running:  # hooks on the user's network would be left out
        for name, module in running.named_modules():
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
        model.activations(noise(1, row.size), [row.recommended[0], layer])
        stopped = list(ran)
        ran.clear()
        model.logits(noise(1, row.size))
    assert stopped == ran[: len(stopped)]
    assert stopped[-1] == layer
    assert len(stopped) < len(ran)


@pytest.mark.parametrize("row", parameters(MORE))
def test_recommended_layers_of_more_networks(row, packages):
    net = build(row, packages).eval()
    row, model = named(row, net), classifier(net, row.size)
    assert [layer.name for layer in model.check_layers(None)] == row.recommended
    assert check_head(net, model, row.recommended[-1], row.size) in ("single", "expanded")


def test_the_last_block_of_a_vision_transformer_comes_too_late(packages):
    row = next(row for row in CASES if row.name == "vit_tiny_patch16_224")
    model = classifier(build(row, packages), row.size)
    with pytest.raises(LayerError, match=r"'blocks.7' .*comes too late.* layers: 'blocks.6'$"):
        model.head("blocks.7")


@pytest.fixture(scope="module")
def lite():
    """EfficientNet-Lite0 with its ImageNet weights."""
    try:
        return vtcav.load_model("demo", device="cpu")
    except ExtraError as error:
        pytest.skip(str(error))


@pytest.mark.demo
def test_efficientnet_lite0(lite):
    assert [layer.name for layer in lite.check_layers(None)] == [
        *("_blocks.2", "_blocks.4", "_blocks.10", "_bn1")
    ]
    assert usable(lite)[-1] == "_bn1"
    with pytest.raises(LayerError, match=r"'_blocks.7._bn2' .* is bypassed.*'_blocks.7'$"):
        lite.head("_blocks.7._bn2")
    for layer in ("_conv_stem", "_blocks.4", "_bn1"):  # it reads the batch size at its end
        assert check_head(lite.module, lite, layer, 224) == "expanded"


@pytest.mark.demo
def test_efficientnet_lite0_sees_the_cat(lite):
    data = pytest.importorskip("skimage.data")
    probabilities = lite.predict([Image.fromarray(data.chelsea())])[0]
    assert float(probabilities.sum()) == pytest.approx(1, abs=1e-5)
    assert lite.class_names[int(probabilities.argmax())] in ("tabby", "Egyptian cat", "tiger cat")
    assert lite.class_names[lite.class_index("zebra")] == "zebra"
