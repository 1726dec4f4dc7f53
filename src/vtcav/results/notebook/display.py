"""The frame of a display: title, pictures, a table, and a line of what was left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from vtcav.results.words import clear, count

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["Cell", "Display", "Figure", "cell", "rows_of", "shown"]

MOST_ROWS = 20
_LONGEST = 160


class Figure(NamedTuple):
    """A picture and what it shows."""

    address: str
    text: str


class Cell(NamedTuple):
    """A cell of a table: its text, a share to draw as a bar, and a level to mark."""

    text: str
    bar: float | None = None
    level: str = ""
    number: bool = False


@dataclass(frozen=True)
class Display:
    """What is shown of a result.

    Attributes:
        title: What it is.
        lines: Sentences under the title.
        figures: Pictures.
        header: Of the table.
        rows: Of the table, all of them; only the first are shown.
        notes: Sentences at the end.
    """

    title: str
    lines: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    header: Sequence[str] = ()
    rows: Sequence[Sequence[Cell]] = ()
    notes: Sequence[str] = field(default=())

    def html(self) -> str:
        """Return the HTML."""
        notes = list(self.notes)
        if (more := len(self.rows) - MOST_ROWS) > 0:
            notes.insert(0, f"{count(more, 'more row')} not shown.")
        return _template().render(
            title=shown(self.title),
            lines=[shown(line, 400) for line in self.lines],
            figures=[Figure(f.address, shown(f.text, 60)) for f in self.figures],
            header=[shown(name, 60) for name in self.header],
            rows=self.rows[:MOST_ROWS],
            notes=[shown(note, 400) for note in notes],
        )


def cell(value: object, *, bar: float | None = None, level: str = "") -> Cell:
    """Return a cell of a text or a number; numbers have three decimals, NaN is a dash."""
    from vtcav.results.words import value as decimals

    if isinstance(value, float):
        return Cell(decimals(value), bar if bar is None or bar == bar else None, number=True)
    return Cell(shown(value), bar, level, number=isinstance(value, int) and not level)


def rows_of(table: Any, columns: Sequence[str]) -> list[list[Cell]]:
    """Return columns of a DataFrame as cells, of the rows that will be shown and one more."""
    kept = table[list(columns)].head(MOST_ROWS)
    rows = [[cell(value) for value in row] for row in kept.itertuples(index=False)]
    return rows + [[]] * (len(table) - len(rows))


def shown(text: object, longest: int = _LONGEST) -> str:
    """Return a text that is safe to look at and not too long; it is escaped later."""
    safe = clear(text)
    return safe if len(safe) <= longest else f"{safe[: longest - 1]}…"


@cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader

    loader = PackageLoader("vtcav.results.notebook")
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("display.html")
