"""Steps 4 to 9 at one layer: concept maps, attributions and the notes of their rows."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isnan, nan

import torch
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
from vtcav.method.cav import Cavs
from vtcav.method.integral.adaptive import integrate_adaptive
from vtcav.method.integral.constants import COMPLETENESS
from vtcav.method.integral.integrand import Integrand
from vtcav.method.integral.trapezoid import (
    FLOOR,
    Integral,
    completeness_gap,
    integrate,
    trapezoid,
)
from vtcav.method.resampling import tested_examples
from vtcav.method.significance import ALL_EQUAL, bootstrap_interval, effect_size, p_value
from vtcav.models.base import Head
from vtcav.models.heads.batch_size import BatchSize
from vtcav.models.heads.mixed_precision import mixed
from vtcav.results.bank import CavBank
from vtcav.results.layer_cavs import LayerCavs
from vtcav.results.rows import Row
from vtcav.results.words import CLASS_NOT_RAISED

__all__ = ["LayerImages", "LayerResult", "analyse"]

# Rows join several notes with "; ", so none holds it.
NOT_SEPARATED = "not separated: e+ <= e-, so the map and the attribution are 0"
NO_DIRECTION = "no channel points towards the concept, so the attribution is 0"
NOT_RAISED = f"the image {CLASS_NOT_RAISED} above zero feature maps, so all are 0"
NOT_CONVERGED = "quadrature stopped above the tolerance"
INCOMPLETE = "the integral misses or adds more than 2 % of z(F) - z(0): take adaptive or more steps"
NOT_TESTED = "not tested: "
LEARNED_FROM = "the image, or a part of it, is among those that the concept was learned from"

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
    """

    head: Head
    bank: CavBank
    F: Tensor
    z: Tensor
    z0: Tensor
    classes: tuple[int, ...]
    binary: bool

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
        return pooled_cav(self.cavs.v.to(self.F.device), self.F, self.concept_maps)

    @cached_property
    def shares(self) -> Tensor:
        """Class shares s [N, T], step 6. A single logit has none before the integral."""
        s = class_share(self.z, self.z0)
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

    def integral(self, settings: IntegralSettings, size: BatchSize) -> Integral:
        """Integrate the gradients of the classes' logits, step 5."""
        head = mixed(self.head, settings.precision)
        logits = self._logits
        if settings.steps == "adaptive":
            integrand = Integrand(head, self.F, logits, self._logit_difference, self.attributions)
            return integrate_adaptive(integrand, tolerance=settings.tolerance, batch_size=size)
        alpha, weight = trapezoid(settings.steps)
        return integrate(head, self.F, logits, alpha, weight, batch_size=size)

    def completeness_gap(self, IG: Tensor) -> Tensor:
        """Return how far sum(IG F) is from z(F) - z(0), relative to what moves the logits [N]."""
        return completeness_gap(IG, self.F, self._logit_difference)

    def relevance(self, IG: Tensor, on: Tensor) -> tuple[Tensor, Tensor]:
        """Return B [n, T, C, h, w] and s [n, T] of the images at positions `on` [n]."""
        if self.binary:
            B = binary_relevance(IG, self.F[on])
            return B[:, self._index], relevance_share(B)[:, self._index]
        return positive_relevance(IG, self.F[on]), self.shares[on]

    def attributions(self, IG: Tensor, on: Tensor) -> Tensor:
        """Return a [n, T, K] of the images at positions `on` [n], steps 6 to 9."""
        return concept_attribution(*self.relevance(IG, on), self.concept_maps[on], self.pooled[on])


