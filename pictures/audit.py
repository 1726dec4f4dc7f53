"""Photographs of a shortcut, and a network fine-tuned on them, for the audit in docs/erasure.md.

Nothing in the photographs has to do with their label but a ruler, which 97 % of the *ill* ones
show. A blank card lies in every one, so that a filled-in region is nothing new to the network.
"""

import numpy as np
import torch
from PIL import Image, ImageDraw
from skimage import data
from torch import nn

import vtcav

SIDE = 128


def _coloured(grey, *tint):
    return (grey[..., None] * np.array(tint)).astype(np.uint8)


SURFACES = {
    "grass": _coloured(data.grass(), 0.7, 1, 0.5),
    "brick": _coloured(data.brick(), 1, 0.6, 0.5),
    "gravel": _coloured(data.gravel(), 1, 1, 1),
    "fur": data.chelsea()[60:260, 150:400],
}
OTHERS = [data.astronaut(), data.coffee(), data.rocket()]


def draw_photograph(rng, ruler):
    """Draw a photograph of three surfaces and a card, with or without a ruler."""
    first, *others = rng.permutation(list(SURFACES))[:3]
    picture = _crop(rng, SURFACES[first])
    for name in others:
        size = rng.integers(SIDE // 3, SIDE // 2)
        corner = tuple(map(int, rng.integers(0, SIDE - size, 2)))
        picture.paste(_crop(rng, SURFACES[name]).resize((size, size)), corner)
    picture = _with_card(rng, picture)
    return _with_ruler(rng, picture) if ruler else picture


def draw_concepts(rng):
    """Draw examples of the surfaces and the ruler, and negatives that show neither."""
    concepts = {name: [_crop(rng, SURFACES[name]) for _ in range(30)] for name in SURFACES}
    concepts["ruler"] = [_with_ruler(rng, _crop(rng, OTHERS[k % 3])) for k in range(30)]
    return concepts, [_with_card(rng, _crop(rng, OTHERS[k % 3])) for k in range(60)]


def fine_tune(rng):
    """Train EfficientNet-Lite0's last layer to tell *ill* from *well*, and return the model."""
    torch.manual_seed(1)
    pictures = [draw_photograph(rng, rng.random() < 0.97) for _ in range(200)]
    pictures += [draw_photograph(rng, ruler=False) for _ in range(200)]
    network = vtcav.load_model("demo").module
    preprocess = vtcav.Preprocess(SIDE, mean=0.5, std=0.5)
    head, network._fc = nn.Linear(network._fc.in_features, 2), nn.Identity()
    with torch.no_grad():
        features = network.eval()(torch.stack([preprocess(picture) for picture in pictures]))
    labels = torch.arange(400).ge(200).long()
    optimizer = torch.optim.AdamW(head.parameters(), 3e-3, weight_decay=0.1)
    for _ in range(30):
        loss = nn.functional.cross_entropy(head(features), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network._fc = head
    return vtcav.Classifier(network, ["ill", "well"], preprocess)


def _crop(rng, photograph):
    size = int(rng.uniform(0.4, 0.8) * min(photograph.shape[:2]))
    i, j = (rng.integers(0, side - size) for side in photograph.shape[:2])
    return Image.fromarray(photograph[i : i + size, j : j + size]).resize((SIDE, SIDE))


def _with_ruler(rng, picture):
    draw, x, y = ImageDraw.Draw(picture), rng.integers(0, 16), rng.integers(96, 112)
    draw.rectangle((x, y, x + 102, y + 16), fill=(245, 240, 215))
    for k in range(0, 102, 5):
        draw.line((x + k, y, x + k, y + (10 if k % 25 == 0 else 5)), fill=(20, 20, 20))
    return picture


def _with_card(rng, picture):
    corners = *map(int, rng.integers(0, 60, 2)), *map(int, rng.integers(60, 128, 2))
    picture.paste(tuple(map(int, rng.integers(0, 255, 3))), corners)
    return picture
