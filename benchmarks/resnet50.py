"""A network of ResNet-50's size with random weights, from torch alone."""

import torch
from torch import nn


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions with a short cut."""

    def __init__(self, inside, width, stride):
        super().__init__()
        out = 4 * width
        self.body = nn.Sequential(
            *(nn.Conv2d(inside, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
            nn.Conv2d(width, width, 3, stride, 1, bias=False),
            *(nn.BatchNorm2d(width), nn.ReLU()),
            *(nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out)),
        )
        self.short = nn.Identity()
        if inside != out:
            self.short = nn.Sequential(
                nn.Conv2d(inside, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x):
        """Add the body to the short cut."""
        return torch.relu(self.body(x) + self.short(x))


def resnet50(seed=0):
    """Return the network: layer1 to layer4, 25.6 million weights, 4.1 billion multiply-adds."""
    torch.manual_seed(seed)
    layers, inside = [], 64
    for k, (width, depth) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        blocks = []
        for i in range(depth):
            blocks.append(Bottleneck(inside, width, 2 if k and not i else 1))
            inside = 4 * width
        layers.append((f"layer{k + 1}", nn.Sequential(*blocks)))
    net = nn.Sequential()
    net.add_module(
        "stem",
        nn.Sequential(
            *(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()),
            nn.MaxPool2d(3, 2, 1),
        ),
    )
    for name, layer in layers:
        net.add_module(name, layer)
    net.add_module("pool", nn.AdaptiveAvgPool2d(1))
    net.add_module("flat", nn.Flatten())
    net.add_module("fc", nn.Linear(2048, 1000))
    return net.eval()
