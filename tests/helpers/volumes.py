"""Small volumes with bright cubes, and a network of volumes that looks for them."""

import numpy as np
import torch

from vtcav import Preprocess
from vtcav.images import picture_of

SHAPE = 12, 16, 20
PREPROCESS = Preprocess(SHAPE, window=(0, 1000))


def cube_net(classes=3):
    """Return a network whose class 0 is that of cubes; the others see something of the noise."""
    torch.manual_seed(3)
    net = torch.nn.Sequential(
        torch.nn.Conv3d(1, 6, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool3d(2),
        torch.nn.Conv3d(6, 8, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool3d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, classes),
    )
    with torch.no_grad():
        for conv in (net[0], net[3]):
            conv.weight[0], conv.bias[0] = 0.0, 0.0
            conv.weight *= 0.5
        net[0].weight[0, 0] = 1 / 27  # the mean around a place, where it is above 0.6
        net[0].bias[0] = -0.6
        net[3].weight[0, 0, 1, 1, 1] = 1.0
        net[7].weight[:, 0] = torch.tensor([40.0] + [-1.0] * (classes - 1))
    return net.eval()


def cubes(count, seed, *, cube=True):
    """Return volumes of noise, some with a bright cube of 5 in them, and where these begin."""
    random = np.random.default_rng(seed)
    found, starts = [], []
    for _ in range(count):
        values = random.integers(0, 500, SHAPE).astype(np.uint16)
        start = [int(random.integers(0, side - 5)) for side in SHAPE]
        if cube:
            values[tuple(slice(s, s + 5) for s in start)] = 950
        found.append(values)
        starts.append(start)
    return found, starts


def pictures(arrays):
    return list(map(picture_of, arrays))
