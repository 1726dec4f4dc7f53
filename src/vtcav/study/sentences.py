"""The sentences of a study's results, as the terminal says them and `study.json` keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from vtcav.explainer.correction.corrected_network import CorrectedNetwork
from vtcav.explainer.versus.result import Versus
from vtcav.report.image_effects import effects_of, measured
from vtcav.results.effect_tables import of_pictures
from vtcav.results.error_analysis import ErrorAnalysis
from vtcav.results.explanation import GlobalExplanation, LocalExplanation
from vtcav.results.provenance import Provenance
from vtcav.results.reading import group_sentences, misclassified


def said_of(
    classes: Iterable[GlobalExplanation],
    images: Mapping[str, LocalExplanation],
    provenance: Provenance,
) -> dict[str, list[Any]]:
    """Return what is said of classes and photographs: cautions, verdicts, groups, effects.

    Args:
        classes: The explained classes.
        images: The explained photographs, by name.
        provenance: Of the study.
    """
    cautions: list[Any] = list(filter(None, [provenance.caution, provenance.shares_note]))
    said: dict[str, list[Any]] = {"cautions": cautions, "verdicts": [], "groups": []}
    for glob in classes:
        name = glob.class_name
        said["cautions"] += filter(None, [misclassified(name, glob.predicted)])
        said["verdicts"] += [{"class": name, **asdict(verdict)} for verdict in glob.verdicts()]
        said["groups"] += group_sentences(of_pictures(glob.group_tests()), glob.by_group(), name)
    found = measured([effects_of(local, name) for name, local in images.items()], named=True)
    # what is beyond chance comes first
    said["photographs"] = [one.text for one in sorted(found, key=lambda one: not one.sure)]
    return said


def findings_of(
    errors: ErrorAnalysis | None, correction: CorrectedNetwork | None, versus: Versus | None
) -> dict[str, list[str]]:
    """Return what is said of errors, a correction and a second network, of what was asked for."""
    found = {}
    if errors is not None:
        found["errors"] = errors.findings() or [errors.conclusion]
    if correction is not None:
        found["correction"] = correction.report.findings()
    if versus is not None:
        found["versus"] = versus.sentences()
    return found
