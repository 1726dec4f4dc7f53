"""Tables as CSV that spreadsheets and pandas read as it was written.

A text gets an apostrophe in front where a reader would take it for something else: for a formula
(it begins with = + - @, a tab or a carriage return), for a missing value (nan, null, None, NA),
or for such a mark (it begins with an apostrophe). Take one apostrophe away to have the text again.
Texts are in quotation marks where they hold line breaks of any kind.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd

_FORMULA = "=+-@\t\r'"
_MISSING = {
    *("#n/a", "#n/a n/a", "#na", "-1.#ind", "-1.#qnan", "-nan", "1.#ind", "1.#qnan"),
    *("<na>", "n/a", "na", "nan", "none", "null"),
}


def marked(text: str) -> str:
    """Return a text as it stands in a table.

    Example:
        >>> [marked(text) for text in ("=1+1", "nan", "'quoted'", "striped")]
        ["'=1+1", "'nan", "''quoted'", 'striped']
    """
    odd = text.startswith(tuple(_FORMULA))
    return f"'{text}" if odd or text.strip().lower() in _MISSING else text


def unmarked(text: str) -> str:
    """Return the text that stands in a table.

    Example:
        >>> unmarked("'=1+1"), unmarked("striped")
        ('=1+1', 'striped')
    """
    return text.removeprefix("'")


def write_csv(path: Path, table: pd.DataFrame, *, append: bool = False) -> None:
    """Write a table.

    Args:
        path: The file.
        table: The table.
        append: Whether to add the rows to those that are there, without a header.

    Raises:
        OSError: When it cannot be written.
    """
    bare = True
    for column in table:
        found = table[column]
        if found.dtype.kind in "fiub":
            continue
        texts = {value: marked(value) for value in found.unique() if isinstance(value, str)}
        if any("\r" in text for text in texts):  # Python's writer leaves a lone one bare
            bare = False
        if any(text != value for value, text in texts.items()):
            cells = [texts.get(value, value) for value in found]
            table = table.assign(**{str(column): cells})
    quoting: Literal[0, 2] = csv.QUOTE_MINIMAL if bare else csv.QUOTE_NONNUMERIC
    table.to_csv(path, mode="a" if append else "w", header=not append, index=False, quoting=quoting)
