"""Scores of detectors: the logit of a box of the plain pass, for each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from vtcav.errors import ModelError, brief
from vtcav.models.scores.held import HeldScore, part_of


@runtime_checkable
class Candidates(Protocol):
    """Boxes of a pass of a detector that finds its own."""

    def chosen(self, score: BoxScore) -> Tensor:
        """Return what is held of each image, [N, T, ...]."""

    def logits_at(self, held: Tensor, classes: Sequence[int] | None) -> Tensor:
        """Return the logits [N, T] of what is held."""


class BoxScore(HeldScore):
    """The logit of each class at one box of the plain pass.

    The box is chosen in the plain pass of each image, and held: the candidate (an anchor, a query
    or a proposal) of the largest logit of the class, among those whose box overlaps a given one.

    It takes the outputs of `RawDetector`, of DETR and its kin in transformers (`logits` [N, Q, T]
    and `pred_boxes` [N, Q, 4]), and dicts with "logits" [N, Q, T] and "boxes" [N, Q, 4], left, top,
    right and bottom in shares of the input's width and height.

    Args:
        box: Left, top, right and bottom, in shares 0..1 of the width and the height of the
            network's input. None takes the strongest candidate anywhere.
        classes: The indices of the classes, in the order of the scores; None for all that the
            network has, background included.
        overlap: The least intersection over union with `box`. Where no candidate has it, the one
            that overlaps most is taken.

    Raises:
        ModelError: For a box or an overlap out of range.

    Example:
        >>> output = {
        ...     "logits": torch.tensor([[[1.0, 5.0], [3.0, 2.0]]]),
        ...     "boxes": torch.tensor([[[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]]])}
        >>> BoxScore()(output)
        tensor([[3., 5.]])
        >>> BoxScore((0.5, 0.5, 0.9, 0.9))(output)
        tensor([[3., 2.]])
    """

    def __init__(
        self,
        box: Sequence[float] | None = None,
        classes: Sequence[int] | None = None,
        overlap: float = 0.5,
    ) -> None:
        self.box = None if box is None else tuple(map(float, box))
        self.classes = None if classes is None else tuple(map(int, classes))
        self.overlap = float(overlap)
        if self.box is not None and not _is_box(self.box):
            raise ModelError(
                "expected box to be left, top, right and bottom in shares of the input, 0 <= left "
                f"< right <= 1 and 0 <= top < bottom <= 1, got {brief(box)}"
            )
        if not 0 < self.overlap <= 1:
            raise ModelError(f"expected overlap in (0, 1], got {overlap!r}")

    def __repr__(self) -> str:
        return f"BoxScore(box={self.box}, classes={self.classes}, overlap={self.overlap:g})"

    def hold(self, output: Any) -> Tensor:
        """Return the chosen candidate of each class [N, T, ...]."""
        if isinstance(output, Candidates):
            return output.chosen(self)
        logits, boxes = _dense(output)
        return self.choose(logits, boxes)

    def read(self, output: Any, held: Tensor) -> Tensor:
        """Return the logits [N, T] of the candidates that are held."""
        if isinstance(output, Candidates):
            return output.logits_at(held, self.classes)
        return at_candidates(_dense(output)[0], held, self.classes)

    def choose(self, logits: Tensor, boxes: Tensor) -> Tensor:
        """Return the index of a candidate for each class [N, T].

        Args:
            logits: Of the candidates [N, Q, T].
            boxes: Their boxes [N, Q, 4] or, where each class has its own, [N, Q, T, 4], in shares.
        """
        logits = of_classes(logits, self.classes)
        if self.box is None:
            return logits.argmax(1)
        boxes = boxes[:, :, None] if boxes.ndim == 3 else of_classes(boxes.mT, self.classes).mT
        overlaps = _overlaps(boxes, torch.tensor(self.box).to(boxes)).expand_as(logits)
        near = overlaps >= self.overlap
        best = logits.masked_fill(~near, -torch.inf).argmax(1)
        return torch.where(near.any(1), best, overlaps.argmax(1))


def of_classes(values: Tensor, classes: Sequence[int] | None) -> Tensor:
    """Return the values [..., T] of some classes."""
    return values if classes is None else values[..., list(classes)]


def at_candidates(logits: Tensor, held: Tensor, classes: Sequence[int] | None) -> Tensor:
    """Return the logits [N, T] at the index of each class [N, T] among candidates [N, Q, T]."""
    return of_classes(logits, classes).gather(1, held[:, None])[:, 0]


def _dense(output: Any) -> tuple[Tensor, Tensor]:
    """Return logits [N, Q, T] and boxes [N, Q, 4] in shares."""
    logits = part_of(output, "logits", "pred_logits")
    try:
        centre, extent = part_of(output, "pred_boxes").split(2, -1)
    except KeyError:
        boxes: Tensor = part_of(output, "boxes", "pred_boxes")
        return logits, boxes
    return logits, torch.cat([centre - extent / 2, centre + extent / 2], -1)


def _overlaps(boxes: Tensor, box: Tensor) -> Tensor:
    """Return the intersection over union of boxes [..., 4] with one [4]."""
    corner = torch.minimum(boxes[..., 2:], box[2:]) - torch.maximum(boxes[..., :2], box[:2])
    both = corner.clamp(min=0).prod(-1)
    areas = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)
    overlaps: Tensor = both / (areas + (box[2:] - box[:2]).prod() - both).clamp(min=1e-12)
    return overlaps


def _is_box(box: Sequence[float]) -> bool:
    return len(box) == 4 and 0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1
