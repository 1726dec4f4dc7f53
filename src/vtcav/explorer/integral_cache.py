"""The integrated gradients of pictures, kept because they depend on no concept.

The rule is the trapezoid rule with a fixed number of steps. The adaptive rule stops when the
attributions of the concepts at hand converge, so it would start again with every patch. The rule
with half the steps, whose points are among those of the whole rule, shows how exact it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vtcav.explorer.lru import RecentlyUsed
from vtcav.explorer.scheduling import PriorityLock
from vtcav.method.integral.trapezoid import Integral, integrate, trapezoid
from vtcav.models.base import Head

__all__ = ["IntegralCache"]

_Pair = tuple[Tensor, Tensor | None]


class IntegralCache:
    """Integrated gradients by picture, layer and logit.

    Args:
        steps: Steps of the trapezoid rule.
        batch_size: Points per pass through the head.
        budget: Bytes to keep.
    """

    def __init__(self, steps: int, batch_size: int, budget: int) -> None:
        self._steps = steps
        self._batch_size = batch_size
        self._kept: RecentlyUsed[tuple[str, str, int], _Pair] = RecentlyUsed(budget, _bytes)

    def missing(self, picture: str, layer: str, logits: Sequence[int]) -> list[int]:
        """Return the logits whose integral is not known."""
        known = {t: self._kept.get((picture, layer, t)) for t in logits}
        return [t for t, pair in known.items() if pair is None]

    def find(
        self, picture: str, layer: str, logits: Sequence[int]
    ) -> tuple[Integral, Tensor | None] | None:
        """Return the integral of T logits, and IG with half the steps.

        Returns:
            The integral, and IG [1, T, C, h, w] of the rule with half the steps, which is None if
            the number of steps is odd; or None if one of the integrals is not known.
        """
        found = [self._kept.get((picture, layer, t)) for t in logits]
        pairs = [pair for pair in found if pair is not None]
        if len(pairs) < len(found):
            return None
        halves = [half for _, half in pairs if half is not None]
        integral = Integral(
            torch.stack([whole for whole, _ in pairs])[None],
            torch.full((1, 1, 1), torch.nan),
            torch.ones(1, dtype=torch.bool),
            torch.full((1,), self._steps + 1),
        )
        return integral, torch.stack(halves)[None] if len(halves) == len(pairs) else None

    def compute(
        self,
        picture: str,
        head: Head,
        F: Tensor,
        logits: Sequence[int],
        lock: PriorityLock,
        report: Callable[[int, int], None],
    ) -> None:
        """Integrate a few points at a time, and let urgent users of the network in between.

        Args:
            picture: Its key.
            head: The network after the layer, bound to this picture.
            F: Its feature maps [1, C, h, w].
            logits: Indices of the logits to differentiate.
            lock: Held by who uses the network.
            report: Takes the number of points done and of all; what it raises ends the work.
        """
        alpha, weight = trapezoid(self._steps)
        parts = [(alpha[0::2], 2 * weight[0::2]), (alpha[1::2], weight[1::2])]
        if self._steps % 2:
            parts = [(alpha, weight)]
        wanted = torch.tensor([list(logits)], device=F.device)
        sums, done, size = [], 0, self._batch_size
        for points, weights in parts:
            total = torch.zeros(1, len(logits), *F.shape[1:], device=F.device)
            for i in range(0, len(points), size):
                report(done, len(alpha))
                piece = slice(i, i + size)
                with lock.hold(urgent=False):
                    part = integrate(
                        head, F, wanted, points[piece], weights[piece], batch_size=size
                    )
                total += part.IG
                done += len(points[piece])
            sums.append(total[0])
        # Every other point is one of the rule with half the steps, which weighs it twice as much.
        whole = sums[0] if len(sums) == 1 else sums[0] / 2 + sums[1]
        halves = [None] * len(logits) if len(sums) == 1 else [half.clone() for half in sums[0]]
        keys = [(picture, head.layer, t) for t in logits]
        self._kept.put({key: (whole[n].clone(), halves[n]) for n, key in enumerate(keys)})

    def forget(self, picture: str) -> None:
        """Forget all integrals of a picture."""
        self._kept.forget(lambda key: key[0] == picture)


def _bytes(pair: _Pair) -> int:
    return sum(tensor.nbytes for tensor in pair if tensor is not None)
