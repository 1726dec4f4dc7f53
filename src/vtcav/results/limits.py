"""Limits: how much a concept may count for a class, and whether an explanation keeps to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, get_args

from vtcav.method.erasure.joined_map import SEEN
from vtcav.parameters import Constraint, Flag, Settings, Text, parameter
from vtcav.results.effect_tables import GROUP, beyond_elsewhere, of_pictures
from vtcav.results.verdicts import FEWEST, LARGE, RARE, Ownership, ownership
from vtcav.results.words import SIGNIFICANT, clear, count, named_layers, value

if TYPE_CHECKING:
    import pandas as pd

State: TypeAlias = Literal["broken", "cannot tell", "kept"]
STATES: tuple[State, ...] = get_args(State)
CHANCE = "regions of the same size elsewhere change it as much, so chance may explain it"
NO_GROUP = f"no group of at least {FEWEST} images is plainly above it"
Quantity: TypeAlias = Literal["attribution", "share"]


def _amount(given: Any) -> float:
    if isinstance(given, bool | str) or not 0 <= float(given) < math.inf:
        raise ValueError
    return float(given)


def _names(given: Any) -> tuple[str, ...]:
    if not isinstance(given, list | tuple) or not given or len(set(given)) < len(given):
        raise ValueError
    return tuple(map(str, given))


_AMOUNT = Constraint("a number of at least 0", _amount, float, metavar="X")
_CLASSES = Constraint("a list of different classes", _names)


@dataclass(frozen=True)
class ConceptLimit(Settings):
    """How much a concept may count.

    Attributes:
        max_attribution: The most that its mean attribution may be.
        max_share: The most that erasing it may change the class's score, as a share of it and in
            either direction.
        classes: The classes that it holds for.
        layer: The layer of the attribution.
        strict: Whether it counts as broken where it cannot be told.
        each_group: Whether it is broken, too, where a single group of images is above it.
    """

    max_attribution: float | None = parameter(
        None, _AMOUNT, "the most that the mean attribution may be", "no limit"
    )
    max_share: float | None = parameter(
        None, _AMOUNT, "the most of the score that erasing the concept may change", "no limit"
    )
    classes: tuple[str, ...] | None = parameter(
        None, _CLASSES, "the classes that the limit holds for", "all that are explained"
    )
    layer: str | None = parameter(
        None, Text("a layer name"), "the layer of the attribution", "the layer to read first"
    )
    strict: bool = parameter(False, Flag(), "whether what cannot be told breaks the limit")
    each_group: bool = parameter(True, Flag(), "whether the limit holds in each group of images")


@dataclass(frozen=True)
class GroupExcess:
    """A group of images in which a concept counts more than a limit allows.

    Attributes:
        group: Its name.
        n: The number of its images.
        found: What was measured in them.
        low: The lower end of its interval over these images, which is at 95 % for all groups
            together (Bonferroni).
        high: The upper end.
    """

    group: str
    n: int
    found: float
    low: float
    high: float


@dataclass(frozen=True)
class LimitOutcome:
    """Whether one class keeps to one limit.

    Attributes:
        concept: The concept.
        class_name: The class.
        quantity: What is limited, "attribution" or "share".
        most: The limit.
        found: What was measured; NaN where there is no number.
        low: The lower end of its interval; NaN where there is none.
        high: The upper end; of an attribution that of the images which raise the class at all.
        state: "broken" where the whole interval lies above the limit, or that of a group of at
            least five images; "kept" where none of it does; else "cannot tell".
        failed: Whether the limit counts as broken: it is, or it is strict and cannot be told.
        reason: Why it cannot be told; empty otherwise.
        layer: The layer of an attribution; empty for a share.
        above: The groups that break it, the largest first; none where all images together do.
        groups: The number of groups that were compared with it.
    """

    concept: str
    class_name: str
    quantity: Quantity
    most: float
    found: float
    low: float
    high: float
    state: State
    failed: bool
    reason: str
    layer: str = ""
    above: tuple[GroupExcess, ...] = ()
    groups: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome and its sentence as plain data."""
        return asdict(self) | {"sentence": self.sentence}

    @property
    def sentence(self) -> str:
        """The outcome as a sentence."""
        number: Callable[[float], str] = value
        most = f"{self.most:g}"
        what = f"the attribution of {self.concept!r} to {self.class_name!r}"
        if self.quantity == "share":
            number, most = _percent, f"{100 * self.most:g} %"
            what = f"what erasing {self.concept!r} changes of the score of {self.class_name!r}"
        where = f" at {named_layers([self.layer])}" if self.layer else ""
        limit = f"the limit of {most}"

        def shown(one: LimitOutcome | GroupExcess) -> str:
            span = "" if math.isnan(one.low) else f" ({number(one.low)} to {number(one.high)})"
            return "" if math.isnan(one.found) else f": {number(one.found)}{span}"

        if self.above:
            keeps = ", which keeps to it" * (self.high <= self.most)
            whole = f"; over all images{shown(self)}{keeps}" * (not math.isnan(self.found))
            return f"{what} breaks {limit} in {self._group}{shown(self.above[0])}{where}{whole}"
        found = shown(self) and shown(self) + where
        if self.state == "cannot tell":
            return f"cannot tell whether {what} keeps to {limit}{found}; {self.reason}"
        return f"{what} {'breaks' if self.state == 'broken' else 'keeps to'} {limit}{found}"

    @property
    def _group(self) -> str:
        """The group that is furthest above, in words, and how many are."""
        most = f"{clear(self.above[0].group)!r} ({count(self.above[0].n, 'image')})"
        if len(self.above) == 1:
            return f"the group {most}"
        return f"{len(self.above)} of {self.groups} groups, most in {most}"


