"""The three networks behind the golden numbers, rebuilt in PyTorch from their weights."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

GOLDEN = Path(__file__).parent.parent / "golden"


class SamePadConv(nn.Module):
    """A 3 x 3 convolution padded as TensorFlow's 'same': bottom and right only at stride 2."""

    def __init__(self, kernel, bias, stride):
        super().__init__()
        out_channels, in_channels = kernel.shape[:2]
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride, padding=0)
        self.conv.weight.data = kernel
        self.conv.bias.data = bias
        self.padding = (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1)

    def forward(self, x):
        return self.conv(F.pad(x, self.padding))


class GoldenNet(nn.Module):
    """conv1 /2 - conv2 - pool2 - conv3 /2 - conv4 - GAP - fc1 - head, with softmax or sigmoid."""

    def __init__(self, case):
        super().__init__()
        w = {k: torch.from_numpy(v) for k, v in np.load(GOLDEN / case / "weights.npz").items()}
        act = nn.GELU if case == "gelu" else nn.ReLU
        for i, stride in ((1, 2), (2, 1), (3, 2), (4, 1)):
            kernel = w[f"conv{i}/kernel"].permute(3, 2, 0, 1).contiguous()
            setattr(self, f"conv{i}", SamePadConv(kernel, w[f"conv{i}/bias"], stride))
            setattr(self, f"act{i}", act())
        self.pool2 = nn.MaxPool2d(2)
        self.fc1, self.head = _dense(w, "fc1"), _dense(w, "head")
        self.act5 = act()
        self.binary = case == "binary"

    def forward(self, x):
        x = self.act1(self.conv1(x))
        x = self.pool2(self.act2(self.conv2(x)))
        x = self.act3(self.conv3(x))
        x = self.act4(self.conv4(x))
        z = self.head(self.act5(self.fc1(x.mean((2, 3)))))
        return torch.sigmoid(z) if self.binary else F.softmax(z, dim=1)


def _dense(w, name):
    kernel = w[f"{name}/kernel"]
    layer = nn.Linear(*kernel.shape)
    layer.weight.data, layer.bias.data = kernel.T.contiguous(), w[f"{name}/bias"]
    return layer
