"""Steps 4 to 9 at one layer: concept maps, attributions, and what is to be noted about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, nan

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtcav.errors import ExplanationError
from vtcav.explainer.settings import IntegralSettings
from vtcav.method.attribution import (
    binary_relevance,
    class_share,
    concept_attribution,
    pooled_cav,
    positive_relevance,
    relevance_share,
)
from vtcav.method.cav import LayerCavs, Resampling
from vtcav.method.integral.adaptive import integrate_adaptive
from vtcav.method.integral.integrand import Integrand
from vtcav.method.integral.trapezoid import FLOOR, Integral, integrate, trapezoid
from vtcav.method.significance import ALL_EQUAL, bootstrap_interval, effect_size, p_value
from vtcav.models.base import Head
from vtcav.models.heads.batch_size import BatchSize
from vtcav.models.heads.mixed_precision import mixed
from vtcav.results.rows import Row

__all__ = ["LayerResult", "analyse", "zero_logits"]

# Rows join several notes with "; ", so none holds it.
NOT_SEPARATED = "not separated: e+ <= e-, so the map and the attribution are 0"
NO_DIRECTION = "no channel points towards the concept, so the attribution is 0"
NOT_RAISED = "the image does not raise this class above zero feature maps, so all are 0"
NOT_CONVERGED = "quadrature stopped above the tolerance"
NOT_TESTED = "not tested: "

_RESAMPLED_BYTES = 1 << 25  # of concept maps and the like of resampled CAVs at a time


@dataclass(frozen=True, eq=False)
class LayerResult:
    """Steps 4 to 9 at one layer.

    Attributes:
        layer: Its name.
        concepts: Names of the K concepts.
        cavs: The layer's CAVs.
        resampling: Whose the resampled CAVs are.
        M: Concept maps [N, K, h, w].
        a: Concept attributions [N, T, K].
        a_resampled: Those of the J null and bootstrap CAVs [N, T, J].
        raised: Whether the image raises the class above zero feature maps [N, T].
        pointed: Whether any channel points towards the concept [N, K].
        error: Estimated relative error of the quadrature [N, T, K].
        converged: Whether the tolerance was reached [N].
        evaluations: Of the gradient [N].
    """

    layer: str
    concepts: tuple[str, ...]
    cavs: LayerCavs
    resampling: Resampling
    M: Tensor
    a: Tensor
    a_resampled: Tensor
    raised: Tensor
    pointed: Tensor
    error: Tensor
    converged: Tensor
    evaluations: Tensor

    def rows(
        self, image: str, classes: Sequence[int], names: Sequence[str], n: int = 0
    ) -> list[Row]:
        """Return the table rows of image n; their q-values wait for the other rows."""
        return [
            self._row(image, index, names[index], n, t, k)
            for k in range(len(self.concepts))
            for t, index in enumerate(classes)
        ]

    def _row(self, image: str, index: int, name: str, n: int, t: int, k: int) -> Row:
        a = float(self.a[n, t, k])
        null = self.drawn(self.resampling.null[k])[n, t]
        low, high = bootstrap_interval(a, self.drawn(self.resampling.bootstrap[k])[n, t])
        effect = effect_size(a, null) if len(null) else nan
        return Row(
            image=image,
            layer=self.layer,
            concept=self.concepts[k],
            class_index=index,
            class_name=name,
            attribution=a,
            error=float(self.error[n, t, k]) * max(a, FLOOR),
            evaluations=int(self.evaluations[n]),
            separated=bool(self.cavs.separated[k]),
            cav_low=low,
            cav_high=high,
            null_mean=float(null.mean()) if len(null) else nan,
            effect=effect,
            p_value=p_value(a, null) if len(null) else nan,
            q_value=nan,
            note=self._note(n, t, k, no_effect=len(null) > 0 and isnan(effect)),
        )

    def drawn(self, columns: range) -> NDArray[np.floating]:
        """Return attributions of some resampled CAVs [N, T, len(columns)]."""
        return self.a_resampled[:, :, columns.start : columns.stop].numpy()

    def _note(self, n: int, t: int, k: int, *, no_effect: bool) -> str:
        notes = []
        if not self.cavs.separated[k]:
            notes.append(NOT_SEPARATED)
        elif not self.pointed[n, k]:
            notes.append(NO_DIRECTION)
        if not self.raised[n, t]:
            notes.append(NOT_RAISED)
        if not self.converged[n]:
            notes.append(NOT_CONVERGED)
        if self.resampling.untested[k]:
            notes.append(NOT_TESTED + self.resampling.untested[k])
        elif no_effect and self.raised[n, t]:
            notes.append(ALL_EQUAL)
        return "; ".join(notes)


@dataclass(frozen=True, eq=False)
class _Images:
    """What is known of some images at a layer before the integral.

    Attributes:
        F: Feature maps [N, C, h, w].
        M: Concept maps [N, K, h, w].
        p: Pooled CAVs [N, K, C].
        s: Class shares [N, T]; of no use to a single logit, and [N, 1] there.
        classes: Class indices [T].
        binary: Whether there is a single logit.
    """

    F: Tensor
    M: Tensor
    p: Tensor
    s: Tensor
    classes: Tensor
    binary: bool

    def relevance(self, IG: Tensor, on: Tensor) -> tuple[Tensor, Tensor]:
        """Return B [n, T, C, h, w] and s [n, T] of the images at positions `on` [n]."""
        if self.binary:
            B = binary_relevance(IG, self.F[on])
            return B[:, self.classes], relevance_share(B)[:, self.classes]
        return positive_relevance(IG, self.F[on]), self.s[on]

    def attributions(self, IG: Tensor, on: Tensor) -> Tensor:
        """Return a [n, T, K] of the images at positions `on` [n]."""
        return concept_attribution(*self.relevance(IG, on), self.M[on], self.p[on])


def analyse(
    head: Head,
    cavs: LayerCavs,
    concepts: Sequence[str],
    F: Tensor,
    z: Tensor,
    classes: Sequence[int],
    rule: IntegralSettings,
    *,
    binary: bool,
    resampling: Resampling,
    z0: Tensor | None = None,
    batch_size: BatchSize | None = None,
    integral: Integral | None = None,
) -> LayerResult:
    """Run steps 4 to 9 at one layer, for some classes of every image.

    The integral knows no concept: resampled CAVs are matrix products with it.

    Args:
        head: The network after the layer, `of` the images where it has prefix tokens.
        cavs: The layer's CAVs, of K concepts and resampled.
        concepts: Their names.
        F: Feature maps [N, C, h, w].
        z: The logits [N, T_all].
        classes: T class indices.
        rule: How to integrate.
        binary: Whether the network has a single logit.
        resampling: Whose the resampled CAVs are.
        z0: The logits at zero feature maps [1, T_all] where they are known (`zero_logits`).
        batch_size: Feature maps per pass through the head; None takes that of the rule.
        integral: Of these classes and images, where it is known already.

    Raises:
        ExplanationError: When the network is not finite on the way from zero feature maps.
    """
    here = cavs.to(F.device)
    M = here.maps(F)
    if z0 is None or head.per_image:
        z0 = zero_logits(head, F)
    asked = torch.tensor(list(classes), device=F.device)
    s = class_share(z, z0)
    images = _Images(F, M, pooled_cav(here.v, F, M), s if binary else s[:, asked], asked, binary)
    logits = (torch.zeros_like(asked[:1]) if binary else asked).expand(len(F), -1)
    if integral is None:
        size = batch_size or BatchSize(rule.images)
        head = mixed(head, rule.precision)
        integral = _integral(head, images, logits, z - z0, rule, size)
    B, share = images.relevance(integral.IG, torch.arange(len(F), device=F.device))
    a = concept_attribution(B, share, M, images.p)
    if not a.isfinite().all():
        raise ExplanationError(
            f"layer {head.layer!r} cannot be explained: between zero feature maps and those of the "
            "image the network gives infinite scores or gradients, or NaN. Does it divide by the "
            "size of these maps? Choose a layer after that"
        )
    return LayerResult(
        layer=head.layer,
        concepts=tuple(concepts),
        cavs=cavs,
        resampling=resampling,
        M=M,
        a=a.cpu(),
        a_resampled=_resampled(cavs.resampled, F, B, share).cpu(),
        raised=(share > 0).cpu(),
        pointed=(images.p.amax(2) > 0).cpu(),
        error=integral.error.expand(a.shape),
        converged=integral.converged,
        evaluations=integral.evaluations,
    )


def zero_logits(head: Head, F: Tensor) -> Tensor:
    """Return the logits at zero feature maps [1, T_all], or [N, T_all] of a head per image.

    Args:
        head: The network after a layer.
        F: Feature maps [N, C, h, w] of the images.
    """
    with torch.no_grad():
        return head(torch.zeros_like(F if head.per_image else F[:1]))


def _resampled(cavs: LayerCavs | None, F: Tensor, B: Tensor, s: Tensor) -> Tensor:
    """Return the attributions of resampled CAVs [N, T, J], a few CAVs at a time."""
    N, T, C, h, w = B.shape
    if cavs is None:
        return torch.zeros(N, T, 0)
    J = len(cavs.v)
    size = max(1, _RESAMPLED_BYTES // (4 * N * max(T * h * w, C)))
    parts = []
    for first in range(0, J, size):
        here = cavs.part(range(first, min(first + size, J))).to(F.device)
        M = here.maps(F)
        parts.append(concept_attribution(B, s, M, pooled_cav(here.v, F, M)))
    return torch.cat(parts, 2)


def _integral(
    head: Head,
    images: _Images,
    logits: Tensor,
    rise: Tensor,
    rule: IntegralSettings,
    size: BatchSize,
) -> Integral:
    """Integrate the gradients of some logits [N, T], which rise by `rise` [N, T_all] from 0."""
    if rule.steps == "adaptive":
        integrand = Integrand(head, images.F, logits, rise.gather(1, logits), images.attributions)
        return integrate_adaptive(integrand, tolerance=rule.tolerance, batch_size=size)
    alpha, weight = trapezoid(rule.steps)
    return integrate(head, images.F, logits, alpha, weight, batch_size=size)
