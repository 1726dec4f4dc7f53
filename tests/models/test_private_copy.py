"""A private copy runs: the user's network is never touched, and its numbers are the plain ones."""

import sys
import threading
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.checkpoint import checkpoint

import vtcav
from tests.helpers import literal
from vtcav.errors import LayerError

# of PyTorch, where a checkpointed part runs without gradients
pytestmark = pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")

PREPROCESS = vtcav.Preprocess(32)
CLASSES = [0, 1, 2]


def drawn(count, seed, striped=False):
    rng = np.random.default_rng(seed)
    pictures = []
    for _ in range(count):
        small = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        picture = np.asarray(
            Image.fromarray(small).resize((32, 32), Image.Resampling.BICUBIC)
        ).copy()
        if striped:
            picture[:, :: int(rng.integers(3, 6))] = rng.integers(0, 256, 3)
        pictures.append(Image.fromarray(picture))
    return pictures


CONCEPT, NEGATIVES = drawn(8, 0, striped=True), drawn(16, 1)
[IMAGE] = drawn(1, 5, striped=True)


class Net(nn.Module):
    """A stem, a stage and a head; the stage or the head may be checkpointed."""

    def __init__(self, where="", reentrant=False, dropout=0.0):
        super().__init__()
        torch.manual_seed(10)
        self.where, self.reentrant = where, reentrant
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU())
        blocks = [
            nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
            for _ in range(3)
        ]
        self.stage = nn.Sequential(*blocks)
        self.head = nn.Sequential(
            nn.Conv2d(8, 16, 3, stride=2),
            nn.GELU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(16, 4),
        )

    def forward(self, x):
        x = self.stem(x)
        for name in ("stage", "head"):
            part = getattr(self, name)
            kept = self.where != name
            x = part(x) if kept else checkpoint(part, x, use_reentrant=self.reentrant)
        return x


def explained(net, layer, steps=50, **options):
    explainer = vtcav.VisualTCAV(
        vtcav.Classifier(net, None, PREPROCESS), [layer], steps, progress=False, **options
    )
    explainer.fit({"striped": CONCEPT}, NEGATIVES, null_cavs=0, bootstraps=0)
    return explainer.explain(IMAGE, classes=CLASSES).attributions["attribution"].to_numpy()


def expected(net, layer, steps=50):
    sets = CONCEPT, NEGATIVES, IMAGE
    return literal.attributions(net.eval(), layer, PREPROCESS, *sets, CLASSES, steps)


def copied(state):
    return {name: tensor.clone() for name, tensor in state.items()}


# ---------------------------------------------------------------- checkpointed activations


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize(
    ("where", "layer"), [("head", "stem"), ("head", "stage"), ("stage", "stem")]
)
@pytest.mark.parametrize("batch_size", [None, 1])
def test_checkpointed_parts_after_the_layer(where, layer, reentrant, batch_size):
    found = explained(Net(where, reentrant), layer, batch_size=batch_size)
    np.testing.assert_allclose(found, expected(Net(), layer), atol=1e-6)
    assert found.max() > 0.01


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("steps", [50, "adaptive"])
def test_layers_inside_of_a_checkpointed_stage(training, steps):
    net = Net("stage", dropout=0.5).train(training)
    before = copied(net.state_dict())
    found = explained(net, "stage.0", steps)
    exact = expected(Net(), "stage.0", 50 if steps == 50 else 400)
    tolerance = 1e-6 if steps == 50 else 1e-3
    np.testing.assert_allclose(found, exact, rtol=10 * tolerance, atol=tolerance / 10)
    assert found.max() > 0.01
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert net.training == training


def test_a_layer_inside_of_a_reentrant_checkpoint_is_refused_by_name():
    with pytest.raises(
        LayerError, match=r"'stage\.0' cannot be explained: it does not reach the scores"
    ):
        explained(Net("stage", reentrant=True), "stage.0")


# ---------------------------------------------------------------- what other tools left behind


def test_hooks_that_watch_hear_nothing_and_change_nothing():
    net, heard = Net(), []
    net.stem[1].register_forward_hook(lambda _m, _i, out: heard.append(out))
    np.testing.assert_allclose(explained(net, "stem"), expected(Net(), "stem"), atol=1e-6)
    assert len(heard) <= 4  # the passes that find out that it only watches
    assert len(net.stem[1]._forward_hooks) == 1


@pytest.mark.parametrize("inplace", [False, True])
def test_guided_backpropagation_left_on_a_network_does_not_change_gradients(inplace):
    net = Net()
    net.stem[1].inplace = inplace
    for part in net.modules():
        if isinstance(part, nn.ReLU):
            part.register_full_backward_hook(lambda _m, given, _o: tuple(map(torch.relu, given)))
    np.testing.assert_allclose(explained(net, "stem"), expected(Net(), "stem"), atol=1e-6)


def test_a_hook_that_needs_gradients_is_left_out():
    net = Net()
    net.stage.register_forward_hook(lambda _m, _i, out: out.register_hook(lambda G: G) and None)
    np.testing.assert_allclose(explained(net, "stem"), expected(Net(), "stem"), atol=1e-6)


