"""An audit from end to end: a network that takes a letter for the defect (docs/erasure.md)."""

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import nn

import vtcav


def part(rng, pore=False, letter=False):
    """A grey picture of a metal surface."""
    picture = Image.fromarray(rng.normal(130, 12, (64, 64)).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    if pore:
        x, y = rng.integers(14, 50, 2)
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=95)
    if letter:
        draw.text((3, 2), "A", fill=235)
    return picture


def parts(seed, count, **kinds):
    rng = np.random.default_rng(seed)
    return [
        part(rng, **{name: rng.random() < p for name, p in kinds.items()}) for _ in range(count)
    ]


def to_input(picture):
    return torch.tensor(np.asarray(picture.convert("L")))[None] / 255


def convolution(channels, width):
    return [nn.Conv2d(channels, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU()]


def trained():
    """A network for good and defective parts; nearly all of the defective ones carry a letter."""
    torch.manual_seed(0)
    network = nn.Sequential(
        *convolution(1, 16), *convolution(16, 32), *convolution(32, 48),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 1),
    )  # fmt: skip
    pictures = parts(1, 300, pore=0.5, letter=0.97) + parts(2, 300)
    x, y = torch.stack(list(map(to_input, pictures))), torch.arange(600).lt(300).float()
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    for _ in range(6):
        for chosen in torch.randperm(600).split(32):
            loss = nn.functional.binary_cross_entropy_with_logits(
                network(x[chosen])[:, 0], y[chosen]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    network.eval()
    return network


def test_the_letter_is_the_first_verdict_where_letter_and_defect_are_one_direction():
    model = vtcav.Classifier(trained(), ["good", "defect"], to_input, binary=True)
    explainer = vtcav.VisualTCAV(model, layers=["2", "5", "8"])
    explainer.fit(
        {"letter": parts(3, 30, letter=1), "pore": parts(4, 30, pore=1)}, negatives=parts(5, 60)
    )
    found = explainer.explain_class("defect", parts(6, 40, pore=0.9, letter=1))
    first = found.verdicts()[0]
    assert (first.concept, first.kind) == ("letter", "used")
    assert first.size > 0.7
    assert ("8", "letter", "pore") in explainer.diagnostics().not_apart()  # one direction for both
