"""A network whose channels are colours, and pictures with a square of one colour."""

import numpy as np
import torch
from torch import nn

import vtcav


def colour_net():
    """Layer "1" is the picture at half its size, "3" at an eighth: channels are colours."""
    net = nn.Sequential(
        nn.AvgPool2d(2),
        nn.Conv2d(3, 3, 1),
        nn.AvgPool2d(4),
        nn.Conv2d(3, 3, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(3, 2),
    )
    with torch.no_grad():
        for layer in (net[1], net[3]):
            layer.weight.copy_(torch.eye(3)[:, :, None, None])
            layer.bias.zero_()
    return net


def model(preprocess=None):
    return vtcav.Classifier(colour_net(), ["a", "b"], preprocess or vtcav.Preprocess(16))


def patches(channel, count, seed, size=(16, 16)):
    """Dark noise with a square of one colour at a random place, and where it is."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 30, (count, *size, 3)).astype(np.uint8)
    masks = np.zeros((count, *size), bool)
    for image, mask in zip(images, masks, strict=True):
        # on even pixels, as the cells of layer "1" are
        y, x = 2 * random.integers(0, size[0] // 2 - 2), 2 * random.integers(0, size[1] // 2 - 2)
        image[y : y + 4, x : x + 4, channel] = 250
        mask[y : y + 4, x : x + 4] = True
    return images, masks


def explainer_of(model):
    dark = np.random.default_rng(9).integers(0, 30, (12, 16, 16, 3)).astype(np.uint8)
    examples = {"red": patches(0, 8, 1)[0], "blue": patches(2, 8, 2)[0]}
    explainer = vtcav.VisualTCAV(model, ["1", "3"])
    return explainer.fit(examples, dark, null_cavs=0, bootstraps=0)