def test_a_hook_that_changes_scores_is_part_of_the_network():
    def doubled(_module, _inputs, out):
        return 2 * out

    nets = [Net(), Net()]
    for net in nets:
        net.stage[1].register_forward_hook(doubled)
    np.testing.assert_allclose(explained(nets[0], "stem"), expected(nets[1], "stem"), atol=1e-6)
    assert np.abs(expected(nets[1], "stem") - np.array(expected(Net(), "stem"))).max() > 1e-3


# ---------------------------------------------------------------- state


class Writing(Net):
    """Writes to a buffer, a counter and a list in every pass."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))
        self.passes, self.kept = 0, []

    def forward(self, x):
        self.seen += 1
        self.passes += 1
        self.kept.append(x)
        return super().forward(x) * (1 + 1e-4 * self.seen)


def test_what_passes_write_never_reaches_the_network():
    net = Writing().eval()
    found = explained(net, "stem")
    assert (float(net.seen), net.passes, net.kept) == (0, 0, [])
    np.testing.assert_allclose(found, explained(Writing().eval(), "stem"), atol=0)


def test_buffers_of_a_borrowed_network_are_written_back():
    class Leading(Writing):
        """Reaches itself around the modules, so that no copy is possible."""

        def __init__(self):
            super().__init__()
            self.act = lambda x: self.stem(x)

        def forward(self, x):
            self.act(x)
            return super().forward(x)

    net = Leading().eval()
    model = vtcav.Classifier(net, None, PREPROCESS)
    assert not model.network.is_private
    model.logits(torch.zeros(2, 3, 32, 32))
    assert float(net.seen) == 0


def test_new_weights_modules_and_attributes_are_taken_over():
    net = Net().eval()
    model = vtcav.Classifier(net, None, PREPROCESS)
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        net.head[5].weight.mul_(2)
        torch.testing.assert_close(model.logits(x), net(x))
        net.head[5] = nn.Linear(16, 4)
        torch.testing.assert_close(model.logits(x), net(x))
        net.stage[1][1].running_mean += 1
        torch.testing.assert_close(model.logits(x), net(x))
        net.head[5].weight = nn.Parameter(torch.ones(4, 16))
        torch.testing.assert_close(model.logits(x), net(x))


def test_shared_weights_stay_shared():
    net = Net().eval()
    net.stage[1][0].weight = net.stage[0][0].weight
    model = vtcav.Classifier(net, None, PREPROCESS)
    with model.network.running() as copy:
        assert copy.stage[1][0].weight is copy.stage[0][0].weight
        assert copy.stage[0][0].weight.data_ptr() == net.stage[0][0].weight.data_ptr()
    assert net.stage[0][0].weight.requires_grad


# ---------------------------------------------------------------- threads and ambient state


@pytest.mark.parametrize("steps", [4, "adaptive"])
def test_the_user_s_own_inference_goes_on_beside(steps):
    net = Net().eval()
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        right = net(x)
    alone = explained(net, "stem", steps)
    wrong, stop = [], threading.Event()

    def infer():
        while not stop.is_set():
            with torch.no_grad():
                z = net(x)
            if z.shape != right.shape or not torch.allclose(z, right, atol=1e-5):
                wrong.append(z)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    thread = threading.Thread(target=infer)
    thread.start()
    try:
        beside = [explained(net, "stem", steps) for _ in range(3)]
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert not wrong
    for each in beside:
        np.testing.assert_allclose(each, alone, atol=1e-6)


def test_two_explainers_of_one_model_in_two_threads():
    model = vtcav.Classifier(Net().eval(), None, PREPROCESS)
    explainers = [vtcav.VisualTCAV(model, ["stem", "stage"], 4, progress=False) for _ in "ab"]
    for explainer in explainers:
        explainer.fit({"striped": CONCEPT}, NEGATIVES, null_cavs=0, bootstraps=0)
    alone = explainers[0].explain(IMAGE, classes=CLASSES).attributions["attribution"]
    found = []

    def work(explainer):
        for _ in range(8):
            found.append(explainer.explain(IMAGE, classes=CLASSES).attributions["attribution"])

    threads = [threading.Thread(target=work, args=(each,)) for each in explainers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    for each in found:
        np.testing.assert_allclose(each, alone, atol=1e-6)


@contextmanager
def default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("steps", [4, "adaptive"])
@pytest.mark.parametrize(
    "state",
    [
        torch.inference_mode,
        torch.no_grad,
        lambda: torch.autocast("cpu", torch.bfloat16),
        default_dtype,
        lambda: torch.device("meta"),
    ],
    ids=["inference mode", "no grad", "autocast", "default dtype", "default device"],
)
def test_ambient_state_changes_nothing(state, steps):
    net = Net()
    alone = explained(net, "stage.0", steps, variant="filter")
    with state():
        found = explained(net, "stage.0", steps, variant="filter")
        z = vtcav.Classifier(net, None, PREPROCESS).predict([IMAGE])
    np.testing.assert_array_equal(found, alone)
    assert z.dtype == torch.float32
    assert z.device.type == "cpu"
