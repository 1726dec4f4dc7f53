"""The logits in what a network returns, also behind softmax or sigmoid."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import vtcav
from tests.helpers.nets import (
    SIZE,
    Ends,
    Net,
    check_head,
    classifier,
    first,
    in_place,
    noise,
    squeezed,
)
from tests.helpers.small import CLASSES
from vtcav.errors import ModelError

SOFTMAX = {
    "module": nn.Softmax(1),
    "module, last dim": nn.Softmax(-1),
    "function": lambda z: F.softmax(z, 1),
    "function, keyword": lambda z: F.softmax(z, dim=1),
    "all keywords": lambda z: F.softmax(input=z, dim=1),
    "torch": lambda z: torch.softmax(z, -1),
    "special": lambda z: torch.special.softmax(z, 1),
    "method": lambda z: z.softmax(1),
    "method, keyword": lambda z: z.softmax(dim=-1),
    "squeezed": lambda z: z[:, :, None, None].softmax(1).squeeze(-1).squeeze(-1),
    "flattened": lambda z: nn.Flatten()(nn.Softmax2d()(z[:, :, None, None])),
    "viewed": lambda z: F.softmax(z, 1).view(len(z), -1),
    "copied": lambda z: F.softmax(z, 1).clone(),
    "clamped": lambda z: F.softmax(z, 1).clamp(1e-7, 1),
    "another dtype": lambda z: F.softmax(z, 1).double(),
    "an activation after it": lambda z: (F.softmax(z, 1), torch.sigmoid(z.mean(1)))[0],
}


LOG_SOFTMAX = {
    "module": nn.LogSoftmax(1),
    "function": lambda z: F.log_softmax(z, dim=1),
    "torch": lambda z: torch.log_softmax(z, 1),
    "method": lambda z: z.log_softmax(1),
    "special": lambda z: torch.special.log_softmax(z, 1),
}


SIGMOID = {
    "module": nn.Sigmoid(),
    "function": F.sigmoid,
    "torch": torch.sigmoid,
    "special": torch.special.expit,
    "method": lambda z: z.sigmoid(),
    "in place": in_place,
}


LOG_SIGMOID = {"module": nn.LogSigmoid(), "function": F.logsigmoid}


FINAL = [
    pytest.param(final, end, activation, id=f"{final}: {how}")
    for final, ends, activation in (
        ("softmax", SOFTMAX, lambda z: z.softmax(1)),
        ("log-softmax", LOG_SOFTMAX, lambda z: z.softmax(1)),
        ("sigmoid", SIGMOID, torch.sigmoid),
        ("log-sigmoid", LOG_SIGMOID, torch.sigmoid),
    )
    for how, end in ends.items()
]


@pytest.mark.parametrize(("final", "end", "activation"), FINAL)
def test_logits_before_a_final_activation(final, end, activation):
    net = Ends(end)
    model = classifier(net)
    assert model.logits_source == f"the input of the final {final}"
    x = noise(5)
    with torch.no_grad():
        z = net.net.eval()(x)
    assert torch.equal(model.logits(x), z)
    assert torch.equal(model.activations_and_logits(x, ["net.layer"])[1], z)
    torch.testing.assert_close(model.probabilities(z), activation(z))
    assert len(model.class_names) == 4
    before = Ends(lambda z: z)
    check_head(before, "net.layer", "single", model=model)


@pytest.mark.parametrize(
    ("end", "read", "source"),
    [
        (lambda z: z, first, "the network's output"),
        (lambda z: [z], lambda out: out[0], "the output 0 of the network's 1 outputs"),
        (lambda z: (z[..., None, None], z), lambda out: out[1], "the output 1 of the network's 2"),
        (lambda z: {"scores": z, "loss": None}, lambda out: out["scores"], "the output 'scores'"),
        (lambda z: {"logits": z, "loss": None}, lambda out: out["logits"], "the 'logits' of"),
        (
            lambda z: SimpleNamespace(logits=z, hidden=z + 1),
            lambda out: out.logits,
            "the `logits` of",
        ),
        (lambda z: z.softmax(1) @ torch.eye(4) * 3, first, "the network's output"),
    ],
)
def test_outputs_of_many_forms(end, read, source):
    net = Ends(end)
    model = check_head(net, "net.layer", "single", read)
    assert model.logits_source.startswith(source)


@pytest.mark.parametrize(
    ("end", "output", "read", "source"),
    [
        (lambda z: (z @ z.new_ones(4, 6), z), 1, lambda out: out[1], "the output 1 of the network"),
        (lambda z: (z, z + 1), 0, lambda out: out[0], "the output 0 of the network"),
        (lambda z: (z.softmax(1), z), 0, lambda out: out[1], "the input of the final softmax"),
        (lambda z: {"a": z, "b": -z}, "b", lambda out: out["b"], "the output 'b' of the network"),
        (
            lambda z: SimpleNamespace(logits=z, aux=-z),
            "aux",
            lambda out: out.aux,
            "the output 'aux' of the network",
        ),
    ],
)
def test_one_of_several_outputs_by_name(end, output, read, source):
    net = Ends(end)
    model = vtcav.Classifier(net, None, vtcav.Preprocess(16), output=output)
    check_head(net, "net.layer", "single", read, model=model)
    assert model.logits_source == source


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (lambda z: (z @ z.new_ones(4, 6), z), r"2 outputs, 0 \(3, 6\), 1 \(3, 4\): 2 of them"),
        (lambda z: (z.softmax(1), z), "Say which: output=0 or output=1"),
        (lambda z: {"a": z, "b": -z}, "Say which: output='a' or output='b'"),
    ],
)
def test_several_outputs_that_can_be_scores_are_refused(end, said):
    with pytest.raises(ModelError, match=said):
        classifier(Ends(end))


@pytest.mark.parametrize("output", [2, "scores"])
def test_an_output_that_is_not_there(output):
    with pytest.raises(ModelError, match=rf"no output {output!r}: it returns 2 outputs, 0 \(3"):
        vtcav.Classifier(Ends(lambda z: (z, -z)), None, vtcav.Preprocess(16), output=output)


class Attention(Net):
    """A softmax and a sigmoid on the way, and plain scores at the end."""

    def rest(self, x, y):
        y = self.relu(self.conv(self.relu(y)))
        places = y.flatten(2)
        y = (places @ torch.softmax(places.mT @ places, -1)).reshape(y.shape)
        weights = torch.softmax(places.mean(1), 1).reshape(len(y), 1, *y.shape[2:])
        gates = torch.sigmoid(y.mean((2, 3)))
        mixed = torch.softmax(self.fc((y * weights).sum((2, 3)) * gates), 1)
        return mixed @ self.fc.weight @ self.fc.weight.T


def test_an_activation_on_the_way_is_not_taken():
    model = check_head(Attention(), "layer", "single")
    assert model.logits_source == "the network's output"


@pytest.mark.parametrize(
    "end",
    [
        lambda z: z.exp() / z.exp().sum(1, keepdim=True),
        lambda z: 0.9 * z.softmax(1) + 0.1 / 4,
        lambda z: z.softmax(1).log(),
        lambda z: z - z.logsumexp(1, keepdim=True),
        lambda z: torch.cat([z[:, :1].sigmoid(), 1 - z[:, :1].sigmoid()], 1),
    ],
)
def test_probabilities_without_a_findable_softmax_are_refused(end):
    with pytest.raises(ModelError, match=r"returns probabilities \(each row.* sums to 1\)"):
        classifier(Ends(end))


def test_a_softmax_over_something_else_than_the_classes_is_refused():
    with pytest.raises(ModelError, match=r"ends in softmax, but not over the 4 scores"):
        classifier(Ends(lambda z: z.view(-1, 2, 2).softmax(2).view(-1, 4)))


def test_a_network_that_ends_otherwise_later_is_refused():
    net = Ends(nn.Softmax(1))
    model = classifier(net)
    net.end = nn.Identity()
    with pytest.raises(ModelError, match="ended in softmax when it was first run"):
        model.logits(noise(1))


@pytest.mark.parametrize(
    ("end", "came"),
    [
        (lambda z: None, "NoneType"),
        (lambda z: "cat", "str"),
        (lambda z: {"scores": z[..., None]}, r"a dict with the keys \['scores'\]"),
        (lambda z: z[:, :, None], r"torch.float32 tensor of shape \(3, 4, 1\)"),
        (lambda z: z.argmax(1), r"torch.int64 tensor of shape \(3,\)"),
        (lambda z: z.mean(), r"tensor of shape \(\) for 3 images"),
        (lambda z: z[:2], r"tensor of shape \(2, 4\) for 3 images"),
        (lambda z: (), "tuple"),
    ],
)
def test_other_outputs_are_refused(end, came):
    with pytest.raises(ModelError, match=rf"expected .*class scores \[N, T\], got .*{came}"):
        classifier(Ends(end))


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(ModelError, match="scores that are not finite"):
        classifier(Ends(lambda z: z / 0))


@pytest.mark.parametrize(
    "end",
    [
        lambda z: F.dropout(z, 0.5),
        lambda z: z - z.mean(0),
        lambda z: z + torch.randn_like(z),
        lambda z: z / z.std(0, correction=0),
    ],
)
def test_scores_that_depend_on_chance_or_on_other_images_are_refused(end):
    torch.manual_seed(0)
    with pytest.raises(ModelError, match="other scores alone than in a batch"):
        classifier(Ends(end))


def test_a_network_with_more_scores_for_some_images_is_refused():
    with pytest.raises(ModelError, match=r"expected 4 scores for each of 1 images, got .*\(1, 3\)"):
        classifier(Ends(lambda z: z if len(z) > 1 else z[:, :3]))


@pytest.mark.parametrize("end", [squeezed, lambda z: squeezed(z).softmax(-1)])
def test_a_squeeze_may_take_the_dimension_of_a_single_image(end):
    net = Ends(end)
    model = classifier(net)
    assert model.logits(noise(1)).shape == (1, 4)
    check_head(Ends(lambda z: z), "net.layer", "single", model=model)


@pytest.mark.parametrize(
    ("end", "source"),
    [
        (lambda z: z, "the network's output"),
        (lambda z: z[:, 0], "the network's output"),
        (squeezed, "the network's output"),
        (nn.Sigmoid(), "the input of the final sigmoid"),
        (lambda z: torch.sigmoid(z).squeeze(1), "the input of the final sigmoid"),
        (lambda z: squeezed(z).sigmoid(), "the input of the final sigmoid"),
        (in_place, "the input of the final sigmoid"),
    ],
)
def test_a_single_logit(end, source):
    net = Ends(end, classes=1)
    model = classifier(net, binary=True)
    assert model.logits_source == source
    assert model.class_names == ("negative", "positive")
    for count in (1, 5):
        with torch.no_grad():
            z = net.net.eval()(noise(count))
        assert torch.equal(model.logits(noise(count)), z)
        expected = torch.cat([1 - z.sigmoid(), z.sigmoid()], 1)
        torch.testing.assert_close(model.probabilities(z), expected)
    check_head(Ends(lambda z: z, classes=1), "net.layer", "single", model=model)


def test_binary_must_fit_the_network():
    with pytest.raises(ModelError, match="single logit per image, the network gives 4 scores"):
        classifier(Ends(first), binary=True)
    with pytest.raises(ModelError, match="two scores are two classes"):
        classifier(Ends(first, classes=2), binary=True)
    for end in (first, squeezed, nn.Sigmoid()):
        with pytest.raises(ModelError, match="pass binary=True"):
            classifier(Ends(end, classes=1))
    with pytest.raises(ModelError, match=r"probabilities \(each lies in \[0, 1\], and a sigmoid"):
        classifier(Ends(lambda z: 0.8 * z.sigmoid() + 0.1, classes=1), binary=True)


def test_class_names_must_fit_the_network():
    net = Ends(first, classes=2)
    assert vtcav.Classifier(net, ["a", "b"], vtcav.Preprocess(SIZE)).class_names == ("a", "b")
    assert vtcav.Classifier(net, None, vtcav.Preprocess(SIZE)).class_names == ("class 0", "class 1")
    named = (name for name in np.array(["a", "b"]))
    assert vtcav.Classifier(net, named, vtcav.Preprocess(SIZE)).class_names == ("a", "b")
    with pytest.raises(ModelError, match=r"expected 2 class names, one per score.*got 3"):
        vtcav.Classifier(net, CLASSES, vtcav.Preprocess(SIZE))
    for wrong in ("ab", [1, 2]):
        with pytest.raises(ModelError, match="class_names must be a list of texts"):
            vtcav.Classifier(net, wrong, vtcav.Preprocess(SIZE))
    with pytest.raises(ModelError, match=r"class name '.*udcff' holds half a letter"):
        vtcav.Classifier(net, ["a", "b\udcff"], vtcav.Preprocess(SIZE))
    single = Ends(first, classes=1)
    with pytest.raises(ModelError, match=r"2 class names \(\[negative, positive\]\).*got 1"):
        vtcav.Classifier(single, ["positive"], vtcav.Preprocess(SIZE), binary=True)
