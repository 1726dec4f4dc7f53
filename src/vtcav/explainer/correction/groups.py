"""What a correction changes for each group of images, and whether it differs between them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vtcav.explainer.correction.attributions import compared
from vtcav.results.effect_tables import GROUP
from vtcav.results.tables.class_summary import group_tests
from vtcav.results.words import SIGNIFICANT, equal_or_less

if TYPE_CHECKING:
    import pandas as pd

ACCURACY, EFFECT = "accuracy", "effect"
_COLUMNS = [GROUP, "quantity", "concept", "n", "before", "after", "change", "low", "high"]


def changes_by_group(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per group, quantity and concept: means before and after.

    Args:
        rows: The columns of `CorrectedRow`, and the group of each image.
    """
    import pandas as pd

    found = []
    for (quantity, concept), part in _quantities(rows):
        for group, own in part.groupby(GROUP, sort=False):
            # the images of a group are all of it
            means = compared(own.drop(columns=GROUP), "before", "after")
            found.append({GROUP: group, "quantity": quantity, "concept": concept, **means})
    table = pd.DataFrame(found, columns=_COLUMNS)
    bounded = table["quantity"] == ACCURACY
    return table.assign(
        low=table["low"].where(~bounded, table["low"].clip(-1, 1)),
        high=table["high"].where(~bounded, table["high"].clip(-1, 1)),
    )


def tests_of_groups(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per quantity and concept: whether its change differs between groups.

    It is the rank test of Kruskal and Wallis over the groups of at least two images.

    Args:
        rows: As for `changes_by_group`.
    """
    pairs = (
        (key, part.assign(change=part["after"] - part["before"])) for key, part in _quantities(rows)
    )
    return group_tests(pairs, "change").rename(columns={"layer": "quantity"})


def group_sentences(rows: pd.DataFrame) -> Iterator[str]:
    """Yield which changes differ between the groups, in sentences."""
    tests = tests_of_groups(rows)
    sure = tests[tests["q_value"] <= SIGNIFICANT].sort_values("q_value", kind="stable")
    yield f"Intervals are over {rows[GROUP].nunique()} groups of images."
    for row in sure.to_dict("records"):
        what = ACCURACY if row["quantity"] == ACCURACY else f"the effect of {row['concept']!r}"
        yield (
            f"The change of {what} differs between the groups (rank test over {row['groups']}, q "
            f"{equal_or_less(row['q_value'])})."
        )
    if sure.empty and tests["q_value"].notna().any():
        yield "No change is shown to differ between the groups (rank tests)."


def _quantities(rows: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    """Yield accuracy, and the effect of each concept, image by image: before, after, group."""
    if GROUP not in rows:
        return
    one = rows.drop_duplicates("image")
    right = {
        "before": (one["predicted_class"] == one["true_class"]).astype(float),
        "after": (one["predicted_after"] == one["true_class"]).astype(float),
    }
    yield (ACCURACY, ""), one[[GROUP]].assign(**right)
    known = rows[rows["drop"].notna() & rows["drop_after"].notna()]
    for concept, own in known.groupby("concept", sort=False):
        part = own[[GROUP]].assign(before=own["drop"], after=own["drop_after"])
        yield (EFFECT, str(concept)), part
