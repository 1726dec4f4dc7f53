"""What the scores are: classes, labels, a single logit, a predicted number."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import vtcav
from tests.helpers.nets import Ends, classifier, noise
from tests.helpers.small import CLASSES, negatives, pictures, small_model, small_net
from vtcav.errors import ModelError
from vtcav.method.attribution import class_share


def with_end(end, classes=3):
    return nn.Sequential(small_net(classes), end)


def explained(model, classes):
    explainer = vtcav.VisualTCAV(model, ["1", "3"] if "1" in layer_names(model) else None, steps=8)
    cold = pictures(8, seed=2)
    cold[..., 0] //= 4
    explainer.fit({"bright": pictures(7, seed=1, low=150), "cold": cold}, negatives())
    return explainer.explain(pictures(1, seed=6)[0], classes=classes)


def layer_names(model):
    return [layer.name for layer in model.layers()]


def values(local):
    return local.attributions["attribution"].to_numpy()


# --- labels -------------------------------------------------------------------------------------


def test_labels_are_told_by_a_final_sigmoid_or_by_the_user():
    z = torch.tensor([[0.0, 2.0, -3.0]])
    for model in (
        classifier(with_end(nn.Sigmoid())),
        classifier(small_net(), task="labels"),
        classifier(with_end(nn.Softmax(1)), task="labels"),
    ):
        torch.testing.assert_close(model.probabilities(z), z.sigmoid())
    for model in (classifier(small_net()), classifier(with_end(nn.Sigmoid()), task="classes")):
        torch.testing.assert_close(model.probabilities(z), z.softmax(1))


def test_the_share_of_a_label_is_relative_to_the_label_that_rises_most():
    """Step 6 for labels: what raises two labels equally gives both the share 1."""
    z, z0 = torch.tensor([[3.0, 3.0, 1.0, -2.0]]), torch.tensor([[-1.0, -1.0, 0.0, 0.0]])
    assert class_share(z, z0).tolist() == [[1.0, 1.0, 0.25, 0.0]]


def test_labels_do_not_depend_on_what_activation_shows_them():
    """The same logits give the same attributions, whatever makes probabilities of them."""
    plain = explained(small_model(), list(CLASSES))
    model = vtcav.Classifier(small_net(), CLASSES, vtcav.Preprocess(16), task="labels")
    assert np.array_equal(values(explained(model, list(CLASSES))), values(plain))


class Copies(nn.Module):
    """The scores of a network, and more columns made from them."""

    def __init__(self, more):
        super().__init__()
        self.net, self.more = small_net(), more

    def forward(self, x):
        z = self.net(x)
        return torch.cat([z, self.more(z)], 1)


def test_a_label_of_another_unit_changes_the_shares_of_all():
    """Shares are comparable between the labels of one network, not between networks."""
    picture, layer = pictures(1, seed=6)[0], "net.1"
    plain = small_model()
    maps, z = plain.activations_and_logits(picture_input(plain, picture), ["1"])
    best = int((z - plain.head("1")(0 * maps["1"])).argmax())
    assert (z - plain.head("1")(0 * maps["1"]))[0, best] > 0

    def attributions(factor):
        net = Copies(lambda z: factor * z[:, best : best + 1])
        names = [*CLASSES, "loud"]
        model = vtcav.Classifier(net, names, vtcav.Preprocess(16), task="labels")
        explainer = vtcav.VisualTCAV(model, [layer], steps=8)
        explainer.fit({"bright": pictures(7, seed=1, low=150)}, negatives())
        return values(explainer.explain(picture, classes=CLASSES))

    quiet, loud = attributions(0), attributions(10)
    assert quiet.max() > 0.01
    np.testing.assert_allclose(loud, quiet / 10, rtol=1e-4)


def picture_input(model, picture):
    return model.preprocess(Image.fromarray(picture))[None]


# --- a predicted number -------------------------------------------------------------------------


def test_a_regression_is_explained_towards_lower_and_higher_values():
    net = small_net(1)
    model = vtcav.Classifier(net, None, vtcav.Preprocess(16), task="regression")
    assert model.class_names == ("lower", "higher")
    assert model.binary
    x = noise(2)
    z = model.logits(x)
    with torch.no_grad():
        assert torch.equal(z, net(x))
    assert torch.equal(model.probabilities(z), torch.cat([-z, z], 1))
    binary = vtcav.Classifier(small_net(1), None, vtcav.Preprocess(16), binary=True)
    both = explained(model, [0, 1])
    assert np.array_equal(values(both), values(explained(binary, [0, 1])))  # step 9
    assert values(both).max() > 0


def test_predicted_numbers_are_saved_and_read(tmp_path):
    model = vtcav.Classifier(small_net(1), None, vtcav.Preprocess(16), task="regression")
    model.module[-1].bias.data += 7
    found = explained(model, [0, 1])
    assert found.predictions["probability"].abs().max() > 1
    found.save(tmp_path)
    again = vtcav.LocalExplanation.load(tmp_path)
    assert again.predictions.equals(found.predictions)


def test_the_unit_of_a_regression_does_not_change_its_shares():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = small_net(1)

        def forward(self, x):
            return 1000 * self.net(x) + 7

    metres = vtcav.Classifier(small_net(1), None, vtcav.Preprocess(16), task="regression")
    mm = vtcav.Classifier(Scaled(), None, vtcav.Preprocess(16), task="regression")
    explainers = [
        vtcav.VisualTCAV(model, [layer], steps=8).fit(
            {"bright": pictures(7, seed=1, low=150)}, negatives()
        )
        for model, layer in ((metres, "3"), (mm, "net.3"))
    ]
    a, b = (values(e.explain(pictures(1, seed=6)[0], classes=[0, 1])) for e in explainers)
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_several_predicted_numbers_are_explained_one_by_one():
    with pytest.raises(ModelError, match=r"one predicted number, .*returns one of them, output\[:"):
        classifier(Ends(lambda z: z), task="regression")
    with pytest.raises(ModelError, match=r'pass binary=True .*or task="regression"'):
        classifier(small_net(1))


def test_regression_names_and_wrong_tasks():
    named = vtcav.Classifier(
        small_net(1), ["younger", "older"], vtcav.Preprocess(16), task="regression"
    )
    assert named.class_names == ("younger", "older")
    with pytest.raises(ModelError, match=r"2 class names \(\[lower, higher\]\).* got 1"):
        vtcav.Classifier(small_net(1), ["age"], vtcav.Preprocess(16), task="regression")
    with pytest.raises(ModelError, match=r"expected task to be 'auto', 'classes', 'labels'"):
        classifier(small_net(), task="multilabel")


# --- two scores ---------------------------------------------------------------------------------


def test_two_scores_are_two_classes():
    model = vtcav.Classifier(small_net(2), ["sick", "well"], vtcav.Preprocess(16))
    z = torch.tensor([[1.0, -1.0]])
    torch.testing.assert_close(model.probabilities(z), z.softmax(1))
    assert not model.binary
    assert explained(model, 2).attributions["class_name"].nunique() == 2
