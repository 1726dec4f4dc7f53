"""Concept insertion and deletion: the class score while a concept is removed from feature maps.

This checks an explanation by intervention. In the notation of `concept_part`, D is the concept's
part of the feature maps F. Deletion tracks the class logit of F - tD for t from 0 to 1, insertion
that of F - (1 - t)D. One curve is the other reversed, so their areas are equal; both are reported
because both are in use.

Controls remove the same amount at the same positions along random directions: d with its channels
permuted, which keeps its norm and its sparsity.

Prefix tokens beside the maps (a class token) keep their values: what they hold of the concept
remains, and each image has its own logits at zero feature maps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtcav.errors import ExplanationError
from vtcav.evaluation.removal.curves import curves
from vtcav.evaluation.removal.result import InsertionDeletion, mean_controls, removal_row
from vtcav.explainer.visual_tcav import VisualTCAV
from vtcav.images.batches import Batch, Batches
from vtcav.images.listing import ImageSource, collect
from vtcav.images.progress import progress_bar
from vtcav.images.volumes import check_pictures
from vtcav.method.attribution import pooled_cav
from vtcav.method.concept_part import coefficient, concept_part
from vtcav.models.base import Head, Model
from vtcav.models.finite import check_finite
from vtcav.parameters import Whole, check
from vtcav.results.bank.cav_bank import CavBank

NOT_SEPARATED = "not separated: e+ <= e-, so the direction may not represent the concept"
NO_DIRECTION = "no channel points towards the concept, so nothing is removed"
NOTHING_THERE = "no position has more of the concept than the negatives, so nothing is removed"


def insertion_deletion(
    explainer: VisualTCAV,
    images: ImageSource,
    class_name: str | int,
    negatives: ImageSource | Mapping[str, ImageSource] | None = None,
    *,
    points: int = 11,
    controls: int = 20,
    seed: int = 0,
    limit: int | None = None,
    strict: bool = False,
    batch_size: int = 16,
) -> InsertionDeletion:
    """Remove every concept from images at every layer, and record the score of a class.

    The heads compute points * (controls + 1) feature maps for each image, layer and concept.

    Args:
        explainer: With its concepts learned.
        images: Usually of the class, in any form that `fit` takes.
        class_name: The class by name or index.
        negatives: Images on which beta, the usual amount of a direction, is measured: as in `fit`,
            or None for those that the concepts were learned with.
        points: Of the grid of t from 0 to 1, at least 2.
        controls: Random directions to compare with, 0 for none. The smallest p-value that they
            allow is 1 / (controls + 1).
        seed: Seeds the controls and the draw of `limit`.
        limit: At most this many images.
        strict: Whether an unreadable image is an error.
        batch_size: Images, or feature maps, per pass through the network.

    Returns:
        Areas under the class logit, p-values against the controls, and the curves.

    Raises:
        ImageError: When no image can be read, or one cannot when `strict`.
        ModelError: For an unknown class, or a network that gives infinite values or NaN.
        CavError: Before `fit`, or when the weights have changed since.
        ExplanationError: For settings out of range, or a concept without negatives.

    Example:
        >>> import numpy as np, torch, vtcav
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 5, stride=2), torch.nn.ReLU(),
        ...     torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 3))
        >>> model = vtcav.Classifier(net, ["cat", "dog", "fox"], vtcav.Preprocess(32))
        >>> noise = np.random.default_rng(0).integers(0, 255, (20, 32, 32, 3)).astype(np.uint8)
        >>> explainer = vtcav.VisualTCAV(model, ["1"])
        >>> explainer = explainer.fit({"dark": noise[:10] // 4}, noise[10:])
        >>> found = insertion_deletion(explainer, noise[:2] // 4, "cat", controls=9)
        >>> found.summary()[["layer", "concept", "n"]].to_string(index=False, header=False)
        '1 dark 2'
    """
    points = check("points", points, Whole(2))
    controls = check("controls", controls, Whole(0))
    batch_size = check("batch_size", batch_size, Whole(1))
    explainer.check_cavs()
    check_pictures(explainer.model.preprocess, "insertion and deletion")
    model = explainer.model
    index = model.class_index(class_name)
    refs = collect(images, limit=limit, seed=seed)
    usual = _usual_activations(explainer, negatives, batch_size, strict=strict)
    orders = _orders(explainer.cavs, controls, abs(int(seed)))
    shares = torch.linspace(0, 1, points, dtype=torch.float32)
    run = _Run(explainer, index, usual, orders, shares, batch_size)
    with progress_bar("removing concepts", len(refs), shown=explainer.progress) as progress:
        batches = Batches(refs, model.preprocess, batch_size, strict=strict, progress=progress)
        for batch in batches:
            run.measure(batch)
    settings = {
        "points": points,
        "controls": controls,
        "seed": int(seed),
        "limit": limit and int(limit),
        "batch_size": batch_size,
    }
    return InsertionDeletion(
        layers=tuple(explainer.layers),
        concepts=tuple(explainer.cavs.names),
        skipped=tuple(batches.skipped),
        provenance=explainer.provenance({"class": index, "insertion_deletion": settings}),
        class_index=index,
        class_name=model.class_names[index],
        controls=controls,
        _rows=pd.DataFrame(run.rows),
        _points=pd.concat(run.points, ignore_index=True),
        _control_points=mean_controls(run.controls, run.t.double().numpy()),
    )


@dataclass(frozen=True, eq=False)
class _Run:
    """Removal of concepts from images, for one class.

    Attributes:
        explainer: With its concepts learned.
        index: The class.
        usual: Mean activations of each concept's negatives [K, C], by layer.
        orders: The controls: orders of the channels [K, R, C], by layer.
        t: The grid of shares [P].
        batch_size: Feature maps per pass through a head.
        zeros: The class logits at zero feature maps, by layer, where no image has its own.
        rows: Rows of the table, so far.
        points: The concepts' curves, so far.
        controls: The logits of the controls of each image [R, P], by layer and concept.
    """

    explainer: VisualTCAV
    index: int
    usual: Mapping[str, Tensor]
    orders: Mapping[str, Tensor]
    t: Tensor
    batch_size: int
    zeros: dict[str, float] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    points: list[pd.DataFrame] = field(default_factory=list)
    controls: dict[tuple[str, str], list[NDArray[np.float64]]] = field(default_factory=dict)

    @property
    def model(self) -> Model:
        """The network."""
        return self.explainer.model

    def measure(self, batch: Batch) -> None:
        """Remove every concept from each image of a batch, at each layer."""
        maps, z = self.model.activations_and_logits(batch.x, self.explainer.layers)
        check_finite(batch.names, maps, z)
        directions = {layer: self._directions(layer, F) for layer, F in maps.items()}
        heads = {layer: self.model.head(layer).of(batch.x) for layer in maps}
        for n, image in enumerate(batch.names):
            for layer, F in maps.items():
                head, own = heads[layer].rows(torch.tensor([n])), F[n : n + 1]
                zero = self._zero(layer, head, own)
                for k in range(len(self.explainer.cavs.names)):
                    d = directions[layer][n, k]
                    self._remove(image, layer, k, own, d, head, zero)

    def _directions(self, layer: str, F: Tensor) -> Tensor:
        """Return d [N, K, C]: pooled CAVs with the signs that step 7 flipped."""
        cavs = self.explainer.cavs.layers[layer]
        v, M = cavs.v.to(F.device), cavs.maps(F)
        # p is above 0 where v and the sign of step 7 agree, so the sign there is that of v
        return pooled_cav(v, F, M) * v.sign()

    def _remove(
        self, image: str, layer: str, k: int, F: Tensor, d: Tensor, head: Head, zero: float
    ) -> None:
        """Remove concept k from the feature maps F [1, C, h, w] of one image."""
        usual, name = self.usual[layer][k].to(F.device), self.explainer.cavs.names[k]
        # the mean of alpha is the alpha of the mean
        beta = coefficient(usual[None, :, None, None], d).squeeze()
        D = concept_part(F, d, beta)
        z = self._logits(head, F, D, self.orders[layer][k])
        if not (z.isfinite().all() and math.isfinite(zero)):
            raise ExplanationError(
                f"layer {layer!r}: the network gives infinite scores or NaN for {image!r} without "
                f"concept {name!r}; choose a later layer"
            )
        notes = []
        if not self.explainer.cavs.layers[layer].separated[k]:
            notes.append(NOT_SEPARATED)
        if not D.any():
            notes.append(NOTHING_THERE if d.any() else NO_DIRECTION)
        changed = float(D.norm() / F.norm()) if D.any() else 0.0
        t, logits = self.t.double().numpy(), self._score(z).double().cpu().numpy()
        probabilities = self.model.probabilities(z[0])[:, self.index].double().cpu().numpy()
        key = {"image": image, "layer": layer, "concept": name}
        columns = {
            "t": t,
            "deletion_logit": logits[0],
            "deletion_probability": probabilities,
            "insertion_logit": logits[0, ::-1],
            "insertion_probability": probabilities[::-1],
        }
        self.rows.append(key | removal_row(logits, t, zero, changed, notes))
        self.points.append(pd.DataFrame(key | columns))
        self.controls.setdefault((layer, name), []).append(logits[1:])

    def _logits(self, head: Head, F: Tensor, D: Tensor, orders: Tensor) -> Tensor:
        """Return z [1 + R, P, T] without D, and without D along R random directions."""
        if not D.any():
            # all exactly equal, so that no comparison depends on rounding
            with torch.no_grad():
                return head(F)[None].expand(1 + len(orders), len(self.t), -1)
        # D is a map times d, so permuting its channels permutes those of d
        parts = torch.cat([D, D[0][orders.to(D.device)]])
        return curves(head, F.expand_as(parts), parts, self.t, batch_size=self.batch_size)

    def _zero(self, layer: str, head: Head, F: Tensor) -> float:
        """Return the class logit at zero feature maps, of each image where the head is bound."""
        if head.per_image or layer not in self.zeros:
            with torch.no_grad():
                self.zeros[layer] = float(self._score(head(torch.zeros_like(F))))
        return self.zeros[layer]

    def _score(self, z: Tensor) -> Tensor:
        """Return the class's logit [...] of logits [..., T]; a binary network has one, for two."""
        if self.model.binary:
            return z[..., 0] if self.index == 1 else -z[..., 0]
        return z[..., self.index]


def _orders(cavs: CavBank, controls: int, seed: int) -> dict[str, Tensor]:
    """Return random orders of channels for K concepts and R controls [K, R, C], by layer.

    They are the same for every image, so that a control has a mean over images as the concept has.
    """
    orders = {}
    for i, (layer, own) in enumerate(cavs.layers.items()):
        K, C = own.v.shape
        channels = np.broadcast_to(np.arange(C), (K, controls, C))
        permuted = np.random.default_rng([seed, i]).permuted(channels, axis=2)
        orders[layer] = torch.from_numpy(permuted)
    return orders


def _usual_activations(
    explainer: VisualTCAV,
    negatives: ImageSource | Mapping[str, ImageSource] | None,
    batch_size: int,
    *,
    strict: bool,
) -> dict[str, Tensor]:
    """Return the mean activation of each concept's negatives [K, C], by layer."""
    names, layers = explainer.cavs.names, explainer.layers
    if negatives is None:
        gaps = [explainer.cavs.evidence(name)[1].gap for name in names]
        means = [{layer: gap[layer].double().mean(0).float() for layer in layers} for gap in gaps]
    else:
        given = negatives if isinstance(negatives, Mapping) else dict.fromkeys(names, negatives)
        if missing := [name for name in names if name not in given]:
            raise ExplanationError(
                f"no negatives for {', '.join(map(repr, missing))}: add a set for each concept, or "
                "pass one set for all"
            )
        found: dict[int, dict[str, Tensor]] = {}
        for source in map(given.__getitem__, names):
            if id(source) not in found:
                own = _mean_activations(explainer, source, batch_size, strict=strict)
                found[id(source)] = own
        means = [found[id(given[name])] for name in names]
    return {layer: torch.stack([mean[layer] for mean in means]) for layer in layers}


def _mean_activations(
    explainer: VisualTCAV, source: ImageSource, batch_size: int, *, strict: bool
) -> dict[str, Tensor]:
    """Return the mean activation over all positions of some images [C], by layer."""
    sums: dict[str, Tensor] = {}
    batches = Batches(collect(source), explainer.model.preprocess, batch_size, strict=strict)
    for batch in batches:
        maps = explainer.model.activations(batch.x, explainer.layers)
        check_finite(batch.names, maps)
        for layer, F in maps.items():
            total = F.mean((2, 3), dtype=torch.float64).sum(0).cpu()
            sums[layer] = sums[layer] + total if layer in sums else total
    return {layer: (total / len(batches.used)).float() for layer, total in sums.items()}
