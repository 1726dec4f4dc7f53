r"""Causal effects of a cue on a class score, measured by removing the cue from the picture.

Let x be an image of class t that shows both cues, tag and texture, and x\tag, x\texture, x\both
the same image with cues replaced by the background behind them:

- effect in logits:      e = z_t(x) - z_t(x\cue)
- the class's logit gap: g = z_t(x) - z_t(x\both)
- share of the gap:      e / g

A concept attribution is a share of the logit difference z_t(F) - z_t(0) of the class where it is
largest. The share of the gap is the same quantity, with an image without both cues (x\both) instead
of zero feature maps. For a class the share is mean(e) / mean(g) over its images: a mean of single
shares would be dominated by images with small gaps.

Softmax is invariant to a constant that is added to all logits of an image. The centred effect
removes such constants: it uses z_t minus the mean of all logits instead of z_t.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vtcav.errors import ExplanationError

CUES = ("tag", "texture")
"""The cues of a class."""

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

    def scores(z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the logits of the images' classes, as they are and centred [2, N]."""
        raw = z[np.arange(len(labels)), labels]
        return np.stack([raw, raw - z.mean(1)])

    gap, centred_gap = scores(whole) - scores(neither)
    found = {}
    for cue, logits in without.items():
        effect, centred = scores(whole) - scores(logits)
        found[cue] = Effects(effect, gap, centred, centred_gap)
    return found
