"""Diagnosis of a bank of CAVs: every check, for every concept, at every layer.

The network is not run: a bank keeps the pooled activations of the images that it was learned from,
from which directions are learned again, without some images or with others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vtcav.diagnostics.concept_checks import (
    entanglement_checks,
    layer_checks,
    location_check,
    rank_correlations,
)
from vtcav.diagnostics.direction_checks import (
    Subject,
    emblem_checks,
    separability_check,
    text_check,
)
from vtcav.diagnostics.duplicates import Copies, find_copies
from vtcav.diagnostics.entanglement import Entanglement, entanglement
from vtcav.diagnostics.image_checks import (
    concepts_check,
    copies_check,
    leakage_check,
    negatives_check,
)
from vtcav.diagnostics.levels import LIMITS, Finding
from vtcav.diagnostics.result import Diagnostics
from vtcav.diagnostics.stability import Resamples
from vtcav.diagnostics.stability_checks import CurvePoint, stability_checks, stability_curve
from vtcav.diagnostics.zero_map_checks import zero_map_checks
from vtcav.errors import CavError
from vtcav.files.hashing import text_hash
from vtcav.parameters import Whole, check
from vtcav.results.bank.cav_bank import CavBank
from vtcav.results.bank.layer_cavs import LayerCavs
from vtcav.results.image_set import ImageSetRecord
from vtcav.results.provenance import Provenance, versions
from vtcav.results.words import named_layers


def diagnose(
    bank: CavBank,
    *,
    images: ImageSetRecord | None = None,
    other_negatives: ImageSetRecord | None = None,
    seed: int = 0,
    resamples: int = 100,
) -> Diagnostics:
    """Diagnose how far the concepts of a bank can be trusted.

    Args:
        bank: Learned CAVs with the records of the images that they were learned from.
        images: Images to explain, searched for among those the concepts were learned from.
        other_negatives: Another set of negatives to compare the directions with.
        seed: Seeds the resampling.
        resamples: The number of draws of each kind, at least 20.

    Raises:
        CavError: When the bank has no image sets, `other_negatives` lack a layer, or there are too
            few resamples.
    """
    _check(bank, other_negatives, resamples)
    images = images and _once(images)
    findings: list[Finding] = []
    curve: list[CurvePoint] = []
    arrays: dict[str, NDArray[np.float64]] = {}
    scores: list[list[NDArray[np.float64] | None]] = []
    for i, (layer, cavs) in enumerate(bank.layers.items()):
        found = _diagnose_layer(bank, layer, other_negatives, seed, resamples)
        findings += found.findings
        curve += found.curve
        scores.append(found.scores)
        arrays[f"cosines/{i}"] = found.cosines.raw
        arrays[f"corrected/{i}"] = found.cosines.corrected
        arrays[f"place_pos/{i}"], arrays[f"place_neg/{i}"] = _mean_maps(cavs)
    for k, concept in enumerate(bank.names):
        arrays[f"agreement/{k}"] = correlations = rank_correlations([own[k] for own in scores])
        images_used = sum(map(len, bank.evidence(concept)))
        findings += layer_checks(concept, list(bank.layers), correlations, images_used)
    copies, about_images = _diagnose_images(bank, images)
    settings = {
        "seed": int(seed),
        "resamples": int(resamples),
        "limits": LIMITS.to_dict(),
        "images": _described(images),
        "other_negatives": _described(other_negatives),
    }
    return Diagnostics(
        layers=tuple(bank.layers),
        concepts=bank.names,
        provenance=_provenance(bank, settings),
        _findings=pd.DataFrame(findings + about_images, columns=list(Finding._fields)),
        _curve=pd.DataFrame(curve, columns=list(CurvePoint._fields)),
        _copies=copies.table(),
        _arrays=arrays,
    )


def _check(bank: CavBank, other: ImageSetRecord | None, resamples: int) -> None:
    if not bank.sets:
        raise CavError(
            "the bank has no sets of the images that its CAVs were learned from: expected what "
            "VisualTCAV.fit makes, got CAVs alone; fit again, and save the new bank"
        )
    check("resamples", resamples, Whole(20), error=CavError)
    missing = [layer for layer in bank.layers if other is not None and layer not in other.gap]
    if missing:
        raise CavError(
            f"the other negatives have no activations at {named_layers(missing)}; pass "
            "them through the network at the bank's layers"
        )


def _mean_maps(cavs: LayerCavs) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean maps of the concepts' examples and of their negatives, each [K, h, w]."""
    return cavs.location_pos.double().numpy(), cavs.location_neg.double().numpy()


