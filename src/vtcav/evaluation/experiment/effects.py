r"""Causal effects of a cue on a class score, measured by taking the cue out of the picture.

With x an image of class t that shows both cues, tag and texture, and x\tag, x\texture, x\both
the same image with them replaced by the background behind:

- effect in logits:      e = z_t(x) - z_t(x\cue)
- the class's logit gap: g = z_t(x) - z_t(x\both)
- share of the gap:      e / g

A concept attribution is a share of the rise z_t(F) - z_t(0) of the most risen class, so the share
of the gap is what it claims to measure, with "nothing of the class is there" (x\both) in the
place of zero feature maps. For a class the share is mean(e) / mean(g) over its images: the mean
of the single shares would give the images with small gaps the say.

Softmax does not see a constant that is added to all logits of an image. The centred effect leaves
such constants out: z_t minus the mean of all logits takes the place of z_t.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vtcav.errors import ExplanationError

__all__ = ["CUES", "Effects", "causal_effects"]

CUES = ("tag", "texture")
"""What a class can be read off."""

_SMALLEST_GAP = 1e-6


@dataclass(frozen=True, eq=False)
class Effects:
    """Causal effects of one cue on the logit of each image's class.

    Attributes:
        effect: e in logits [N].
        gap: g in logits [N].
        centred: e of the centred logit [N].
        centred_gap: g of the centred logit [N].
    """

    effect: NDArray[np.float64]
    gap: NDArray[np.float64]
    centred: NDArray[np.float64]
    centred_gap: NDArray[np.float64]

    def share(self, chosen: NDArray[np.bool_] | None = None, *, centred: bool = False) -> float:
        """Return mean(e) / mean(g) over the chosen images; NaN where there is no gap.

        Args:
            chosen: Which images [N]; None takes all.
            centred: Whether to use the centred logit.
        """
        e, g = (self.centred, self.centred_gap) if centred else (self.effect, self.gap)
        on = np.ones(len(e), bool) if chosen is None else chosen
        gap = float(g[on].mean()) if on.any() else 0.0
        return float(e[on].mean()) / gap if gap > _SMALLEST_GAP else float("nan")

    @property
    def shares(self) -> NDArray[np.float64]:
        """The share e / g of every image [N]; NaN where the gap is not above 0."""
        gap = np.where(self.gap > _SMALLEST_GAP, self.gap, np.nan)
        shares: NDArray[np.float64] = self.effect / gap
        return shares


def causal_effects(
    whole: NDArray[np.float64],
    without: Mapping[str, NDArray[np.float64]],
    neither: NDArray[np.float64],
    labels: NDArray[np.intp],
) -> dict[str, Effects]:
    """Return the effects of each cue.

    Args:
        whole: Logits of the images as they are [N, T].
        without: By cue, logits of the images without it [N, T].
        neither: Logits of the images without any cue [N, T].
        labels: The class of each image [N].

    Raises:
        ExplanationError: For logits of different shapes.

    Example:
        >>> found = causal_effects(
        ...     np.array([[5.0, 1.0]]), {"tag": np.array([[2.0, 1.0]])}, np.array([[1.0, 1.0]]),
        ...     np.array([0]))
        >>> float(found["tag"].effect[0]), float(found["tag"].gap[0]), found["tag"].share()
        (3.0, 4.0, 0.75)
    """
    for logits in (*without.values(), neither):
        if logits.shape != whole.shape:
            raise ExplanationError(
                f"expected logits {list(whole.shape)} for every version of the images, got "
                f"{list(logits.shape)}"
            )
    n = np.arange(len(labels))

    def score(z: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        raw = z[n, labels]
        return raw, raw - z.mean(1)

    (z, c), (z_neither, c_neither) = score(whole), score(neither)
    found = {}
    for cue, logits in without.items():
        z_without, c_without = score(logits)
        found[cue] = Effects(z - z_without, z - z_neither, c - c_without, c - c_neither)
    return found
