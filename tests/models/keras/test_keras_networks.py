"""The four networks of the paper in Keras, and the same weights in Keras and in PyTorch."""

import dataclasses
import importlib.util

import numpy as np
import pytest
import torch
from torch import nn

import vtcav
from tests.helpers.small import concepts, negatives, pictures
from vtcav.models.base import LayerInfo
from vtcav.models.keras.classifier import KerasClassifier
from vtcav.models.keras.stages import end_stages_at_joints

if importlib.util.find_spec("keras") is None:
    pytest.skip("keras is not installed", allow_module_level=True)

from tests.models.keras.test_keras import everything, fill, keras, layers

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PAPER = {
    "ResNet50V2": (64, "conv2_block2_out conv3_block3_out conv4_block5_out post_relu"),
    "VGG16": (32, "block3_conv3 block4_conv3 block5_conv3"),
    "InceptionV3": (107, "Activation mixed2 mixed7 mixed10"),
    "ConvNeXtTiny": (64, "Add Add Add Add"),
}


@pytest.fixture(scope="module", params=PAPER)
def paper(request):
    """A network of the paper with random weights, its size, and what it recommends."""
    size, recommended = PAPER[request.param]
    build = getattr(keras.applications, request.param)
    network = fill(build(weights=None, input_shape=(size, size, 3), classes=7), bias=0.02)
    before = everything(network)
    model = KerasClassifier(network, preprocess=vtcav.Preprocess(size, mean=0.5, std=0.5))
    yield model, size, recommended.split()
    assert everything(network) == before  # after all the tests below


def recommended_layers(model):
    return [layer for layer in model.layers() if layer.recommended]


def graded_rule():
    """Gauss points in panels towards 0, where layer normalisation has all of its change."""
    points, weights = np.polynomial.legendre.leggauss(4)
    edges = np.concatenate([[0], np.logspace(-4, 0, 5)])
    widths = np.diff(edges)[:, None]
    alpha = edges[:-1, None] + widths * (points + 1) / 2
    return (torch.tensor(x.ravel(), dtype=torch.float32) for x in (alpha, widths * weights / 2))


def test_recommended_layers(paper):
    model, size, expected = paper
    found = recommended_layers(model)
    for layer, name in zip(found, expected, strict=True):
        assert name in (layer.name, layer.kind)
        assert 4 * max(layer.shape[1:]) <= size
    assert model.check_layers(None) == found


def test_completeness_and_replay(paper):
    model, size, _ = paper
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    alpha, weights = graded_rule()
    for layer in recommended_layers(model):
        maps, z = model.activations_and_logits(x, [layer.name])
        F, head = maps[layer.name], model.head(layer.name)
        assert head.resume == "single"
        rise = (z - head(torch.zeros_like(F)).detach())[0]
        t = int(rise.abs().argmax())
        scaled = (alpha.view(-1, 1, 1, 1) * F).requires_grad_()
        (gradients,) = torch.autograd.grad(head(scaled)[:, t].sum(), scaled)
        IG = (weights.view(-1, 1, 1, 1) * gradients).sum(0)
        torch.testing.assert_close((IG * F[0]).sum(), rise[t], rtol=0.06, atol=0.0)

        replay = dataclasses.replace(head, resume="replay", outputs={})
        few = scaled.detach()[-3:].requires_grad_()
        results = [
            (z := run(few), *torch.autograd.grad(z[:, t].sum(), few)) for run in (head, replay)
        ]
        for ours, theirs in zip(*results, strict=True):
            atol = 1e-5 * float(theirs.detach().abs().max())
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=atol)


