"""Geometry, numbers and fingerprints of preprocessings."""

import json
import math
import random

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.helpers.torchvision_ops import import_transforms
from vtcav.errors import ImageError
from vtcav.images.preprocess import Preprocess, to_tensor
from vtcav.images.signature import same_preprocessing, signature

RESIZES = "crop", "stretch", "pad"
INTERPOLATIONS = "nearest", "bilinear", "bicubic", "lanczos"
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP = (0.4815, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758)


@pytest.fixture(scope="module")
def transforms():
    return import_transforms()


def noise(width, height, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3))
    return Image.fromarray(values.astype(np.uint8))


def marked(width, height, box, mark=(255, 255, 255), background=(0, 0, 0)):
    image = Image.new("RGB", (width, height), background)
    image.paste(mark, tuple(box))
    return image


# --- values -----------------------------------------------------------------------------------


def test_values_are_scaled_and_normalised_per_channel():
    image = Image.new("RGB", (4, 3), (255, 51, 0))
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    x = Preprocess((3, 4), mean=mean, std=std)(image)
    assert x.shape == (3, 3, 4)
    assert x.dtype == torch.float32
    assert x.is_contiguous()
    assert x[:, 1, 1].tolist() == pytest.approx([1.8, 0.0, -0.15])
    assert torch.equal(Preprocess(4, mean=0.5)(image), Preprocess(4, mean=(0.5,) * 3)(image))


def test_the_default_dtype_and_device_do_not_matter():
    torch.set_default_dtype(torch.float64)
    try:
        # `set_default_device(None)` afterwards would break `get_default_device` of PyTorch 2.8
        with torch.device("meta"):
            x = Preprocess(4, mean=0.5, std=0.5)(Image.new("RGB", (4, 4), "white"))
    finally:
        torch.set_default_dtype(torch.float32)
    assert x.dtype == torch.float32
    assert x.device.type == "cpu"
    assert bool((x == 1).all())


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("resize", RESIZES)
def test_a_picture_of_the_right_size_keeps_every_pixel(resize, interpolation):
    image = noise(17, 11)
    for size in ((11, 17), None):
        x = Preprocess(size, resize=resize, interpolation=interpolation)(image)
        restored = (x * 255).round().byte().movedim(0, -1).numpy()
        assert (restored == np.asarray(image)).all()


def test_other_modes_are_converted():
    x = Preprocess(2)(Image.new("RGBA", (2, 2), (0, 0, 0, 0)))
    assert bool((x == 1).all())
    assert Preprocess(2)(Image.new("I;16", (2, 2), 65535)).max() == 1
    with pytest.raises(ImageError, match=r"values in 0\.\.1"):
        Preprocess(2)(Image.new("F", (2, 2), 3.0))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("a.png", "expected a PIL image, got str"),
        (np.zeros((4, 4, 3)), r"got numpy.ndarray of shape \[4, 4, 3\] and float64"),
        (torch.zeros(3, 4, 4), r"got torch.Tensor of shape \[3, 4, 4\] and torch.float32"),
        (Image.new("RGB", (0, 4)), "at least 1 x 1 pixel, got 0 x 4"),
        (Image.new("L", (0, 4)), "no pixels"),
    ],
)
def test_what_is_no_picture_is_refused(value, message):
    with pytest.raises(ImageError, match=message):
        Preprocess(8)(value)


# --- torchvision's numbers ----------------------------------------------------------------------


@given(
    width=st.integers(3, 120),
    height=st.integers(3, 120),
    size=st.integers(2, 48),
    extra=st.integers(0, 20),
    interpolation=st.sampled_from(INTERPOLATIONS),
)
@example(width=100, height=75, size=28, extra=4, interpolation="bilinear")
@settings(max_examples=100, deadline=None)
def test_a_crop_equals_torchvision(transforms, width, height, size, extra, interpolation):
    image = noise(width, height)
    mode = transforms.InterpolationMode(interpolation)
    reference = transforms.Compose(
        [
            transforms.Resize(size + extra, interpolation=mode),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(*IMAGENET),
        ]
    )
    ours = Preprocess(size, "crop", interpolation, *IMAGENET, crop_pct=size / (size + extra))
    assert torch.equal(ours(image), reference(image))


@pytest.mark.parametrize("shape", [(640, 480), (481, 640), (333, 500), (256, 256), (227, 1000)])
@pytest.mark.parametrize(("crop_pct", "resized"), [(0.875, 256), (224 / 232, 232), (1.0, 224)])
def test_the_usual_networks_equal_torchvision(transforms, shape, crop_pct, resized):
    reference = transforms.Compose(
        [transforms.Resize(resized), transforms.CenterCrop(224), transforms.ToTensor()]
    )
    ours = Preprocess(224, crop_pct=crop_pct)
    assert torch.equal(ours(noise(*shape)), reference(noise(*shape)))


