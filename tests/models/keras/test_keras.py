"""Keras 3 networks on the torch backend: the adapter, its refusals, and that nothing is changed."""

import copy
import importlib.util
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import vtcav
from tests.helpers.small import concepts, negatives, pictures
from vtcav.errors import ExtraError, LayerError, ModelError
from vtcav.models.keras.classifier import KerasClassifier
from vtcav.models.keras.files import import_keras
from vtcav.models.keras.module import ChannelsFirst

if importlib.util.find_spec("keras") is None:
    pytest.skip("keras is not installed", allow_module_level=True)
keras = import_keras()
layers = keras.layers

# Keras' own, from predict and get_weights with NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PREPROCESS = vtcav.Preprocess(16, mean=0.5, std=0.5)


def fill(network, seed=0, bias=0.1):
    """Give every weight a value of its own: scales of 0 or 1e-6 would hide any bypass."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for variable in network.weights:
            value = variable.value
            if "variance" in variable.name or "gamma" in variable.name:
                value.uniform_(0.5, 1.2, generator=generator)
            elif value.ndim > 1:
                inputs = value[..., 0].numel()
                value.normal_(0, (1.5 / inputs) ** 0.5, generator=generator)
            elif value.ndim:
                value.normal_(0, bias, generator=generator)
    return network


def ending(x, kind, classes=3):
    """The ends that Keras networks have; all from the same logits."""
    if kind in ("softmax", "sigmoid", None):
        return layers.Dense(classes, activation=kind, name="scores")(x)
    x = layers.Dense(classes, name="scores")(x)
    return layers.Softmax()(x) if kind == "Softmax" else layers.Activation(kind[11:-1])(x)


def small_network(end="softmax", classes=3, seed=0):
    """conv1 - stage (conv2, norm, nested) - sum with a branch beside it - conv3 - dense."""
    image = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(6, 3, strides=2, padding="same", activation="gelu", name="conv1")(image)
    stage = keras.Sequential(
        [
            keras.Input((8, 8, 6)),
            layers.Conv2D(8, 3, padding="same", name="conv2"),
            layers.BatchNormalization(name="norm"),
        ],
        name="stage",
    )
    x = stage(x)
    beside = layers.Conv2D(8, 1, activation="relu", name="beside")(x)
    x = layers.Dropout(0.5, name="drop")(keras.ops.add(x, beside))
    x = layers.Conv2D(10, 3, strides=2, activation="relu", name="conv3")(x)
    x = ending(layers.Flatten()(x), end, classes)
    return fill(keras.Model(image, x, name="small"), seed)


def classifier(network=None, **options):
    return KerasClassifier(network or small_network(), preprocess=PREPROCESS, **options)


def images(count=3, size=16):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def in_keras(network, layer, x):
    """What Keras itself computes for a layer, channels first."""
    part = keras.Model(network.input, network.get_layer(layer).output)
    return torch.as_tensor(part.predict(x.movedim(1, -1).numpy(), verbose=0)).movedim(-1, 1)


def everything(network):
    """All that a borrower could change."""
    found = []
    for layer in network._flatten_layers():
        hooks = (len(layer._forward_hooks), len(layer._forward_pre_hooks))
        flags = (layer.training, layer.trainable, getattr(layer, "activation", None))
        found.append((layer.name, "forward" in layer.__dict__, hooks, flags))
    weights = [
        (v.path, v.trainable, v.value.requires_grad, v.numpy().sum()) for v in network.variables
    ]
    operations = ["call" in op.__dict__ for op in getattr(network, "operations", [])]
    return found, weights, operations


# -- the adapter ------------------------------------------------------------------------------


def test_layers_go_by_their_keras_names():
    found = classifier().layers()
    assert [layer.name for layer in found] == [
        "conv1",
        "stage/conv2",
        "stage/norm",
        "stage",
        found[4].name,  # the sum, which Keras numbers
        "drop",
        "conv3",
    ]
    assert found[4].kind == "Add"
    assert (found[0].kind, found[0].shape, found[0].layout) == ("Conv2D", (6, 8, 8), "NHWC")
    assert [layer.name for layer in found if layer.recommended] == ["conv3"]


def test_feature_maps_are_those_of_keras_with_the_channels_first():
    network = small_network()
    x = images()
    maps = classifier(network).activations(x, ["conv3", "conv1"])
    assert list(maps) == ["conv3", "conv1"]
    for name in maps:
        torch.testing.assert_close(maps[name], in_keras(network, name, x))


@pytest.mark.parametrize(
    ("end", "source", "probabilities"),
    [
        ("softmax", "the input of the final softmax", "softmax"),
        ("Softmax", "the input of the final softmax", "softmax"),
        ("Activation(softmax)", "the input of the final softmax", "softmax"),
        ("sigmoid", "the input of the final sigmoid", "sigmoid"),
        ("Activation(sigmoid)", "the input of the final sigmoid", "sigmoid"),
        (None, "the network's output", "softmax"),
    ],
)
def test_logits_are_read_before_the_last_activation(end, source, probabilities):
    network = small_network(end)
    model, x = classifier(network), images()
    plain = small_network(None)
    plain.set_weights(network.get_weights())
    z = model.logits(x)
    torch.testing.assert_close(z, plain(x.movedim(1, -1), training=False).detach())
    assert model.logits_source == source
    torch.testing.assert_close(
        model.probabilities(z),
        getattr(torch, probabilities)(z, 1) if probabilities == "softmax" else torch.sigmoid(z),
    )


def test_saturated_softmax_keeps_its_gradients():
    network = small_network()
    network.get_layer("scores").kernel.assign(1e4 * network.get_layer("scores").kernel.value)
    model = classifier(network)
    maps, z = model.activations_and_logits(images(), ["conv3"])
    assert model.probabilities(z).max() == 1.0
    F = maps["conv3"].requires_grad_()
    (gradient,) = torch.autograd.grad(model.head("conv3")(F)[:, 0].sum(), F)
    assert gradient.abs().max() > 1


def test_binary():
    network = small_network("sigmoid", classes=1)
    model = classifier(network, binary=True, class_names=["no", "yes"])
    x = images()
    expected = torch.as_tensor(network.predict(x.movedim(1, -1).numpy(), verbose=0))
    torch.testing.assert_close(model.probabilities(model.logits(x))[:, 1:], expected)
    with pytest.raises(ModelError, match="pass binary=True"):
        classifier(network)


@pytest.mark.parametrize("layer", ["conv1", "stage/conv2", "stage", "drop", "conv3"])
def test_a_head_is_the_rest_of_the_network(layer):
    network = small_network()
    model, x = classifier(network), images()
    maps, z = model.activations_and_logits(x, [layer])
    head = model.head(layer)
    assert head.resume == "single"
    torch.testing.assert_close(head(maps[layer]), z)
    F = (0.5 * maps[layer]).requires_grad_()
    (gradient,) = torch.autograd.grad(head(F)[:, 1].sum(), F)
    # the same by Keras alone: a hook that replaces what the layer itself gives
    owner = network.get_layer("stage") if "/" in layer else network
    inner = owner.get_layer(layer.split("/")[-1])
    replay = (0.5 * maps[layer]).movedim(1, -1).requires_grad_()
    handle = inner.register_forward_hook(lambda *_: replay.clone())
    scores = network.get_layer("scores")
    kept = []
    reader = scores.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    network(x.movedim(1, -1), training=False)
    handle.remove(), reader.remove()
    logits = kept[0] @ scores.kernel.value + scores.bias.value
    torch.testing.assert_close(head(F), logits)
    (expected,) = torch.autograd.grad(logits[:, 1].sum(), replay)
    torch.testing.assert_close(gradient, expected.movedim(-1, 1))


def test_a_head_does_not_run_what_is_below_its_layer():
    network = small_network()
    model = classifier(network)
    F = model.activations(images(), ["drop"])["drop"]
    head = model.head("drop")
    ran = []
    for name in ("conv1", "beside", "conv3"):
        layer = network.get_layer(name)
        layer.call = lambda x, name=name, call=layer.call: ran.append((name, len(x))) or call(x)
    head(F)
    assert ran == [("conv3", len(F))]


def test_a_bypassed_layer_is_refused_by_name():
    model = classifier()
    with pytest.raises(LayerError, match=r"'beside' cannot be explained: it is bypassed.*'stage'"):
        model.head("beside")
    with pytest.raises(LayerError, match=r"no layer 'conv9'.*'conv1'"):
        model.check_layers(["conv9"])
    with pytest.raises(LayerError, match=r"did not run, 'image'"):
        model.check_layers(["image"])


def test_a_shared_layer_is_refused():
    image = keras.Input((16, 16, 3))
    conv = layers.Conv2D(3, 3, padding="same", name="twice")
    x = layers.GlobalAveragePooling2D()(conv(conv(image)))
    network = fill(keras.Model(image, layers.Dense(3)(x)))
    with pytest.raises(LayerError, match="runs 2 times"):
        classifier(network).check_layers(["twice"])


@keras.saving.register_keras_serializable("tests")
class Handmade(keras.Model):
    """A subclassed network, whose `call` knows nothing of training, with a weight of its own."""

    def __init__(self, **options):
        super().__init__(**options)
        self.first = layers.Conv2D(5, 3, strides=2, activation="relu", name="first")
        self.blocks = [layers.Conv2D(5, 3, padding="same", name=f"block{i}") for i in range(2)]
        self.dense = layers.Dense(3, name="dense")
        self.temperature = self.add_weight(shape=(1,), initializer="ones", name="temperature")

    def call(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = x + keras.ops.relu(block(x))
        return keras.ops.softmax(self.dense(keras.ops.mean(x, (1, 2))) / self.temperature)


def test_a_handwritten_network():
    network = Handmade(name="handmade")
    with pytest.raises(ModelError, match=r"'handmade' has no weights yet.*call it once"):
        classifier(network)
    network(torch.zeros(1, 16, 16, 3))
    fill(network).temperature.assign([1.0])
    model, x = classifier(network), images()
    assert [layer.name for layer in model.layers()] == ["first"]
    maps, z = model.activations_and_logits(x, ["first"])
    torch.testing.assert_close(model.head("first")(maps["first"]), z)
    before = model.fingerprint
    network.temperature.assign([2.0])
    assert model.fingerprint != before
    torch.testing.assert_close(model.logits(x), z / 2)


def test_channels_first_networks_are_taken_as_they_are():
    image = keras.Input((3, 16, 16))
    x = layers.Conv2D(5, 3, data_format="channels_first", name="conv")(image)
    x = layers.GlobalAveragePooling2D(data_format="channels_first")(x)
    network = fill(keras.Model(image, layers.Dense(3)(x)))
    model, x = classifier(network), images()
    (info,) = model.layers()
    assert (info.shape, info.layout) == ((5, 14, 14), "NCHW")
    kernel, bias = (v.value for v in network.get_layer("conv").variables)
    expected = nn.functional.conv2d(x, kernel.permute(3, 2, 0, 1), bias)
    torch.testing.assert_close(model.activations(x, ["conv"])["conv"], expected.detach())


def test_a_layer_that_hands_on_its_input_is_not_recommended():
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(5, 3, strides=4, name="conv")(image)
    x = layers.GlobalAveragePooling2D()(layers.Dropout(0.5, name="drop")(x))
    model = classifier(fill(keras.Model(image, layers.Dense(3)(x))))
    assert [(layer.name, layer.recommended) for layer in model.layers()] == [
        ("conv", True),
        ("drop", False),
    ]


def test_the_order_is_known_not_guessed():
    image = keras.Input((16, 32, 3))
    # [8, 16, 16] looks like [16, 16, 8] turned: its first two sides are as those of the image
    x = layers.Conv2D(8, 3, strides=(1, 2), padding="same", name="conv")(image)
    x = layers.GlobalAveragePooling2D()(x)
    network = fill(keras.Model(image, layers.Dense(3)(x)))
    (info,) = KerasClassifier(network, preprocess=vtcav.Preprocess((16, 32))).layers()
    assert (info.shape, info.layout) == ((8, 16, 16), "NHWC")


class Shift(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("by", torch.ones(5))

    def forward(self, x):
        return x + self.by


def test_a_torch_module_inside():
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(5, 3, name="conv")(image)
    inner = nn.Sequential(nn.LayerNorm(5), Shift(), nn.ReLU(), nn.Dropout(0.5))
    x = layers.TorchModuleWrapper(inner, name="torch", output_shape=(None, 14, 14, 5))(x)
    x = layers.GlobalAveragePooling2D()(x)
    network = fill(keras.Model(image, layers.Dense(3)(x)))
    inner[0].eval()
    before = everything(network), [part.training for part in inner.modules()]
    model, x = classifier(network), images()
    assert [layer.name for layer in model.layers()] == ["conv", "torch"]
    maps, z = model.activations_and_logits(x, ["torch"])
    torch.testing.assert_close(model.head("torch")(maps["torch"]), z)
    assert maps["torch"].shape == (3, 5, 14, 14)
    assert (everything(network), [part.training for part in inner.modules()]) == before
    seen = {model.fingerprint}
    for tensor in (inner[0].weight, inner[1].by):
        with torch.no_grad():
            tensor.mul_(2)
        assert model.fingerprint not in seen
        seen.add(model.fingerprint)


def test_two_orders_of_channels_are_refused():
    image = keras.Input((16, 16, 3))
    x = layers.Permute((3, 1, 2))(layers.Conv2D(5, 3, name="conv")(image))
    x = layers.GlobalAveragePooling2D(data_format="channels_first", name="pool")(x)
    network = keras.Model(image, layers.Dense(3)(x))
    message = "one order of channels.*'pool' is channels_first and 'conv' is channels_last"
    with pytest.raises(ModelError, match=message):
        classifier(network)


def test_mixed_precision():
    with_policy = {"dtype": "mixed_bfloat16"}
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, strides=2, activation="relu", name="conv", **with_policy)(image)
    x = layers.GlobalAveragePooling2D(**with_policy)(x)
    network = fill(keras.Model(image, layers.Dense(3, **with_policy)(x)))
    model, x = classifier(network), images()
    maps, z = model.activations_and_logits(x, ["conv"])
    assert maps["conv"].dtype == z.dtype == torch.float32
    torch.testing.assert_close(model.head("conv")(maps["conv"]), z, rtol=0.02, atol=0.02)


# -- nothing is changed -------------------------------------------------------------------------


def test_the_network_is_left_as_it_was():
    network = small_network()
    network.get_layer("conv1").trainable = False
    network.compile("sgd", "categorical_crossentropy")
    x = images()
    output = network.predict(x.movedim(1, -1).numpy(), verbose=0)
    before = everything(network)
    model = classifier(network)
    explainer = vtcav.VisualTCAV(model, ["stage", "conv3"], steps=5)
    explainer.fit(concepts(), negatives())
    explainer.explain(pictures(1)[0])
    with pytest.raises(LayerError):
        model.head("beside")
    assert everything(network) == before
    np.testing.assert_array_equal(network.predict(x.movedim(1, -1).numpy(), verbose=0), output)


def test_the_network_is_left_as_it_was_after_an_exception():
    network = small_network()
    model = classifier(network)
    before = everything(network)
    conv3 = network.get_layer("conv3")

    def fail(_x):
        raise RuntimeError("on purpose")

    conv3.call = fail
    with pytest.raises(ModelError, match="on purpose"):
        model.logits(images())
    del conv3.call
    assert everything(network) == before


def test_users_own_hooks_run():
    network = small_network()
    model = classifier(network)
    seen = []
    handle = network.get_layer("conv1").register_forward_hook(
        lambda _layer, _inputs, output: seen.append(tuple(output.shape))
    )
    model.logits(images(2))
    handle.remove()
    assert seen == [(2, 8, 8, 6)]


# -- fingerprints, copies -----------------------------------------------------------------------


def test_the_fingerprint_is_of_weights_and_architecture():
    def network(**options):
        image = keras.Input((16, 16, 3), name="image")
        x = layers.Conv2D(4, 3, **{"padding": "same", "activation": "relu", "name": "c"} | options)(
            image
        )
        x = layers.GlobalAveragePooling2D(name="g")(x)
        return fill(keras.Model(image, layers.Dense(3, name="d")(x), name="n"))

    same = classifier(network()).fingerprint
    assert classifier(network()).fingerprint == same
    compiled = network()
    compiled.compile("adam", "mse")
    compiled.trainable = False
    assert classifier(compiled).fingerprint == same
    assert classifier(network(activation="gelu")).fingerprint != same
    assert classifier(network(dilation_rate=2)).fingerprint != same
    changed = network()
    model = classifier(changed)
    assert model.fingerprint == same
    changed.get_layer("c").bias.assign([0, 0, 0, 1])
    assert model.fingerprint != same


def test_a_copy_is_independent():
    network = small_network()
    module = ChannelsFirst(network)
    copied = copy.deepcopy(module)
    x = images()
    torch.testing.assert_close(copied(x), module(x))
    assert [name for name, _ in copied.named_parameters()] == [
        name for name, _ in module.named_parameters()
    ]
    copied.to(torch.device("cpu"))
    network.get_layer("scores").bias.assign([5, 0, 0])
    assert (copied(x) - module(x)).abs().max() > 0.1
    copied.network.get_layer("scores").bias.assign([5, 0, 0])
    torch.testing.assert_close(copied(x), module(x))


def test_weights_are_counted_once():
    network = small_network()
    assert (
        classifier(network).described
        == f"Keras 'small' ({network.count_params():,} weights, 3 classes)"
    )
    assert repr(classifier(network)).startswith("KerasClassifier('small', 3 classes, preprocess=P")


# -- what is refused ----------------------------------------------------------------------------


def test_what_is_no_keras_network():
    with pytest.raises(ModelError, match=r"expected a keras.Model, got Conv2d.*vtcav.Classifier"):
        KerasClassifier(nn.Conv2d(3, 3, 3))
    with pytest.raises(ModelError, match=r"got str; for a file use vtcav\.load_model"):
        KerasClassifier("network.keras")


def test_several_inputs():
    a, b = keras.Input((16, 16, 3), name="left"), keras.Input((16, 16, 3), name="right")
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(a + b))
    with pytest.raises(ModelError, match="one input, the image, got 2: 'left', 'right'"):
        classifier(keras.Model([a, b], layers.Dense(3)(x)))


def test_another_size_than_the_networks():
    with pytest.raises(ModelError, match=r"cannot compute images of shape \(3, 24, 24\)"):
        KerasClassifier(small_network(), preprocess=vtcav.Preprocess(24))


def test_another_backend(monkeypatch):
    other = SimpleNamespace(config=SimpleNamespace(backend=lambda: "jax"))
    monkeypatch.setitem(sys.modules, "keras", other)
    with pytest.raises(
        ModelError, match=r"imported with 'jax'; start Python with .*KERAS_BACKEND=torch"
    ):
        import_keras()
    monkeypatch.setitem(sys.modules, "keras", SimpleNamespace(__version__="2.15.0"))
    with pytest.raises(ModelError, match="imported with 'tensorflow'"):
        import_keras()


def test_keras_absent_or_old(monkeypatch):
    monkeypatch.delitem(sys.modules, "keras")
    for old in ("2.15.0", "3.8.0"):
        monkeypatch.setattr(importlib.metadata, "version", lambda _name, old=old: old)
        with pytest.raises(ModelError, match=rf"expected Keras 3\.12 or later, but {old} is"):
            import_keras()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ExtraError, match=r"pip install 'vtcav\[keras\]'"):
        import_keras()


@pytest.mark.parametrize("before", [None, "tensorflow"])
def test_the_backend_is_chosen_for_the_import_alone(before, monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "keras")
    package = "import os\nchosen = os.environ['KERAS_BACKEND']\nclass config:\n"
    (tmp_path / "keras.py").write_text(f"{package}    backend = staticmethod(lambda: chosen)\n")
    monkeypatch.syspath_prepend(tmp_path)
    if before is None:
        monkeypatch.delenv("KERAS_BACKEND", raising=False)
    else:
        monkeypatch.setenv("KERAS_BACKEND", before)
    assert import_keras().chosen == "torch"
    assert os.environ.get("KERAS_BACKEND") == before


def test_classifier_says_where_a_keras_network_goes():
    with pytest.raises(ModelError, match="a Keras network goes into"):
        vtcav.Classifier(small_network())
