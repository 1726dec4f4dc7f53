"""A literal reading of place filters, one image and one location at a time, and what to read."""

import numpy as np
import torch
from torch import nn


def square_network():
    """Layers "1" and "3" of 32 x 32 inputs."""
    torch.manual_seed(4)
    return nn.Sequential(
        nn.Conv2d(3, 10, 5, stride=2),
        nn.ReLU(),
        nn.Conv2d(10, 12, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 3),
    )


def red_squares(count=17):
    """Examples: noise with a red square at a random place. Negatives: noise."""
    rng = np.random.default_rng(0)
    negatives = rng.integers(0, 255, (31, 32, 32, 3)).astype(np.uint8)
    examples = rng.integers(0, 255, (count, 32, 32, 3)).astype(np.uint8)
    for picture in examples:
        i, j = rng.integers(0, 24, 2)
        picture[i : i + 8, j : j + 8] = (255, 0, 0)
    return examples, negatives


def top_mean(E, w, top=0.03):
    """Return m+, the mean activation at the locations of each example that respond most to w."""
    chosen = []
    for F in E:
        X = F.reshape(len(F), -1)
        count = max(1, round(top * X.shape[1]))
        best = np.argsort(-(w @ X), kind="stable")[:count]
        chosen += list(X[:, best].T)
    return np.mean(chosen, 0)


def ridge(N, shrinkage=0.1):
    """Return S + l mean(diag S) I of all locations of the negatives."""
    locations = np.concatenate([F.reshape(len(F), -1).T for F in N])
    S = np.cov(locations.T)
    return S + shrinkage * np.diag(S).mean() * np.eye(len(S))


def refine(E, N, w, count, A=None):
    """Return the filters of all steps of the refinement of w, and m-; A None takes that of N."""
    E, N = E.astype(float), N.astype(float)
    m_neg, A = N.mean((0, 2, 3)), ridge(N) if A is None else A
    steps = [w]
    for _ in range(count):
        difference = top_mean(E, steps[-1]) - m_neg
        w = np.linalg.solve(A, difference)
        steps.append(w / (w @ difference))
    return steps, m_neg


def refined(E, N, w, refinements=5):
    """Return the filter of the step that is kept, its w.m-, and the step."""
    steps, m_neg = refine(E, N, w, refinements)
    aucs = []
    for w in steps:
        e, n = (np.array([(w @ F.reshape(len(F), -1)).max() for F in images]) for images in (E, N))
        aucs.append((e[:, None] > n).mean())
    step = int(np.argmax(aucs)) if max(aucs) > aucs[-1] + 0.02 else refinements
    return steps[step], steps[step] @ m_neg, step


def pooled_discriminant(E, N, shrinkage=0.1):
    E, N = (F.reshape(*F.shape[:2], -1).mean(2).astype(float) for F in (E, N))
    X = np.concatenate([E - E.mean(0), N - N.mean(0)])
    S = X.T @ X / len(X)
    A = S + shrinkage * np.diag(S).mean() * np.eye(len(S))
    return np.linalg.solve(A, E.mean(0) - N.mean(0))
