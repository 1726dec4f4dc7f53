"""Overview of the report: findings in plain sentences, and how far they can be trusted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vtcav.diagnostics.levels import BAD, FINE, LOOK
from vtcav.errors import ExplanationError
from vtcav.report.classes import ClassPart, ErasedPart
from vtcav.report.image_effects import Measured, doubt, measured
from vtcav.report.images import ImagePart
from vtcav.report.pairs import PairsPart, pairs_part
from vtcav.report.rows import AttributionRow
from vtcav.report.trust import NOT_DIAGNOSED, Trust
from vtcav.results.provenance import Provenance
from vtcav.results.verdicts import Verdict
from vtcav.results.words import (
    NOT_SEPARATED,
    NOT_TESTED,
    NS,
    clear,
    count,
    interval,
    listed,
    named_layers,
    short_names,
    value,
)

_FEW = 10
_MOST = 20
_GRAVITY = FINE, NOT_DIAGNOSED, LOOK


@dataclass(frozen=True)
class Statement:
    """A finding as a sentence.

    Attributes:
        text: The sentence.
        certainty: How certain it is.
        level: The level of the concept in the diagnostics; empty if the finding is about none.
        caution: A sentence to read with it.
        against: What erasing the concept says against it; empty for nothing.
    """

    text: str
    certainty: str = ""
    level: str = ""
    caution: str = ""
    against: str = ""


@dataclass(frozen=True)
class Overview:
    """The first part of the report.

    Attributes:
        cautions: Classes of which many images are predicted as another.
        verdicts: What erasing the concepts says about each class, those that are used first.
        strongest: Pictures of the first of them, if it says that a concept is used.
        not_apart: Concepts that a layer does not tell apart, and what erasing each does.
        findings: Significant attributions of concepts that can be used.
        unusable: Significant attributions of concepts that must not be used.
        nothing: Classes and images without a finding.
        trust: Sentences on how far the findings can be trusted.
        warnings: Skipped images, and results that do not belong together.
        single: What erasing the concepts says of images explained one by one.
        shares: What shares are relative to, where that must be said.
    """

    cautions: list[str]
    verdicts: list[Verdict]
    strongest: ErasedPart | None
    not_apart: PairsPart
    findings: list[Statement]
    unusable: list[Statement]
    nothing: list[str]
    trust: list[str]
    warnings: list[str]
    single: Sequence[Measured] = ()
    shares: str = ""


def overview(
    parts: Sequence[ClassPart],
    images: Sequence[ImagePart],
    trust: Trust,
    provenances: Sequence[Provenance],
) -> Overview:
    """Return the findings of all explanations.

    Args:
        parts: The explained classes.
        images: The explained images.
        trust: The trust in the concepts.
        provenances: The provenance of every explanation and of the diagnostics.

    Raises:
        ExplanationError: When there is neither a class nor an image.
    """
    if not parts and not images:
        raise ExplanationError(
            "there is nothing to report: expected at least one explanation of an image or a class"
        )
    rows = [row for part in parts for row in part.rows]
    significant = sorted(
        (row for row in rows if row.significant), key=lambda row: (not row["first"], -row["mean"])
    )
    told = {(part.number, each.concept): each.kind for part in parts for each in part.verdicts}
    claims = [
        _claim(row, _AGAINST.get(told.get((row["class_number"], row["concept"]), ""), ""))
        for row in significant
        if row.level != BAD
    ]
    claims.sort(key=lambda claim: bool(claim.against))
    tested = [_tested(rows, len(parts))] if rows else []
    ranked = sorted(
        (verdict for part in parts for verdict in part.verdicts), key=lambda verdict: verdict.rank
    )
    pictures = {id(each.verdict): each for part in parts for each in part.erased}
    first = ranked[0] if ranked and ranked[0].kind == "used" else None
    return Overview(
        cautions=[part.caution for part in parts if part.caution],
        verdicts=ranked,
        strongest=pictures.get(id(first)),
        not_apart=pairs_part(
            trust.not_apart(),
            [row for part in parts for row in part.not_apart],
            erased=any(part.verdicts for part in parts),
        ),
        findings=claims + _image_findings(images),
        unusable=[_claim(row) for row in significant if row.level == BAD],
        nothing=list(_nothing(parts, images)),
        trust=[_diagnosed(trust), *tested, *_samples(parts), _LIMITS],
        warnings=[*_skipped(parts, provenances), *_mixed(provenances), *_not_separated(rows)],
        single=measured([image.erased for image in images]),
        shares=" ".join(dict.fromkeys(filter(None, (p.shares_note for p in provenances)))),
    )


_LIMITS = (
    "An attribution says that this network's score for the class rises with something that the "
    "concept's examples have in common and their negatives lack. Only a look at the examples and "
    "the maps can tell whether that is what the concept's name says. An attribution does not prove "
    "a cause; the effects of erasing are measured."
)


_AGAINST = {
    "not seen": "But hardly an image shows it, or the network does not see it (above): the "
    "attribution is something else's.",
    "not used": "But the score hardly changes without it (above).",
    "cannot be told": "But whether the score depends on it cannot be told (above).",
}
_MEASURED = "what erasing measured (above) does not depend on that"


def _claim(row: AttributionRow, against: str = "") -> Statement:
    images = interval(row["ci_low"], row["ci_high"])
    certainty = [
        f"{row.as_much} (q = {value(row['q_value'])})",
        images and f"95 % interval for other images {images}",
        row.examples and f"for other examples {row.examples}",
        f"random concepts get {value(row['null_mean'])}",
    ]
    text = (
        f"“{clear(row['concept'])}” counts for “{clear(row['class_name'])}” at "
        f"{clear(row['layer'])}{' (read first)' if row['first'] else ''}: on average "
        f"{value(row['mean'])} of the logit difference of the best class, over "
        f"{count(row['n'], 'image')}."
    )
    return Statement(text, "; ".join(filter(None, certainty)), row.level, row.reason, against)


def _image_findings(images: Sequence[ImagePart]) -> list[Statement]:
    """Return how many images each concept counts in for each class, and at which layers."""
    explained = Counter(name for image in images for name in image.data["classes"])
    by_pair: dict[tuple[str, str], list[tuple[int, AttributionRow]]] = {}
    for i, image in enumerate(images):
        for row in image.claims:
            by_pair.setdefault((row["class_name"], row["concept"]), []).append((i, row))
    times = Counter({pair: len({i for i, _ in found}) for pair, found in by_pair.items()})
    statements = []
    for (name, concept), n in times.most_common(_MOST):
        rows = [row for _, row in by_pair[name, concept]]
        layers = list(dict.fromkeys(row["layer"] for row in rows))
        first = max(rows, key=lambda row: _GRAVITY.index(row.level))
        text = (
            f"In {n} of {count(explained[clear(name)], 'image')} explained for “{clear(name)}”, "
            f"“{clear(concept)}” counts for it, at {named_layers(layers)}."
        )
        certainty = "each image is tested on its own; q ≤ 0.05 over all its values"
        against = doubt([images[i].erased for i, _ in by_pair[name, concept]], name, concept)
        statements.append(Statement(text, certainty, first.level, first.reason, against))
    if (more := len(times) - _MOST) > 0:
        statements.append(Statement(f"{count(more, 'rarer finding')} with the images themselves."))
    return statements


def _nothing(parts: Sequence[ClassPart], images: Sequence[ImagePart]) -> Iterator[str]:
    for part in parts:
        if not any(row.claimed for row in part.rows):
            why = "no attribution stands out from chance, at any layer"
            if all(row.verdict in (NOT_TESTED, NOT_SEPARATED) for row in part.rows):
                why = "no attribution was tested"
            used = any(verdict.kind == "used" for verdict in part.verdicts)
            yield f"For “{clear(part.name)}” {why}{f'; {_MEASURED}' if used else ''}."
    if without := sum(not image.claims for image in images):
        yield f"In {without} of {count(len(images), 'image')} no concept can be claimed to count."


def _diagnosed(trust: Trust) -> str:
    counts = Counter(trust.levels())
    if not counts:
        return (
            "The concepts were not diagnosed: it is not known how far their directions can be "
            "trusted (explainer.diagnostics(), vtcav diagnose)."
        )
    levels = [f"{counts[level]} {level}" for level in (FINE, LOOK, BAD) if counts[level]]
    pairs = count(counts.total(), "concept at a layer", "pairs of concept and layer")
    return (
        f"Diagnostics of {pairs}: {listed(levels)}. Nothing is claimed for “do not use”; “look” "
        "comes with a sentence to read first."
    )


def _tested(rows: Sequence[AttributionRow], classes: int) -> str:
    counts = Counter(row.verdict for row in rows)
    tested = sum(n for verdict, n in counts.items() if verdict not in (NOT_TESTED, NOT_SEPARATED))
    if not tested:
        return (
            "No attribution to a class was tested against random concepts: none can be "
            "told from chance."
        )
    sentence = (
        f"{count(tested, 'attribution')} to classes tested against concepts made of random images; "
        f"{tested - counts[NS]} with q ≤ 0.05. "
        "“Not significant” (q > 0.05) does not mean that the concept does not matter: the table "
        "says how many random directions get as much."
    )
    if classes > 1:
        sentence += (
            " False discoveries are controlled within each class, over its concepts and layers, "
            "not over all classes together."
        )
    if counts[NOT_TESTED]:
        sentence += f" {count(counts[NOT_TESTED], 'attribution')} could not be tested (see notes)."
    return sentence


def _samples(parts: Sequence[ClassPart]) -> Iterator[str]:
    for part in parts:
        name, images = clear(part.name), count(part.used, "image")
        if part.used < _FEW:
            yield f"“{name}” has only {images}: its interval for other images is wide, or missing."
        if part.otherwise and not part.caution:
            yield (
                f"Of the {images} of “{name}”, the network predicts {part.otherwise} as another "
                "class."
            )


def _skipped(parts: Sequence[ClassPart], provenances: Sequence[Provenance]) -> Iterator[str]:
    for part in parts:
        names = short_names([name for name, _ in part.skipped])
        for name, (_, reason) in zip(names, part.skipped, strict=True):
            yield f"Skipped in “{clear(part.name)}”: {clear(name)}: {clear(reason)}"
    records = [record for provenance in provenances for record in provenance.concepts]
    lost = {
        (record.name, skip.name, skip.reason)
        for record in records
        for skip in (*record.skipped_examples, *record.skipped_negatives)
    }
    for concept, path, reason in sorted(lost):
        [name] = short_names([path])
        yield f"Skipped in the concept “{clear(concept)}”: {clear(name)}: {clear(reason)}"


def _mixed(provenances: Sequence[Provenance]) -> Iterator[str]:
    """Warn where results come from different networks or concepts."""
    networks = {str(p.model.get("fingerprint")) for p in provenances}
    if len(networks) > 1:
        yield (
            f"These results come from {len(networks)} different networks (by their weights): do "
            "not compare their numbers."
        )
    examples = {
        tuple((c.name, c.examples, c.negatives, c.content) for c in p.concepts) for p in provenances
    }
    if len(examples) > 1:
        yield (
            f"These results come from {len(examples)} different sets of concepts, examples or "
            "negatives; diagnostics are shown only for the sets that they were made from."
        )


def _not_separated(rows: Sequence[AttributionRow]) -> list[str]:
    pairs = dict.fromkeys(
        (row["concept"], row["layer"]) for row in rows if row.verdict == NOT_SEPARATED
    )
    return [
        f"“{clear(concept)}” is not separated from its negatives at {named_layers([layer])} "
        "(e+ ≤ e-): its maps and attributions there are 0 and mean nothing."
        for concept, layer in pairs
    ]
