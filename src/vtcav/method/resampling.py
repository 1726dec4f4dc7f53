"""CAVs learned again from other images: null CAVs and bootstrap CAVs.

A null CAV stands for no concept: as many images as the concept has examples are drawn from the
negatives without replacement and play the concept against the remaining negatives. A bootstrap CAV
is the concept's own, learned from examples and negatives drawn with replacement. Both get
directions and emblems exactly as the concept does (steps 1 and 3); a draw is nothing but
positions in the sets of images, so that pooled activations and raw maps are computed once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Draws", "bootstrap_draws", "directions", "null_draws", "resampled_emblems", "too_few"]

_CHANNELS, _DRAWS = 256, 64  # at a time, so that memory does not grow with their number


@dataclass(frozen=True, eq=False)
class Draws:
    """The images of J resampled CAVs.

    Attributes:
        positives: Positions in the set that plays the concept [J, n1].
        negatives: Positions in the negatives [J, n2].
    """

    positives: Tensor
    negatives: Tensor

    def __len__(self) -> int:
        return len(self.positives)

    def part(self, chosen: range) -> Draws:
        """Return a range of the draws."""
        i = slice(chosen.start, chosen.stop)
        return Draws(self.positives[i], self.negatives[i])


def too_few(examples: int, negatives: int) -> str:
    """Return why no null CAVs can be drawn, or an empty text where they can.

    A pseudo-concept is as large as the concept, and at least as many negatives must remain.

    Example:
        >>> too_few(40, 80)
        ''
        >>> too_few(40, 60)
        'null CAVs for 40 examples need at least 80 negatives, there are 60'
    """
    if negatives >= 2 * examples:
        return ""
    return (
        f"null CAVs for {examples} examples need at least {2 * examples} negatives, "
        f"there are {negatives}"
    )


def null_draws(examples: int, negatives: int, count: int, seed: int) -> Draws:
    """Draw pseudo-concepts from the negatives, without replacement, against the rest.

    Args:
        examples: Size of the concept, n1.
        negatives: Number of negatives.
        count: How many draws, J.
        seed: Seeds them.

    Returns:
        Both positions index the negatives: [J, n1] and [J, negatives - n1].

    Example:
        >>> draws = null_draws(2, 5, 3, seed=0)
        >>> draws.positives.shape, draws.negatives.shape
        (torch.Size([3, 2]), torch.Size([3, 3]))
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(count, negatives, generator=generator, dtype=torch.float64).argsort(1)
    order = order.int()
    return Draws(order[:, :examples], order[:, examples:])


def bootstrap_draws(examples: int, negatives: int, count: int, seed: int) -> Draws:
    """Draw examples and negatives with replacement (Efron's bootstrap).

    Args:
        examples: Number of examples.
        negatives: Number of negatives.
        count: How many draws, J.
        seed: Seeds them.

    Returns:
        Positions in the examples [J, examples] and in the negatives [J, negatives].
    """
    generator = torch.Generator().manual_seed(seed)
    return Draws(
        torch.randint(examples, (count, examples), generator=generator).int(),
        torch.randint(negatives, (count, negatives), generator=generator).int(),
    )


def directions(positives: Tensor, negatives: Tensor, draws: Draws) -> Tensor:
    """Return the direction of every draw, step 1, as matrix products.

    Args:
        positives: GAP activations of the set that plays the concept [n, C].
        negatives: GAP activations of the negatives [m, C].
        draws: Of J CAVs.

    Returns:
        Directions V [J, C].

    Example:
        >>> G = torch.tensor([[1.0], [3.0]])
        >>> directions(G, G, Draws(torch.tensor([[0, 0]]), torch.tensor([[1, 0]])))
        tensor([[-1.]])
    """
    V = torch.empty(len(draws), positives.shape[1])
    columns = positives.shape[1]
    for i in range(0, columns, _CHANNELS):  # in double precision, a few channels at a time
        parts = [
            _weighted(positions, G[:, i : i + _CHANNELS].double())
            for positions, G in ((draws.positives, positives), (draws.negatives, negatives))
        ]
        V[:, i : i + _CHANNELS] = (parts[0] - parts[1]).float()
    return V.to(positives.device)


def resampled_emblems(values: Tensor, positions: Tensor) -> Tensor:
    """Return the emblem of every draw, step 3: the true median over its images.

    Args:
        values: Contraharmonic means of the raw maps [n, J]: column j under direction j.
        positions: Images of each draw [J, m].

    Returns:
        Emblems [J].

    Example:
        >>> values = torch.tensor([[1.0, 5.0], [2.0, 6.0], [9.0, 7.0]])
        >>> resampled_emblems(values, torch.tensor([[0, 1, 2], [0, 0, 2]]))
        tensor([2., 5.])
    """
    m = positions.shape[1]
    emblems = []
    for i in range(0, len(positions), _DRAWS):
        here = positions[i : i + _DRAWS].to(values.device, torch.int64)
        drawn = values[:, i : i + _DRAWS].T.gather(1, here).sort(1).values
        emblems.append((drawn[:, (m - 1) // 2] + drawn[:, m // 2]) / 2)
    return torch.cat(emblems) if emblems else values.new_zeros(0)


def _weighted(positions: Tensor, G: Tensor) -> Tensor:
    """Return the mean of each draw's images [J, c] of activations [n, c]."""
    parts = [
        _weights(positions[i : i + _DRAWS], len(G)).to(G.device) @ G
        for i in range(0, len(positions), _DRAWS)
    ]
    return torch.cat(parts) if parts else G.new_zeros(0, G.shape[1])


def _weights(positions: Tensor, count: int) -> Tensor:
    """Return how much each of `count` images weighs in each draw's mean [J, count]."""
    share = torch.full(positions.shape, 1 / positions.shape[1], dtype=torch.float64)
    whole = torch.zeros(len(positions), count, dtype=torch.float64)
    return whole.scatter_add_(1, positions.long(), share)
