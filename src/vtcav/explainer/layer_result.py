"""The results of a layer for a batch of images, and their rows in a table."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from math import isnan, nan

from torch import Tensor

from vtcav.method.concept_map import presence
from vtcav.method.erasure.joined_map import SEEN, below_seen
from vtcav.method.integral.trapezoid import FLOOR
from vtcav.method.resampling import tested_examples
from vtcav.method.significance import ALL_EQUAL, significance
from vtcav.results.bank.cav_bank import CavBank
from vtcav.results.rows import Row
from vtcav.results.words import CLASS_NOT_RAISED

# Rows join several notes with "; ", so none holds it.
NOT_SEPARATED = "not separated: e+ <= e-, so the map and the attribution are 0"
NO_DIRECTION = "no channel points towards the concept, so the attribution is 0"
NOT_RAISED = (
    f"the image {CLASS_NOT_RAISED} above zero feature maps, so every concept gets 0, which is no "
    "finding: read another layer"
)
NOT_SEEN = "not seen at this layer ({}): the number may be something else's"
TEXT_LOOK = "the layer knows the text in part (R2 {:.2f} on held-out images): look closer"
TEXT_UNKNOWN = "the layer is not shown to know the text (R2 {:.2f} on held-out images): do not use"
NOT_CONVERGED = "quadrature stopped above the tolerance"
INCOMPLETE = "the integral misses or adds more than 2 % of z(F) - z(0): take adaptive or more steps"
ROUGH = "the number may change by more than 5 % with finer steps: take adaptive or more steps"
NOT_TESTED = "not tested: "
LEARNED_FROM = "the image, or a part of it, is among those that the concept was learned from"


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
        error: Estimated relative error of the integral [N, T, K].
        incomplete: Whether a fixed rule misses or adds more than 2 % of z(F) - z(0) [N].
        rough: Whether the error of a fixed rule may be above 5 % [N, T, K].
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
    rough: Tensor
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
        separated = self.bank.layers[self.layer].separated.tolist()
        seen = self.bank.layers[self.layer].seen.tolist()
        shown = presence(self.M[n], self.bank.layers[self.layer].separated).tolist()
        for k, concept in enumerate(self.bank.names):
            resampled = [
                self.a_resampled[n, :, draws[k].start : draws[k].stop].numpy()
                for draws in (resampling.null, resampling.bootstrap, resampling.subset)
            ]
            for t, index in enumerate(self.classes):
                a = float(self.a[n, t, k])
                testable = separated[k] and bool(self.raised[n, t])
                judged = significance(a, *(each[t] for each in resampled), testable=testable)
                notes = self._notes(n, t, k, no_effect=isnan(judged["effect"]))
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
                    separated=separated[k],
                    seen=seen[k],
                    raised=bool(self.raised[n, t]),
                    presence=shown[k],
                    **judged,
                    q_value=nan,
                    note="; ".join(notes),
                )
                rows.append(row)
        return rows

    def doubts(self, n: int, t: int, k: int) -> list[str]:
        """Return what casts doubt on an attribution, whether it is tested or not.

        Args:
            n: The position of the image.
            t: That of the class.
            k: That of the concept.
        """
        notes = []
        if not self.bank.layers[self.layer].separated[k]:
            notes.append(NOT_SEPARATED)
        elif not self.pointed[n, k]:
            notes.append(NO_DIRECTION)
        seen = float(self.bank.layers[self.layer].seen[k])
        if seen < SEEN:
            notes.append(NOT_SEEN.format(below_seen(seen)))
        if texts := self.bank.layers[self.layer].texts:
            text = {"look": TEXT_LOOK, "do not use": TEXT_UNKNOWN}.get(texts.level(k), "")
            notes += [text.format(float(texts.r2[k]))] if text else []
        if not self.raised[n, t]:
            notes.append(NOT_RAISED)
        if not self.converged[n]:
            notes.append(NOT_CONVERGED)
        if self.incomplete[n]:
            notes.append(INCOMPLETE)
        elif self.rough[n, t, k] and self.a[n, t, k] > 0:
            notes.append(ROUGH)
        return notes

    def _notes(self, n: int, t: int, k: int, *, no_effect: bool) -> list[str]:
        notes, untested = self.doubts(n, t, k), self.bank.resampling.untested[k]
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
