"""Scores at zero feature maps, where integrated gradients begin, beside the scores of images.

The attribution of a class is a share of z_t(F) - z_t(0). Where the classes' scores lie far apart at
zero maps already, this difference says more about zero maps than about the image: classes that
score high there get too little, and an image that scores no higher gets 0 for every concept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ZeroMaps:
    """Scores at zero feature maps of a layer, and of n images.

    Attributes:
        scores: Scores of the classes at zero maps [n, T]; [1, T] where no image changes them.
        spread: The standard deviation over the classes of each image's scores [n].
        raised: Whether each image's most probable class scores higher than at zero maps [n].
    """

    scores: Tensor
    spread: Tensor
    raised: Tensor

    @classmethod
    def of(cls, scores: Tensor, images: Tensor, *, binary: bool) -> ZeroMaps:
        """Return what scores at zero maps and of images give.

        Args:
            scores: At zero maps [n or 1, T].
            images: Of the images [n, T].
            binary: Whether they are those of a single logit. It gets no zeros: its attributions
                are not shares of the difference.

        Example:
            >>> z0, z = torch.tensor([[0.0, 3.0]]), torch.tensor([[4.0, 0.0], [0.0, 2.0]])
            >>> found = ZeroMaps.of(z0, z, binary=False)
            >>> found.apart, found.raised
            (1.0, tensor([ True, False]))
        """
        best = images.argmax(1, keepdim=True)
        gap = (images - scores).gather(1, best)[:, 0]
        raised = (gap > 0) | gap.isnan() | binary
        return cls(scores.cpu(), images.std(1, correction=0).cpu(), raised.cpu())

    @classmethod
    def joined(cls, parts: Sequence[ZeroMaps]) -> ZeroMaps:
        """Return what several sets of images give together."""
        scores = torch.cat([part.scores for part in parts])
        # a batch may have one image, whose prefix tokens change the scores
        same = all(torch.equal(part.scores, scores[:1]) for part in parts)
        return cls(
            scores[:1] if same else scores,
            torch.cat([part.spread for part in parts]),
            torch.cat([part.raised for part in parts]),
        )

    @property
    def apart(self) -> float:
        """How far the classes' scores lie apart at zero maps, as a share of that for the images.

        Standard deviations over the classes; NaN where the scores at zero maps are not finite.
        """
        at_zero = float(self.scores.double().std(1, correction=0).mean())
        return at_zero / max(float(self.spread.double().mean()), torch.finfo().tiny)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by name, for a file."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
