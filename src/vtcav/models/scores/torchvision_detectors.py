"""Detectors of torchvision without their choice of boxes, which no gradient passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vtcav.errors import ModelError
from vtcav.models.scores.boxes import at_candidates, of_classes

if TYPE_CHECKING:
    from vtcav.models.scores.boxes import BoxScore


class RawDetector(nn.Module):
    """A detector of torchvision as a network whose boxes `BoxScore` can score.

    Faster, Mask and Keypoint R-CNN, RetinaNet, FCOS and SSD. The detector itself returns boxes
    after non-maximum suppression, whose number and order jump from pass to pass.

    Args:
        detector: The detector. It resizes and normalises images itself, as it was built to.

    Raises:
        ModelError: For another kind of module.
    """

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        if not hasattr(detector, "transform") or not (_finds(detector) or _is_dense(detector)):
            raise ModelError(
                "expected a detector of torchvision (Faster R-CNN and its kin, RetinaNet, FCOS, "
                f"SSD), got {type(detector).__name__}; BoxScore takes DETR as it is"
            )
        self.detector = detector

    def forward(self, images: Tensor) -> DenseBoxes | ProposedBoxes:
        """Return the candidates of images [N, C, H, W]."""
        net: Any = self.detector
        batch, _ = net.transform(list(images), None)
        maps = net.backbone(batch.tensors)
        maps = {"0": maps} if isinstance(maps, Tensor) else maps
        if _finds(net):
            return ProposedBoxes(maps, batch.tensors, tuple(batch.image_sizes[0]), net)
        outputs = net.head(list(maps.values()))
        anchors = net.anchor_generator(batch, list(maps.values()))[0]
        return DenseBoxes(
            outputs["cls_logits"],
            outputs["bbox_regression"],
            torch.as_tensor(anchors),
            tuple(batch.image_sizes[0]),
            net.box_coder,
        )


def _finds(detector: nn.Module) -> bool:
    return all(hasattr(detector, name) for name in ("backbone", "rpn", "roi_heads"))


def _is_dense(detector: nn.Module) -> bool:
    return all(hasattr(detector, name) for name in ("backbone", "head", "anchor_generator"))


@dataclass(frozen=True, eq=False)
class DenseBoxes:
    """The candidates of a detector that scores every anchor.

    Attributes:
        logits: [N, A, T].
        offsets: [N, A, 4], from the anchors to the boxes.
        anchors: [A, 4].
        size: Height and width of the images as the detector resized them.
        coder: What makes boxes of offsets and anchors.
    """

    logits: Tensor
    offsets: Tensor
    anchors: Tensor
    size: tuple[int, int]
    coder: Any

    def chosen(self, score: BoxScore) -> Tensor:
        """Return the index of an anchor for each class [N, T]."""
        single = getattr(self.coder, "decode_single", None) or self.coder.decode
        with torch.no_grad():
            boxes = torch.stack([single(offsets, self.anchors) for offsets in self.offsets])
            return score.choose(self.logits, _in_shares(boxes, self.size))

    def logits_at(self, held: Tensor, classes: Sequence[int] | None) -> Tensor:
        """Return the logits [N, T] of the anchors."""
        return at_candidates(self.logits, held, classes)


@dataclass(frozen=True, eq=False)
class _Images:
    """Images as the detector's parts take them."""

    tensors: Tensor
    image_sizes: list[tuple[int, int]]


@dataclass(frozen=True, eq=False)
class ProposedBoxes:
    """The candidates of a detector that proposes regions, and scores these.

    Attributes:
        maps: Feature maps by name.
        images: The images as the detector resized and padded them [N, C, H, W].
        size: Height and width of the images before they were padded.
        detector: The detector, whose heads run for what is asked for.
    """

    maps: Mapping[str, Tensor]
    images: Tensor
    size: tuple[int, int]
    detector: Any

    def chosen(self, score: BoxScore) -> Tensor:
        """Return a proposed region for each class [N, T, 4]."""
        count = len(next(iter(self.maps.values())))
        with torch.no_grad():
            images = _Images(self.images.expand(count, -1, -1, -1), [self.size] * count)
            proposals, _ = self.detector.rpn(images, dict(self.maps), None)
            logits, offsets = self._heads(proposals)
            boxes = self.detector.roi_heads.box_coder.decode(offsets, proposals)
            sizes = [len(own) for own in proposals]
            held = [
                own[score.choose(z[None], _in_shares(b[None], self.size))[0]]
                for own, z, b in zip(
                    proposals, torch.split(logits, sizes), torch.split(boxes, sizes), strict=True
                )
            ]
        return torch.stack(held)

    def logits_at(self, held: Tensor, classes: Sequence[int] | None) -> Tensor:
        """Return the logits [N, T] of the regions [N, T, 4], each for its own class."""
        logits, _ = self._heads(list(held))
        own = of_classes(logits.reshape(*held.shape[:2], -1), classes)
        return own.diagonal(dim1=1, dim2=2)

    def _heads(self, regions: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits [R, T] and offsets of boxes [R, 4 T] of regions, image after image."""
        heads = self.detector.roi_heads
        pooled = heads.box_roi_pool(dict(self.maps), regions, [self.size] * len(regions))
        logits, offsets = heads.box_predictor(heads.box_head(pooled))
        return logits, offsets


def _in_shares(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return boxes [..., 4] in shares of the width and the height."""
    return boxes / boxes.new_tensor([size[1], size[0], size[1], size[0]])
