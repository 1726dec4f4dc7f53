"""Situations that gave a wrong number, an exception of PyTorch's or a changed network."""

import functools
import re
from collections import deque
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.modules.module import (
    register_module_full_backward_hook,
    register_module_full_backward_pre_hook,
)
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

import vtcav
from tests.models.test_private_copy import (
    CLASSES,
    CONCEPT,
    IMAGE,
    NEGATIVES,
    PREPROCESS,
    Net,
    expected,
    explained,
)
from vtcav.errors import LayerError, ModelError, VtcavError
from vtcav.models.inspection import torch_internals
from vtcav.models.inspection.torch_internals import forward_hooks, is_compiled, writes_to

# of PyTorch, where a checkpointed part runs without gradients
pytestmark = pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")


def model(net, **options):
    return vtcav.Classifier(net, None, PREPROCESS, **options)


# ---------------------------------------------------------------- gradients


class Selective(Net):
    """Its head is checkpointed so that only one gradient can be taken of a pass."""

    def forward(self, x):
        def policy(_context, operation, *_args, **_kwargs):
            kept = "conv" in str(operation)
            return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE

        contexts = functools.partial(create_selective_checkpoint_contexts, policy)
        x = self.stage(self.stem(x))
        return checkpoint(self.head, x, use_reentrant=False, context_fn=contexts)


@pytest.mark.parametrize("steps", [50, "adaptive"])
def test_a_pass_that_gives_a_single_gradient(steps):
    found = explained(Selective(), "stem", steps)
    np.testing.assert_allclose(
        found, expected(Net(), "stem", 50 if steps == 50 else 400), rtol=0.01
    )
    assert found.max() > 0.01


def test_a_layer_without_gradients_is_refused_with_the_remedy():
    with pytest.raises(LayerError, match=r"runs without any.*use_reentrant=False helps"):
        model(Net("stage", reentrant=True)).check_layers(["stage.0"])


# ---------------------------------------------------------------- hooks


@pytest.mark.parametrize(
    ("register", "hook"),
    [
        (
            register_module_full_backward_hook,
            lambda _m, given, _out: tuple(None if G is None else torch.relu(G) for G in given),
        ),
        (register_module_full_backward_pre_hook, lambda _m, given: tuple(0.1 * G for G in given)),
    ],
)
def test_global_backward_hooks_change_no_gradient(register, hook):
    right = expected(Net(), "stem")
    handle = register(hook)
    try:
        found = explained(Net(), "stem")
    finally:
        handle.remove()
    np.testing.assert_allclose(found, right, atol=1e-6)


def test_hooks_that_come_later_hear_nothing():
    net, heard = Net().eval(), []
    made, x = model(net), torch.rand(2, 3, 32, 32)
    right = made.logits(x)
    net.stage.register_forward_hook(lambda _m, _i, out: heard.append(out))
    net.head.register_forward_pre_hook(lambda _m, given: heard.append(given))
    assert torch.equal(made.logits(x), right)
    assert heard == []


def test_forward_pre_hooks_that_watch_hear_nothing():
    net, heard = Net(), []
    net.stage.register_forward_pre_hook(lambda _m, given: heard.append(given))
    np.testing.assert_allclose(explained(net, "stem"), expected(Net(), "stem"), atol=1e-6)
    assert len(heard) <= 4


# ---------------------------------------------------------------- state