def test_a_signature_knows_torchvision_as_the_same(transforms):
    reference = transforms.Compose(
        [transforms.Resize(36), transforms.CenterCrop(32), transforms.ToTensor()]
    )
    assert same_preprocessing(signature(Preprocess(32, crop_pct=32 / 36)), signature(reference))


@pytest.mark.parametrize("shape", [(640, 480), (48, 64), (31, 7)])
def test_a_stretch_equals_torchvision(transforms, shape):
    reference = transforms.Compose([transforms.Resize((20, 30)), transforms.ToTensor()])
    assert torch.equal(
        Preprocess((20, 30), resize="stretch")(noise(*shape)), reference(noise(*shape))
    )


# --- geometry ---------------------------------------------------------------------------------


@given(
    width=st.integers(40, 220),
    height=st.integers(40, 220),
    size=st.tuples(st.integers(32, 100), st.integers(32, 100)),
    resize=st.sampled_from(RESIZES),
    crop_pct=st.sampled_from([1.0, 0.875, 0.5]),
    place=st.tuples(st.floats(0.1, 0.9), st.floats(0.1, 0.9)),
)
@example(width=200, height=60, size=(64, 64), resize="crop", crop_pct=1.0, place=(0.1, 0.9))
@example(width=60, height=200, size=(64, 64), resize="pad", crop_pct=1.0, place=(0.9, 0.1))
@settings(max_examples=100, deadline=None)
def test_box_says_where_a_mark_is_found(width, height, size, resize, crop_pct, place):
    preprocess = Preprocess(size, resize, crop_pct=crop_pct if resize == "crop" else 1.0)
    left, top, right, bottom = preprocess.box(width, height)
    # The mark lies at a fraction of the part of the picture that is both there and shown.
    shown = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    side = max(2, min(shown[2] - shown[0], shown[3] - shown[1]) // 8)
    x = round(shown[0] + place[0] * (shown[2] - shown[0]) - side / 2)
    y = round(shown[1] + place[1] * (shown[3] - shown[1]) - side / 2)
    mark = x, y, int(x + side), int(y + side)
    assume(mark[0] >= shown[0] + 1 and mark[1] >= shown[1] + 1)
    assume(mark[2] <= shown[2] - 1 and mark[3] <= shown[3] - 1)
    values = preprocess(marked(width, height, mark))[0]
    high, wide = size
    assert values.shape == (high, wide)
    rows, columns = torch.meshgrid(torch.arange(high), torch.arange(wide), indexing="ij")
    found_x = float((values * (columns + 0.5)).sum() / values.sum())
    found_y = float((values * (rows + 0.5)).sum() / values.sum())
    expected_x = ((mark[0] + mark[2]) / 2 - left) / (right - left) * wide
    expected_y = ((mark[1] + mark[3]) / 2 - top) / (bottom - top) * high
    assert found_x == pytest.approx(expected_x, abs=0.5)
    assert found_y == pytest.approx(expected_y, abs=0.5)


# No picture of these ranges is too elongated: at most 666 x (666 * 500 / 8) pixels.
@given(
    width=st.integers(8, 500),
    height=st.integers(8, 500),
    size=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    crop_pct=st.floats(0.3, 1.0),
)
@settings(max_examples=100, deadline=None)
def test_the_box_of_a_crop_is_inside_the_picture(width, height, size, crop_pct):
    left, top, right, bottom = Preprocess(size, crop_pct=crop_pct).box(width, height)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


@given(
    width=st.integers(1, 500),
    height=st.integers(1, 500),
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
)
@settings(max_examples=100, deadline=None)
def test_the_box_of_a_pad_is_around_the_picture(width, height, size):
    left, top, right, bottom = Preprocess(size, resize="pad").box(width, height)
    assert left <= 0 < width <= right
    assert top <= 0 < height <= bottom
    assert Preprocess(size, resize="stretch").box(width, height) == (0, 0, width, height)
    assert Preprocess(None).box(width, height) == (0, 0, width, height)


@pytest.mark.parametrize(
    ("preprocess", "picture", "box"),
    [
        (Preprocess(100), (400, 200), (100, 0, 300, 200)),
        (Preprocess(100), (200, 400), (0, 100, 200, 300)),
        (Preprocess(100, crop_pct=0.5), (400, 200), (150, 50, 250, 150)),
        (Preprocess((100, 200)), (400, 400), (0, 100, 400, 300)),
        (Preprocess(100, resize="pad"), (400, 200), (0, -100, 400, 300)),
        (Preprocess((50, 200), resize="pad"), (100, 100), (-150, 0, 250, 100)),
    ],
)
def test_boxes_by_hand(preprocess, picture, box):
    assert preprocess.box(*picture) == box


def test_pad_fills_around_the_whole_picture():
    preprocess = Preprocess(40, resize="pad", fill=(0, 255, 0))
    x = preprocess(Image.new("RGB", (80, 20), "red"))
    assert bool((x[:, 15:25] == torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1)).all())
    assert bool((x[:, :15] == torch.tensor([0.0, 1.0, 0.0]).view(3, 1, 1)).all())
    assert bool((x[:, 25:] == torch.tensor([0.0, 1.0, 0.0]).view(3, 1, 1)).all())
    assert Preprocess(40, resize="pad")(Image.new("RGB", (1, 5000), "red")).max() > 0.9