def convnext_in_torch(network, torchvision):
    """torchvision's ConvNeXt-T behind Keras' built-in normalisation, with the same weights."""

    class Pixels(nn.Module):
        def forward(self, x):
            mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[
                ..., None, None
            ]
            return (x / 255 - mean) / std

    module = torchvision.convnext_tiny(num_classes=7)
    theirs = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.LayerNorm)]
    scales = [block.layer_scale for block in module.modules() if hasattr(block, "layer_scale")]
    ours = [x for x in network._flatten_layers() if x.weights and not hasattr(x, "layers")]
    ours.sort(key=lambda layer: position(network, layer))
    with torch.no_grad():
        for scale, layer in zip(
            scales, [x for x in ours if type(x).__name__ == "LayerScale"], strict=True
        ):
            scale.copy_(layer.gamma.value.view(-1, 1, 1))
    copy_weights([x for x in ours if type(x).__name__ != "LayerScale"], theirs)
    stages = ["1.features.1", "1.features.3", "1.features.5", "1.features.7"]
    return nn.Sequential(Pixels(), module), stages


def vgg_in_torch(network, torchvision):
    """torchvision's VGG16 with the same weights, for images of 32 x 32."""
    module = torchvision.vgg16(num_classes=7, init_weights=False)
    module.avgpool = nn.Identity()
    module.classifier[0] = nn.Linear(512, 4096)
    ours = [layer for layer in network.layers if layer.weights]
    copy_weights(ours, [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)])
    return module, ["features.15", "features.22", "features.29"]


def position(network, layer):
    """Where a layer stands in the network, also one of a nested network."""
    outer = [x for x in network.layers if x is layer or layer in getattr(x, "layers", ())]
    inner = getattr(outer[0], "layers", [layer])
    return network.layers.index(outer[0]), inner.index(layer)


def copy_weights(ours, theirs):
    """Copy Keras weights, whose kernels are [h, w, in, out] and [in, out], into PyTorch's."""
    with torch.no_grad():
        for layer, module in zip(ours, theirs, strict=True):
            kernel, bias = (v.value for v in layer.weights)
            if kernel.ndim == 4:
                kernel = kernel.permute(3, 2, 0, 1)
            module.weight.copy_(kernel.T if kernel.ndim == 2 else kernel)
            module.bias.copy_(bias)


def test_the_same_weights_in_torch_explain_alike(paper, libraries):
    model, _, _ = paper
    network = model.module.network
    make = {"convnext_tiny": convnext_in_torch, "vgg16": vgg_in_torch}.get(network.name)
    if make is None:
        pytest.skip("its torch forms pad, or stride, in other places")
    module, names = make(network, libraries.torchvision)
    other = vtcav.Classifier(module.eval(), preprocess=model.preprocess)
    agree(model, [layer.name for layer in recommended_layers(model)], other, names)


def agree(ours, our_layers, theirs, their_layers):
    """Directions, maps and attributions of both are the same to 1e-4."""
    pairs = list(zip(our_layers, their_layers, strict=True))
    explainers = [
        vtcav.VisualTCAV(ours, our_layers, steps=6),
        vtcav.VisualTCAV(theirs, their_layers, steps=6),
    ]
    picture = pictures(1, seed=5)[0]
    a, b = (e.fit(concepts(), negatives()).explain(picture, classes=3) for e in explainers)
    assert [layer for layer, _ in pairs] == our_layers
    for ours_name, theirs_name in pairs:
        v, w = (
            e.cavs.layers[n].v for e, n in zip(explainers, (ours_name, theirs_name), strict=True)
        )
        assert (v - w).norm() <= 1e-4 * w.norm()
        for concept in ("bright", "cold"):
            difference = a.concept_map(ours_name, concept) - b.concept_map(theirs_name, concept)
            assert np.abs(difference).max() <= 1e-4
    columns = ["concept", "class_index", "attribution"]
    tables = [
        t.attributions.set_index("layer").loc[names, columns].reset_index(drop=True)
        for t, names in ((a, our_layers), (b, their_layers))
    ]
    assert tables[0]["attribution"].max() > 0.01
    assert (tables[0][columns[:2]] == tables[1][columns[:2]]).all(axis=None)
    np.testing.assert_allclose(tables[0]["attribution"], tables[1]["attribution"], atol=1e-4)


