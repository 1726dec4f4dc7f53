"""Rescale multipliers: what they sum to, where they are exact, and which operations they refuse."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.helpers.small import with_weights
from vtcav.method.integral.partition import Partition, intervals_to_halve
from vtcav.method.integral.rescale_functions import Activation
from vtcav.method.integral.rescale_gradients import (
    OperationsChangedError,
    Points,
    rescale_multipliers,
    zero_pass,
)

few = settings(max_examples=20, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)

KNOWN = {
    "relu": nn.ReLU(),
    "relu in place": nn.ReLU(inplace=True),
    "relu6": nn.ReLU6(),
    "hardtanh": nn.Hardtanh(-0.5, 0.7, inplace=True),
    "leaky": nn.LeakyReLU(0.2),
    "elu": nn.ELU(0.7),
    "selu": nn.SELU(inplace=True),
    "celu": nn.CELU(),
    "silu": nn.SiLU(inplace=True),
    "gelu": nn.GELU(),
    "gelu of tanh": nn.GELU("tanh"),
    "mish": nn.Mish(),
    "hardswish": nn.Hardswish(),
    "hardsigmoid": nn.Hardsigmoid(),
    "softplus": nn.Softplus(2.0),
    "softsign": nn.Softsign(),
    "logsigmoid": nn.LogSigmoid(),
    "sigmoid": nn.Sigmoid(),
    "tanh": nn.Tanh(),
    "threshold": nn.Threshold(0.1, 0.1),
    "prelu": nn.PReLU(4),
}


class Calls(nn.Module):
    """A module of a function, for operations that have none."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.fixture(scope="module", autouse=True, params=["a processor", "a GPU"])
