"""Rows of the report: attributions with their verdicts and the trust in their concepts."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from vtcav.diagnostics.levels import BAD
from vtcav.report.trust import Trust
from vtcav.results.provenance import Provenance
from vtcav.results.words import SIGNIFICANTLY, as_much, interval, verdict


@dataclass(frozen=True)
class AttributionRow:
    """The attribution of a concept at a layer to a class, for one image or averaged over many.

    `row["layer"]` is the value in a column of its table.

    Attributes:
        values: The row of the table, by column.
        verdict: The verdict of the significance test.
        as_much: How many null CAVs get as much, or why it was not tested.
        level: The level of the concept at the layer.
        reason: The sentence that decides the level; empty where it is fine or unknown.
    """

    values: Mapping[Hashable, Any]
    verdict: str
    as_much: str
    level: str
    reason: str

    def __getitem__(self, column: str) -> Any:
        return self.values[column]

    @property
    def significant(self) -> bool:
        """Whether it stands out from the CAVs of random images."""
        return self.verdict == SIGNIFICANTLY

    @property
    def claimed(self) -> bool:
        """Whether the report states it as a finding: significant, and not ruled out."""
        return self.significant and self.level != BAD

    @property
    def examples(self) -> str:
        """The interval for other examples of the concept, as text; empty where there is none."""
        return interval(self["cav_low"], self["cav_high"])


def attribution_rows(
    table: pd.DataFrame, provenance: Provenance, trust: Trust
) -> tuple[AttributionRow, ...]:
    """Return the rows of a table of attributions, or of the summary of a class.

    Args:
        table: One row per attribution that is tested.
        provenance: The provenance of the explanation.
        trust: The trust in the concepts.
    """
    trust = trust.about(provenance)
    tests = int(table["p_value"].notna().sum())
    rows = []
    for row in table.to_dict("records"):
        p, q = row["p_value"], row["q_value"]
        how_many = as_much(p, q, provenance.null_cavs, tests, row["note"])
        judged = trust.of(row["layer"], row["concept"])
        separated = bool(row["separated"])
        rows.append(AttributionRow(row, verdict(q, separated=separated), how_many, *judged))
    return tuple(rows)
