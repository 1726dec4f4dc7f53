"""What Keras networks say of their preprocessing, and when they say nothing."""

import importlib.util

import numpy as np
import pytest
import torch
from PIL import Image

import vtcav
from tests.helpers.small import pictures
from vtcav.errors import ModelError
from vtcav.models.keras.classifier import KerasClassifier
from vtcav.models.keras.preprocess import BGRPreprocess, advise, named_preprocess

if importlib.util.find_spec("keras") is None:
    pytest.skip("keras is not installed", allow_module_level=True)

from tests.models.keras.test_keras import keras, layers, small_network


@pytest.mark.parametrize("mode", ["caffe", "tf", "torch"])
def test_the_scales_are_those_of_keras_applications(mode):
    from keras.src.applications.imagenet_utils import preprocess_input

    pixels = pictures(1, size=(24, 24))[0]
    expected = preprocess_input(pixels.astype("float32"), data_format="channels_last", mode=mode)
    ours = named_preprocess(mode, (24, 24))(Image.fromarray(pixels))
    np.testing.assert_allclose(ours.movedim(0, -1), expected, atol=2e-5, rtol=1e-5)


def test_a_scaling_by_name():
    model = KerasClassifier(small_network(), preprocess="caffe")
    assert model.preprocess == named_preprocess("caffe", 16)
    with pytest.raises(ModelError, match=r"'tf', 'torch', 'caffe', 'pixels', got 'TF'"):
        KerasClassifier(small_network(), preprocess="TF")


def test_bgr_is_told_in_provenance():
    assert BGRPreprocess(8).describe()["channels"] == "BGR"
    assert repr(BGRPreprocess(8)).startswith("BGRPreprocess(size=(8, 8)")


APPLICATIONS = {
    "VGG16": BGRPreprocess,
    "VGG19": BGRPreprocess,
    "ResNet50": BGRPreprocess,
    "ResNet50V2": 0.5,
    "InceptionV3": 0.5,
    "Xception": 0.5,
    "MobileNet": 0.5,
    "MobileNetV2": 0.5,
}


@pytest.mark.parametrize("name", APPLICATIONS)
def test_networks_of_keras_applications_are_recognised(name):
    with keras.device("meta"):  # without memory
        network = getattr(keras.applications, name)(weights=None)
    advice = advise(network, channels_last=True)
    size = 299 if name in ("InceptionV3", "Xception") else 224
    assert advice.certain
    assert advice.class_names[0] == "tench"
    if APPLICATIONS[name] is BGRPreprocess:
        mean = (123.68 / 255, 116.779 / 255, 103.939 / 255)
        assert advice.preprocess == BGRPreprocess(size, mean=mean, std=1 / 255)
    else:
        assert advice.preprocess == vtcav.Preprocess(size, mean=0.5, std=0.5)


def test_a_network_of_keras_applications_for_other_classes_is_a_hint():
    with keras.device("meta"):
        other = keras.applications.VGG16(weights=None, classes=7)
        bare = keras.applications.VGG16(weights=None, include_top=False, input_shape=(64, 64, 3))
        rest = [layers.Flatten(), layers.Dense(1000)]
        inside = keras.Sequential([keras.Input((64, 64, 3)), bare, *rest], name="vgg16")
        renamed = keras.Model(bare.input, layers.Dense(1000)(bare.output), name="mine")
    for network, size in ((other, 224), (inside, 64), (renamed, 64)):
        advice = advise(network, channels_last=True)
        assert not advice.certain
        assert advice.class_names is None
        assert advice.preprocess == vtcav.Preprocess(size)
        assert advice.hint == 'keras.applications would use preprocess="caffe"'


def built_in(*first):
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            *first,
            layers.Conv2D(4, 3),
            layers.GlobalMaxPooling2D(),
            layers.Dense(3),
        ]
    )


@pytest.mark.parametrize(
    "first",
    [
        [layers.Rescaling(1 / 255)],
        [layers.RandomFlip(), layers.Rescaling(1 / 127.5, offset=-1)],
        [keras.Sequential([layers.RandomRotation(0.1), layers.Rescaling(1 / 255)])],
        [layers.Normalization(mean=[120.0, 110, 100], variance=[900.0, 900, 900])],
    ],
)
def test_networks_that_scale_pixels_themselves(first):
    model = KerasClassifier(built_in(*first))
    assert model.preprocess == vtcav.Preprocess(16, std=1 / 255)
    white = model.preprocess(Image.new("RGB", (20, 20), "white"))
    torch.testing.assert_close(white, torch.full((3, 16, 16), 255.0))


@pytest.mark.parametrize(
    "first",
    [[], [layers.Rescaling(2.0, offset=-1)], [layers.Normalization(mean=0.5, variance=0.1)]],
)
def test_networks_that_say_nothing_warn(first):
    with pytest.warns(UserWarning, match=r"no preprocess given.*\[0, 1\]"):
        model = KerasClassifier(built_in(*first))
    assert model.preprocess == vtcav.Preprocess(16)


@pytest.mark.parametrize("name", ["pixels", "caffe"])
def test_inputs_become_the_pictures_that_they_were(name):
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    preprocess = named_preprocess(name, 8)
    x = preprocess(Image.fromarray(picture))
    assert (preprocess.pixels(x[None])[0] == picture).all()


@pytest.mark.parametrize("channels", [1, 5])
def test_channels_are_those_that_the_input_states(channels, tmp_path):
    network = keras.Sequential(
        [
            keras.Input((16, 16, channels)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3, activation="relu", name="conv"),
            layers.GlobalMaxPooling2D(),
            layers.Dense(3),
        ]
    )
    network.save(tmp_path / "net.keras")
    model = vtcav.load_model(f"keras:{tmp_path / 'net.keras'}")
    assert model.preprocess == vtcav.Preprocess(16, std=1 / 255, channels=channels)
    assert "conv" in [layer.name for layer in model.layers()]
    assert KerasClassifier(network, preprocess="tf").preprocess.channels == channels
    with pytest.raises(ModelError, match=f"is for RGB, and .* pictures of {channels} channels"):
        KerasClassifier(network, preprocess="caffe")
