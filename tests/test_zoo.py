"""Classifier on the networks that people have: torchvision, timm and EfficientNet-Lite0."""

from collections import Counter, namedtuple

import numpy as np
import pytest
import torch
from PIL import Image

import vtcav
from tests.test_models import decides, gradient, hooked, in_evaluation, noise, state, truth
from vtcav.errors import ExtraError, LayerError
from vtcav.models.trace import record

Case = namedtuple("Case", "library name size recommended bypassed")


def case(library, name, size, recommended, bypassed=None):
    row = Case(library, name, size, recommended.split(), bypassed)
    return pytest.param(row, id=f"{library}:{name}")


CASES = [
    case("torchvision", "resnet18", 64, "layer1 layer2 layer3 layer4", "layer2.1.conv1"),
    case("torchvision", "vgg11", 64, "features.9 features.14 features.19"),
    case(
        "torchvision",
        "densenet121",
        64,
        "features.denseblock1 features.denseblock2 features.denseblock3 features.norm5",
        "features.denseblock2.denselayer3.conv2",
    ),
    case(
        "torchvision",
        "inception_v3",
        128,
        "Conv2d_4a_3x3 Mixed_5d Mixed_6e Mixed_7c",
        "Mixed_6b.branch1x1.conv",
    ),
    case(
        "torchvision",
        "efficientnet_b0",
        64,
        "features.2 features.3 features.5 features.8",
        "features.4.1.block.0",
    ),
    case(
        "torchvision",
        "mobilenet_v3_small",
        64,
        "features.1 features.3 features.8 features.12",
        "features.5.block.0",
    ),
    case(
        "torchvision",
        "convnext_tiny",
        64,
        "features.1 features.3 features.5 features.7",
        "features.3.1.block.0",
    ),
    case("timm", "resnet10t", 64, "layer1 layer2 layer3 layer4", "layer2.0.conv1"),
    case(
        "timm",
        "convnext_atto",
        64,
        "stages.0 stages.1 stages.2 stages.3",
        "stages.1.blocks.0.conv_dw",
    ),
    case("timm", "efficientnet_lite0", 64, "blocks.1 blocks.2 blocks.4 bn2", "blocks.3.1.conv_pw"),
]
MORE = [
    case("torchvision", "alexnet", 96, "features.1 features.4 features.11"),
    case("torchvision", "squeezenet1_1", 96, "features.4 features.7 features.12"),
    case("torchvision", "googlenet", 64, "conv3 inception3b inception4e inception5b"),
    case("torchvision", "mobilenet_v2", 64, "features.3 features.6 features.13 features.18"),
    case("torchvision", "shufflenet_v2_x0_5", 64, "stage2 stage3 conv5"),
    case(
        "torchvision",
        "regnet_y_400mf",
        64,
        " ".join(f"trunk_output.block{i}" for i in (1, 2, 3, 4)),
    ),
    case("torchvision", "swin_t", 64, "features.0.0 permute", "features.1"),
    case("timm", "regnetx_002", 64, "s1 s2 s3 s4"),
    case("timm", "mobilenetv3_small_050", 64, "blocks.0 blocks.1 blocks.3 blocks.5"),
    case("timm", "resnetv2_50", 64, "stages.0 stages.1 stages.2 norm"),
]