class _Explanation(Protocol):
    """What is compared with limits: the explanation of a class."""

    @property
    def class_name(self) -> str: ...

    @property
    def best_layers(self) -> Mapping[str, str]: ...

    @property
    def groups(self) -> Mapping[str, str]: ...

    @property
    def predicted(self) -> Mapping[str, int]: ...

    def summary(self, confidence: float = ...) -> pd.DataFrame: ...

    def by_group(self, confidence: float = ...) -> pd.DataFrame: ...

    def class_effects(self, confidence: float = ..., *, by_group: bool = ...) -> pd.DataFrame: ...


def outcomes(
    limits: Mapping[str, ConceptLimit],
    explained: _Explanation,
    trust: Mapping[tuple[str, str], str],
) -> list[LimitOutcome]:
    """Return whether the explanation of a class keeps to limits.

    Args:
        limits: Those that hold for the class, by concept.
        explained: The explanation, a `GlobalExplanation`.
        trust: Why attributions must not be used, by layer and concept.
    """
    if not limits:
        return []
    summary = explained.summary()
    rows = {row["concept"]: row for row in _records(of_pictures(explained.class_effects()))}
    units = "groups" if explained.groups else "images"
    groups = _Groups.of(explained) if explained.groups else None
    found: list[LimitOutcome] = []
    for concept, limit in limits.items():
        about = {"concept": concept, "class_name": explained.class_name}
        alone = groups if limit.each_group else None
        if limit.max_attribution is not None:
            layer = limit.layer or explained.best_layers.get(concept, "")
            distrust = trust.get((layer, concept), "")
            reading = _attribution(_at(summary, layer, concept), distrust)
            outcome = _outcome(about, "attribution", limit.max_attribution, reading, limit, units)
            parts = alone.attributions(layer, concept, distrust) if alone else []
            found.append(replace(_with_groups(outcome, parts), layer=layer))
        if limit.max_share is not None:
            whole = rows.get(concept, {})
            whose = ownership(whole, rows) if whole else Ownership()
            outcome = _outcome(about, "share", limit.max_share, _share(whole, whose), limit, units)
            parts = alone.shares(whole, whose) if alone and whole else []
            found.append(_with_groups(outcome, parts))
    if reason := _mistaken(explained):
        found = [_untold(one, reason, strict=limits[one.concept].strict) for one in found]
    return found


