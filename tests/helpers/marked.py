"""Pictures with marks, and a network that sees one kind of them."""

import numpy as np
import torch
from torch import nn

from tests.helpers.small import CLASSES, with_weights

SIDE = 24


def scenes(count=60, seed=0, *, marked=0.5):
    """Grey noise; some of the pictures have a red patch, and others a striped one."""
    rng = np.random.default_rng(seed)
    shown = rng.integers(90, 140, (count, SIDE, SIDE, 3)).astype(np.uint8)
    corners = rng.integers(0, SIDE - 9, (count, 2))
    for i, (y, x) in enumerate(corners):
        patch = shown[i, y : y + 9, x : x + 9]
        if i < marked * count:
            patch[:] = [220, 20, 20]
        else:
            patch[:, ::2], patch[:, 1::2] = 20, 235
    return shown, corners


def net(activation):
    """Two of its channels respond to red."""
    module = with_weights(
        nn.Sequential(
            nn.Conv2d(3, 12, 5, stride=2, padding=2),
            activation,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(12, len(CLASSES)),
        ),
        seed=0,
    )
    with torch.no_grad():
        module[0].weight[:2] = -0.1
        module[0].weight[:2, 0] = 0.3
        module[4].bias.zero_()
        module[4].weight.abs_()  # every image raises every class
    return module