class Counting(Net):
    """Its scores depend on what earlier passes wrote."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.count, self.array = kind, 0, np.zeros(1)
        self.register_buffer("buffer", torch.zeros(1))
        self.register_buffer("lazy", None)
        self.tensor = torch.zeros(1)
        self.list, self.queue, self.dict = [], deque(maxlen=9), {"inner": [0]}

    def forward(self, x):
        z = super().forward(x)
        seen = getattr(self, f"_{self.kind}")()
        return z * (1 + 0.1 * float(seen))

    def _attribute(self):
        self.count += 1
        return self.count

    def _rebound(self):
        self.buffer = self.buffer + 1
        return self.buffer

    def _data(self):
        self.buffer.data += 1
        return self.buffer

    def _resized(self):
        self.buffer.resize_(len(self.buffer) + 1)
        return len(self.buffer)

    def _registered(self):
        self.lazy = torch.ones(1) if self.lazy is None else self.lazy + 1
        return self.lazy

    def _tensor(self):
        self.tensor += 1
        return self.tensor

    def _array(self):
        self.array += 1
        return self.array[0]

    def _containers(self):
        self.list.append(1)
        self.queue.append(1)
        self.dict["inner"][0] += 1
        return len(self.list) + len(self.queue) + self.dict["inner"][0]


def values_of(net):
    state = {name: tensor.tolist() for name, tensor in net.state_dict().items()}
    names = ("count", "array", "tensor", "list", "queue", "dict", "lazy")
    return repr((state, [getattr(net, name) for name in names]))


@pytest.mark.parametrize(
    "kind",
    ["attribute", "rebound", "data", "resized", "registered", "tensor", "array", "containers"],
)
def test_every_pass_starts_from_the_state_of_the_network(kind):
    net = Counting(kind).eval()
    before = values_of(net)
    made, x = model(net), torch.rand(2, 3, 32, 32)
    first = made.logits(x)
    assert torch.equal(made.logits(x), first)
    a, b = explained(net, "stem", 4), explained(net, "stem", 4)
    np.testing.assert_array_equal(a, b)
    assert made.network.is_private
    assert values_of(net) == before
    with torch.no_grad():
        torch.testing.assert_close(first, net(x))  # the first pass of the network itself


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Please use quant_min")
def test_quantisation_ranges_stay():
    quantisation = pytest.importorskip("torch.ao.quantization")
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net.append(nn.Linear(8, 4))
    net.train()
    net.qconfig = quantisation.get_default_qat_qconfig("fbgemm")
    quantisation.prepare_qat(net, inplace=True)
    net(torch.randn(4, 3, 32, 32))
    net.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    made, x = model(net), torch.randn(2, 3, 32, 32)
    # the operator writes to the ranges without a new version of the tensors
    assert torch.equal(made.logits(x), made.logits(x))
    assert made.head("1").resume == "single"
    assert all(value.equal(before[name]) for name, value in net.state_dict().items())


def test_a_borrowed_network_gets_its_attributes_back():
    class Leading(Counting):
        """Reaches itself around the modules, so that no copy is possible."""

        def __init__(self):
            super().__init__("attribute")
            self.act = lambda x: self.stem(x)

        def forward(self, x):
            self.act(x)
            z = nn.Sequential(self.stem, self.stage, self.head)(x)
            for write in (self._attribute, self._rebound, self._registered):
                write()
            self.list.append(1)
            return z

    net = Leading().eval()
    before = values_of(net)
    made = model(net)
    assert not made.network.is_private
    made.logits(torch.rand(2, 3, 32, 32))
    assert values_of(net) == before


class Sharing(nn.Module):
    """Two parts that hand tensors to each other through a list."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        kept = []
        self.stem, self.act, self.fc = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Linear(16, 4)
        self.stem.kept = self.fc.kept = kept

    def forward(self, x):
        self.stem.kept.clear()
        y = self.act(self.stem(x))
        self.stem.kept.append(y)
        (again,) = self.fc.kept
        return self.fc(torch.cat([y.mean((2, 3)), again.amax((2, 3))], 1))


def test_what_modules_share_is_shared_by_their_copies():
    net = Sharing().eval()
    made, x = model(net), torch.rand(2, 3, 32, 32)
    assert made.network.is_private
    found = made.logits(x)
    assert net.stem.kept == []
    with torch.no_grad():
        torch.testing.assert_close(found, net(x))


# ---------------------------------------------------------------- ambient state


class Making(Net):
    """Makes tensors without naming their dtype or device."""

    def forward(self, x):
        x = self.stem(x) + torch.zeros(1)
        return self.head(self.stage(torch.einsum("nchw,cd->ndhw", x, torch.eye(8))))


@pytest.fixture
def double():
    yield lambda: torch.set_default_dtype(torch.float64)
    torch.set_default_dtype(torch.float32)


def test_a_network_makes_tensors_of_the_default_dtype(double, monkeypatch):
    net = Making().double()
    right = expected(Making(), "stem")
    double()
    with monkeypatch.context() as patched:
        patched.setattr(torch, "set_default_dtype", None)  # all threads share it: never touched
        found = explained(net, "stem")
    np.testing.assert_allclose(found, right, atol=1e-5)


def test_a_network_makes_tensors_under_another_default_device(tmp_path):
    net = Making()
    right = explained(net, "stem")
    explainer = vtcav.VisualTCAV(model(net), ["stem"], 50, progress=False)
    explainer.fit({"striped": CONCEPT}, NEGATIVES, null_cavs=0, bootstraps=0)
    with torch.device("meta"):
        np.testing.assert_array_equal(explained(net, "stem"), right)
        explainer.cavs.save(tmp_path / "bank.safetensors")
        bank = vtcav.CavBank.load(tmp_path / "bank.safetensors")
        again = vtcav.VisualTCAV(explainer.model, cavs=bank, steps=50, progress=False)
        found = again.explain(IMAGE, classes=CLASSES).attributions["attribution"]
    np.testing.assert_array_equal(found, right)


