"""Bars of attributions and of measured changes, the same in both layouts of an image's figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vtcav.results.figures.page import Page
from vtcav.results.figures.palette import MUTED
from vtcav.results.words import SIGNIFICANT

BAR = 0.155
"""The height of a bar with the room around it, in inches."""

_TRACK = "0.93"
_OUTLINED = {"facecolor": "white", "edgecolor": "0.45", "linewidth": 0.8}
_VISIBLE = 0.01  # inches


class Track(NamedTuple):
    """The room of a bar: its left end, middle, width and height in inches."""

    left: float
    middle: float
    width: float
    height: float = 0.6 * BAR

    def at(self, share: float) -> float:
        """Return the place of a share of its length."""
        return self.left + share * self.width


def draw_attribution(
    page: Page,
    track: Track,
    bar: Any,
    limit: float,
    fill: Mapping[str, Any],
    others: Sequence[float] = (),
) -> None:
    """Draw an attribution with its interval.

    Args:
        page: Where to draw.
        track: The room.
        bar: A row of the table of attributions, with the ends low and high of its interval.
        limit: The end of the scale.
        fill: How bars of the class are filled.
        others: Attributions at other layers, as dots.
    """
    label = f"{bar.layer} {bar.concept}"
    page.bar(*track, color=_TRACK, gid=f"track {label}")
    look = _OUTLINED if bar.q_value > SIGNIFICANT else fill
    page.bar(
        *track._replace(width=bar.attribution / limit * track.width), gid=f"bar {label}", **look
    )
    _draw_mean(page, track, bar.null_mean / limit)
    for value in others:
        page.dot(track.at(min(value / limit, 1.0)), track.middle)
    if bar.attribution and track.width / limit * (bar.high - bar.low) / 2 > _VISIBLE:
        page.whisker(track.at(bar.low / limit), track.at(bar.high / limit), track.middle)


def draw_change(
    page: Page, track: Track, concept: str, change: Any, fill: Mapping[str, Any]
) -> None:
    """Draw how far a score falls.

    Args:
        page: Where to draw.
        track: The room.
        concept: The concept that was erased.
        change: A `Change` that has a bar.
        fill: How bars of the class are filled.
    """
    page.bar(*track, color=_TRACK)
    look = fill if change.sure else _OUTLINED
    width = change.share * track.width
    page.bar(*track._replace(width=width), gid=f"fall {concept}", **look)
    _draw_mean(page, track, change.elsewhere)


def _draw_mean(page: Page, track: Track, share: float) -> None:
    """Draw what chance gives on average."""
    if math.isnan(share):
        return
    x, half = track.at(min(max(share, 0.0), 1.0)), 0.75 * track.height
    page.dashed(x, track.middle - half, track.middle + half, MUTED)
