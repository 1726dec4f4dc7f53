"""Methods of the report, ready to paste: paragraphs, a citation, the provenance as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from vtcav.method.discriminant_map import SHRINKAGE
from vtcav.method.erasure.place_filter import REFINEMENTS, TOP
from vtcav.report.classes import ClassPart
from vtcav.results.provenance import Provenance
from vtcav.results.words import clear, count, listed, short_names

CITATION = f"""@article{{desantis2026visual,
  title   = {{Visual-TCAV: Concept-based Attribution and Saliency Maps for Post-hoc Explainability
             in Image Classification}},
  author  = {{De Santis, Antonio and Campi, Riccardo and Bianchi, Matteo and Brambilla, Marco}},
  journal = {{Transactions on Machine Learning Research}},
  issn    = {{2835-8856}},
  year    = {{2026}},
  url     = {{https://openreview.net/forum?id=SLh00W5rhu}},
  note    = {{arXiv:2411.05698}}
}}

@software{{vtcav,
  title   = {{vtcav}},
  author  = {{{{The vtcav developers}}}},
  version = {{{version("vtcav")}}}
}}
"""


def methods(
    explained: Sequence[Provenance],
    parts: Sequence[ClassPart],
    images: int,
    diagnosed: Sequence[Provenance],
) -> list[str]:
    """Return the paragraphs that describe how the numbers were made.

    Args:
        explained: The provenance of every explanation.
        parts: The explained classes.
        images: The number of images explained one by one.
        diagnosed: The provenance of the diagnostics, if there are any.
    """
    texts = list(dict.fromkeys(map(_computed, explained)))
    texts += dict.fromkeys(filter(None, map(_erased, explained)))
    if parts:
        classes = [
            f"“{clear(p.name)}” ({count(p.used, 'image')}, {len(p.skipped)} skipped)" for p in parts
        ]
        texts.append(
            f"The attribution to a class is the mean over its images: {listed(classes)}; its 95 % "
            "interval for other images is Student's t interval."
        )
    if images:
        texts.append(f"{count(images, 'image was', 'images were')} explained one by one.")
    texts += [
        "How far each concept's direction can be trusted was diagnosed on held-out pairs of "
        "examples and negatives (leave-pair-out AUC), by resampling its images "
        f"({count(int(provenance.settings.get('resamples', 0)), 'draw')} of each kind, seed "
        f"{provenance.settings.get('seed')}), and by comparing it with the other concepts."
        for provenance in diagnosed
    ]
    return texts


def _computed(provenance: Provenance) -> str:
    versions, model, settings = provenance.versions, provenance.model, provenance.settings
    concepts = [
        f"“{clear(c.name)}” ({count(len(c.examples), 'example')}, "
        f"{count(len(c.negatives), 'negative')})"
        for c in provenance.concepts
    ]
    layers = [clear(layer["name"]) for layer in provenance.layers]
    return (
        "Concept maps and attributions were computed with Visual-TCAV (De Santis, Campi, Bianchi "
        f"and Brambilla, arXiv:2411.05698) as implemented in vtcav {versions.get('vtcav')} "
        f"(PyTorch {versions.get('torch')}, Python {versions.get('python')}), for the network "
        f"{clear(model.get('network'))} (SHA-256 of weights and structure "
        f"{str(model.get('fingerprint'))[:16]}…), at {count(len(layers), 'layer')}: "
        f"{', '.join(layers)}. A concept's direction is the mean pooled activation of its examples "
        f"minus that of its negatives: {', '.join(concepts)}. {_VARIANTS[provenance.variant]}"
        f"{_integral(settings)} {' '.join(_resampled(settings.get('fit', {})))}"
        f"{''.join(f' {note}' for note in provenance.picture_notes)}"
    )


_VARIANTS = {
    "paper": "",
    "filter": (
        "The concept maps are those of a variant of the method, not of the paper's definition: "
        "they were computed with Fisher's linear discriminant in place of the direction "
        f"(covariance within the two sets, shrinkage {SHRINKAGE:g}), also for random and for "
        "resampled images; channels were weighted by the direction. "
    ),
    "places": (
        "The concept maps are those of a variant of the method, not of the paper's definition: "
        "they were computed with linear discriminants learned on single locations of the feature "
        f"maps (the {TOP:.0%} that respond most in each example, chosen up to {REFINEMENTS} times, "
        f"against all locations of the negatives; shrinkage {SHRINKAGE:g}), also for random and "
        "for resampled images; channels were weighted by the direction. "
    ),
}


def _integral(settings: Mapping[str, Any]) -> str:
    steps = settings.get("steps")
    rule = (
        "an adaptive rule (DeepLIFT's rescale multipliers between points, or the trapezoid rule "
        "with successive refinement where the network has operations without such a rule; "
        f"relative tolerance {settings.get('tolerance')})"
        if steps == "adaptive"
        else f"the trapezoid rule with {steps} steps"
    )
    return (
        "Gradients were integrated from zero feature maps to those of the image with "
        f"{rule}, keeping positive contributions only.{_precision(settings)}"
    )


def _precision(settings: Mapping[str, Any]) -> str:
    """Return how gradients were computed where that was not in the network's own precision."""
    asked, chosen = settings.get("precision"), settings.get("bf16_layers", ())
    if not asked or (asked == "auto" and not chosen):
        return ""
    where = f" at {', '.join(map(clear, chosen))}" if asked == "auto" else ""
    worst = max((settings.get("precision_error") or {}).values(), default=None)
    moved = "" if worst is None else f", which moved the first attributions by up to {worst:.2%}"
    return f" Gradients were computed in {'bf16' if asked == 'auto' else asked}{where}{moved}."


def _erased(provenance: Provenance) -> str:
    fill, placebos = (provenance.settings.get(name) for name in ("fill", "placebos"))
    if not fill:
        return ""
    return (
        "To measure whether the network uses a concept, its region was filled in "
        f"(“{clear(fill)}”) and the network applied again. Regions come from linear discriminants "
        "learned on single locations of the feature maps, joined over layers; concepts whose "
        f"held-out AUC is below 0.8 were not measured. Effects were compared with {placebos} "
        "regions of the same size elsewhere, in an image or over the images of a class (half of "
        "the same shape, half where random concepts respond most; two-sided, q ≤ 0.05). Where "
        "another concept contested a region, the part that linear discriminant analysis of single "
        "locations assigned to its own concept was also erased alone."
        f"{provenance.shares_note and f' {provenance.shares_note}'}"
    )


def _resampled(fit: Mapping[str, Any]) -> Iterator[str]:
    if nulls := fit.get("null_cavs", 0):
        yield (
            f"Each attribution was tested against those of {nulls} directions learned from random "
            "draws of the negatives (one-sided permutation p-value with the +1 correction; "
            "Benjamini and Hochberg's q-value over all values of a class, or of an image; "
            "significant: q ≤ 0.05)."
        )
    else:
        yield "No attribution was tested for significance."
    if bootstraps := fit.get("bootstraps", 0):
        yield (
            f"95 % intervals for other examples rest on {bootstraps} directions from examples and "
            "negatives drawn with replacement."
        )
    if "seed" in fit:
        yield f"Seed: {fit['seed']}."


def provenance_text(results: Iterable[str], provenances: Iterable[Provenance]) -> str:
    """Return the provenance of all results as JSON, equal ones once.

    Args:
        results: What each provenance belongs to: "class zebra", "images", "diagnostics".
        provenances: The provenance of each.
    """
    sets: dict[tuple[str, ...], str] = {}
    owners: dict[str, dict[str, None]] = {}  # names in order, each once
    for name, provenance in zip(results, provenances, strict=True):
        text = json.dumps(_plain(provenance, sets), sort_keys=True)
        owners.setdefault(text, {})[name] = None
    data = {
        "results": [{"of": list(of), **json.loads(text)} for text, of in owners.items()],
        "image_sets": {label: short_names(names) for names, label in sets.items()},
    }
    return json.dumps(data, indent=1)


def _plain(provenance: Provenance, sets: dict[tuple[str, ...], str]) -> dict[str, Any]:
    """Return a provenance as JSON data, with labels in place of its lists of images.

    Args:
        provenance: The provenance.
        sets: Lists of images and their labels; those of this provenance are added.
    """
    data: dict[str, Any] = json.loads(json.dumps(provenance.to_dict(), default=str))
    for concept in data["concepts"]:
        for kind in ("examples", "negatives"):
            names = tuple(concept[kind])
            concept[kind] = sets.setdefault(names, f"set {len(sets) + 1} ({len(names)} images)")
    return data
