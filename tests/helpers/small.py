"""Small networks and pictures, made from seeds."""

import numpy as np
import torch
from torch import nn

import vtcav

CLASSES = ("cat", "dog", "fox")


def pictures(count, seed=0, *, size=(16, 16), low=0, high=256):
    """Noise around a colour of its own for every picture, uint8 [count, H, W, 3]."""
    random = np.random.default_rng(seed)
    colour = random.uniform(low, high, (count, 1, 1, 3))
    noise = random.normal(0, (high - low) / 5, (count, *size, 3))
    return (colour + noise).clip(low, high - 1).astype(np.uint8)


def small_net(classes=3, act=nn.ReLU, seed=0):
    """Layers "1" [4, 8, 8] and "3" [6, 4, 4] of 16 x 16 inputs, with a head that is not linear."""
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1),
        act(),
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        act(),
        nn.Flatten(),
        nn.Linear(96, 8),
        act(),
        nn.Linear(8, classes),
    )
    return with_weights(net, seed)


def with_weights(net, seed):
    """Fill a network with sizeable random weights, the same on every machine."""
    random = np.random.default_rng(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 4
            weights = random.normal(0.0, (2 / fan_in) ** 0.5, tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(weights))
    return net


def small_model(net=None, classes=CLASSES, preprocess=None, **options):
    net = small_net() if net is None else net
    return vtcav.Classifier(net, classes, preprocess or vtcav.Preprocess(16), **options)


def small_explainer(model=None, layers=("1", "3"), **options):
    """Fitted to "bright" and "cold" with shared negatives; both layers separate both."""
    explainer = vtcav.VisualTCAV(model or small_model(), layers, **options)
    return explainer.fit(concepts(), negatives())


def concepts():
    cold = pictures(8, seed=2)
    cold[..., 0] //= 4
    return {"bright": pictures(7, seed=1, low=150), "cold": cold}


def negatives():
    return pictures(9, seed=3)
