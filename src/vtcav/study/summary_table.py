"""The summary of a study: one tidy table of all its results."""

from __future__ import annotations

from collections.abc import Mapping
from math import nan
from pathlib import Path
from typing import Any

import pandas as pd

from vtcav.diagnostics.levels import BAD
from vtcav.diagnostics.result import Diagnostics
from vtcav.files.csv_text import write_csv
from vtcav.results.explanation import GlobalExplanation, LocalExplanation

COLUMNS = (
    *("kind", "name", "folder", "layer", "concept", "class_index", "class_name", "n"),
    *("attribution", "std", "sem", "ci_low", "ci_high", "cav_low", "cav_high"),
    *("null_mean", "effect", "p_value", "q_value", "separated", "presence", "trust", "note"),
)
NOT_DIAGNOSED = "not diagnosed"
ONE_IMAGE = "one image: no spread, no interval"


def study_table(
    classes: Mapping[str, GlobalExplanation],
    images: Mapping[str, tuple[str, LocalExplanation]],
    diagnostics: Diagnostics | None,
) -> pd.DataFrame:
    """Return one row per layer and concept of every class, and of every class of every image.

    Args:
        classes: The explanations of the classes, by folder.
        images: The names and explanations of single photographs, by folder.
        diagnostics: The diagnostics of the concepts, or None.

    Returns:
        Columns: kind ("class" or "image"), name (of the class or photograph), folder (of its
        results), layer, concept, class_index, class_name, n (images), attribution (of a class the
        mean), std, sem, ci_low, ci_high (over images), cav_low, cav_high, null_mean, effect,
        p_value, q_value (as in the tables of the class or photograph), separated, presence (of a
        class the mean), trust (level of the diagnostics), note (why a number is missing or
        doubtful).
    """
    tables = []
    for folder, glob in classes.items():
        own: dict[str, Any] = {"kind": "class", "name": glob.class_name, "folder": folder}
        own |= {"class_index": glob.class_index, "class_name": glob.class_name}
        tables.append(glob.summary().rename(columns={"mean": "attribution"}).assign(**own))
    for folder, (name, local) in images.items():
        table = local.attributions
        own = {"kind": "image", "name": name, "folder": folder, "n": 1}
        own |= dict.fromkeys(("std", "sem", "ci_low", "ci_high"), nan)
        own["note"] = [f"{ONE_IMAGE}; {note}" if note else ONE_IMAGE for note in table["note"]]
        tables.append(table.assign(**own))
    whole = pd.concat(tables, ignore_index=True)
    keys = ["layer", "concept"]
    levels = {} if diagnostics is None else diagnostics.summary().set_index(keys)["level"].to_dict()
    pairs = zip(whole["layer"], whole["concept"], strict=True)
    trust = [levels.get(pair, NOT_DIAGNOSED) for pair in pairs]
    return whole.assign(trust=trust)[list(COLUMNS)]


def distrusted(diagnostics: Diagnostics) -> dict[tuple[str, str], str]:
    """Return why attributions must not be used, by layer and concept."""
    table = diagnostics.summary()
    return {
        (row["layer"], row["concept"]): f"by the diagnostics the concept is {BAD!r}"
        for row in table[table["level"] == BAD].to_dict("records")
    }


def write_tables(stem: Path, table: pd.DataFrame, formats: tuple[str, ...]) -> None:
    """Write a table in some of the formats csv, parquet and json."""
    if "csv" in formats:
        write_csv(stem.with_suffix(".csv"), table)
    if "parquet" in formats:
        table.to_parquet(stem.with_suffix(".parquet"), index=False)
    if "json" in formats:
        table.to_json(stem.with_suffix(".json"), orient="records", double_precision=15, indent=1)
