"""Classes by name or index, and preprocessing."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import vtcav
from tests.helpers.nets import SIZE, Net, check_head
from tests.helpers.small import CLASSES, pictures, small_net, with_weights
from vtcav.errors import ModelError


def named(*class_names):
    return vtcav.Classifier(small_net(len(class_names)), class_names, vtcav.Preprocess(SIZE))


@pytest.mark.parametrize(
    ("wanted", "index"),
    [("cat", 0), ("fox", 2), (1, 1), ("1", 1), (np.int64(2), 2), (np.uint8(0), 0)],
)
def test_a_class_by_name_or_index(wanted, index):
    found = named(*CLASSES).class_index(wanted)
    assert found == index
    assert type(found) is int


def test_a_class_by_a_tensor():
    assert named(*CLASSES).class_index(torch.tensor(2)) == 2


NO_CLASSES = [
    *(True, False, np.True_, 1.0, 0.5, None, [1], "-1", "1.0", ""),
    *(np.array([0, 1]), torch.tensor(0.5)),
]


@pytest.mark.parametrize("wanted", NO_CLASSES, ids=str)
def test_what_is_no_class_is_refused(wanted):
    with pytest.raises(
        ModelError, match=r"unknown class .*3 class names .* or an index from 0 to 2"
    ):
        named(*CLASSES).class_index(wanted)


def test_an_unknown_class_lists_few_names():
    expected = r"expected one of 2 class names \('good', 'bad'\) or an index from 0 to 1$"
    with pytest.raises(ModelError, match=expected):
        named("good", "bad").class_index("scratched")
    with pytest.raises(ModelError, match="expected one of 11 class names or an index"):
        named(*(f"class {i}" for i in range(11))).class_index("scratched")


@pytest.mark.parametrize("wanted", [3, -1, "3", np.int64(99), 10**30])
def test_an_index_out_of_range_is_refused(wanted):
    with pytest.raises(ModelError, match=f"index {wanted} is out of range.* 3 classes, 0 to 2"):
        named(*CLASSES).class_index(wanted)


def test_an_unknown_class_is_answered_with_the_closest():
    model = named("zebra", "tench, Tinca tinca", "Egyptian cat", "dalmatian")
    for wanted, hint in {
        "zebre": "'zebra'",
        "ZEBRA": "'zebra'",
        "tench": "'tench, Tinca tinca'",
        "Dalmation": "'dalmatian'",
        "cat": "'Egyptian cat'",
    }.items():
        with pytest.raises(ModelError, match=f"did you mean .*{hint}"):
            model.class_index(wanted)
    with pytest.raises(ModelError, match=r"0 to 3$"):
        model.class_index("qqqqqqqq")


def test_a_name_for_several_classes_is_refused():
    model = named("crane", "cat", "crane")
    with pytest.raises(ModelError, match=r"'crane' stands for 2 classes, with indices \[0, 2\]"):
        model.class_index("crane")
    assert model.class_index(2) == 2


def test_digits_are_names_first():
    model = named("2", "1", "0")
    assert [model.class_index(name) for name in "012"] == [2, 1, 0]
    assert [model.class_index(index) for index in range(3)] == [0, 1, 2]


def test_without_preprocessing_there_is_a_warning_and_pictures_keep_their_size():
    net = Net()
    with pytest.warns(UserWarning, match="no preprocess given") as caught:
        model = vtcav.Classifier(net)
    assert caught[0].filename == __file__
    arrays = [pictures(1, size=size) for size in ((16, 16), (40, 25))]
    inputs = [torch.from_numpy(array).movedim(-1, 1) / 255 for array in arrays]
    got = model.predict(Image.fromarray(array[0]) for array in arrays)
    torch.testing.assert_close(got, torch.cat([net(x).softmax(1) for x in inputs]))
    check_head(net, "layer", "single", model=model)


def test_any_callable_preprocesses():
    def grey(image):
        return torch.from_numpy(np.asarray(image.convert("L").resize((SIZE, SIZE)))[None] / 255.0)

    net = with_weights(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(784, 3)), 0)
    model = vtcav.Classifier(net, CLASSES, grey)
    assert [layer.shape for layer in model.layers()] == [(4, 14, 14)]
    picture = Image.new("RGB", (30, 50), (10, 200, 30))
    expected = net(grey(picture)[None].float()).softmax(1)
    torch.testing.assert_close(model.predict([picture]), expected)
    assert "Classifier(Sequential, 3 classes, preprocess=" in repr(model)


def test_a_preprocessing_that_does_not_fit_the_network():
    with pytest.raises(ModelError, match=r"cannot compute images of shape \(3, 20, 20\): Runtime"):
        vtcav.Classifier(small_net(), None, vtcav.Preprocess(20))
    with (
        pytest.warns(UserWarning, match="no preprocess"),
        pytest.raises(ModelError, match=r"of shape \(3, 224, 224\) or \d other shapes: "),
    ):
        vtcav.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(7, 3)))