def test_a_strip_is_refused_before_it_fills_the_memory():
    with pytest.raises(ImageError, match=r"5000 x 1 is too elongated for a crop of 224 x 224"):
        Preprocess(224)(Image.new("RGB", (5000, 1)))
    for size in ((0, 5), (5, -1)):
        with pytest.raises(ImageError, match="at least 1 x 1 pixel"):
            Preprocess(224).box(*size)


# --- settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, r"size to be .* above 0, \(height, width\), .* or None, got 0"),
        ({"size": -3}, "got -3"),
        ({"size": 224.0}, r"got 224\.0"),
        ({"size": True}, "got True"),
        ({"size": (8, 224, 224, 3)}, r"got \(8, 224, 224, 3\)"),
        ({"size": "224"}, "got '224'"),
        ({"resize": "squash"}, r"resize to be 'crop', 'stretch' or 'pad', got 'squash'"),
        ({"interpolation": "cubic"}, r"'nearest', 'bilinear', .* got 'cubic'"),
        ({"mean": (0.5, 0.5)}, "mean to be 1 or 3 numbers, got 2"),
        ({"mean": "0.5"}, "mean to be a finite number, got '0.5'"),
        (
            {"mean": (123.675, 116.28, 103.53)},
            r"mean on the scale 0\.\.1, .*divide mean and std by",
        ),
        ({"mean": math.nan}, "finite number, got nan"),
        ({"std": 0}, "std above 0, got 0"),
        ({"std": (1, 1, -1)}, "std above 0"),
        ({"std": None}, "finite number, got None"),
        ({"crop_pct": 0}, r"crop_pct in \(0, 1\], got 0"),
        ({"crop_pct": 87.5}, r"crop_pct in \(0, 1\], got 87.5"),
        ({"crop_pct": 0.9, "resize": "pad"}, r'crop_pct=0.9 needs .* and resize="pad"'),
        ({"crop_pct": 0.9, "size": None}, "got size=None"),
        ({"fill": (0, 0)}, r"fill to be 3 whole numbers in 0\.\.255"),
        ({"fill": (0, 0, 256)}, "fill to be 3 whole numbers"),
        ({"fill": 0}, "fill to be 3 whole numbers"),
        ({"fill": (0.5, 0, 0)}, "fill to be 3 whole numbers"),
    ],
)
def test_wrong_settings_say_what_was_expected(options, message):
    with pytest.raises(ImageError, match=message):
        Preprocess(**{"size": 224, **options})


def test_equal_settings_are_equal_and_described_in_json():
    a = Preprocess(224, mean=0.5, std=[1, 1, 1])
    b = Preprocess(np.array([224, 224]), mean=(0.5, 0.5, 0.5), std=torch.ones(3))
    assert a == b
    assert hash(a) == hash(b)
    assert a != Preprocess(224)
    described = Preprocess((2, 3), "pad", "bicubic", 0.5, 0.25, fill=(1, 2, 3)).describe()
    assert described == {
        "size": [2, 3],
        "resize": "pad",
        "interpolation": "bicubic",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "crop_pct": 1.0,
        "fill": [1, 2, 3],
    }
    assert json.loads(json.dumps(described)) == described
    for preprocess in (a, Preprocess(None), Preprocess(299, crop_pct=0.897)):
        assert Preprocess(**json.loads(json.dumps(preprocess.describe()))) == preprocess
    with pytest.raises(AttributeError):
        a.size = 3


# --- fingerprints -----------------------------------------------------------------------------


def test_a_signature_is_the_shape_and_64_values():
    values = signature(Preprocess((60, 40), mean=0.5, std=0.5))
    assert values[:3] == (3, 60, 40)
    assert len(values) == 67
    assert all(type(value) is float and value == round(value, 4) for value in values)
    assert min(values[3:]) < -0.5
    assert max(values[3:]) > 0.4
    assert values == signature(Preprocess((60, 40), mean=0.5, std=0.5))
    assert signature(Preprocess(None))[:3] == (3, 283, 389)


