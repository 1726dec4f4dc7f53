"""The paper read literally, on a whole network: one image, one point and one class at a time.

Nothing of vtcav is used but its preprocessing, so that a number that differs from it is wrong.
"""

import numpy as np
import torch


def outputs(net, layer, x):
    """Return a layer's output and the scores of a plain pass."""
    kept = {}
    hook = net.get_submodule(layer).register_forward_hook(
        lambda _m, _i, out: kept.update(out=out.detach().clone())
    )
    with torch.no_grad():
        z = net(x)
    hook.remove()
    return kept["out"], z


def scores(net, layer, x, maps):
    """Return the scores of a whole pass whose layer gives other maps."""
    hook = net.get_submodule(layer).register_forward_hook(lambda _m, _i, _o: maps.clone())
    try:
        return net(x)
    finally:
        hook.remove()


def attributions(net, layer, preprocess, concept, negatives, image, classes, steps=50):
    """Return the concept attribution to each class, steps 1 to 8 of the method.

    Args:
        net: In evaluation mode, with maps [N, C, h, w] or [N, C, d, h, w] at the layer.
        layer: Its name.
        preprocess: From a PIL image to a tensor.
        concept: PIL images.
        negatives: PIL images.
        image: A PIL image.
        classes: Indices.
        steps: Of the trapezoid rule.
    """

    def maps_of(pictures):
        return [outputs(net, layer, preprocess(p)[None])[0].double() for p in pictures]

    positive, negative = maps_of(concept), maps_of(negatives)
    pooled = [
        torch.stack([F.flatten(2).mean(2)[0] for F in each]).mean(0)
        for each in (positive, negative)
    ]
    v = pooled[0] - pooled[1]

    def raw(F):
        return torch.relu(torch.einsum("c...,c->...", F[0], v))

    def emblem(each):
        return np.median([float((raw(F) ** 2).sum() / guarded(raw(F).sum())) for F in each])

    e_pos, e_neg = emblem(positive), emblem(negative)
    x = preprocess(image)[None]
    F, z = outputs(net, layer, x)
    R = raw(F.double())
    M = (R.clip(e_neg, e_pos) - e_neg) / (e_pos - e_neg) if e_pos > e_neg else torch.zeros_like(R)
    with torch.no_grad():
        s = torch.relu((z - scores(net, layer, x, torch.zeros_like(F)))[0].double())
    s = s / s.max() if s.max() > 0 else s
    signs = torch.where((F[0].double() * M).flatten(1).sum(1) < 0, -1.0, 1.0)
    p = torch.relu(v if F.min() >= 0 else v * signs)
    p = p / p.max() if p.max() > 0 else p
    return [
        float((p * (_relevance(net, layer, x, F, t, steps) * s[t] * M).flatten(1).sum(1)).sum())
        for t in classes
    ]


def guarded(total):
    """Return a sum above 0 plus the guard of divisions: 1e-7, less in proportion below 0.01."""
    return total + 1e-7 * min(float(total) / 0.01, 1.0) if total > 0 else total + 1.0


def _relevance(net, layer, x, F, t, steps):
    """Return B / sum(B) [C, h, w] of a class, steps 5 and 6."""
    IG = torch.zeros_like(F, dtype=torch.double)
    for k in range(steps + 1):
        maps = (F * (k / steps)).detach().requires_grad_()
        gradient = torch.autograd.grad(scores(net, layer, x, maps)[0, t], maps)[0].double()
        IG += gradient * (0.5 if k in (0, steps) else 1.0) / steps
    B = torch.relu(IG * F.double())[0]
    return B / guarded(B.sum())