# ---------------------------------------------------------------- outputs


class Ending(Net):
    def __init__(self, end):
        super().__init__()
        self.end = end

    def forward(self, x):
        y = self.stem(x)
        return self.end(y.mean((2, 3)), self.head(self.stage(y)))


@pytest.mark.parametrize(
    ("end", "output"),
    [
        (lambda y, z: (y, [z]), 1),
        (lambda y, z: {"features": y, "head": {"logits": z}}, "head"),
        (lambda y, z: ((y, y), {"a": z}), 1),
    ],
)
def test_features_are_not_taken_for_scores_that_lie_deeper(end, output):
    net = Ending(end).eval()
    with pytest.raises(ModelError, match=r"of them can be class scores \[N, T\]. Say which"):
        model(net)
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(model(net, output=output).logits(x), Net().eval()(x).detach())


@pytest.mark.parametrize(
    "end",
    [lambda _y, z: (z.mean(), z), lambda _y, z: {"logits": None, "z": z}, lambda _y, z: [[z]]],
)
def test_the_only_scores_are_found(end):
    x = torch.rand(2, 3, 32, 32)
    found = model(Ending(end).eval()).logits(x)
    torch.testing.assert_close(found, Net().eval()(x).detach())


# ---------------------------------------------------------------- exceptions


class UntellableError(Exception):
    def __str__(self):
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a\nb\x1b[1m"),
        StopIteration("s"),
        UntellableError(),
        MemoryError(),
        KeyError("k"),
    ],
)
@pytest.mark.parametrize("when", ["always", "grad"])
def test_what_a_network_raises_comes_as_an_error_of_this_package(error, when):
    class Failing(Net):
        fails = False

        def forward(self, x):
            if self.fails and (when == "always" or torch.is_grad_enabled()):
                raise error
            return super().forward(x)

    net = Failing().eval()
    made = [model(net) for _ in range(3)]
    made[1].check_layers(None)
    Failing.fails = True
    x = torch.rand(2, 3, 32, 32)
    steps = [
        made[0].layers,
        lambda: vtcav.VisualTCAV(made[2], ["stem"]),
        lambda: made[1].head("stem"),
    ]
    if when == "always":
        steps += [
            lambda: model(net),
            lambda: made[1].logits(x),
            lambda: made[1].activations(x, ["stem"]),
            lambda: made[1].predict([Image.new("RGB", (32, 32))]),
        ]
    for step in steps:
        with pytest.raises(VtcavError) as told:
            step()
        assert str(told.value).isprintable()


# ---------------------------------------------------------------- identity


class Coded(Net):
    """Other code with the same weights: the head's pooling, or only its gradient."""

    def __init__(self, kind="plain"):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        y = self.head[1](self.head[0](self.stage(self.stem(x))))
        if self.kind == "detached":
            high = (y > y.mean((2, 3), keepdim=True)).float()
            y = y * high + (y * (1 - high)).detach()
        pooled = y.amax((2, 3)) if self.kind == "maximum" else y.mean((2, 3))
        return self.head[5](pooled)


@pytest.mark.parametrize("kind", ["maximum", "detached"])
def test_a_run_of_a_network_with_other_code_is_refused(tmp_path, kind):
    def explained_class(kind):
        explainer = vtcav.VisualTCAV(model(Coded(kind).eval()), ["stage"], 4, progress=False)
        explainer.fit({"striped": CONCEPT}, NEGATIVES, null_cavs=0, bootstraps=0)
        return explainer.explain_class(0, NEGATIVES[:3], run=tmp_path / "run")

    first = explained_class("plain").attributions
    assert explained_class("plain").attributions.equals(first)
    with pytest.raises(VtcavError, match=r"holds a run with other settings: model\.behaviour"):
        explained_class(kind)


def test_a_number_of_the_object_in_a_repr_is_no_part_of_the_fingerprint():
    class Numbered(Net):
        def extra_repr(self):
            return f"at {id(self)}"

    kept = Numbered(), Numbered()
    assert len({model(net).fingerprint for net in kept}) == 1


# ---------------------------------------------------------------- places


def test_windows_within_windows_are_no_grid(libraries):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.HieraConfig(
        num_labels=7, image_size=[64, 64], embed_dim=32, depths=[1, 2, 2, 1]
    )
    net = transformers.HieraForImageClassification(config).eval()
    found = vtcav.Classifier(net, None, vtcav.Preprocess(64, mean=0.5, std=0.25))
    names = [layer.name for layer in found.layers()]
    assert "hiera.encoder.stages.1.layers.0.layernorm_before" not in names
    assert "hiera.pooler.pooler" not in names  # one vector, whose length is a square
    assert "hiera.embeddings" in names


