"""Linear discriminant maps: a variant that finds concepts along another direction than v.

The paper uses one direction v, the difference of mean activations, twice: to find the concept
(the raw map, step 2) and to weight channels (the pooled CAV, step 7). v is a pattern: it describes
what the concept does to the channels. A raw map along v also responds to anything else that does
the same: where two cues share the channels of a class, the map of one lights up on the other. The
weight vector of a linear classifier, a filter, responds to the concept and as little as possible
to other variation (Haufe et al., "On the interpretation of weight vectors of linear models in
multivariate neuroimaging", NeuroImage 87, 2014). With S the pooled covariance of the GAP
activations within the two sets, and the shrinkage l:

    w = (S + l mean(diag S) I)^-1 v        Fisher's linear discriminant

The variant "filter" draws the map with w (steps 2 to 4) and keeps v for the pooled CAV and
everything else. Null and bootstrap CAVs have their own w, from the images of each draw.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vtcav.method.resampling import Draws, counts

__all__ = ["SHRINKAGE", "discriminant_directions"]

SHRINKAGE = 0.1

_BYTES = 1 << 26  # of covariances at a time


def discriminant_directions(
    positives: Tensor, negatives: Tensor, draws: Draws, shrinkage: float = SHRINKAGE
) -> Tensor:
    """Return the linear discriminant direction of every draw, w [J, C].

    Args:
        positives: GAP activations of the set that plays the concept [n, C].
        negatives: GAP activations of the negatives [m, C].
        draws: The images of J CAVs.
        shrinkage: l, above 0; the larger, the closer w is to the direction of v.

    Returns:
        w, each as long as the direction v of its draw, in the activations' precision.

    Example:
        >>> noise = torch.tensor([[0.0, 1.0], [0.0, -1.0]])  # the second channel varies
        >>> w = discriminant_directions(noise + 1, noise, Draws.whole(2, 2), shrinkage=0.01)
        >>> round(float(w[0, 1] / w[0, 0]), 3)
        0.005
    """
    X = torch.cat([positives, negatives]).double()
    X = X - X.mean(0)
    # w lies in the span of the images, and there are usually fewer images than channels
    basis = torch.linalg.qr(X.T).Q if len(X) < X.shape[1] else None
    Y = X if basis is None else X @ basis
    J, size = len(draws), max(1, _BYTES // (8 * Y.shape[1] ** 2))
    parts = [
        _solved(Y, len(positives), draws.part(range(i, min(i + size, J))), shrinkage, X.shape[1])
        for i in range(0, J, size)
    ]
    w = torch.cat(parts)
    return (w if basis is None else w @ basis.T).to(positives.dtype)


def _solved(Y: Tensor, n: int, draws: Draws, shrinkage: float, channels: int) -> Tensor:
    """Return w of draws [J, D] in the coordinates of Y [n + m, D]."""
    J, D = len(draws), Y.shape[1]
    S = torch.zeros(J, D, D, dtype=Y.dtype, device=Y.device)
    means, images = [], 0
    for positions, rows in ((draws.positives, Y[:n]), (draws.negatives, Y[n:])):
        times = counts(positions.to(Y.device), len(rows))
        mean = times @ rows / positions.shape[1]
        S += torch.einsum("ji,ic,id->jcd", times, rows, rows)
        S -= positions.shape[1] * mean[:, :, None] * mean[:, None, :]
        means.append(mean)
        images += positions.shape[1]
    S /= images
    v = means[0] - means[1]
    scale = S.diagonal(dim1=1, dim2=2).sum(1) / channels
    scale = torch.where(scale > 0, scale, 1.0)
    S.diagonal(dim1=1, dim2=2).add_(shrinkage * scale[:, None])
    w = torch.linalg.solve(S, v)
    long = w.norm(dim=1, keepdim=True).clamp(min=torch.finfo(w.dtype).tiny)
    scaled: Tensor = w * (v.norm(dim=1, keepdim=True) / long)
    return scaled
