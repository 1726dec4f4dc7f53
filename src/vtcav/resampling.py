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
        torch.randint(examples, (count, examples), generator=generator),
        torch.randint(negatives, (count, negatives), generator=generator),
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
    parts = [
        _weights(positions, len(G)).to(G.device) @ G.double()
        for positions, G in ((draws.positives, positives), (draws.negatives, negatives))
    ]
    return (parts[0] - parts[1]).float()


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
    drawn = values.T.gather(1, positions.to(values.device)).sort(1).values
    m = drawn.shape[1]
    return (drawn[:, (m - 1) // 2] + drawn[:, m // 2]) / 2


def _weights(positions: Tensor, count: int) -> Tensor:
    """Return how much each of `count` images weighs in each draw's mean [J, count]."""
    share = torch.full(positions.shape, 1 / positions.shape[1], dtype=torch.float64)
    return torch.zeros(len(positions), count, dtype=torch.float64).scatter_add_(1, positions, share)
