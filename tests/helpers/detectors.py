"""Small detectors of torchvision and transformers with random weights."""

import importlib
from collections import OrderedDict

import torch
import torch.nn.functional as functional
from torch import nn

_libraries = []


class Backbone(nn.Sequential):
    """Maps [N, 32, 8, 8] of 32 x 32 images: layers "0" to "4"."""

    out_channels = 32

    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(16, 32, 3, 1, 1),
        )  # fmt: skip


class Pool(nn.Module):
    """Regions of maps by bilinear sampling, as torchvision's compiled operator is not there."""

    def forward(self, maps, regions, shapes):
        F = maps["0"]
        height, width = shapes[0]
        found = []
        for n, own in enumerate(regions):
            steps = (torch.arange(3) + 0.5) / 3
            x = own[:, None, 0] + (own[:, 2] - own[:, 0])[:, None] * steps
            y = own[:, None, 1] + (own[:, 3] - own[:, 1])[:, None] * steps
            grid = torch.stack([
                (x / width * 2 - 1)[:, None].expand(-1, 3, -1),
                (y / height * 2 - 1)[:, :, None].expand(-1, -1, 3),
            ], -1)  # fmt: skip
            rows = F[n : n + 1].expand(len(own), -1, -1, -1)
            found.append(functional.grid_sample(rows, grid, align_corners=False))
        return torch.cat(found)


def _suppressed(boxes, scores, overlap):
    """Non-maximum suppression."""
    kept, order = [], scores.argsort(descending=True).tolist()
    for i in order:
        low = torch.maximum(boxes[kept, :2], boxes[i, :2])
        both = (torch.minimum(boxes[kept, 2:], boxes[i, 2:]) - low).clamp(min=0).prod(-1)
        area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
        if (both / (area[kept] + area[i] - both) <= overlap).all():
            kept.append(i)
    return torch.tensor(kept, dtype=torch.long)


def supply_operators():
    """Supply torchvision's non-maximum suppression, where only its name is known."""
    if not _libraries:
        try:
            torch.ops.torchvision.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
        except NotImplementedError:
            library = torch.library.Library("torchvision", "IMPL")
            library.impl("nms", _suppressed, "CPU")
            _libraries.append(library)
            importlib.import_module("torchvision.ops.boxes")._assert_has_ops = lambda: None


def detector(kind, classes=4):
    """Return a detector of 32 x 32 images: "faster", "retina" or "fcos"."""
    supply_operators()
    found = importlib.import_module("torchvision.models.detection")
    anchors = importlib.import_module("torchvision.models.detection.anchor_utils").AnchorGenerator
    torch.manual_seed(3)
    # random weights give small scores: all are to be candidates
    size = {"min_size": 32, "max_size": 32}
    if kind == "faster":
        net = found.FasterRCNN(
            Backbone(), None, **size, box_score_thresh=0.0,
            rpn_anchor_generator=anchors(((8, 16),), ((1.0,),)),
            box_head=nn.Sequential(nn.Flatten(), nn.Linear(32 * 9, 12), nn.ReLU()),
            box_predictor=found.faster_rcnn.FastRCNNPredictor(12, classes),
            rpn_pre_nms_top_n_test=24, rpn_post_nms_top_n_test=12,
        )  # fmt: skip
        net.roi_heads.box_roi_pool = Pool()
    elif kind == "retina":
        net = found.RetinaNet(
            Backbone(), classes, **size, anchor_generator=anchors(((8, 16),), ((1.0,),)),
            score_thresh=0.0,
        )  # fmt: skip
    else:
        net = found.FCOS(
            Backbone(), classes, **size, anchor_generator=anchors(((8,),), ((1.0,),)),
            head=found.fcos.FCOSHead(32, 1, classes, num_convs=1), score_thresh=0.0,
        )  # fmt: skip
    return with_weights(net)


def with_weights(net):
    """Fill a network with sizeable weights and biases, as trained ones have."""
    for name, parameter in net.named_parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, 0, (1.5 / parameter[0].numel()) ** 0.5)
        elif name.endswith("bias"):
            nn.init.normal_(parameter, 0, 0.2)
    return net.eval()


def segmenter(classes=3):
    """Return a DeepLabV3 of 32 x 32 images."""
    found = importlib.import_module("torchvision.models.segmentation.deeplabv3")
    torch.manual_seed(3)

    class Body(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = Backbone()

        def forward(self, x):
            return OrderedDict(out=self.body(x))

    head = nn.Sequential(found.ASPP(32, [2, 4], 12), nn.ReLU(), nn.Conv2d(12, classes, 1))
    return with_weights(found.DeepLabV3(Body(), head))


def detr(classes=3):
    """Return a DETR of transformers for 32 x 32 images."""
    from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

    torch.manual_seed(1)  # of any version: raises a class
    backbone = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic",
        out_features=["stage2"],
    )  # fmt: skip
    config = DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None,
        backbone_config=backbone, num_queries=5, d_model=16, encoder_layers=1,
        decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=16, decoder_ffn_dim=16, num_labels=classes,
    )  # fmt: skip
    return with_weights(DetrForObjectDetection(config))