def _mistaken(explained: _Explanation) -> str:
    """Return that half of a class's images or more are predicted as another; empty for fewer."""
    images = sum(explained.predicted.values())
    otherwise = images - explained.predicted.get(explained.class_name, 0)
    if not images or otherwise < images / 2:
        return ""
    return f"the network predicts {otherwise} of its {count(images, 'image')} as another class"


def _untold(outcome: LimitOutcome, reason: str, *, strict: bool) -> LimitOutcome:
    """Return an outcome that is not kept, as nothing is used of a class that is not recognised."""
    if outcome.state != "kept":
        return outcome
    return replace(outcome, state="cannot tell", reason=reason, failed=strict)


@dataclass(frozen=True)
class _Reading:
    """A measured value with its interval, or why there is none.

    Attributes:
        found: The value.
        low: The lower end.
        high: The upper end.
        reason: Why nothing can be told.
        no_evidence: Why a high value tells nothing of the concept; a low one does.
        group: The group of images that it is of; empty for all.
        n: The number of the group's images.
    """

    found: float = math.nan
    low: float = math.nan
    high: float = math.nan
    reason: str = ""
    no_evidence: str = ""
    group: str = ""
    n: int = 0

    def above(self, most: float) -> bool:
        """Tell whether it is above a limit beyond doubt."""
        return not self.reason and not self.no_evidence and self.low > most


@dataclass(frozen=True)
class _Groups:
    """What is read of single groups of at least `FEWEST` images, at a confidence for all of them.

    Attributes:
        many: The number of these groups.
        summary: The attributions over all images.
        means: Those of each group.
        effects: The effects of each group.
    """

    many: int
    summary: pd.DataFrame
    means: pd.DataFrame
    effects: pd.DataFrame

    @classmethod
    def of(cls, explained: _Explanation) -> _Groups | None:
        """Return the groups of an explanation; None where all are too small."""
        sizes = explained.by_group().groupby(GROUP)["n"].max()
        many = int((sizes >= FEWEST).sum())
        if not many:
            return None
        # Bonferroni: of many groups one is high by chance
        confidence = 1 - 0.05 / many
        means = explained.by_group(confidence)
        effects = of_pictures(explained.class_effects(confidence, by_group=True))
        tables = (table[table["n"] >= FEWEST] for table in (means, effects))
        return cls(many, explained.summary(confidence), *tables)

    def attributions(self, layer: str, concept: str, distrust: str) -> list[_Reading]:
        """Return the attribution of a concept in each group."""
        found = []
        for whole in _at(self.summary, layer, concept):
            for part in _at(self.means, layer, concept):
                # other examples change the mean of a group as they change that of all images
                change = part["mean"] / (whole["mean"] or math.nan)
                row = whole | part
                row |= {end: whole[end] * change for end in ("cav_low", "cav_high")}
                found.append(_of_group(_attribution([row], distrust), part))
        return found

    def shares(self, whole: dict[str, Any], whose: Ownership) -> list[_Reading]:
        """Return the share of the score that erasing a concept changes in each group.

        Args:
            whole: The row of the effect in all images, whose chance counts for a group that has
                none of its own, or goes beyond regions elsewhere in it: few of them are its own.
            whose: Whose effect it is.
        """
        found, p = [], "p_apart" if whose.own_part else "p_value"
        for row in _records(self.effects[self.effects["concept"] == whole["concept"]]):
            p_value = row[p] * self.many
            borrowed = math.isnan(p_value) or beyond_elsewhere(whose.effect(row))
            row[p] = min(_span(p_value, *[whole[p]] * borrowed), default=math.nan)
            found.append(_of_group(_share(row, whose), row))
        return found


def _of_group(reading: _Reading, row: Mapping[str, Any]) -> _Reading:
    return replace(reading, group=str(row[GROUP]), n=int(row["n"]))


def _at(table: pd.DataFrame, layer: str, concept: str) -> list[dict[str, Any]]:
    return _records(table[(table["concept"] == concept) & (table["layer"] == layer)])


