"""Networks made to be difficult, and what holds for every model of them."""

import warnings
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import vtcav
from tests.helpers.small import with_weights
from vtcav.errors import LayerError

SIZE = 16


GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def classifier(net, size=SIZE, **options):
    return vtcav.Classifier(net, None, vtcav.Preprocess(size), **options)


def noise(count, size=SIZE, seed=1, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, size, size, generator=generator).to(dtype)


def names(model):
    return [layer.name for layer in model.layers()]


class Conv(nn.Conv2d):
    """A 3 x 3 convolution that counts how often it computes."""

    def __init__(self, channels_in, channels_out, stride=1):
        super().__init__(channels_in, channels_out, 3, stride, padding=1)
        self.count = SimpleNamespace(runs=0)  # shared with the copy that vtcav runs

    @property
    def runs(self):
        return self.count.runs

    @runs.setter
    def runs(self, value):
        self.count.runs = value

    def forward(self, x):
        self.runs += 1
        return super().forward(x)


class Net(nn.Module):
    """stem /2 - relu - layer - relu - conv /2 - pooling - fc, to be varied by its subclasses."""

    def __init__(self, classes=4, seed=0):
        super().__init__()
        self.stem, self.layer, self.conv = Conv(3, 5, 2), Conv(5, 5), Conv(5, 6, 2)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(6, classes)
        self.extend()
        with_weights(self, seed)

    def extend(self):
        pass

    def maps(self, x):
        return self.layer(self.relu(self.stem(x)))

    def rest(self, x, y):
        return self.fc(self.relu(self.conv(self.relu(y))).mean((2, 3)))

    def forward(self, x):
        return self.rest(x, self.maps(x))


@contextmanager
def in_evaluation(net):
    """Evaluation mode for a while."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    yield
    for module, mode in modes:
        module.training = mode


def hooked(net, x, layers):
    """What hooks record in a plain pass."""
    maps, handles = {}, []
    for name in layers:

        def keep(_module, _inputs, output, name=name):
            maps[name] = output.detach().clone()

        handles.append(net.get_submodule(name).register_forward_hook(keep))
    with torch.no_grad(), in_evaluation(net):
        net(x)
    for handle in handles:
        handle.remove()
    return maps


def equal(maps, expected):
    return maps.keys() == expected.keys() and all(
        torch.equal(maps[name], expected[name]) for name in maps
    )


def first(output):
    return output


def truth(net, layer, x, maps, read=first):
    """Logits and their gradient, by a plain pass of real images with a leaf in the layer."""
    leaf = maps.clone().requires_grad_()
    handle = net.get_submodule(layer).register_forward_hook(lambda *_: leaf.clone())
    with in_evaluation(net):
        z = read(net(x))
    handle.remove()
    weights = torch.randn(z.shape, generator=torch.Generator().manual_seed(3))
    return z.detach(), torch.autograd.grad((z * weights).sum(), leaf)[0]


def gradient(head, maps):
    leaf = maps.clone().requires_grad_()
    z = head(leaf)
    weights = torch.randn(z.shape, generator=torch.Generator().manual_seed(3)).to(z.device)
    return z.detach(), torch.autograd.grad((z * weights).sum(), leaf)[0]


def check_head(net, layer, way=None, read=first, size=SIZE, model=None):
    """The head is the plain pass on real maps, and the full replay on others, with gradients."""
    model = model or classifier(net, size)
    head = model.head(layer)
    assert head.layer == layer
    if way:
        assert head.resume == way
    for count in (1, 5):
        x = noise(count, size)
        maps = model.activations(x, [layer])[layer]
        with torch.no_grad():
            net.eval()
            torch.testing.assert_close(head(maps), read(net(x)).detach())
        for F_ in (maps, 0.3 * maps + 0.1):
            z, G = gradient(head, F_)
            expected_z, expected_G = truth(net, layer, x, F_, read)
            torch.testing.assert_close(z, expected_z)
            torch.testing.assert_close(G, expected_G)
            assert G.abs().max() > 0
    return model


class LateBatchSize(Net):
    def rest(self, x, y):
        y = self.relu(self.conv(self.relu(y))).mean((2, 3))
        return self.fc(y.view(x.size(0), -1))


class InPlace(LateBatchSize):
    """Writes into what a module before the layer gave, which an expanded tensor cannot take."""

    def maps(self, x):
        y = self.stem(x)
        y.add_(1)
        return self.layer(y)


class Block(nn.Module):
    """Two convolutions and one ReLU that runs twice, with a skip connection around them."""

    def __init__(self, channels, relu=None):
        super().__init__()
        self.conv1, self.conv2 = Conv(channels, channels), Conv(channels, channels)
        self.relu = relu or nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(x + self.conv2(self.relu(self.conv1(x))))


class Residual(nn.Module):
    """stem - block1 - block2 - fc, with one ReLU for all."""

    def __init__(self, seed=0):
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.stem = Conv(3, 5, 2)
        self.block1, self.block2 = Block(5, self.relu), Block(5, self.relu)
        self.fc = nn.Linear(5, 4)
        with_weights(self, seed)

    def forward(self, x):
        x = self.block2(self.block1(self.relu(self.stem(x))))
        return self.fc(x.mean((2, 3)))


def decides(net, name, images, read=first):
    """Whether the logits ignore the image once the module's output is fixed."""
    fixed = []

    def fix(_module, _inputs, output):
        fixed.append(output.clone())
        return fixed[0].clone()

    handle = net.get_submodule(name).register_forward_hook(fix)
    with torch.no_grad(), in_evaluation(net):
        z = [read(net(image[None])) for image in images]
    handle.remove()
    return bool(fixed) and all(torch.equal(z[0], other) for other in z[1:])


def refused(model, layer, match):
    assert layer not in names(model)
    for ask in (
        lambda: model.check_layers([layer]),
        lambda: model.head(layer),
        lambda: model.activations(noise(1), [layer]),
        lambda: model.activations_and_logits(noise(1), [layer]),
    ):
        with pytest.raises(LayerError, match=match) as caught:
            ask()
    return str(caught.value)


class Around(Net):
    """The layer's input goes around it, unchanged or under a cloak."""

    def __init__(self, around):
        super().__init__()
        self.around, self.identity = around, nn.Identity()

    def maps(self, x):
        y = self.relu(self.stem(x))
        return self.layer(y) + self.around(self.identity(y))


class Ends(nn.Module):
    """Ends as told: `end` maps logits [N, T] to the network's output."""

    def __init__(self, end, classes=4):
        super().__init__()
        self.net, self.end = Net(classes), end

    def forward(self, x):
        return self.end(self.net(x))


def in_place(z):
    return (z * 1).sigmoid_()


def squeezed(x):
    return x.squeeze()


def state(net):
    """Everything that a borrowed module must get back."""
    modules = [
        (name, id(m), m.training, list(m.__dict__), [list(v) for v in hooks(m)])
        for name, m in net.named_modules()
    ]
    tensors = [
        (name, id(t), t.data_ptr(), t._version, t.requires_grad, t.dtype, t.device, t.grad)
        for name, t in [*net.named_parameters(), *net.named_buffers()]
    ]
    return modules, tensors


def hooks(module):
    return [value for key, value in module.__dict__.items() if "hooks" in key]


def compiled(net):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecations
        return torch.compile(net)
