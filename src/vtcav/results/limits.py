"""Limits: how much a concept may count for a class, and whether an explanation keeps to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, get_args

from vtcav.method.erasure.joined_map import SEEN
from vtcav.parameters import Constraint, Flag, Settings, Text, parameter
from vtcav.results.effect_tables import of_pictures
from vtcav.results.verdicts import RARE
from vtcav.results.words import SIGNIFICANT, count, named_layers, value

if TYPE_CHECKING:
    import pandas as pd

State: TypeAlias = Literal["broken", "cannot tell", "kept"]
STATES: tuple[State, ...] = get_args(State)
CHANCE = "regions of the same size elsewhere change it as much, so chance may explain it"
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
        state: "broken" where the whole interval lies above the limit, "kept" where none of it does,
            else "cannot tell".
        failed: Whether the limit counts as broken: it is, or it is strict and cannot be told.
        reason: Why it cannot be told; empty otherwise.
        layer: The layer of an attribution; empty for a share.
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
        span = f" ({number(self.low)} to {number(self.high)})" * (not math.isnan(self.low))
        shown = "" if math.isnan(self.found) else f": {number(self.found)}{span}{where}"
        if self.state == "cannot tell":
            return f"cannot tell whether {what} keeps to {limit}{shown}; {self.reason}"
        return f"{what} {'breaks' if self.state == 'broken' else 'keeps to'} {limit}{shown}"


class _Explanation(Protocol):
    """What is compared with limits: the explanation of a class."""

    @property
    def class_name(self) -> str: ...

    @property
    def best_layers(self) -> Mapping[str, str]: ...

    @property
    def groups(self) -> Mapping[str, str]: ...

    def summary(self) -> pd.DataFrame: ...

    def class_effects(self) -> pd.DataFrame: ...


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
    summary, effects = explained.summary(), of_pictures(explained.class_effects())
    units = "groups" if explained.groups else "images"
    found: list[LimitOutcome] = []
    for concept, limit in limits.items():
        about = {"concept": concept, "class_name": explained.class_name}
        if limit.max_attribution is not None:
            layer = limit.layer or explained.best_layers.get(concept, "")
            here = (summary["concept"] == concept) & (summary["layer"] == layer)
            reading = _attribution(_records(summary[here]), trust.get((layer, concept), ""))
            outcome = _outcome(about, "attribution", limit.max_attribution, reading, limit, units)
            found.append(replace(outcome, layer=layer))
        if limit.max_share is not None:
            reading = _share(_records(effects[effects["concept"] == concept]))
            found.append(_outcome(about, "share", limit.max_share, reading, limit, units))
    return found


@dataclass(frozen=True)
class _Reading:
    """A measured value with its interval, or why there is none.

    Attributes:
        found: The value.
        low: The lower end.
        high: The upper end.
        reason: Why nothing can be told.
        by_chance: Why a high value tells nothing; a low one does.
    """

    found: float = math.nan
    low: float = math.nan
    high: float = math.nan
    reason: str = ""
    by_chance: str = ""


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


def _share(rows: list[dict[str, Any]]) -> _Reading:
    if not rows:
        return _Reading(reason="nothing was erased")
    [row] = rows
    if row["present"] < RARE:
        found = round(row["present"] * row["n"])
        of = count(int(row["n"]), "image")
        return _Reading(reason=f"the concept is found in {found} of {of}: give images that show it")
    if math.isnan(row["share"]) or math.isnan(row["share_low"]):
        return _Reading(abs(row["share"]), reason=row["note"] or "there is no interval")
    fills = _span(row["fill_low"] / row["gap"], row["fill_high"] / row["gap"])
    ends = [row["share_low"], row["share_high"], *fills]
    low, high = min(ends), max(ends)
    # a concept that speaks against the class is used, too
    inner = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
    chance = CHANCE if row["p_value"] > SIGNIFICANT else ""
    return _Reading(abs(row["share"]), inner, max(abs(low), abs(high)), by_chance=chance)


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
        state = "cannot tell" if reading.by_chance else "broken"
        reason = reading.by_chance
    elif not reason and reading.high <= most:
        state = "kept"
    elif not reason:
        reason = f"the interval lies on both sides of it: more {units} would tell"
    failed = state == "broken" or (limit.strict and state == "cannot tell")
    return LimitOutcome(
        **about,
        quantity=quantity,
        most=most,
        found=reading.found,
        low=reading.low,
        high=reading.high,
        state=state,
        failed=failed,
        reason=reason,
    )


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
