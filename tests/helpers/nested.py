"""Pictures of a red square with a blue dot in it, and a network that scores the red."""

import numpy as np
import torch


class Red(torch.nn.Module):
    """Sees red and blue, with some of either in both channels, and scores the red alone."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 2, 1, bias=False)
        self.conv.weight.data = torch.tensor([[1.0, -1, 0.3], [0.3, -1, 1]])[..., None, None]
        self.relu = torch.nn.ReLU()
        self.score = torch.nn.Conv2d(2, 2, 1)
        self.score.weight.data = torch.tensor([[1.1, -0.33], [0.0, 0]])[..., None, None]
        self.score.bias.data = torch.zeros(2)

    def forward(self, x):
        return torch.relu(self.score(self.relu(self.conv(x)))).mean((2, 3)) * 10


def pictures(n, seed, *, red=False, blue=False):
    """Return grey noise with a red square, and a blue dot in it, each of which may be missing."""
    rng = np.random.default_rng(seed)
    x = rng.integers(60, 90, (n, 32, 32, 3)).astype(np.uint8)
    for picture in x:
        i, j = rng.integers(3, 17, 2)
        if red:
            picture[i : i + 8, j : j + 8] = 255, 0, 0
        if blue:
            picture[i + 3 : i + 6, j + 2 : j + 5] = 0, 0, 255
    return x