def test_a_signature_does_not_change_from_version_to_version():
    # Banks of CAVs keep signatures: after a change every saved bank would look foreign.
    first = (0.1137, 0.0, 0.8275, 0.949, 1.0, 0.1569, 0.7882, 0.0, 0.8196, 0.7922, 1.0, 0.8157)
    assert signature(Preprocess(None))[3:15] == first


def every_setting():
    """Preprocessings of one output shape that all differ."""
    for mean, std in ((0, 1), (0.5, 0.5), IMAGENET, CLIP):
        for interpolation in INTERPOLATIONS:
            for crop_pct in (1.0, 0.95, 0.875):
                yield Preprocess(48, "crop", interpolation, mean, std, crop_pct)
            yield Preprocess(48, "stretch", interpolation, mean, std)
            yield Preprocess(48, "pad", interpolation, mean, std)
            yield Preprocess(48, "pad", interpolation, mean, std, fill=(114, 114, 114))


def test_every_setting_shows_in_the_signature():
    signatures = [signature(preprocess) for preprocess in every_setting()]
    assert len(signatures) == 96
    for index, one in enumerate(signatures):
        assert same_preprocessing(one, one)
        assert not any(same_preprocessing(one, other) for other in signatures[:index])
    assert not same_preprocessing(signatures[0], signature(Preprocess((48, 49))))
    assert not same_preprocessing(signatures[0], signatures[0][:-1])


def test_small_differences_are_forgiven():
    one = signature(Preprocess(64))
    near = (*one[:3], *(value + 0.02 for value in one[3:]))
    far = (*one[:-1], one[-1] + 0.05)
    assert same_preprocessing(one, near)
    assert not same_preprocessing(one, far)


def test_channels_swapped_shows_in_the_signature():
    def swapped(image):
        return Preprocess(64)(image).flip(0)

    assert not same_preprocessing(signature(Preprocess(64)), signature(swapped))


def test_a_random_preprocessing_is_refused():
    generator = random.Random(0)

    def flip(image):
        x = Preprocess(32)(image)
        return x.flip(-1) if generator.random() < 0.5 else x

    def scale(image):
        return Preprocess(generator.randint(16, 64))(image)

    for augmentation in (flip, scale):
        with pytest.raises(ImageError, match=r"preprocessing is random: .*evaluation transform"):
            signature(augmentation)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (torch.zeros(1, 3, 8, 8), r"Tensor of shape \[1, 3, 8, 8\] .*drop the batch dimension"),
        (torch.zeros(2, 3, 8, 8), "return one tensor with a channel, a height and a width"),
        (torch.zeros(8, 8), r"shape \[8, 8\]"),
        (torch.zeros(3, 0, 8), r"shape \[3, 0, 8\]"),
        (torch.zeros(8, 8, 3), r"channels first: return x.permute\(2, 0, 1\)"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), r"torch.uint8; convert it: return x.float\(\)"),
        (np.zeros((3, 8, 8)), "numpy.ndarray .*convert it to a torch tensor"),
        (None, "got NoneType; convert it"),
        ({"pixel_values": []}, r'got dict; return its \["pixel_values"\]\[0\]'),
        (torch.full((3, 8, 8), math.nan), "values that are not finite"),
        (torch.full((3, 8, 8), math.inf), "values that are not finite"),
    ],
)
def test_outputs_of_the_wrong_kind_say_what_to_do(output, message):
    pattern = rf"failed on 'x.jpg': expected a floating-point tensor \[C, H, W\], got .*{message}"
    with pytest.raises(ImageError, match=pattern.replace("got .*got", "got")):
        to_tensor(lambda image: output, Image.new("RGB", (8, 8)), "x.jpg")
    with pytest.raises(ImageError, match=message):
        signature(lambda image: output)


def test_errors_of_the_preprocessing_name_the_picture():
    def fail(image):
        raise RuntimeError("no such channel")

    with pytest.raises(ImageError, match=r"failed on 'x.jpg': RuntimeError: no such channel") as e:
        to_tensor(fail, Image.new("RGB", (8, 8)), "x.jpg")
    assert isinstance(e.value.__cause__, RuntimeError)
    with pytest.raises(ImageError, match=r"failed on 'x.jpg': a picture of 5000 x 1 is too"):
        to_tensor(Preprocess(224), Image.new("RGB", (5000, 1)), "x.jpg")


def test_any_callable_with_any_number_of_channels_will_do():
    def grey(image):
        return torch.tensor(np.asarray(image.convert("L")), dtype=torch.float16)[None] / 255

    weight = torch.ones((), requires_grad=True)
    x = to_tensor(lambda image: grey(image) * weight, Image.new("RGB", (5, 4)), "x.jpg")
    assert x.shape == (1, 4, 5)
    assert not x.requires_grad
    assert signature(grey)[:3] == (1, 283, 389)