@dataclass(frozen=True, eq=False)
class LayerResult:
    """Steps 4 to 9 at one layer.

    Attributes:
        layer: Its name.
        bank: The CAVs, of K concepts.
        classes: T class indices.
        M: Concept maps [N, K, h, w].
        a: Concept attributions [N, T, K].
        a_resampled: Those of the J null and bootstrap CAVs [N, T, J].
        raised: Whether the image raises the class's logit above that of zero feature maps [N, T].
        pointed: Whether any channel points towards the concept [N, K].
        error: Estimated relative error of the integral [N, T, K]; for a fixed rule, which gives no
            estimate, the completeness gap: what is missing of z(F) - z(0), or too much.
        incomplete: Whether a fixed rule leaves more than 2 % of that [N].
        converged: Whether the tolerance was reached [N].
        evaluations: The number of gradient evaluations [N].
    """

    layer: str
    bank: CavBank
    classes: tuple[int, ...]
    M: Tensor
    a: Tensor
    a_resampled: Tensor
    raised: Tensor
    pointed: Tensor
    error: Tensor
    incomplete: Tensor
    converged: Tensor
    evaluations: Tensor

    def rows(
        self,
        image: str,
        class_names: Sequence[str],
        n: int = 0,
        learned_from: Container[str] = (),
    ) -> list[Row]:
        """Return the table rows of one image, without q-values, which need all rows of a table.

        Args:
            image: Its name.
            class_names: The names of all classes.
            n: Its position among the images.
            learned_from: The concepts that it is an example or a negative of.
        """
        rows, resampling = [], self.bank.resampling
        separated = self.bank.layers[self.layer].separated
        for k, concept in enumerate(self.bank.names):
            null, bootstrap, subset = (
                self.a_resampled[n, :, draws[k].start : draws[k].stop].numpy()
                for draws in (resampling.null, resampling.bootstrap, resampling.subset)
            )
            for t, index in enumerate(self.classes):
                a = float(self.a[n, t, k])
                low, high = bootstrap_interval(a, bootstrap[t])
                tested = len(null[t]) > 0
                testable = tested and bool(separated[k] and self.raised[n, t])
                compared = float(subset[t][0]) if len(subset[t]) else a
                effect = effect_size(compared, null[t]) if tested else nan
                notes = self._notes(n, t, k, no_effect=tested and isnan(effect))
                if concept in learned_from:
                    notes.append(LEARNED_FROM)
                row = Row(
                    image=image,
                    layer=self.layer,
                    concept=concept,
                    class_index=index,
                    class_name=class_names[index],
                    attribution=a,
                    error=float(self.error[n, t, k]) * max(a, FLOOR),
                    evaluations=int(self.evaluations[n]),
                    separated=bool(separated[k]),
                    cav_low=low,
                    cav_high=high,
                    null_mean=float(null[t].mean()) if tested else nan,
                    effect=effect,
                    p_value=p_value(compared, null[t]) if testable else nan,
                    q_value=nan,
                    note="; ".join(notes),
                )
                rows.append(row)
        return rows

    def _notes(self, n: int, t: int, k: int, *, no_effect: bool) -> list[str]:
        notes = []
        untested = self.bank.resampling.untested[k]
        if not self.bank.layers[self.layer].separated[k]:
            notes.append(NOT_SEPARATED)
        elif not self.pointed[n, k]:
            notes.append(NO_DIRECTION)
        if not self.raised[n, t]:
            notes.append(NOT_RAISED)
        if not self.converged[n]:
            notes.append(NOT_CONVERGED)
        if self.incomplete[n]:
            notes.append(INCOMPLETE)
        if untested:
            notes.append(NOT_TESTED + untested)
        elif no_effect and self.raised[n, t]:
            notes.append(ALL_EQUAL)
        if self.bank.resampling.subset[k]:
            record = self.bank.concepts[k]
            have, m = len(record.examples), len(record.negatives)
            notes.append(
                f"tested with a CAV of {tested_examples(have, m)} of the {have} examples, as there "
                f"are {m} negatives"
            )
        return notes


def analyse(images: LayerImages, integral: Integral) -> LayerResult:
    """Run steps 6 to 9 with an integral.

    The integral knows no concept: resampled CAVs are matrix products with it.

    Raises:
        ExplanationError: When the network is not finite on the way from zero feature maps.
    """
    layer = images.head.layer
    B, share = images.relevance(integral.IG, images.all)
    a = concept_attribution(B, share, images.concept_maps, images.pooled)
    if not a.isfinite().all():
        raise ExplanationError(
            f"layer {layer!r} cannot be explained: between zero feature maps and those of the "
            "image the network gives infinite scores or gradients, or NaN. Does it divide by the "
            "size of these maps? Choose a layer after that"
        )
    gap = images.completeness_gap(integral.IG)
    fixed = integral.error.isnan()
    return LayerResult(
        layer=layer,
        bank=images.bank,
        classes=images.classes,
        M=images.concept_maps,
        a=a.cpu(),
        a_resampled=_resampled(images.cavs.resampled, images.F, B, share).cpu(),
        raised=(share > 0).cpu(),
        pointed=(images.pooled.amax(2) > 0).cpu(),
        error=torch.where(fixed, gap[:, None, None], integral.error).expand(a.shape),
        incomplete=fixed.flatten(1).all(1) & (gap > COMPLETENESS),
        converged=integral.converged,
        evaluations=integral.evaluations,
    )


def _resampled(cavs: Cavs | None, F: Tensor, B: Tensor, s: Tensor) -> Tensor:
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