def filled(net):
    """Give every weight a value of its own: a last layer of zeros would hide any bypass."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
            if name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight")):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif tensor.is_floating_point():
                fan_in = tensor[0].numel() if tensor.ndim > 1 else 25
                tensor.normal_(0, (1.5 / fan_in) ** 0.5, generator=generator)
    return net


def build(row, libraries):
    if row.library == "timm":
        return filled(libraries.timm.create_model(row.name, num_classes=10))
    # their own initialisation is slow
    slow = row.name in ("vgg11", "inception_v3", "googlenet")
    make = getattr(libraries.torchvision, row.name)
    return filled(make(num_classes=10, **({"init_weights": False} if slow else {})))


def classifier(net, size):
    return vtcav.Classifier(net, None, vtcav.Preprocess(size))


@pytest.fixture(scope="module", params=CASES)
def zoo(request, libraries):
    """A network with random weights and mixed flags, and its model."""
    net = build(request.param, libraries).train()
    next(net.children()).eval()
    next(net.parameters()).requires_grad_(False)
    before = state(net)
    yield request.param, net, classifier(net, request.param.size)
    assert state(net) == before  # after all the tests below


def spread(names, count):
    """Some of the names, evenly spread, with the first and the last."""
    return [names[i] for i in np.unique(np.linspace(0, len(names) - 1, count).astype(int))]


def usable(model):
    return [layer.name for layer in model.layers()]


def check_head(net, model, layer, size):
    """The head is the plain pass on real maps, and a full replay on others, with gradients."""
    x = noise(2, size)
    maps, z = model.activations_and_logits(x, [layer])
    head, F = model.head(layer), 0.7 * maps[layer]
    with torch.no_grad():
        torch.testing.assert_close(head(maps[layer]), z)
    assert (z[0] - z[1]).abs().max() > 1e-3 * z.abs().max()  # the images count
    expected_z, expected_G = truth(net, layer, x, F)
    got_z, got_G = gradient(head, F)
    scale = float(expected_G.abs().max())
    assert scale > 0
    torch.testing.assert_close(got_z, expected_z)
    torch.testing.assert_close(got_G, expected_G, rtol=1e-4, atol=1e-5 * scale)
    return head.resume


def check_cuts(net, model, size, count):
    """A sample of the modules is usable exactly where the numbers say so."""
    read = model.logits(noise(1, size)).shape
    with in_evaluation(net):
        trace = record(net, noise(1, size), lambda output: output.reshape(read))
    runs = Counter(call.name for call in trace.calls)
    once = [call.name for call in trace.calls if runs[call.name] == 1 and call.shape]
    found = {name: decides(net, name, noise(3, size)) for name in spread(once, count)}
    assert {name: name in trace.cuts for name in found} == found
    assert not set(usable(model)) - trace.cuts
    return found


def test_recommended_layers(zoo):
    row, _, model = zoo
    assert [layer.name for layer in model.check_layers(None)] == row.recommended
    assert model.logits_source == "the network's output"


def test_heads(zoo):
    row, net, model = zoo
    for layer in {*spread(usable(model), 4), *row.recommended}:
        assert check_head(net, model, layer, row.size) == "single"


def test_usable_layers_are_those_that_decide_the_logits(zoo):
    row, net, model = zoo
    found = check_cuts(net, model, row.size, 16)
    assert any(found.values())
    assert row.bypassed is None or not all(found.values())


def test_a_bypassed_layer_is_refused(zoo):
    row, _, model = zoo
    if row.bypassed:
        with pytest.raises(LayerError, match=f"'{row.bypassed}' .* is bypassed.*nearest usable"):
            model.head(row.bypassed)


def test_feature_maps_of_all_layers_from_one_pass(zoo):
    row, net, model = zoo
    x, names = noise(1, row.size), usable(model)
    maps = model.activations(x, names)
    expected = hooked(net, x, names)
    assert list(maps) == names
    for layer in model.layers():
        assert torch.equal(maps[layer.name], expected[layer.name])
        assert maps[layer.name].shape == (1, *layer.shape)


def test_a_pass_stops_after_the_deepest_layer(zoo):
    row, net, model = zoo
    layer, ran = row.recommended[1], []
    handles = [
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
        for name, module in net.named_modules()
    ]
    try:
        model.activations(noise(1, row.size), [row.recommended[0], layer])
        stopped = list(ran)
        ran.clear()
        model.logits(noise(1, row.size))
    finally:
        for handle in handles:
            handle.remove()
    assert stopped == ran[: len(stopped)]
    assert stopped[-1] == layer
    assert len(stopped) < len(ran)


@pytest.mark.parametrize("row", MORE)
def test_recommended_layers_of_more_networks(row, libraries):
    net = build(row, libraries).eval()
    model = classifier(net, row.size)
    assert [layer.name for layer in model.check_layers(None)] == row.recommended
    assert check_head(net, model, row.recommended[-1], row.size) in ("single", "expanded")


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
