"""Banks of CAVs made from arrays, without a network."""

from dataclasses import replace

import numpy as np
import torch

from vtcav.results.bank import CavBank
from vtcav.results.bank.layer_cavs import LayerCavs, Resampling
from vtcav.results.image_set import ConceptRecord, ImageSetRecord


def made_set(role, gap, *, prints=None, digests=None, seed=0):
    """A set of images with activations `gap` (an array [n, C], or one for each layer by name)."""
    gap = gap if isinstance(gap, dict) else {"a": gap}
    n = len(next(iter(gap.values())))
    if prints is None:
        rng = np.random.default_rng([seed, *role.encode()])
        prints = rng.integers(0, 256, (n, 16, 16)).astype(np.uint8)
    return ImageSetRecord(
        role,
        tuple(f"{role}/{i}.png" for i in range(n)),
        tuple(digests or (f"{role}{i}" for i in range(n))),
        prints,
        {layer: torch.as_tensor(values, dtype=torch.float32) for layer, values in gap.items()},
    )


def made_bank(pairs, *, places=None, zero=None):
    """A bank of concepts: name -> (examples, negatives), each an ImageSetRecord.

    Raw maps are taken to be even: the value of an image is its projection, no less than 0. `zero`
    has the scores at zero feature maps by layer.
    """
    sets, contrast = [], []
    for pair in pairs.values():
        for images in pair:
            if not any(images is known for known in sets):
                sets.append(images)
        contrast.append(tuple(next(i for i, k in enumerate(sets) if k is s) for s in pair))
    layers = {
        layer: replace(_cavs(list(pairs.values()), layer, places), zero=(zero or {}).get(layer))
        for layer in sets[0].gap
    }
    return CavBank(
        concepts=tuple(ConceptRecord(n, e.names, m.names) for n, (e, m) in pairs.items()),
        layers=layers,
        thumbnails={name: np.zeros((1, 96, 96, 3), np.uint8) for name in pairs},
        fingerprint="0" * 64,
        preprocessing=(0.0,),
        described={"network": "made by hand", "preprocess": "none"},
        versions={},
        settings={"seed": 0},
        sets=tuple(sets),
        contrast=tuple(contrast),
        resampling=Resampling((), (), (), ()),
    )


def _cavs(pairs, layer, places):
    v = torch.stack([e.gap[layer].mean(0) - m.gap[layer].mean(0) for e, m in pairs])
    pos = tuple((e.gap[layer] @ v[k]).relu() for k, (e, _) in enumerate(pairs))
    neg = tuple((m.gap[layer] @ v[k]).relu() for k, (_, m) in enumerate(pairs))
    even = torch.full((len(pairs), 4, 4), 1 / 16)
    return LayerCavs(
        v=v,
        e_pos=torch.stack([values.median() for values in pos]),
        e_neg=torch.stack([values.median() for values in neg]),
        values_pos=pos,
        values_neg=neg,
        location_pos=even if places is None else torch.as_tensor(places, dtype=torch.float32),
        location_neg=even,
    )


def cloud(n, C=20, shift=0.0, seed=0):
    """Activations around `shift` (a number along the first axis, or a vector), at least 0."""
    rng = np.random.default_rng(seed)
    centre = np.zeros(C)
    centre[: 1 if np.isscalar(shift) else C] = shift
    return 5 + centre + rng.normal(size=(n, C))
