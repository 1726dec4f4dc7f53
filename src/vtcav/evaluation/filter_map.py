"""A variant of Visual-TCAV whose map is drawn by a filter, named beside the paper's definition.

The paper uses one direction v, the difference of mean activations, twice: to find the concept
(the raw map, step 2) and to weigh channels (the pooled CAV, step 7). v is a pattern: it says what
the concept does to the channels. It also answers to whatever else does that to them: where two
cues share the channels of a class, the map of one lights up on the other. A filter answers to the
concept and as little as possible to what else varies (Haufe et al., "On the interpretation of
weight vectors of linear models in multivariate neuroimaging", NeuroImage 87, 2014). With S the
covariance of the GAP activations inside the two sets, pooled, and the shrinkage l:

    w = (S + l mean(diag S) I)^-1 v        Fisher's linear discriminant

The variant draws the map with w (steps 2 to 4) and keeps v for the pooled CAV and everything
else. Letters and shapes are those of `vtcav.attribution`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtcav.attribution import class_share, concept_attribution, pooled_cav, positive_relevance
from vtcav.cav import emblem
from vtcav.concept_map import concept_map, contraharmonic_mean, raw_map
from vtcav.quadrature import integrate, trapezoid

if TYPE_CHECKING:
    from vtcav.explainer import VisualTCAV

__all__ = ["FILTER", "SHRINKAGE", "FilterMaps", "filter_direction", "fit_filters"]

FILTER = "visual_tcav_filter"
"""The name of the variant in tables."""
SHRINKAGE = 0.1
STEPS = 24
_BATCH = 32


def filter_direction(examples: Tensor, negatives: Tensor, shrinkage: float = SHRINKAGE) -> Tensor:
    """Return w [C] of one concept at one layer.

    Args:
        examples: GAP activations of the examples [n, C].
        negatives: Those of the negatives [m, C].
        shrinkage: l, above 0; the larger, the closer w is to the direction of v.

    Returns:
        w, as long as v, in the activations' precision.

    Example:
        >>> import torch
        >>> noise = torch.tensor([[0.0, 1.0], [0.0, -1.0]])  # the second channel varies
        >>> w = filter_direction(noise + torch.tensor([1.0, 1.0]), noise, shrinkage=0.01)
        >>> round(float(w[1] / w[0]), 3)
        0.005
    """
    inside = torch.cat([part - part.mean(0) for part in (examples, negatives)]).double()
    S = inside.T @ inside / len(inside)
    scale = S.diagonal().mean().clamp(min=1e-12)
    v = (examples.mean(0) - negatives.mean(0)).double()
    identity = torch.eye(len(S), dtype=S.dtype, device=S.device)
    w: Tensor = torch.linalg.solve(S + shrinkage * scale * identity, v)
    # the emblems' epsilon expects raw maps of the paper's size
    w = w * (v.norm() / w.norm().clamp(min=torch.finfo(w.dtype).tiny))
    return w.to(examples.dtype)


@dataclass(frozen=True, eq=False)
class FilterMaps:
    """Filters of the concepts of an explainer, with emblems of their own.

    Attributes:
        w: By layer [K, C].
        e_pos: By layer [K].
        e_neg: By layer [K].
    """

    explainer: VisualTCAV
    w: Mapping[str, Tensor]
    e_pos: Mapping[str, Tensor]
    e_neg: Mapping[str, Tensor]

    def separated(self, layer: str) -> NDArray[np.bool_]:
        """Tell for which concepts e+ > e- [K]; the maps of the others are 0."""
        found: NDArray[np.bool_] = (self.e_pos[layer] > self.e_neg[layer]).cpu().numpy()
        return found

    def maps(self, layer: str, F: Tensor) -> Tensor:
        """Return M [N, K, h, w] of feature maps at a layer."""
        parts = (self.w[layer], self.e_pos[layer], self.e_neg[layer])
        w, e_pos, e_neg = (part.to(F.device) for part in parts)
        return concept_map(raw_map(F, w), e_pos, e_neg)

    def attributions(self, x: Tensor, classes: Sequence[int]) -> dict[str, NDArray[np.float64]]:
        """Return, by layer, a [N, K] of one class for each image (steps 5 to 8).

        Args:
            x: Preprocessed images [N, 3, H, W].
            classes: The class of each image, N indices.
        """
        found: dict[str, list[Tensor]] = {layer: [] for layer in self.w}
        for start in range(0, len(x), _BATCH):
            part = slice(start, start + _BATCH)
            targets = torch.as_tensor(np.array(classes[part]))[:, None]
            for layer, a in self._batch(x[part], targets).items():
                found[layer].append(a)
        return {layer: torch.cat(parts).double().numpy() for layer, parts in found.items()}

    def _batch(self, x: Tensor, targets: Tensor) -> dict[str, Tensor]:
        model = self.explainer.model
        maps, z = model.activations_and_logits(x, list(self.w))
        targets = targets.to(z.device)
        alpha, weight = trapezoid(STEPS)
        found = {}
        for layer, F in maps.items():
            head = model.head(layer)
            with torch.no_grad():
                z0 = head(torch.zeros_like(F[:1]))
            M = self.maps(layer, F)
            v = self.explainer.cavs.layers[layer].v.to(F.device)
            IG = integrate(head, F, targets, alpha, weight, batch_size=_BATCH).IG
            s = class_share(z, z0).gather(1, targets)
            a = concept_attribution(positive_relevance(IG, F), s, M, pooled_cav(v, F, M))
            found[layer] = a[:, 0].cpu()
        return found


def fit_filters(
    explainer: VisualTCAV,
    examples: Mapping[str, Tensor],
    negatives: Mapping[str, Tensor],
    shrinkage: float = SHRINKAGE,
) -> FilterMaps:
    """Learn the filters of an explainer's concepts.

    Args:
        explainer: Fitted with the same examples and negatives.
        examples: Preprocessed examples [n, 3, H, W] by concept name.
        negatives: Preprocessed negatives [m, 3, H, W] by concept name.
        shrinkage: See `filter_direction`.
    """
    layers = explainer.layers
    w: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    e_pos: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    e_neg: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    for name in explainer.cavs.names:
        own, others = (
            explainer.model.activations(images[name], layers) for images in (examples, negatives)
        )
        for layer in layers:
            F_pos, F_neg = own[layer], others[layer]
            direction = filter_direction(F_pos.mean((2, 3)), F_neg.mean((2, 3)), shrinkage)
            w[layer].append(direction)
            for emblems, F in ((e_pos, F_pos), (e_neg, F_neg)):
                means = contraharmonic_mean(raw_map(F, direction[None]))
                emblems[layer].append(emblem(means)[0])
    stacked = (
        {layer: torch.stack(part) for layer, part in parts.items()} for parts in (w, e_pos, e_neg)
    )
    return FilterMaps(explainer, *stacked)