@dataclass(frozen=True, eq=False)
class _LayerFound:
    """The results at one layer; scores by concept, None where there is no direction."""

    findings: list[Finding]
    curve: list[CurvePoint]
    cosines: Entanglement
    scores: list[NDArray[np.float64] | None]


def _diagnose_layer(
    bank: CavBank, layer: str, other: ImageSetRecord | None, seed: int, resamples: int
) -> _LayerFound:
    pairs = [bank.evidence(name) for name in bank.names]
    drawn = Resamples(pairs[0][1].gap[layer][0], layer, seed, resamples)
    cavs = bank.layers[layer]
    maps = _mean_maps(cavs)
    given = bank.given(layer)
    subjects = [
        Subject(
            layer,
            record.name,
            *pairs[k],
            cavs.values_pos[k],
            cavs.values_neg[k],
            drawn,
            given[k],
            bool(record.texts),
        )
        for k, record in enumerate(bank.concepts)
    ]
    findings: list[Finding] = []
    curve: list[CurvePoint] = []
    after = _next_nonnegative_layer(bank, layer)
    for k, subject in enumerate(subjects):
        own = stability_curve(subject)
        curve += own
        separability = separability_check(subject)
        if cavs.texts is not None and cavs.texts.level(k):
            findings.append(text_check(subject, cavs.texts, k))
        findings += [separability, *emblem_checks(subject, separability.level, after)]
        findings += stability_checks(subject, own, other)
        findings.append(location_check(subject, maps[0][k], maps[1][k]))
    findings += zero_map_checks(layer, bank)
    cosines = entanglement(pairs, drawn, given)
    findings += entanglement_checks(subjects, cosines)
    scores = [None if subject.why_not() else subject.scores() for subject in subjects]
    return _LayerFound(findings, curve, cosines, scores)


def _next_nonnegative_layer(bank: CavBank, layer: str) -> str:
    """Return the next layer whose mean activations are never negative; empty if there is none."""
    layers = list(bank.layers)
    later = layers[layers.index(layer) + 1 :]
    return next((name for name in later if not any((s.gap[name] < 0).any() for s in bank.sets)), "")


def _diagnose_images(bank: CavBank, images: ImageSetRecord | None) -> tuple[Copies, list[Finding]]:
    """Return the copies among all images and the findings about them."""
    sets = list(bank.sets) + ([images] if images is not None else [])
    copies = find_copies(sets)
    findings: list[Finding] = []
    owners: dict[int, list[str]] = {}
    for k, (concept, (examples, negatives)) in enumerate(
        zip(bank.names, bank.contrast, strict=True)
    ):
        others = {name: bank.contrast[i][0] for i, name in enumerate(bank.names) if i != k}
        owners.setdefault(negatives, []).append(concept)
        findings.append(copies_check(concept, copies, examples, "examples"))
        findings.append(negatives_check(concept, copies, examples, negatives))
        if others:
            findings.append(concepts_check(concept, copies, examples, others))
        if images is not None:
            findings.append(leakage_check(concept, copies, examples, negatives, len(sets) - 1))
    for s, names in owners.items():
        concept = names[0] if len(names) == 1 and len(bank.names) > 1 else ""
        findings.append(copies_check(concept, copies, s, "negatives"))
    if images is not None:
        findings.append(copies_check("", copies, len(sets) - 1, "images to explain"))
    return copies, findings


def _once(images: ImageSetRecord) -> ImageSetRecord:
    """Return images without those listed twice, which are not copies of themselves."""
    keys = pd.DataFrame({"name": images.names, "digest": images.digests})
    first = list(keys.index[~keys.duplicated()])
    return replace(
        images,
        names=tuple(images.names[i] for i in first),
        digests=tuple(images.digests[i] for i in first),
        perceptual_hashes=images.perceptual_hashes[first],
        gap={layer: gap[first] for layer, gap in images.gap.items()},
        origins=tuple(images.origins[i] for i in first) if images.origins else (),
    )


def _described(images: ImageSetRecord | None) -> dict[str, Any] | None:
    """Return the names of images, and a hash of their content, for provenance."""
    if images is None:
        return None
    content = text_hash("".join(images.digests))
    return {"role": images.role, "names": list(images.names), "sha256": content}


def _provenance(bank: CavBank, settings: dict[str, Any]) -> Provenance:
    return Provenance(
        versions=versions(),
        model={
            "network": bank.described["network"],
            "fingerprint": bank.fingerprint,
            "preprocess": bank.described["preprocess"],
        },
        layers=tuple(
            {"name": layer, "channels": cavs.v.shape[1]} for layer, cavs in bank.layers.items()
        ),
        concepts=bank.concepts,
        settings={**settings, "fit": dict(bank.settings), "fit_versions": dict(bank.versions)},
    )
