"""Which concepts the place filters of others answer, too."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vtcav.method.erasure.joined_map import layer_weight
from vtcav.method.erasure.place_filter import Answers

ANSWERED = 0.25
"""The share of its answer to its own concept from which on a filter answers another."""
CLEARER = 1.5
"""How many times more one filter answers the other's concept than the other way round."""


def answered(answers: Sequence[Answers | None], seen: Sequence[Tensor]) -> Tensor | None:
    """Return what the filters of several layers together answer to each concept [K, K].

    Args:
        answers: What the filters of each layer answer; None where it is not known.
        seen: Held-out AUC of each layer [K].

    Returns:
        Row i, column j is what the filter of concept j answers to concept i, relative to its
        answer to its own; None where no layer knows.
    """
    known = [(each, auc) for each, auc in zip(answers, seen, strict=True) if each is not None]
    if not known:
        return None
    weights = torch.stack([layer_weight(auc) for _, auc in known])
    weights = weights / weights.sum(0).clamp(min=1e-6)
    to = torch.stack([each.to.clamp(0, 1) for each, _ in known])
    together = (to * weights[:, None].to(to)).sum(0)
    own = together.diagonal()
    return together / torch.where(own > 0, own, 1.0)


def confused(together: Tensor) -> list[list[int]]:
    """Return for each concept the others that its filter takes for it, and not the other way round.

    Args:
        together: What `answered` returns [K, K].

    Example:
        >>> confused(torch.tensor([[1.0, 0.9], [0.2, 1.0]]))  # to the second, not the first
        [[], [0]]
    """
    answers = (together >= ANSWERED) & (together >= CLEARER * together.T)
    return [own.nonzero().flatten().tolist() for own in answers.fill_diagonal_(False).T]