class Residual(nn.Module):
    """The network of the next test, as it is written in PyTorch."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=2)
        self.norm = nn.BatchNorm2d(6, eps=1e-3)
        self.depth = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.point = nn.Conv2d(6, 6, 1)
        self.last = nn.Conv2d(6, 8, 3)
        self.dense = nn.Linear(8, 3)
        self.sum, self.act = nn.Identity(), nn.GELU()

    def forward(self, x):
        x = torch.relu(self.norm(self.conv(x)))
        x = self.sum(x + torch.nn.functional.silu(self.point(self.depth(x))))
        return self.dense(self.act(self.last(x)).mean((2, 3))).softmax(1)


def test_the_same_residual_network_in_torch_explains_alike():
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(6, 3, strides=2, name="conv")(image)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    y = layers.DepthwiseConv2D(3, padding="same", name="depth")(x)
    y = layers.Conv2D(6, 1, activation="silu", name="point")(y)
    x = layers.Add(name="sum")([x, y])
    x = layers.Conv2D(8, 3, activation="gelu", name="last")(x)
    x = layers.GlobalAveragePooling2D()(x)
    network = fill(keras.Model(image, layers.Dense(3, "softmax", name="dense")(x)))
    module = Residual().eval()
    plain = [getattr(module, name) for name in ("conv", "point", "last", "dense")]
    copy_weights([network.get_layer(name) for name in ("conv", "point", "last", "dense")], plain)
    with torch.no_grad():
        kernel, bias = (v.value for v in network.get_layer("depth").weights)
        module.depth.weight.copy_(kernel.permute(2, 3, 0, 1))
        module.depth.bias.copy_(bias)
        theirs = (
            module.norm.weight,
            module.norm.bias,
            module.norm.running_mean,
            module.norm.running_var,
        )
        for tensor, variable in zip(theirs, network.get_layer("norm").weights, strict=True):
            tensor.copy_(variable.value)
    preprocess = vtcav.Preprocess(16, mean=0.5, std=0.5)
    ours = KerasClassifier(network, preprocess=preprocess)
    agree(ours, ["sum", "last"], vtcav.Classifier(module, preprocess=preprocess), ["sum", "act"])


def stage(names, recommended):
    """Usable layers from "name:kind:side"; a kind in capitals has weights."""
    found, weighted = [], set()
    for text in names.split():
        name, kind, side = text.split(":")
        info = LayerInfo(name, kind, (4, int(side), int(side)), name in recommended.split())
        found.append(info)
        if kind in ("Conv2D", "BatchNormalization"):
            weighted.add(name)
    moved = end_stages_at_joints(found, weighted, (64, 64))
    assert [layer.name for layer in moved] == [layer.name for layer in found]
    return " ".join(layer.name for layer in moved if layer.recommended)


@pytest.mark.parametrize(
    ("names", "generic", "expected"),
    [
        # the sum and the activation after it, not the next block's expansion and padding
        ("s:Add:8 r:ReLU:8 e:Conv2D:8 p:ZeroPadding2D:9 c:Conv2D:4", "p c", "r c"),
        ("s:Add:8 p:ZeroPadding2D:9 c:Conv2D:4", "p c", "s c"),
        # no sum in this resolution: what the padding pads
        ("s:Add:16 c:Conv2D:8 r:ReLU:8 p:ZeroPadding2D:9 d:Conv2D:4", "p d", "r d"),
        # the deepest stays, whatever comes before it
        ("c:Conv2D:8 s:Add:4 h:Conv2D:4 r:ReLU:4", "c r", "c r"),
        # a padding made a stage larger than a quarter of the image
        ("s:Add:16 p:ZeroPadding2D:17 c:Conv2D:8 t:Add:8 d:Conv2D:4", "t d", "s t d"),
        ("s:Add:32 p:ZeroPadding2D:33 c:Conv2D:8 t:Add:8 d:Conv2D:4", "t d", "t d"),
        # an earlier visit to the same resolution is another stage
        ("s:Add:8 u:Conv2D:16 c:Conv2D:8 p:ZeroPadding2D:9 d:Conv2D:4", "p d", "c d"),
        ("", "", ""),
    ],
)
def test_stages_end_where_their_blocks_end(names, generic, expected):
    assert stage(names, generic) == expected