def written_for(request):
    """Run all with the code for a processor, then with that for a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "a GPU":
            patch.setattr("vtcav.method.integral.rescale_functions._on_accelerator", lambda x: True)
        yield


def gated(x):
    """Channels times gates computed from them, as squeeze-and-excitation does."""
    return x * x.mean((2, 3), keepdim=True).sigmoid()


MORE = {
    "max-pooling": nn.Sequential(nn.ReLU(), nn.MaxPool2d(2, stride=1, padding=1)),
    "gates": Calls(gated),
    "clamps": Calls(lambda x: x.clamp(-0.4, 0.9)),
    "by hand": Calls(lambda x: torch.relu_(x) - 0.3 * torch.sigmoid(x)),
    "branches": Calls(lambda x: torch.cat([x[:, :2].relu(), x[:, 2:].tanh()], 1) + x / 2),
}


def net_of(act, seed=0, channels=4):
    """Two convolutions, each with the activation after a bias, and a linear end."""
    net = nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        act,
        nn.Conv2d(channels, channels, 3, padding=1),
        copy.deepcopy(act),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(4 * channels, 2),
    )
    weights = {id(p): p.detach().clone() for p in act.parameters()}
    with_weights(net, seed)
    with torch.no_grad():
        for p in act.parameters():
            p.copy_(weights[id(p)])
    return net.eval().requires_grad_(False)


def maps_of(seed, channels=3):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(1, channels, 6, 6))).float()


def depth(head, F):
    zero = zero_pass(head, F)
    return None if zero is None else zero.depth


def along(net, F, n):
    """Multipliers of both classes in n intervals [2, n, C, h, w] and scores [n + 1, 2]."""
    alpha, classes = torch.linspace(0, 1, n + 1), torch.tensor([[0, 1]])
    image, first = torch.zeros(n, dtype=torch.long), torch.tensor([0])
    points = Points(image, alpha[1:], torch.arange(n), first)
    G = torch.stack(rescale_multipliers(net, F, classes, zero_pass(net, F), points))
    return G, net(F * alpha[:, None, None, None])


@pytest.mark.parametrize("name", [*KNOWN, "max-pooling", "gates", "clamps", "branches"])
@pytest.mark.parametrize("n", [1, 5])
def test_multipliers_sum_to_the_differences_of_scores(name, n):
    net, F = net_of({**KNOWN, **MORE}[name]), maps_of(1)
    G, z = along(net, F, n)
    difference = torch.einsum("tmchw,chw->mt", G, F[0]) / n
    torch.testing.assert_close(difference, z.diff(dim=0), rtol=1e-3, atol=2e-5)
    assert depth(net, F) >= 2


def graded_gradients(net, F, points):
    """The integral by midpoints, in double precision [2, C, h, w]."""
    net, F = copy.deepcopy(net).double(), F.double()
    alpha = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    maps = (alpha[:, None, None, None] * F).requires_grad_()
    z = net(maps)
    return torch.stack(
        [torch.autograd.grad(z[:, t].sum(), maps, retain_graph=True)[0].mean(0) for t in (0, 1)]
    ).float()


@pytest.mark.parametrize("name", KNOWN)
def test_one_activation_takes_one_interval(name):
    act = KNOWN[name]
    net = with_weights(nn.Sequential(nn.Conv2d(3, 4, 3), act, nn.Flatten(), nn.Linear(64, 2)), 3)
    net.eval().requires_grad_(False)
    F = maps_of(2)
    G, _ = along(net, F, 1)
    torch.testing.assert_close(G[:, 0], graded_gradients(net, F, 4096), rtol=0, atol=4e-3)
    assert depth(net, F) == 1


@pytest.mark.parametrize("name", [*MORE, "relu", "silu", "elu"])
def test_more_intervals_come_closer_to_the_integral(name):
    net, F = net_of({**KNOWN, **MORE}[name], seed=5), maps_of(3)
    true = graded_gradients(net, F, 8192)

    def error(n):
        return float((along(net, F, n)[0].mean(1) - true).norm() / true.norm())

    assert depth(net, F) >= 2
    assert error(64) <= 0.01
    assert error(64) <= max(error(4) / 4, 1e-3)


def test_intervals_of_several_images_do_not_touch_each_other():
    net, F = net_of(nn.ReLU()), torch.cat([maps_of(1), maps_of(2)])
    classes = torch.tensor([[0, 1], [1, 0]])
    zero = zero_pass(net, F)
    image, alpha = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([0.5, 1.0, 0.2, 0.7, 0.9])
    points = Points(image, alpha, torch.tensor([0, 1, 3, 4]), torch.tensor([0]))
    both = rescale_multipliers(net, F, classes, zero, points)
    none = torch.zeros(0, dtype=torch.long)
    second = Points(image[2:], alpha[2:], torch.tensor([1, 2]), none)
    alone = rescale_multipliers(net, F, classes, zero, second)
    for ours, other in zip(both, alone, strict=True):
        torch.testing.assert_close(ours[2:], other)


def test_code_that_does_other_things_later_is_noticed():
    calls = []

    def head(F):
        calls.append(F)
        return F.relu().sum((2, 3)) if len(calls) > 1 else F.sum((2, 3))

    with pytest.raises(OperationsChangedError, match="ran other operations than at zero"):
        along(head, maps_of(1), 2)


@pytest.mark.parametrize("later", [lambda F: F, lambda F: F.detach() + 0 * F])
def test_code_that_does_less_or_looks_at_values_later_is_noticed(later):
    calls = []

    def head(F):
        calls.append(F)
        return (F.relu() if len(calls) == 1 else later(F)).sum((2, 3))

    with pytest.raises(OperationsChangedError, match="ran other operations than at zero"):
        along(head, maps_of(1), 2)


def test_code_that_looks_at_values_is_noticed():
    def head(F):
        return F.relu().sum((2, 3)) if F.abs().max() > 0 else F.sum((2, 3))

    assert depth(head, maps_of(1)) is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_steps_too_short_for_half_precision_keep_their_slope(dtype):
    x = torch.linspace(1, 1.004, 9)[:, None] * torch.tensor([1.0, 30.0, -1.0])
    assert len(x[:, 0].bfloat16().unique()) < 4  # most steps are none in bfloat16
    x, zero = x.to(dtype).requires_grad_(), torch.zeros(1, 3, dtype=dtype)
    y = Activation.apply(x, zero, torch.tensor([0]), torch.relu, True, False)
    [slope] = torch.autograd.grad(y.sum(), x)
    assert torch.equal(slope.float(), torch.tensor([1.0, 1.0, 0.0]).expand(9, 3))


def test_what_does_not_change_gives_no_nan():
    net = net_of(nn.ReLU())
    net[1].weight[0] = 0  # a channel that is the same everywhere
    F = maps_of(4)
    F[:, :, :3] = 0
    G, z = along(net, F, 3)
    assert G.isfinite().all()
    difference = torch.einsum("tmchw,chw->mt", G, F[0]) / 3
    torch.testing.assert_close(difference, z.diff(dim=0), rtol=1e-4, atol=1e-5)


class Squares(torch.autograd.Function):
    """An operation of a user's own, of which nothing is known."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] * g


def _in_view(x):
    x[:, :2].exp_()
    return x


