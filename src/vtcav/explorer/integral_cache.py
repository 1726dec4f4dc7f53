"""The integrated gradients of the pictures looked at, which know no concept and so are kept.

The rule is the trapezoid rule with a fixed number of steps: the adaptive one stops when the
attributions of the concepts at hand stand still, so it would have to begin anew with every patch.
The same rule with half the steps, whose points are among them, tells how exact it is.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vtcav.explorer.scheduling import Turns
from vtcav.method.integral.trapezoid import Integral, integrate, trapezoid
from vtcav.models.base import Head

__all__ = ["Integrals", "Pair"]


@dataclass(frozen=True, eq=False)
class Pair:
    """Integrated gradients of one image at a layer.

    Attributes:
        fine: IG [1, T, C, h, w] with all steps.
        coarse: The same with half the steps; None where their number is odd.
        evaluations: Points of the rule.
    """

    fine: Tensor
    coarse: Tensor | None
    evaluations: int

    def integral(self) -> Integral:
        """Return it as `vtcav.explainer.layer_analysis.analyse` takes it."""
        return _integral(self.fine, self.evaluations)

    def rough(self) -> Integral | None:
        """Return that with half the steps."""
        return None if self.coarse is None else _integral(self.coarse, self.evaluations // 2 + 1)


class Integrals:
    """Integrated gradients by image, layer and logit, up to a budget.

    Args:
        steps: Of the trapezoid rule.
        batch_size: Points per pass through the head.
        budget: Bytes to keep.
    """

    def __init__(self, steps: int, batch_size: int, budget: int) -> None:
        self.steps = steps
        self._batch_size = batch_size
        self._budget = budget
        self._lock = threading.RLock()
        self._kept: OrderedDict[tuple[str, str, int], tuple[Tensor, Tensor | None]] = OrderedDict()

    def missing(self, image: str, layer: str, logits: Sequence[int]) -> list[int]:
        """Return the logits whose integral is not known."""
        with self._lock:
            return [t for t in dict.fromkeys(logits) if (image, layer, t) not in self._kept]

    def find(self, image: str, layer: str, logits: Sequence[int]) -> Pair:
        """Return the integral of logits that are all known.

        Raises:
            KeyError: When one is not.
        """
        with self._lock:
            found = [self._kept[image, layer, t] for t in logits]
            for t in logits:
                self._kept.move_to_end((image, layer, t))
        fine = torch.stack([pair[0] for pair in found])[None]
        halves = [half for _, half in found if half is not None]
        coarse = torch.stack(halves)[None] if len(halves) == len(found) else None
        return Pair(fine, coarse, self.steps + 1)

    def compute(
        self,
        image: str,
        head: Head,
        F: Tensor,
        logits: Sequence[int],
        turns: Turns,
        tell: Callable[[int, int], None],
    ) -> None:
        """Integrate a few points at a time, and let urgent users in between.

        Args:
            image: Its key.
            head: The network after the layer, of this image.
            F: Its feature maps [1, C, h, w].
            logits: To differentiate.
            turns: Who uses the network.
            tell: Told how many points are done, of how many; what it raises ends the work.
        """
        alpha, weight = trapezoid(self.steps)
        parts = [(alpha[0::2], 2 * weight[0::2]), (alpha[1::2], weight[1::2])]
        if self.steps % 2:
            parts = [(alpha, weight)]
        wanted = torch.tensor([list(logits)], device=F.device)
        sums, done = [], 0
        for points, weights in parts:
            total = torch.zeros(1, len(logits), *F.shape[1:], device=F.device)
            for i in range(0, len(points), self._batch_size):
                tell(done, len(alpha))
                piece = slice(i, i + self._batch_size)
                with turns.take(urgent=False):
                    found = integrate(
                        head, F, wanted, points[piece], weights[piece], batch_size=self._batch_size
                    )
                total += found.IG
                done += len(points[piece])
            sums.append(total[0])
        # every other point is one of the rule with half the steps, where it weighs twice as much
        fine = sums[0] if len(sums) == 1 else sums[0] / 2 + sums[1]
        with self._lock:
            for n, t in enumerate(logits):
                half = sums[0][n].clone() if len(sums) == 2 else None
                self._kept[image, head.layer, t] = fine[n].clone(), half
            self._shrink(len(logits))

    def forget(self, image: str) -> None:
        """Forget all integrals of an image."""
        with self._lock:
            for key in [key for key in self._kept if key[0] == image]:
                del self._kept[key]

    def _shrink(self, newest: int) -> None:
        def size(pair: tuple[Tensor, Tensor | None]) -> int:
            return pair[0].nbytes * (1 if pair[1] is None else 2)

        held = sum(map(size, self._kept.values()))
        while held > self._budget and len(self._kept) > newest:
            held -= size(self._kept.popitem(last=False)[1])


def _integral(IG: Tensor, evaluations: int) -> Integral:
    return Integral(
        IG,
        torch.full((1,), torch.nan),
        torch.ones(1, dtype=torch.bool),
        torch.full((1,), evaluations),
    )
