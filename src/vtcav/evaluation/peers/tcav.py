"""TCAV: the share of a class's images whose score increases towards the concept.

Letters and shapes: F [N, C, h, w] feature maps, G [N, C, h, w] gradients of one logit per image,
U [R, C] unit CAVs (`vtcav.evaluation.peers.linear_cav`), S [N, R] sensitivities.

Source: Kim et al., "Interpretability Beyond Feature Attribution: Quantitative Testing with Concept
Activation Vectors (TCAV)", ICML 2018, arXiv 1711.11279: S is equation 1, the sign count
equation 2, the test section 3.5.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtcav.evaluation.peers.linear_cav import CavDraws
from vtcav.models.base import Head, held, recomputes
from vtcav.models.heads.gradient import gradient

NO_SENSITIVITY = "every sensitivity is 0, so the magnitude is undefined"
ONE_IMAGE = "one image: the sign count of a CAV is 0 or 1"


class Scores(NamedTuple):
    """Scores of R CAVs for a class.

    Attributes:
        sign_count: Share of images with S > 0, [R] in [0, 1].
        magnitude: sum(S where S > 0) / sum |S|, [R] in [0, 1]; NaN where every S is 0.
        derivative: The mean of S, [R].
    """

    sign_count: NDArray[np.float64]
    magnitude: NDArray[np.float64]
    derivative: NDArray[np.float64]


class ScoreTest(NamedTuple):
    """A two-sided t-test: p, and the reason where it is NaN."""

    p_value: float
    note: str


def class_gradients(head: Head, F: Tensor, targets: Tensor, *, binary: bool = False) -> Tensor:
    """Return the gradient of one logit per image at a layer, in one forward and backward pass.

    Args:
        head: The network after the layer.
        F: Feature maps [N, C, h, w].
        targets: A class index for every image [N].
        binary: Whether there is a single logit z; the score of the negative class (index 0) is
            then -z, that of the positive class z.

    Returns:
        G [N, C, h, w].

    Example:
        >>> import torch
        >>> class_gradients(
        ...     lambda F: F.sum((2, 3)), torch.ones(1, 2, 1, 1), torch.tensor([1])).flatten()
        tensor([0., 1.])
    """
    at = F.detach().requires_grad_()
    targets = targets.to(F.device)
    with torch.enable_grad(), held(head) as own:
        z = own(at)
        chosen = z[:, 0] * (2 * targets - 1) if binary else z.gather(1, targets[:, None])[:, 0]
        return gradient(chosen, at, recomputes=recomputes(head)).float()


def sensitivities(G: Tensor, U: Tensor) -> Tensor:
    """Return S, the derivative of the logit along each CAV (equation 1).

    A CAV of GAP activations has one value per channel. The step along it is taken at all positions
    alike, which moves GAP(F) along u: S = sum_c u_c sum_hw G_c.

    Args:
        G: Gradients [N, C, h, w].
        U: CAVs [R, C].

    Returns:
        S [N, R], in logits per unit along the CAV.

    Example:
        >>> import torch
        >>> G = torch.tensor([[[[1.0, 2.0]], [[0.0, -1.0]]]])
        >>> sensitivities(G, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        tensor([[ 3., -1.]])
    """
    return G.sum((2, 3)) @ U.to(G).T


def scores(S: Tensor) -> Scores:
    """Return the sign count (equation 2), magnitude and mean derivative of each CAV over images.

    The magnitude is the formula that Captum documents. Captum 0.9 returns the mean derivative
    under that name.

    Args:
        S: Sensitivities [N, R], N at least 1.

    Example:
        >>> import torch
        >>> found = scores(torch.tensor([[3.0], [1.0], [-1.0], [0.0]]))
        >>> [float(each[0]) for each in found]
        [0.5, 0.8, 0.75]
    """
    values = S.double().cpu().numpy()
    total = np.abs(values).sum(0)
    positive = values.clip(min=0).sum(0)
    share = np.divide(positive, total, out=np.full(len(total), math.nan), where=total > 0)
    return Scores((values > 0).mean(0), share, values.mean(0))


def score_test(concept: NDArray[np.float64], random: NDArray[np.float64]) -> ScoreTest:
    """Test whether CAVs of the concept score differently from CAVs of random against random.

    Two-sided t-test with unequal variances (Welch); the unit is the CAV. The draws share their
    images, so they are not independent, and p falls with the number of runs: a small p says that
    the score is not that of a random direction, not how certain the score is.

    Args:
        concept: Scores of the concept's CAVs [R].
        random: Scores of the random CAVs [R].

    Returns:
        p, or NaN with the reason.

    Example:
        >>> import numpy as np
        >>> p, note = score_test(np.array([0.9, 1.0, 0.8]), np.array([0.2, 0.7, 0.5]))
        >>> round(p, 3), note
        (0.081, '')
    """
    from scipy.stats import ttest_ind_from_stats

    concept, random = concept[~np.isnan(concept)], random[~np.isnan(random)]
    if min(len(concept), len(random)) < 2:
        return ScoreTest(math.nan, "no test: fewer than two CAVs have a score")
    if np.ptp(concept) == 0 and np.ptp(random) == 0:
        return ScoreTest(
            math.nan,
            "no test: no spread, every CAV of the concept scores "
            f"{concept[0]:.3g} and every random CAV {random[0]:.3g}",
        )
    found = ttest_ind_from_stats(
        concept.mean(),
        concept.std(ddof=1),
        len(concept),
        random.mean(),
        random.std(ddof=1),
        len(random),
        equal_var=False,
    )
    return ScoreTest(float(found.pvalue), "")


class ConceptScores(NamedTuple):
    """Scores of a concept for a class, means over the concept's CAVs.

    Attributes:
        concept: Its name.
        sign_count: Share of images whose score increases along the CAV.
        magnitude: Share of all sensitivity that is positive; NaN where every sensitivity is 0.
        derivative: The mean derivative of the logit along the CAV.
        p_value: Of the sign count against random CAVs, not corrected.
        p_value_magnitude: Of the magnitude.
        p_value_derivative: Of the mean derivative.
        note: The reason for every NaN, and reasons for caution.
    """

    concept: str
    sign_count: float
    magnitude: float
    derivative: float
    p_value: float
    p_value_magnitude: float
    p_value_derivative: float
    note: str


def stacked(cavs: Mapping[str, CavDraws]) -> Tensor:
    """Return all CAVs of a layer: concept by concept, its own then the random ones."""
    return torch.cat([part for draws in cavs.values() for part in (draws.concept, draws.random)])


def class_scores(S: Tensor, cavs: Mapping[str, CavDraws]) -> Iterator[ConceptScores]:
    """Yield the scores of every concept for a class at a layer.

    Args:
        S: Sensitivities of N images to all CAVs, in the order of `stacked`.
        cavs: The layer's CAVs by concept.
    """
    start = 0
    for concept, draws in cavs.items():
        R = len(draws.concept)
        own, random = (scores(S[:, start + k * R : start + (k + 1) * R]) for k in (0, 1))
        start += 2 * R
        count, magnitude, derivative = (score_test(own[k], random[k]) for k in range(3))
        unknown = int(np.isnan(own.magnitude).sum())
        notes = [draws.note, ONE_IMAGE if len(S) == 1 else "", count.note]
        if unknown:
            some = "" if unknown == R else f"{unknown} of {R} CAVs: "
            notes.append(some + NO_SENSITIVITY)
        if magnitude.note:
            notes.append(f"magnitude: {magnitude.note}")
        if derivative.note:
            notes.append(f"mean derivative: {derivative.note}")
        yield ConceptScores(
            concept,
            float(own.sign_count.mean()),
            math.nan if unknown == R else float(np.nanmean(own.magnitude)),
            float(own.derivative.mean()),
            count.p_value,
            magnitude.p_value,
            derivative.p_value,
            "; ".join(filter(None, notes)),
        )
