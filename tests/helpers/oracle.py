"""The method of the paper word for word: one image, one class, one place, one alpha at a time.

Letters and steps as in the design: F [C, h, w], v [C], R and M [h, w], z [T], IG and A [C, h, w]
of one image and one class, all numpy float64. A network is a pair of float64 callables:
lower(x [1, 3, H, W]) -> F [1, C, h, w] and upper(F [1, C, h, w]) -> z [1, T].
"""

import statistics
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch


@dataclass
class Cav:
    v: np.ndarray
    e_pos: float
    e_neg: float


@dataclass
class Explained:
    """Of one image: F and z, per concept M and p, per class IG, s and A, and a[class, concept]."""

    F: np.ndarray
    z: np.ndarray
    M: list
    p: list
    IG: list
    s: list
    A: list
    a: np.ndarray


def places(F):
    return list(product(range(F.shape[-2]), range(F.shape[-1])))


# -- steps 1 to 4: where


def gap(F):
    return np.array([sum(F[c, y, x] for y, x in places(F)) / len(places(F)) for c in range(len(F))])


def direction(examples, negatives):
    return sum(gap(F) for F in examples) / len(examples) - sum(gap(F) for F in negatives) / len(
        negatives
    )


def raw_map(F, v):
    R = np.zeros(F.shape[1:])
    for y, x in places(F):
        R[y, x] = max(0.0, sum(v[c] * F[c, y, x] for c in range(len(v))))
    return R


def guarded(total):
    """A sum above 0 plus the guard of divisions: 1e-7, less in proportion below 0.01."""
    return total + 1e-7 * min(total / 0.01, 1.0) if total > 0 else 1.0


def contraharmonic_mean(R):
    return sum(R[y, x] ** 2 for y, x in places(R)) / guarded(sum(R[y, x] for y, x in places(R)))


def emblem(raw_maps):
    return statistics.median(contraharmonic_mean(R) for R in raw_maps)


def learn(examples, negatives):
    """The CAV of one concept from the feature maps of its examples and its negatives."""
    v = direction(examples, negatives)
    return Cav(
        v,
        e_pos=emblem([raw_map(F, v) for F in examples]),
        e_neg=emblem([raw_map(F, v) for F in negatives]),
    )


def concept_map(R, e_pos, e_neg):
    M = np.zeros(R.shape)
    if e_pos > e_neg:
        for y, x in places(R):
            M[y, x] = (min(max(R[y, x], e_neg), e_pos) - e_neg) / (e_pos - e_neg)
    return M


# -- steps 5 to 9: how much


def logits(upper, F):
    with torch.no_grad():
        return upper(torch.from_numpy(F)[None])[0].numpy()


def gradient(upper, F, t):
    F = torch.from_numpy(F)[None].requires_grad_()
    return torch.autograd.grad(upper(F)[0, t], F)[0][0].numpy()


def integrated_gradients(upper, F, t, steps):
    IG = np.zeros(F.shape)
    before = gradient(upper, 0 * F, t)
    for i in range(1, steps + 1):
        after = gradient(upper, i / steps * F, t)
        IG += (before + after) / 2 / steps
        before = after
    return IG


def relevance(IG, F, sign=1):
    B = np.zeros(F.shape)
    for c in range(len(F)):
        for y, x in places(F):
            B[c, y, x] = max(0.0, sign * IG[c, y, x] * F[c, y, x])
    return B


def over_the_largest(values):
    return [value / max(values) if max(values) > 0 else value for value in values]


def class_shares(z, z0):
    return over_the_largest([max(0.0, z[t] - z0[t]) for t in range(len(z))])


def attribution_map(B, s):
    return B / guarded(B.sum()) * s


def channel_sign(c, F, M):
    if F.min() >= 0:
        return 1
    return -1 if sum(F[c, y, x] * M[y, x] for y, x in places(F)) < 0 else 1


def pooled_cav(v, F, M):
    p = [max(0.0, v[c] * channel_sign(c, F, M)) for c in range(len(v))]
    return np.array(over_the_largest(p))


def concept_attribution(A, M, p):
    return sum(p[c] * sum(A[c, y, x] * M[y, x] for y, x in places(M)) for c in range(len(p)))


def explain(upper, F, cavs, *, steps=50, binary=False):
    """Explain one image for every class, from its feature maps."""
    M = [concept_map(raw_map(F, cav.v), cav.e_pos, cav.e_neg) for cav in cavs]
    p = [pooled_cav(cav.v, F, m) for cav, m in zip(cavs, M, strict=True)]
    z, z0 = logits(upper, F), logits(upper, 0 * F)
    IG = [integrated_gradients(upper, F, t, steps) for t in range(len(z))]
    if binary:
        B = [relevance(IG[0], F, sign=-1), relevance(IG[0], F)]  # negative class, positive class
        s = over_the_largest([b.sum() for b in B])
    else:
        B = [relevance(ig, F) for ig in IG]
        s = class_shares(z, z0)
    A = [attribution_map(b, share) for b, share in zip(B, s, strict=True)]
    a = [[concept_attribution(A[t], M[k], p[k]) for k in range(len(cavs))] for t in range(len(A))]
    return Explained(F, z, M, p, IG, s, A, np.array(a))


# -- step 10: over images


def summary(values):
    """Mean, sample standard deviation and standard error of the mean."""
    n = len(values)
    mean = sum(values) / n
    std = (sum((value - mean) ** 2 for value in values) / (n - 1)) ** 0.5
    return mean, std, std / n**0.5
