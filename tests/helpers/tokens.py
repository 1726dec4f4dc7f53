"""Small transformers: class tokens, registers, pooling of every kind, channels last."""

import torch
from torch import nn

from tests.helpers.small import with_weights


class Mixing(nn.Module):
    """A block that mixes tokens by attention, with two skip connections."""

    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.norm2, self.mlp = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x):
        y = self.norm(x)
        weights = (self.q(y) @ self.k(y).mT / y.shape[-1] ** 0.5).softmax(-1)
        x = x + weights @ self.v(y)
        return x + torch.tanh(self.mlp(self.norm2(x)))


class Transformer(nn.Module):
    """Patches of 4 x 4, prefix tokens, blocks, and the class token or the mean of the grid."""

    def __init__(self, prefix=1, blocks=4, pool="token", patches="conv", width=6, seed=0):
        super().__init__()
        self.patches, self.pool, self.count = patches, pool, prefix
        self.embed = nn.Conv2d(3, width, 4, 4) if patches == "conv" else nn.Linear(48, width)
        if prefix:
            self.prefix = nn.Parameter(torch.zeros(1, prefix, width))
        self.blocks = nn.Sequential(*(Mixing(width) for _ in range(blocks)))
        self.norm, self.fc = nn.LayerNorm(width), nn.Linear(width, 3)
        with_weights(self, seed)
        with torch.no_grad():
            # sizeable, so that a normalisation does not make a step of the path from zero
            self.norm.eps = 0.1
            for block in self.blocks:
                block.norm.eps = block.norm2.eps = 0.1

    def tokens(self, x):
        if self.patches == "conv":
            x = self.embed(x).flatten(2).mT
        else:
            x = nn.functional.unfold(x, 4, stride=4).mT
            x = self.embed(x)
        return torch.cat([self.prefix.expand(len(x), -1, -1), x], 1) if self.count else x

    def forward(self, x):
        x = self.norm(self.blocks(self.tokens(x)))
        return self.fc(x[:, 0] if self.pool == "token" else x[:, self.count :].mean(1))


class ChannelsLast(nn.Module):
    """stem - linear over the last dimension - norm - pooling, with maps [N, h, w, C] inside."""

    def __init__(self, width=5, classes=3, seed=0):
        super().__init__()
        self.stem, self.act = nn.Conv2d(3, width, 3, 2, 1), nn.Tanh()
        self.mlp, self.norm = nn.Linear(width, width), nn.LayerNorm(width)
        self.fc = nn.Linear(width, classes)
        with_weights(self, seed)

    def forward(self, x):
        x = self.act(self.stem(x)).permute(0, 2, 3, 1)
        return self.fc(torch.tanh(self.norm(self.mlp(x))).mean((1, 2)))