def _attribution(rows: list[dict[str, Any]], distrust: str) -> _Reading:
    if not rows:
        return _Reading(reason="no layer is known to see the concept: name one with `layer`")
    [row] = rows
    low, high = _span(row["ci_low"], row["cav_low"]), _span(row["ci_high"], row["cav_high"])
    reason = next(_doubts(row, distrust), "")
    # images that do not raise the class have 0 whatever they show: the others keep to it, or not
    most = max(high, default=math.nan) / (row["raised"] or math.nan)
    return _Reading(row["mean"], min(low, default=math.nan), most, reason)


def _doubts(row: Mapping[str, Any], distrust: str) -> Iterator[str]:
    if not row["separated"]:
        yield "the layer does not tell the concept from its negatives"
    if not row["raised"]:
        yield "no image raises the class above zero feature maps: name another layer"
    if row["seen"] < SEEN:
        yield "the layer does not see the concept"
    if distrust:
        yield distrust
    if math.isnan(row["mean"]) or math.isnan(row["ci_low"]):
        yield row["note"] or "there is no interval"


def _share(row: dict[str, Any], whose: Ownership) -> _Reading:
    """Return the share that erasing changes, of the part of the region that is the concept's."""
    if not row:
        return _Reading(reason="nothing was erased")
    if row["present"] < RARE:
        found = round(row["present"] * row["n"])
        of = count(int(row["n"]), "image")
        return _Reading(reason=f"the concept is found in {found} of {of}: give images that show it")
    row = whose.effect(row)
    if math.isnan(row["share"]) or math.isnan(row["share_low"]):
        return _Reading(abs(row["share"]), reason=row["note"] or "there is no interval")
    fills = _span(row["fill_low"] / row["gap"], row["fill_high"] / row["gap"])
    ends = [row["share_low"], row["share_high"], *fills]
    low, high = min(ends), max(ends)
    # a concept that speaks against the class is used, too
    inner = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
    doubt = CHANCE if row["p_value"] > SIGNIFICANT else ""
    doubt = f"its region {whose.doubt}" if whose.doubt else doubt
    if row["area"] > LARGE:
        doubt = f"its region covers {_percent(row['area'])} of the picture"
    return _Reading(abs(row["share"]), inner, max(abs(low), abs(high)), no_evidence=doubt)


def _span(*numbers: float) -> list[float]:
    return [number for number in numbers if not math.isnan(number)]


def _outcome(
    about: Mapping[str, str],
    quantity: Quantity,
    most: float,
    reading: _Reading,
    limit: ConceptLimit,
    units: str,
) -> LimitOutcome:
    state: State = "cannot tell"
    reason = reading.reason
    if not reason and reading.low > most:
        state = "cannot tell" if reading.no_evidence else "broken"
        reason = reading.no_evidence
    elif not reason and reading.high <= most:
        state = "kept"
    elif not reason:
        reason = f"the interval lies on both sides of it: more {units} would tell"
    failed = state == "broken" or (limit.strict and state == "cannot tell")
    return LimitOutcome(
        concept=about["concept"],
        class_name=about["class_name"],
        quantity=quantity,
        most=most,
        found=reading.found,
        low=reading.low,
        high=reading.high,
        state=state,
        failed=failed,
        reason=reason,
    )


def _with_groups(outcome: LimitOutcome, parts: list[_Reading]) -> LimitOutcome:
    """Return an outcome with the groups of images that break the limit where all together do not.

    Args:
        outcome: That of all images.
        parts: What was measured in each group.
    """
    if outcome.state == "broken" or not parts:
        return outcome
    above = sorted(
        (
            GroupExcess(one.group, one.n, one.found, one.low, one.high)
            for one in parts
            if one.above(outcome.most)
        ),
        key=lambda one: -one.found,
    )
    outcome = replace(outcome, groups=len(parts))
    if above:
        return replace(outcome, state="broken", failed=True, reason="", above=tuple(above))
    if outcome.state == "cannot tell" and not all(one.reason for one in parts):
        return replace(outcome, reason=f"{outcome.reason}; {NO_GROUP}")
    return outcome


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
