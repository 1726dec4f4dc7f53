"""Checks on zero feature maps, where the attributions of a layer begin, in plain sentences."""

from __future__ import annotations

import math

from scipy.stats import binomtest

from vtcav.diagnostics.levels import (
    FINE,
    LIMITS,
    LOOK,
    NOT_APPLICABLE,
    Finding,
    percent,
)
from vtcav.results.bank.cav_bank import CavBank
from vtcav.results.bank.zero_maps import ZeroMaps
from vtcav.results.words import count

_NAN = math.nan


def zero_map_checks(layer: str, bank: CavBank) -> list[Finding]:
    """Return how many images get nothing but zeros at a layer, and how even zero maps are.

    Args:
        layer: The layer.
        bank: The bank; its other layers may be the better ones.
    """
    where, zero = (layer, ""), bank.layers[layer].zero
    if zero is None:
        note = "these CAVs were learned before scores at zero feature maps were kept"
        text = f"Not applicable: {note}; fit again to check them."
        return [Finding(*where, "zero maps", _NAN, _NAN, _NAN, NOT_APPLICABLE, text, note)]
    if not math.isfinite(zero.apart):
        note = "the network's scores at zero feature maps are not finite"
        text = f"Not tested where attributions begin: {note}, so that this layer has none."
        return [Finding(*where, "zero maps", _NAN, _NAN, _NAN, LOOK, text, note)]
    return [_not_raised(where, zero), _apart(where, zero, _other(layer, bank))]


def _not_raised(where: tuple[str, str], zero: ZeroMaps) -> Finding:
    n = len(zero.raised)
    found = n - int(zero.raised.sum())
    value, ends = found / n, binomtest(found, n).proportion_ci(method="wilson")
    level = LIMITS.not_raised.level(value)
    text = (
        f"Of {count(n, 'example')} {found or 'none'} scored no higher for the most probable class "
        "than zero feature maps do"
    )
    if found:
        text += "; such images get 0 for every concept, which is no finding"
    text += "." if level == FINE else ": read another layer."
    return Finding(*where, "not raised", value, ends.low, ends.high, level, text)


def _apart(where: tuple[str, str], zero: ZeroMaps, other: str) -> Finding:
    value = zero.apart
    level = LIMITS.zero_maps.level(value)
    text = (
        "At zero feature maps, where attributions begin, the scores of the classes lie "
        f"{percent(value)} as far apart as for the examples"
    )
    if level != FINE:
        text += (
            f": the sizes of attributions depend on that, so read {other or 'another layer'} first "
            "and compare classes there"
        )
    note = "a ratio of standard deviations, no interval"
    return Finding(*where, "zero maps", value, _NAN, _NAN, level, f"{text}.", note)


def _other(layer: str, bank: CavBank) -> str:
    """Return the layer whose scores at zero maps lie closest together, where that is another."""
    spreads = {
        name: cavs.zero.apart
        for name, cavs in bank.layers.items()
        if cavs.zero is not None and math.isfinite(cavs.zero.apart)
    }
    best = min(spreads, key=spreads.__getitem__)
    return "" if best == layer else f"layer {best!r}"
