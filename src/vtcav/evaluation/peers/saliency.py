"""Saliency methods: maps of the pixels that a class score depends on, without concepts.

Letters and shapes: x [N, 3, H, W] the network's input, F [N, C, h, w] feature maps and G
[N, C, h, w] the gradient of one logit per image at a layer, maps [N, H, W] at the input's
resolution, regions [N, K, H, W] of K concepts in [0, 1].

The maps of gradient saliency and integrated gradients come from Captum, which is optional.
Grad-CAM needs only the gradient at a layer, which TCAV computes too.

Sources: Simonyan, Vedaldi, Zisserman 2014 (arXiv 1312.6034), Sundararajan, Taly, Yan 2017 (arXiv
1703.01365), Selvaraju et al. 2017 (arXiv 1610.02391).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as nnf
from PIL import Image
from torch import Tensor

from vtcav.errors import ExplanationError
from vtcav.evaluation.peers.extras import needed
from vtcav.images.signature import tensor_of_rgb
from vtcav.models.base import Model
from vtcav.models.classifier import Classifier
from vtcav.parameters import Words, check

Baseline = Literal["black", "zero"]
"""Where integrated gradients start: a black picture, preprocessed, or the zero tensor."""


def gradient_saliency(model: Model, x: Tensor, targets: Tensor) -> Tensor:
    """Return the largest absolute gradient over the channels of each pixel.

    Args:
        model: A `Classifier`.
        x: Preprocessed images [N, 3, H, W].
        targets: A class index for every image [N].

    Returns:
        Maps [N, H, W], at least 0.

    Raises:
        ExplanationError: For a model whose input cannot be differentiated.
        ExtraError: When Captum is absent.
    """
    with differentiable_scores(model) as score:
        saliency = _captum().Saliency(score)
        found: Tensor = saliency.attribute(_leaf(model, x), targets.to(model.device), abs=True)
    return found.detach().float().amax(1)


def integrated_gradients(
    model: Model,
    x: Tensor,
    targets: Tensor,
    baseline: Baseline = "black",
    steps: int = 50,
    batch_size: int = 16,
) -> Tensor:
    """Return integrated gradients of the input, summed over the channels of each pixel.

    Gauss-Legendre quadrature, as Captum's default. The sum of a map is about the logit of the
    image minus that of the baseline.

    Args:
        model: A `Classifier`.
        x: Preprocessed images [N, 3, H, W].
        targets: A class index for every image [N].
        baseline: "black" is a black picture through the model's preprocessing; "zero" the zero
            tensor, which under the usual normalisation is a picture of the mean colour.
        steps: Points of the quadrature.
        batch_size: Images per pass, at least N.

    Returns:
        Signed maps [N, H, W], in units of the logit.

    Raises:
        ExplanationError: For a model whose input cannot be differentiated, or when a black
            picture does not get the shape of x.
        ExtraError: When Captum is absent.
    """
    if model.picture_channels is not None:
        raise ExplanationError(
            "integrated gradients of the input are not for networks with a second input"
        )
    start = _baseline(model, x, baseline)
    with differentiable_scores(model) as score:
        found: Tensor = (
            _captum()
            .IntegratedGradients(score)
            .attribute(
                _leaf(model, x),
                start,
                targets.to(model.device),
                n_steps=steps,
                internal_batch_size=max(batch_size, len(x)),
            )
        )
    return found.detach().float().sum(1)


def grad_cam(F: Tensor, G: Tensor, size: tuple[int, int]) -> Tensor:
    """Return Grad-CAM maps: ReLU(sum_c mean_hw(G_c) F_c), brought to the input's resolution.

    Args:
        F: Feature maps [N, C, h, w].
        G: Gradients of one logit per image [N, C, h, w].
        size: H and W.

    Returns:
        Maps [N, H, W], at least 0.

    Example:
        >>> import torch
        >>> F, G = torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]]]]), torch.ones(1, 2, 1, 2)
        >>> grad_cam(F, G * torch.tensor([[[[1.0]], [[-0.5]]]]), (1, 2))
        tensor([[[0., 2.]]])
    """
    cam = (G.mean((2, 3), keepdim=True) * F).sum(1, keepdim=True).relu()
    return upsample(cam, size)[:, 0]


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps [N, K, h, w] at H x W, bilinear, cells centred on the pixels they cover."""
    return nnf.interpolate(maps.float(), size=size, mode="bilinear", align_corners=False)


def mass_inside(maps: Tensor, regions: Tensor) -> Tensor:
    """Return the share of a map's positive mass that lies inside a region.

    sum(max(map, 0) * region) / sum(max(map, 0)): 1 when all of it does. An uninformative map
    gives the share of the image that the region covers, not 0.

    Args:
        maps: Maps [N, H, W].
        regions: Regions [N, K, H, W] in [0, 1].

    Returns:
        Shares [N, K] in [0, 1]; NaN for a map without positive mass.

    Example:
        >>> import torch
        >>> maps = torch.tensor([[[3.0, 1.0, -5.0]]])
        >>> mass_inside(maps, torch.tensor([[[[1.0, 0.0, 1.0]]]]))
        tensor([[0.7500]])
    """
    positive = maps.float().clamp(min=0)
    total = positive.sum((1, 2))
    inside = torch.einsum("nhw,nkhw->nk", positive, regions.to(positive))
    share = inside / torch.where(total > 0, total, 1.0)[:, None]
    return torch.where(total[:, None] > 0, share, math.nan)


@contextmanager
def differentiable_scores(model: Model) -> Iterator[Callable[[Tensor], Tensor]]:
    """Yield x [N, 3, H, W] -> scores [N, T] that can be differentiated; the model is borrowed.

    For a single logit z the scores are (-z, z), so that a class index selects its own.

    Raises:
        ExplanationError: For a model that is no `Classifier`.
    """
    if not isinstance(model, Classifier):
        raise ExplanationError(
            "gradients of the input need a vtcav.Classifier (a PyTorch network), got "
            f"{type(model).__name__}; leave out 'saliency' and 'integrated_gradients'"
        )

    def both_classes(z: Tensor) -> Tensor:
        return torch.cat([-z, z], 1)

    with model.differentiable() as logits:
        yield (lambda x: both_classes(logits(x))) if model.binary else logits


def check_captum() -> None:
    """Refuse to start without Captum.

    Raises:
        ExtraError: With the line that installs it.
    """
    _captum()


# -- inside -----------------------------------------------------------------------------------


def _captum() -> Any:
    return needed("captum.attr", "gradient saliency and integrated gradients need Captum")


def _leaf(model: Model, x: Tensor) -> Tensor:
    """Return the input in the network's precision, as a leaf of the graph."""
    dtype = model.dtype if isinstance(model, Classifier) else x.dtype
    return x.detach().to(model.device, dtype).clone().requires_grad_()


def _baseline(model: Model, x: Tensor, baseline: Baseline) -> Tensor:
    """Return the starting point [1, 3, H, W] of the integral."""
    if check("baseline", baseline, Words("black", "zero")) == "zero":
        return torch.zeros_like(_leaf(model, x[:1]).detach())
    black = Image.new("RGB", (x.shape[3], x.shape[2]))
    made = tensor_of_rgb(model.preprocess, black, "a black picture")
    if made.shape != x.shape[1:]:
        raise ExplanationError(
            f"the preprocessing makes a black picture of the input's size {tuple(made.shape)}, "
            f"expected {tuple(x.shape[1:])}; use baseline='zero'"
        )
    return _leaf(model, made[None]).detach()
