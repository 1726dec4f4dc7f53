"""The summary of a study: one tidy table of all its results."""

from __future__ import annotations

from collections.abc import Mapping
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcav.files.manifest import write_table

if TYPE_CHECKING:
    import pandas as pd

    from vtcav.diagnostics.result import Diagnostics
    from vtcav.results.explanation import GlobalExplanation, LocalExplanation

__all__ = ["COLUMNS", "study_table", "write_tables"]

COLUMNS = (
    *("kind", "name", "folder", "layer", "concept", "class_index", "class_name", "n"),
    *("attribution", "std", "sem", "ci_low", "ci_high", "cav_low", "cav_high"),
    *("null_mean", "effect", "p_value", "q_value", "separated", "trust", "note"),
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
        p_value, q_value (as in the tables of the class or photograph), separated, trust (level of
        the diagnostics), note (why a number is missing or doubtful).
    """
    import pandas as pd

    levels = _levels(diagnostics)
    rows: list[dict[Any, Any]] = []
    for folder, glob in classes.items():
        own: dict[Any, Any] = {"kind": "class", "name": glob.class_name, "folder": folder}
        own |= {"class_index": glob.class_index, "class_name": glob.class_name}
        for row in glob.summary().rename(columns={"mean": "attribution"}).to_dict("records"):
            rows.append(own | row)
    for folder, (name, local) in images.items():
        own = {"kind": "image", "name": name, "folder": folder, "n": 1}
        own |= dict.fromkeys(("std", "sem", "ci_low", "ci_high"), nan)
        for row in local.attributions.to_dict("records"):
            note = "; ".join(filter(None, [ONE_IMAGE, row["note"]]))
            rows.append(own | row | {"note": note})
    for row in rows:
        row["trust"] = levels.get((row["layer"], row["concept"]), NOT_DIAGNOSED)
    return pd.DataFrame([{key: row[key] for key in COLUMNS} for row in rows], columns=COLUMNS)


def write_tables(stem: Path, table: pd.DataFrame, formats: tuple[str, ...]) -> None:
    """Write a table in some of the formats csv, parquet and json."""
    if set(formats) >= {"csv", "parquet"}:
        write_table(stem, table)
    elif "csv" in formats:
        table.to_csv(stem.with_suffix(".csv"), index=False)
    elif "parquet" in formats:
        table.to_parquet(stem.with_suffix(".parquet"), index=False)
    if "json" in formats:
        table.to_json(stem.with_suffix(".json"), orient="records", double_precision=15, indent=1)


def _levels(diagnostics: Diagnostics | None) -> dict[tuple[str, str], str]:
    if diagnostics is None:
        return {}
    summary = diagnostics.summary()
    keys = zip(summary["layer"], summary["concept"], strict=True)
    return dict(zip(keys, summary["level"], strict=True))
