"""The frame of a display: title, pictures, a table, and a line on the rows that are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from vtcav.results import words

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Template


MOST_ROWS = 20
_LONGEST = 160


class Figure(NamedTuple):
    """A picture and its caption."""

    address: str
    text: str


class Viewer(NamedTuple):
    """The slices of a volume, the one that is shown first, and a caption."""

    slices: Sequence[Figure]
    first: int
    text: str


class Cell(NamedTuple):
    """A cell of a table: its text, a share to draw as a bar, and a level to mark."""

    text: str
    bar: float | None = None
    level: str = ""
    number: bool = False


@dataclass(frozen=True)
class Display:
    """The display of a result.

    Attributes:
        title: Its title.
        lines: Sentences under the title.
        figures: Pictures.
        viewers: Volumes, slice by slice.
        header: Of the table.
        rows: Of the table, at most `MOST_ROWS`.
        total: How many rows the whole table has.
        notes: Sentences at the end.
    """

    title: str
    lines: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    viewers: Sequence[Viewer] = ()
    header: Sequence[str] = ()
    rows: Sequence[Sequence[Cell]] = ()
    total: int = 0
    notes: Sequence[str] = ()

    def html(self) -> str:
        """Return the HTML."""
        notes = list(self.notes)
        if (more := self.total - len(self.rows)) > 0:
            notes.insert(0, f"{words.count(more, 'more row')} not shown.")
        return _template().render(
            title=shown(self.title),
            lines=[shown(line, 400) for line in self.lines],
            figures=[Figure(f.address, shown(f.text, 60)) for f in self.figures],
            viewers=[viewer._replace(text=shown(viewer.text, 60)) for viewer in self.viewers],
            header=[shown(name, 60) for name in self.header],
            rows=self.rows,
            notes=[shown(note, 400) for note in notes],
        )


def cell(value: object, *, bar: bool = False, mark: str = "") -> Cell:
    """Return a cell of a text or a number; numbers have three decimals, NaN is a dash.

    Args:
        value: The text or number.
        bar: Whether to draw the number as a share.
        mark: A text after the number.
    """
    if isinstance(value, float):
        share = min(max(value, 0.0), 1.0) if bar and value == value else None
        return Cell(words.value(value) + mark, share, number=True)
    return Cell(shown(value), number=isinstance(value, int))


def rows_of(table: pd.DataFrame, columns: Sequence[str]) -> list[list[Cell]]:
    """Return columns of the first rows of a table as cells."""
    kept = table[list(columns)].head(MOST_ROWS)
    return [[cell(value) for value in row] for row in kept.itertuples(index=False)]


def shown(text: object, longest: int = _LONGEST) -> str:
    """Return a text that is safe to display, cut where it is too long; it is escaped later."""
    safe = words.clear(text)
    return safe if len(safe) <= longest else f"{safe[: longest - 1]}…"


@cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader

    loader = PackageLoader("vtcav.results.notebook")
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("display.html")
