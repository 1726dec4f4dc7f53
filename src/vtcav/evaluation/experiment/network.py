"""Small convolutional networks of the experiment, and their training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vtcav.evaluation.experiment.scenes import Scenes, scene_seed, with_tags
from vtcav.evaluation.experiment.tags import ABSENT

Convolution: TypeAlias = tuple[int, int, int]
"""Channels, kernel and stride."""
Inputs: TypeAlias = Callable[[NDArray[np.intp]], Tensor]
"""From the positions of samples to the network's input."""

_BLOCKS: dict[str, tuple[Convolution, ...]] = {
    "block1": ((12, 5, 2), (24, 3, 2)),
    "block2": ((32, 3, 1),),
    "block3": ((48, 3, 2),),
    "block4": ((48, 3, 1),),
    "block5": ((48, 3, 1),),
    "block6": ((64, 3, 1),),
    "block7": ((64, 3, 1),),
}
LAYERS = tuple(_BLOCKS)
"""The seven blocks, whose maps are 16 x 16 (two) and 8 x 8 (five)."""


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Attributes:
        scenes: Number of training scenes.
        epochs: Passes over the scenes, each with new tag noise, tag location, colours and rotation.
        batch_size: Scenes per step.
        learning_rate: The highest rate of the one-cycle schedule.
        weight_decay: The weight decay of AdamW.
    """

    scenes: int = 4000
    epochs: int = 8
    batch_size: int = 32
    learning_rate: float = 4e-3
    weight_decay: float = 1e-2


def build(classes: int, seed: int) -> nn.Sequential:
    """Return the untrained network: seven blocks of convolution, batch norm, ReLU; pooled, linear.

    Args:
        classes: Number of logits.
        seed: Seeds the weights.
    """
    return convolutional(3, _BLOCKS, classes, seed)


def convolutional(
    channels: int, blocks: Mapping[str, Sequence[Convolution]], classes: int, seed: int
) -> nn.Sequential:
    """Return an untrained network of blocks of convolution, batch norm and ReLU; pooled, linear.

    Args:
        channels: Channels of the input.
        blocks: The convolutions of each block, by its name.
        classes: Number of logits.
        seed: Seeds the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential()
        for name, convolutions in blocks.items():
            block = nn.Sequential()
            for width, kernel, stride in convolutions:
                block.append(nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False))
                block.append(nn.BatchNorm2d(width)).append(nn.ReLU())
                channels = width
            net.add_module(name, block)
        net.add_module("pool", nn.AdaptiveAvgPool2d(1))
        net.add_module("flatten", nn.Flatten())
        net.add_module("head", nn.Linear(channels, classes))
    return net


def draw_cue(
    labels: NDArray[np.intp], agreement: float, classes: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Draw the class whose tag, or whose texture, each training scene shows, [N].

    In a share `agreement` of the scenes it is the scene's own class. Half of the others show no
    cue, and half the cue of a random class, possibly its own. A tag that never belonged to the
    scene's class would count against it; at an agreement of 0 the tag must be uninformative.
    With K classes a visible cue raises the odds of its class by (q + e) / e, e = (1 - q) / (2 K):
    for K = 4 by 1, 3.7, 9, 25 and without bound for q = 0, 0.25, 0.5, 0.75 and 1.

    Args:
        labels: The classes [N].
        agreement: The share, in [0, 1].
        classes: How many classes there are.
        rng: Draws.

    Returns:
        Class indices, -1 for none.
    """
    count = len(labels)
    other = np.where(rng.random(count) < 0.5, rng.integers(0, classes, count), ABSENT)
    # exactly the share, up to rounding
    agrees = np.zeros(count, bool)
    agrees[rng.permutation(count)[: round(agreement * count)]] = True
    return np.where(agrees, labels, other)


def to_input(pictures: NDArray[np.uint8]) -> Tensor:
    """Return pictures [N, H, W, 3] as the network's input [N, 3, H, W] in -1..1."""
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
    return x.div_(255).sub_(0.5).div_(0.5).contiguous(memory_format=torch.channels_last)


def train(
    scenes: Scenes,
    classes: int,
    seed: int,
    settings: Training,
    *,
    device: torch.device | str = "cpu",
    advance: Callable[[], None] = lambda: None,
) -> nn.Module:
    """Train a network on scenes with their tags, and return it in evaluation mode.

    Args:
        scenes: The training scenes; their letters stay, noise and locations are drawn every epoch.
        classes: Number of classes.
        seed: Seeds weights, order and augmentation.
        settings: The hyperparameters.
        device: Where to compute.
        advance: Called after every epoch.
    """
    net = build(classes, seed).to(device)
    for parameter in net.parameters():
        if parameter.ndim == 4:  # a third faster on a CPU
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    def draw(epoch: int, rng: np.random.Generator) -> Inputs:
        pictures = augmented(scenes, rng, scene_seed(seed, "epochs") + epoch)
        return lambda chosen: to_input(pictures[chosen])

    fit(net, scenes.labels, draw, seed, settings, device, advance)
    return net


def fit(
    net: nn.Module,
    labels: NDArray[np.intp],
    draw: Callable[[int, np.random.Generator], Inputs],
    seed: int,
    settings: Training,
    device: torch.device | str,
    advance: Callable[[], None],
) -> None:
    """Train a network to classify, and leave it in evaluation mode.

    Args:
        net: The network, on the device.
        labels: The class of each sample [N].
        draw: Draws the samples of an epoch with a generator.
        seed: Seeds order and augmentation.
        settings: The hyperparameters.
        device: Where to compute.
        advance: Called after every epoch.
    """
    rng = np.random.default_rng([seed, 4])
    per_epoch = -(-len(labels) // settings.batch_size)
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=per_epoch * settings.epochs
    )
    for epoch in range(settings.epochs):
        inputs = draw(epoch, rng)
        for chosen in np.array_split(rng.permutation(len(labels)), per_epoch):
            x = inputs(chosen).to(device)
            y = torch.from_numpy(labels[chosen]).to(device)
            loss = nn.functional.cross_entropy(net(x), y)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
        advance()
    net.eval()


def augmented(scenes: Scenes, rng: np.random.Generator, seed: int) -> NDArray[np.uint8]:
    """Return the scenes with new tags and colours, half of them rotated by 180 degrees."""
    turned = rng.random(len(scenes)) < 0.5
    textured, mask = scenes.textured.copy(), scenes.texture_mask.copy()
    textured[turned] = textured[turned][:, ::-1, ::-1]
    mask[turned] = mask[turned][:, ::-1, ::-1]
    channels = rng.permuted(np.tile(np.arange(3), (len(scenes), 1)), axis=1)
    textured = np.take_along_axis(textured, channels[:, None, None, :], 3)
    fresh = Scenes(**{**vars(scenes), "textured": textured, "texture_mask": mask})
    return with_tags(fresh, scenes.letters, seed).images()


def accuracy(net: nn.Module, pictures: NDArray[np.uint8], labels: NDArray[np.intp]) -> float:
    """Return the share of pictures whose highest logit is that of their class."""
    return float((logits(net, pictures).argmax(1) == labels).mean())


def logits(
    net: nn.Module, pictures: NDArray[np.uint8], batch_size: int = 64
) -> NDArray[np.float64]:
    """Return the logits [N, T] of pictures."""
    device = next(net.parameters()).device
    batches = [pictures[i : i + batch_size] for i in range(0, len(pictures), batch_size)]
    with torch.no_grad():
        return torch.cat([net(to_input(b).to(device)).double().cpu() for b in batches]).numpy()
