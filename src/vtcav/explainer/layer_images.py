"""Images at one layer: steps 4 to 9, from their feature maps to attributions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from vtcav.errors import ExplanationError
from vtcav.explainer.layer_result import LayerResult
from vtcav.explainer.settings import IntegralSettings
from vtcav.method import attribution
from vtcav.method.cav import Cavs
from vtcav.method.integral.adaptive import integrate_adaptive
from vtcav.method.integral.constants import COMPLETENESS, ROUGH
from vtcav.method.integral.integrand import Integrand
from vtcav.method.integral.trapezoid import (
    Integral,
    coarser,
    completeness_gap,
    fixed_rule_error,
    integrate,
    rows_of,
    trapezoid,
)
from vtcav.models.base import Head
from vtcav.models.heads.mixed_precision import MixedPrecision, mixed
from vtcav.models.memory import BatchSize
from vtcav.results.bank.cav_bank import CavBank
from vtcav.results.bank.layer_cavs import LayerCavs

_RESAMPLED_BYTES = 1 << 25  # for the concept maps of the resampled CAVs at a time


@dataclass(frozen=True, eq=False)
class LayerImages:
    """N images at a layer, with all that precedes the integral.

    Attributes:
        head: The network after the layer, bound to the images where it has prefix tokens.
        bank: The CAVs, of K concepts.
        F: Feature maps [N, C, h, w].
        z: Logits [N, T_all].
        z0: Logits at zero feature maps [1 or N, T_all].
        classes: T class indices.
        binary: Whether the network has a single logit.
        precision: The precision of the gradients; None for the network's own.
    """

    head: Head
    bank: CavBank
    F: Tensor
    z: Tensor
    z0: Tensor
    classes: tuple[int, ...]
    binary: bool
    precision: MixedPrecision | None

    @property
    def cavs(self) -> LayerCavs:
        """The CAVs at the layer."""
        return self.bank.layers[self.head.layer]

    @cached_property
    def concept_maps(self) -> Tensor:
        """Concept maps M [N, K, h, w], steps 2 to 4."""
        return self.cavs.maps(self.F)

    @cached_property
    def pooled(self) -> Tensor:
        """Pooled CAVs p [N, K, C], step 7."""
        return attribution.pooled_cav(self.cavs.v.to(self.F.device), self.F, self.concept_maps)

    @cached_property
    def shares(self) -> Tensor:
        """Class shares s [N, T], step 6. A single logit has none before the integral."""
        s = attribution.class_share(self.z, self.z0)
        return s if self.binary else s[:, self._index]

    @cached_property
    def all(self) -> Tensor:
        """The positions of all images [N]."""
        return torch.arange(len(self.F), device=self.F.device)

    @property
    def _logits(self) -> Tensor:
        """The indices of the classes' logits [N, T], of a single logit [N, 1]."""
        logits = torch.zeros_like(self._index[:1]) if self.binary else self._index
        return logits.expand(len(self.F), -1)

    @property
    def _logit_difference(self) -> Tensor:
        """z(F) - z(0) of these logits [N, T]."""
        return (self.z - self.z0).gather(1, self._logits)

    @cached_property
    def _index(self) -> Tensor:
        return torch.tensor(self.classes, device=self.F.device)

    @property
    def _unraised(self) -> Tensor:
        """The cells [N, T] whose attributions are 0 whatever the integral is."""
        return torch.zeros_like(self._logits, dtype=torch.bool) if self.binary else self.shares == 0

    def integral(self, settings: IntegralSettings, size: BatchSize) -> Integral:
        """Integrate the gradients of the classes' logits, step 5.

        Images that raise no class above zero maps, and classes that no image raises, are left out.
        """
        needed = ~self._unraised
        [images], [classes] = (needed.any(i).nonzero(as_tuple=True) for i in (1, 0))
        if len(images) * len(classes) == needed.numel():
            return self._integrated(settings, size)
        fixed = settings.steps != "adaptive"
        whole = Integral.zeros(self.F, needed.shape[1], self.concept_maps.shape[1], fixed=fixed)
        if len(images):
            kept = tuple(self.classes[t] for t in classes.tolist())
            z0 = self.z0 if len(self.z0) == 1 else self.z0[images]
            head, F, z = rows_of(self.head, images), self.F[images], self.z[images]
            own = replace(self, head=head, F=F, z=z, z0=z0, classes=kept)
            whole.replace_cells(images, classes, own._integrated(settings, size))
        return whole

    def _integrated(self, settings: IntegralSettings, size: BatchSize) -> Integral:
        """Integrate the gradients of all classes at all images."""
        head = mixed(self.head, self.precision)
        logits = self._logits
        if settings.steps == "adaptive":
            integrand = Integrand(head, self.F, logits, self._logit_difference, self.attributions)
            return integrate_adaptive(integrand, tolerance=settings.tolerance, batch_size=size)
        alpha, weight = trapezoid(settings.steps)
        coarse = coarser(settings.steps)
        return integrate(head, self.F, logits, alpha, weight, batch_size=size, coarse=coarse)

    def relevance(self, IG: Tensor, on: Tensor) -> tuple[Tensor, Tensor]:
        """Return B [n, T, C, h, w] and s [n, T] of the images at positions `on` [n]."""
        if self.binary:
            B = attribution.binary_relevance(IG, self.F[on])
            return B[:, self._index], attribution.relevance_share(B)[:, self._index]
        return attribution.positive_relevance(IG, self.F[on]), self.shares[on]

    def attributions(self, IG: Tensor, on: Tensor) -> Tensor:
        """Return a [n, T, K] of the images at positions `on` [n], steps 6 to 9."""
        return attribution.concept_attribution(
            *self.relevance(IG, on), self.concept_maps[on], self.pooled[on]
        )

    def result(self, integral: Integral) -> LayerResult:
        """Run steps 6 to 9 with an integral.

        The integral knows no concept: resampled CAVs are matrix products with it.

        Raises:
            ExplanationError: When the network is not finite on the way from zero feature maps.
        """
        B, share = self.relevance(integral.IG, self.all)
        a = attribution.concept_attribution(B, share, self.concept_maps, self.pooled)
        if not a.isfinite().all():
            raise ExplanationError(
                f"layer {self.head.layer!r} cannot be explained: between zero feature maps and "
                "those of the image the network gives infinite scores or gradients, or NaN. Does "
                "it divide by the size of these maps? Choose a layer after that"
            )
        left_out = self._unraised & ~integral.IG.flatten(2).any(2)
        difference = self._logit_difference.masked_fill(left_out, 0)
        gap = completeness_gap(integral.IG, self.F, difference)
        fixed = integral.error.isnan()
        error = torch.where(fixed, self._fixed_error(integral, gap, a, B), integral.error)
        error = error.expand(a.shape)
        return LayerResult(
            layer=self.head.layer,
            bank=self.bank,
            classes=self.classes,
            M=self.concept_maps,
            a=a.cpu(),
            a_resampled=_resampled(self.cavs.resampled, self.F, B, share).cpu(),
            raised=(share > 0).cpu(),
            pointed=(self.pooled.amax(2) > 0).cpu(),
            error=error,
            incomplete=fixed.flatten(1).any(1) & (gap > COMPLETENESS),
            rough=fixed & (error > ROUGH),
            converged=integral.converged,
            evaluations=integral.evaluations,
        )

    def _fixed_error(self, integral: Integral, gap: Tensor, a: Tensor, B: Tensor) -> Tensor:
        """Return the estimated relative error of a fixed rule [N, 1 or T, 1 or K]."""
        if integral.coarse is None:
            return gap[:, None, None]
        coarse_B, share = self.relevance(integral.coarse, self.all)
        coarse = attribution.concept_attribution(coarse_B, share, self.concept_maps, self.pooled)
        return fixed_rule_error(gap, a, coarse, B, coarse_B)


def _resampled(cavs: Cavs | None, F: Tensor, B: Tensor, s: Tensor) -> Tensor:
    """Return the attributions of resampled CAVs [N, T, J], a few CAVs at a time."""
    N, T, C, *sides = B.shape
    if cavs is None:
        return torch.zeros(N, T, 0, dtype=torch.float32)
    J = len(cavs.v)
    size = max(1, _RESAMPLED_BYTES // (4 * N * max(T * prod(sides), C)))
    parts = []
    for first in range(0, J, size):
        here = cavs.part(range(first, min(first + size, J))).to(F.device)
        M = here.maps(F)
        parts.append(attribution.concept_attribution(B, s, M, attribution.pooled_cav(here.v, F, M)))
    return torch.cat(parts, 2)