# ---------------------------------------------------------------- networks that are borrowed


class Leading(Net):
    """Reaches itself around the modules, so that no copy is possible."""

    def __init__(self):
        super().__init__()
        self.act = lambda x: self.stage(x)

    def forward(self, x):
        return self.head(self.act(self.stem(x)))


def test_looking_for_a_way_back_runs_nothing_of_the_network():
    net = Leading().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = explained(net, "stem")
    assert all(value.equal(before[name]) for name, value in net.state_dict().items())
    np.testing.assert_allclose(found, expected(Leading(), "stem"), atol=1e-6)


def test_guided_backpropagation_left_on_a_borrowed_network():
    net, right = Leading(), expected(Leading(), "stem")
    for part in (net.stage[0][2], net.stage[1][2], net.head[1]):
        part.register_full_backward_hook(lambda _m, given, _o: tuple(map(torch.relu, given)))
    made = model(net)
    assert not made.network.is_private
    np.testing.assert_allclose(explained(net, "stem"), right, atol=1e-6)
    assert all("_get_backward_hooks" not in vars(part) for part in net.modules())


def test_a_network_that_takes_images_one_by_one_is_refused():
    class OneByOne(Net):
        def forward(self, x):
            return torch.cat([super(OneByOne, self).forward(image) for image in x.split(1)])

    with pytest.raises(LayerError, match="maps of 1 images in a pass over 8"):
        explained(OneByOne(), "stem")


# ---------------------------------------------------------------- private names of PyTorch


def test_where_pytorch_lacks_a_private_name_the_safe_thing_is_said():
    class Bare(nn.Module):
        def __getattribute__(self, name):
            if name in ("_forward_hooks", "_compiled_call_impl", "_orig_mod"):
                raise AttributeError(name)
            return super().__getattribute__(name)

    assert forward_hooks(Bare()) == []
    assert not is_compiled(Bare())
    tensor = torch.zeros(1)
    assert writes_to(tensor.add_(1)) == 1
    with torch.inference_mode():
        assert writes_to(torch.zeros(1)) is None  # and a tensor is then restored at every pass


@pytest.mark.parametrize(
    ("name", "elsewhere"), [("FORWARD_HOOKS", ("_gone", "_too")), ("NO_BACKWARD_HOOKS", {})]
)
def test_where_hooks_are_not_found_a_warning_says_so(name, elsewhere, monkeypatch):
    check = torch_internals.check_hooks.__wrapped__
    check()
    monkeypatch.setattr(torch_internals, name, elsewhere)
    with pytest.warns(UserWarning, match="keeps hooks where they are not found"):
        check()


def test_private_names_of_pytorch_and_keras_are_in_one_place():
    names = (
        "_orig_mod _compiled_call_impl _version _get_backward_hooks _forward_hooks _buffers "
        "_parameters _flatten_layers _trainable_variables _non_trainable_variables"
    )
    for path in Path(vtcav.__file__).parent.rglob("*.py"):
        text = path.read_text("utf-8")
        private = re.search(r"\btorch(\.\w+)*\.(_[a-z]|experimental)", text)
        assert path.name == "torch_internals.py" or not private, path
        words = set(re.findall(r"[\"'.](_\w+)", text))
        words -= {"_orig_mod"} if path.name == "checkpoints.py" else set()  # in keys of files
        assert path.name == "torch_internals.py" or not words & set(names.split()), path


def test_merged_tokens_of_a_small_network_are_no_other_grid(libraries):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Swinv2Config(
        num_labels=7,
        image_size=64,
        patch_size=4,
        embed_dim=24,
        depths=[2, 2],
        num_heads=[2, 4],
        window_size=4,
    )
    net = transformers.Swinv2ForImageClassification(config).eval()
    found = vtcav.Classifier(net, None, vtcav.Preprocess(64, mean=0.5, std=0.25))
    names = [layer.name for layer in found.layers()]
    assert "swinv2.encoder.layers.0.blocks.1" in names
    assert "swinv2.encoder.layers.0.downsample.reduction" not in names


@pytest.mark.parametrize(("name", "size"), [("repvgg_a0", 64), ("mnasnet_050", 64)])
def test_strides_that_move_a_change_make_no_layer_unusable(libraries, name, size):
    torch.manual_seed(0)
    net = libraries.timm.create_model(name, num_classes=5).eval()
    found = vtcav.Classifier(net, None, vtcav.Preprocess(size, mean=0.5, std=0.25))
    layers = {layer.name: layer.shape[1] for layer in found.layers()}
    assert {"repvgg_a0": "stages.2.8", "mnasnet_050": "blocks.2"}[name] in layers