UNKNOWN = {
    "normalised by its size": Calls(lambda x: x / x.norm(dim=1, keepdim=True)),
    "group norm": nn.GroupNorm(2, 4),
    "instance norm": nn.InstanceNorm2d(4),
    "statistics of the batch": nn.BatchNorm2d(4, track_running_stats=False),
    "softmax": nn.Softmax(1),
    "squares": Calls(lambda x: x**2),
    "exponential": Calls(torch.exp),
    "a product of matrices": Calls(lambda x: x @ x.transpose(2, 3)),
    "a function of one's own": Calls(Squares.apply),
    "a mask": Calls(lambda x: x * (x > 0)),
    "the places of maxima": Calls(lambda x: x.gather(1, x.argmax(1, keepdim=True))),
    "a detached gate": Calls(lambda x: x * x.detach().sigmoid()),
    "a view changed in place": Calls(lambda x: _in_view(x.clone())),
    "a product in place": Calls(lambda x: x.clone().mul_(x.sigmoid())),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_operations_are_not_passed_over(name):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), UNKNOWN[name], nn.Flatten())
    assert depth(net.eval().requires_grad_(False), maps_of(1)) is None


def test_scores_without_gradients_are_unknown():
    assert depth(lambda F: F.detach().sum((2, 3)), maps_of(1)) is None


def test_the_longest_way_counts():
    def head(F):
        short = F.mean((2, 3)).relu()
        return short + F.relu().sigmoid().tanh().sum((2, 3))

    assert depth(head, maps_of(1)) == 3
    assert depth(lambda F: F.sum((2, 3)), maps_of(1)) == 0


# -- the partition -------------------------------------------------------------------------------


@few
@given(st.integers(1, 6), st.data(), seeds)
def test_halves_that_agree_change_no_integral(m, data, seed):
    random = np.random.default_rng(seed)
    edges = torch.cat([torch.zeros(1), torch.from_numpy(random.uniform(size=m - 1)), torch.ones(1)])
    G = torch.from_numpy(random.normal(size=(2, m, 3, 2, 2)))
    partition = Partition(edges.double().sort().values, G)
    chosen = torch.tensor(data.draw(st.lists(st.booleans(), min_size=m, max_size=m)))
    refined = partition.refined(chosen, G[:, chosen].repeat_interleave(2, 1))
    assert len(refined.widths) == m + int(chosen.sum())
    torch.testing.assert_close(refined.widths.sum(), torch.tensor(1.0, dtype=torch.float64))
    torch.testing.assert_close(refined.integral, partition.integral)


def squared_errors_one_by_one(edges, G, F, attributions):
    """The definition: an interval's gradients in the place of its neighbour's, pair by pair."""
    T, m = G.shape[:2]
    widths = [float(w) for w in edges.diff()]
    IG = sum(G[:, i] * widths[i] for i in range(m))
    a = attributions(IG[None])[0]
    squares = torch.zeros(m, *a.shape)
    for i in range(m - 1):
        step, apart = G[:, i + 1] - G[:, i], (widths[i] + widths[i + 1]) / 2
        for t in range(T):
            both = ((G[t, i] * F).square().sum() + (G[t, i + 1] * F).square().sum()) / 2
            unlike = max(float((step[t] * F).square().sum() / both), 0.25)
            change = (attributions((IG + step * apart)[None])[0, t] - a[t]).square() * unlike / 2
            for j in (i, i + 1):
                squares[j, t] += change * (widths[j] / apart * min(1, widths[j] / apart) ** 2) ** 2
    return squares / a.clamp(min=0.01).square()


@few
@given(st.integers(1, 7), st.integers(1, 3), st.integers(1, 100), seeds)
def test_error_estimates_are_those_of_the_definition(m, T, at_once, seed):
    random = np.random.default_rng(seed)
    inner = np.sort(random.uniform(size=m - 1))
    edges = torch.tensor([0.0, *inner, 1.0], dtype=torch.float64)
    G = torch.from_numpy(random.normal(size=(T, m, 3, 2, 2))).float()
    F = torch.from_numpy(random.normal(size=(1, 3, 2, 2))).float()
    mix = torch.from_numpy(random.uniform(size=(3, 4))).float()

    def attributions(IG):
        return (IG * F[:, None]).relu().sum((3, 4)) @ mix

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vtcav.method.integral.constants.CACHED_NUMBERS", at_once)
        found = Partition(edges, G).squared_errors(F, attributions)
    expected = squared_errors_one_by_one(edges, G, F, attributions)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


def test_equal_intervals_have_no_error_and_odd_ones_are_halved():
    edges = torch.linspace(0, 1, 6, dtype=torch.float64)
    F = torch.ones(1, 1, 1, 2)

    def attributions(IG):
        return IG.sum((3, 4))

    alike = Partition(edges, torch.ones(1, 5, 1, 1, 2))
    assert alike.squared_errors(F, attributions).max() == 0
    G = torch.ones(1, 5, 1, 1, 2)
    G[:, 3] = -1
    squares = Partition(edges, G).squared_errors(F, attributions)[:, 0, 0]
    assert squares.argmax() == 3
    assert intervals_to_halve(squares, 0.9).nonzero().flatten().tolist() == [3]
    assert intervals_to_halve(torch.ones(10), 0.0).sum() == 9
