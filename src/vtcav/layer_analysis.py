"""Steps 4 to 9 at one layer: concept maps, attributions, and what is to be noted about them."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from vtcav.attribution import (
    binary_relevance,
    class_share,
    concept_attribution,
    pooled_cav,
    positive_relevance,
    relevance_share,
)
from vtcav.cav import LayerCavs
from vtcav.concept_map import concept_map, raw_map
from vtcav.errors import ExplanationError
from vtcav.explanation import Row
from vtcav.models.base import Head
from vtcav.quadrature import FLOOR, Integral, integrate, integrate_adaptive, trapezoid

__all__ = ["LayerResult", "Rule", "analyse"]

# Rows join several notes with "; ", so none holds it.
NOT_SEPARATED = "not separated: e+ <= e-, so the map and the attribution are 0"
NO_DIRECTION = "no channel points towards the concept, so the attribution is 0"
NOT_RAISED = "the image does not raise this class above zero feature maps, so all are 0"
NOT_CONVERGED = "quadrature stopped above the tolerance"


@dataclass(frozen=True)
class Rule:
    """How the integral of step 5 is taken.

    Attributes:
        steps: "adaptive", or the number of steps of the trapezoid rule.
        tolerance: The relative error that "adaptive" aims at.
        batch_size: Feature maps per pass through the head.

    Raises:
        ExplanationError: For a value out of range.
    """

    steps: int | Literal["adaptive"]
    tolerance: float
    batch_size: int

    def __post_init__(self) -> None:
        if self.steps != "adaptive":
            expected = "steps to be 'adaptive' or a whole number of at least 1"
            object.__setattr__(self, "steps", _whole(self.steps, expected))
        if not (isinstance(self.tolerance, numbers.Real) and 0 < self.tolerance < 1):
            raise ExplanationError(f"expected a tolerance between 0 and 1, got {self.tolerance!r}")
        object.__setattr__(self, "tolerance", float(self.tolerance))
        expected = "batch_size to be a whole number of at least 1"
        object.__setattr__(self, "batch_size", _whole(self.batch_size, expected))


def _whole(value: object, expected: str) -> int:
    """Return a number of at least 1 as a plain int, which JSON takes."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
        raise ExplanationError(f"expected {expected}, got {value!r}")
    return int(value)


@dataclass(frozen=True, eq=False)
class LayerResult:
    """Steps 4 to 9 at one layer: M [N, K, h, w], a [N, T, K] and what to note about them."""

    layer: str
    concepts: tuple[str, ...]
    cavs: LayerCavs
    M: Tensor
    a: Tensor
    raised: Tensor
    pointed: Tensor
    error: Tensor
    converged: Tensor
    evaluations: Tensor

    def rows(
        self, image: str, classes: Sequence[int], names: Sequence[str], n: int = 0
    ) -> list[Row]:
        """Return the table rows of image n."""
        relative = float(self.error[n])
        return [
            Row(
                image=image,
                layer=self.layer,
                concept=concept,
                class_index=index,
                class_name=names[index],
                attribution=float(self.a[n, t, k]),
                error=relative * max(float(self.a[n, t, k]), FLOOR),
                evaluations=int(self.evaluations[n]),
                separated=bool(self.cavs.separated[k]),
                note=self._note(n, t, k),
            )
            for k, concept in enumerate(self.concepts)
            for t, index in enumerate(classes)
        ]

    def _note(self, n: int, t: int, k: int) -> str:
        notes = []
        if not self.cavs.separated[k]:
            notes.append(NOT_SEPARATED)
        elif not self.pointed[n, k]:
            notes.append(NO_DIRECTION)
        if not self.raised[n, t]:
            notes.append(NOT_RAISED)
        if not self.converged[n]:
            notes.append(NOT_CONVERGED)
        return "; ".join(notes)


@dataclass(frozen=True, eq=False)
class _Images:
    """What is known of some images at a layer before the integral.

    Attributes:
        F: Feature maps [N, C, h, w].
        M: Concept maps [N, K, h, w].
        p: Pooled CAVs [N, K, C].
        s: Class shares [N, T_all]; of no use to a single logit.
        classes: T class indices.
        binary: Whether there is a single logit.
    """

    F: Tensor
    M: Tensor
    p: Tensor
    s: Tensor
    classes: list[int]
    binary: bool

    def relevance(self, IG: Tensor, on: Tensor) -> tuple[Tensor, Tensor]:
        """Return B [n, T, C, h, w] and s [n, T] of the images at positions `on` [n]."""
        if self.binary:
            B = binary_relevance(IG, self.F[on])
            return B[:, self.classes], relevance_share(B)[:, self.classes]
        return positive_relevance(IG, self.F[on]), self.s[on][:, self.classes]

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
    rule: Rule,
    *,
    binary: bool,
) -> LayerResult:
    """Run steps 4 to 9 at one layer, for some classes of every image.

    Args:
        head: The network after the layer.
        cavs: The layer's CAVs, of K concepts.
        concepts: Their names.
        F: Feature maps [N, C, h, w].
        z: The logits [N, T_all].
        classes: T class indices.
        rule: How to integrate.
        binary: Whether the network has a single logit.

    Raises:
        ExplanationError: When the network is not finite on the way from zero feature maps.
    """
    here = replace(
        cavs, v=cavs.v.to(F.device), e_pos=cavs.e_pos.to(F.device), e_neg=cavs.e_neg.to(F.device)
    )
    M = concept_map(raw_map(F, here.v), here.e_pos, here.e_neg)
    with torch.no_grad():
        z0 = head(torch.zeros_like(F[:1]))
    images = _Images(F, M, pooled_cav(here.v, F, M), class_share(z, z0), list(classes), binary)
    logits = torch.tensor([0] if binary else list(classes), device=F.device).expand(len(F), -1)
    integral = _integral(head, images, logits, z - z0, rule)
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
        M=M,
        a=a.cpu(),
        raised=(share > 0).cpu(),
        pointed=(images.p.amax(2) > 0).cpu(),
        error=integral.error,
        converged=integral.converged,
        evaluations=integral.evaluations,
    )


def _integral(head: Head, images: _Images, logits: Tensor, rise: Tensor, rule: Rule) -> Integral:
    """Integrate the gradients of some logits [N, T], which rise by `rise` [N, T_all] from 0."""
    if rule.steps == "adaptive":
        return integrate_adaptive(
            head,
            images.F,
            logits,
            rise.gather(1, logits),
            images.attributions,
            tolerance=rule.tolerance,
            batch_size=rule.batch_size,
        )
    alpha, weight = trapezoid(rule.steps)
    return integrate(head, images.F, logits, alpha, weight, batch_size=rule.batch_size)
