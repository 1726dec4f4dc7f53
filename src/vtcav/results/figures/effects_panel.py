"""The panel of a class's figure on erasure: how far the score falls without each concept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from vtcav.results.effect_tables import of_pictures
from vtcav.results.figures.page import cross_out
from vtcav.results.figures.palette import MUTED
from vtcav.results.figures.protocols import ExplainedClass
from vtcav.results.verdicts import own_part
from vtcav.results.words import SIGNIFICANT, clear, listed

_EDGES = 5, 95
"""The percentiles of the images that the axis reaches at least; others lie on its ends."""

_SHORTEST = 0.1
"""The shortest axis, as a share or in logits, so that nothing does not look like much."""

_TOLD = "used", "not used"

_PERCENT = "100 %: the class scores no more than for the negatives. "
_IN_LOGITS = "In logits, where the class does not score clearly higher than for the negatives. "


class EffectsPanel:
    """Effects of erasure in the units of the panel's axis: shares in percent, or else logits.

    Numbers have the units of the verdicts. Where a concept has no share, the axis is in logits.

    Args:
        explanation: An explained class whose concepts were erased.

    Attributes:
        label: Of the axis.
        note: What a reader needs to know.
    """

    def __init__(self, explanation: ExplainedClass) -> None:
        verdicts = explanation.verdicts()
        own = [each.concept for each in verdicts if each.own_part]
        self._places = {each.concept: k for k, each in enumerate(verdicts)}
        self._told = {each.concept for each in verdicts if each.kind in _TOLD}
        measured = of_pictures(explanation.class_effects()).to_dict("records")
        table = pd.DataFrame([own_part(row) if row["concept"] in own else row for row in measured])
        rows: list[Any] = list(table.itertuples(index=False))
        self._rows = {row.concept: row for row in rows}
        has_share = table.loc[table["drop"].notna(), "share"].notna()
        self._shares = bool(has_share.all())
        self._mixed = not self._shares and bool(has_share.any())
        images = of_pictures(explanation.shown_effects()).groupby("concept", sort=False)
        self._points = {
            str(name): values["drop_apart" if name in own else "drop"].to_numpy(float)
            * self._scale(self._rows[str(name)])
            for name, values in images
        }
        self.label = f"score that is gone, in {'%' if self._shares else 'logits'}"
        about = explanation.provenance.shares_note
        percent = f"{_PERCENT}{about}{' ' if about else ''}" if has_share.any() else ""
        units = f"{percent}{'' if self._shares else _IN_LOGITS}"
        self.note = (
            "Without the concept: its region is filled in from around it, and the network looks "
            f"again. {units}Thin bar: 95 % interval over images; broad bar: over the ways to fill "
            "in; in brackets: the ends of both; dashed: regions of the same size elsewhere. Images "
            f"beyond the axis lie on its ends. ns: not more than elsewhere (q > {SIGNIFICANT})."
        )
        if any(not np.isnan(row.drop) and row.concept not in self._told for row in rows):
            self.note += " ?: cannot be told whether the class uses it, as the verdict says."
        if own:
            names = listed([repr(clear(name)) for name in own])
            self.note += f" Of {names}: the own part of regions that others overlap with."
        ends = [0.0, _SHORTEST * (100 if self._shares else 1)]
        for concept, row in self._rows.items():
            if not np.isnan(row.drop):
                inner = np.nanpercentile(self._points[concept], _EDGES)
                ends += [*inner, *self._interval(row), row.drop * self._scale(row)]
        ends = [end for end in ends if not np.isnan(end)]
        spread = max(max(ends) - min(ends), 1e-3)
        self.ticks = MaxNLocator(3).tick_values(min(ends), min(ends) + spread)
        self.limits = float(self.ticks[0]), float(self.ticks[-1])

    def numbers(self, concept: str) -> list[str]:
        """Return a concept's mean as text, and the ends of both bars, as verdicts have them."""
        row = self._rows[concept]
        if np.isnan(row.drop):
            return ["–"]
        own = not np.isnan(row.share)
        scale, unit = (100 / row.gap, " %") if own else (1.0, " logits" if self._mixed else "")

        def text(logits: float) -> str:
            return f"{round(logits * scale) + 0:d}" if own else f"{logits:z.2f}"

        mean = f"{text(row.drop)}{unit}"
        ends = np.array([row.drop_low, row.drop_high, row.fill_low, row.fill_high])
        low, high = (np.nan, np.nan) if np.isnan(ends).all() else (np.nanmin(ends), np.nanmax(ends))
        if row.q_value > SIGNIFICANT:
            mean += " ns"
        if concept not in self._told:
            mean += " ?"
        return [mean] if np.isnan(low) else [mean, f"[{text(low)}, {text(high)}]"]

    def place(self, concept: str) -> int:
        """Return the place of a concept's verdict among all: what is used comes first."""
        return self._places[concept]

    def sure(self, concept: str) -> bool:
        """Whether it can be told what the change says; also where no regions elsewhere were."""
        return concept in self._told and not self._rows[concept].q_value > SIGNIFICANT

    def points(self, concept: str) -> NDArray[np.float64]:
        """Return the images' values within the axis; none where the concept is not seen."""
        values = np.clip(self._points[concept], *self.limits)
        return values[:0] if np.isnan(values).any() else values

    def draw(self, axes: Axes, k: int, concept: str, look: dict[str, Any]) -> None:
        """Draw a concept's mean with its intervals.

        Args:
            axes: Of the panel.
            k: The position of the row.
            concept: The concept.
            look: The keywords of "band", "bar" and "mean", those of the other panels.
        """
        row = self._rows[concept]
        low, high = self.limits
        if np.isnan(row.drop):
            reason = f"not seen (AUC {row.seen:.2f})"
            cross_out(axes, (low, k - 0.5, high - low, 1), reason)
            return
        scale = self._scale(row)
        fills = [row.fill_low * scale, row.fill_high * scale]
        axes.plot(np.clip(fills, low, high), [k, k], **look["band"], alpha=0.8, zorder=2.5)
        interval = self._interval(row)
        if not np.isnan(interval[0]):
            axes.plot(np.clip(interval, low, high), [k, k], "|-", ms=5, **look["bar"], zorder=3)
        if not np.isnan(row.placebo_mean):
            x = row.placebo_mean * scale
            axes.plot([x, x], [k - 0.4, k + 0.4], "--", color=MUTED, linewidth=1, zorder=3)
        axes.plot(row.drop * scale, k, **look["mean"], zorder=4, clip_on=False)

    def _scale(self, row: Any) -> float:
        """Return what turns logits into units of the axis."""
        return 100 / float(row.gap) if self._shares and not np.isnan(row.share) else 1.0

    def _interval(self, row: Any) -> tuple[float, float]:
        scale = self._scale(row)
        return row.drop_low * scale, row.drop_high * scale
