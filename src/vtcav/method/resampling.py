"""Draws of images that CAVs are learned from: all of them, or resampled ones.

A concept's own CAV is learned from all examples and all negatives. A bootstrap CAV is learned from
examples and negatives drawn with replacement. A null CAV stands for no concept: as many images as
the concept has examples are drawn from the negatives without replacement and play the concept
against the remaining negatives. Where fewer than twice as many negatives as examples leave too few
for that, null CAVs are smaller, and a subset CAV of the concept, of the same size, is tested
against them. All get directions and emblems in the same way (steps 1 and 3).
A draw consists of positions in the sets of images, so pooled activations and raw maps are computed
once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "Draws",
    "bootstrap_draws",
    "counts",
    "halves",
    "null_draws",
    "subset_draw",
    "tested_examples",
]


@dataclass(frozen=True, eq=False)
class Draws:
    """The images of J CAVs.

    Attributes:
        positives: Positions in the set that plays the concept [J, n1].
        negatives: Positions in the negatives [J, n2].
    """

    positives: Tensor
    negatives: Tensor

    def __len__(self) -> int:
        return len(self.positives)

    @classmethod
    def whole(cls, examples: int, negatives: int) -> Draws:
        """Return one draw that takes every example and every negative once.

        Example:
            >>> Draws.whole(2, 3).negatives
            tensor([[0, 1, 2]], dtype=torch.int32)
        """
        return cls(*(torch.arange(n, dtype=torch.int32)[None] for n in (examples, negatives)))

    def followed_by(self, others: Draws) -> Draws:
        """Return these draws and then others of as many images."""
        return Draws(
            torch.cat([self.positives, others.positives]),
            torch.cat([self.negatives, others.negatives]),
        )

    def part(self, chosen: range) -> Draws:
        """Return the draws at a range of positions."""
        i = slice(chosen.start, chosen.stop)
        return Draws(self.positives[i], self.negatives[i])


def counts(positions: Tensor, images: int) -> Tensor:
    """Return how often each image is in each draw [J, images].

    Args:
        positions: The images of each draw [J, n].
        images: The number of images in the set.

    Example:
        >>> counts(torch.tensor([[0, 2, 2]]), 3)
        tensor([[1., 0., 2.]], dtype=torch.float64)
    """
    ones = torch.ones(positions.shape, dtype=torch.float64, device=positions.device)
    empty = torch.zeros(len(positions), images, dtype=torch.float64, device=positions.device)
    return empty.scatter_add_(1, positions.long(), ones)


def tested_examples(examples: int, negatives: int) -> int:
    """Return how many examples the CAVs of the test are learned from.

    A null CAV takes them from the negatives, of which at least as many must remain. All examples
    are used where there are twice as many negatives, otherwise half as many as there are negatives.

    Example:
        >>> tested_examples(40, 80), tested_examples(40, 61)
        (40, 30)
    """
    return min(examples, negatives // 2)


def subset_draw(examples: int, negatives: int, size: int, seed: int) -> Draws:
    """Draw one subset of examples and one of negatives, as large as the sets of a null CAV.

    A CAV of all images cannot be compared with null CAVs of fewer: it is less noisy. Nor can the
    median of several subsets, for the same reason.

    Args:
        examples: Number of examples.
        negatives: Number of negatives.
        size: Examples of the draw; its negatives are `negatives - size`.
        seed: Seeds the draw.

    Returns:
        Positions in the examples [1, size] and in the negatives [1, negatives - size].

    Example:
        >>> draws = subset_draw(6, 8, 4, seed=0)
        >>> draws.positives.shape, draws.negatives.shape
        (torch.Size([1, 4]), torch.Size([1, 4]))
    """
    generator = torch.Generator().manual_seed(seed)
    orders = [
        torch.rand(1, n, generator=generator, dtype=torch.float64).argsort(1).int()
        for n in (examples, negatives)
    ]
    return Draws(orders[0][:, :size], orders[1][:, size:])


def null_draws(examples: int, negatives: int, count: int, seed: int) -> Draws:
    """Draw pseudo-concepts from the negatives, without replacement, against the rest.

    Args:
        examples: Number of examples of the concept, n1.
        negatives: Number of negatives.
        count: Number of draws, J.
        seed: Seeds the draws.

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
        count: Number of draws, J.
        seed: Seeds the draws.

    Returns:
        Positions in the examples [J, examples] and in the negatives [J, negatives].
    """
    generator = torch.Generator().manual_seed(seed)
    return Draws(
        torch.randint(examples, (count, examples), generator=generator).int(),
        torch.randint(negatives, (count, negatives), generator=generator).int(),
    )


def halves(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Divide positions at random into two halves, each in ascending order.

    Every second position would not do: images often alternate between kinds (two views, two
    classes in turn), and each half would then hold one kind alone.

    Args:
        count: Number of positions; one alone is in both halves.
        seed: Seeds the division.

    Returns:
        Positions [ceil(count / 2)] and the others.

    Example:
        >>> halves(5)
        (tensor([0, 1, 4]), tensor([2, 3]))
    """
    if count == 1:
        return torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    first, second = order[: (count + 1) // 2], order[(count + 1) // 2 :]
    return first.sort().values, second.sort().values
