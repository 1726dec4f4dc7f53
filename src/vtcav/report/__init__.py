"""The report: one HTML file that says what was found, how far to trust it, and how it was made.

It needs no network and no server: pictures, maps, styles and scripts are inside, and its content
security policy forbids everything else. Whatever comes from a user is shown as text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vtcav.diagnostics.result import Diagnostics
    from vtcav.results.explanation import GlobalExplanation, LocalExplanation

__all__ = ["build_report", "write_report"]


def build_report(
    local: Iterable[LocalExplanation] = (),
    global_: Sequence[GlobalExplanation] = (),
    diagnostics: Diagnostics | None = None,
    title: str = "Concepts of an image classifier",
) -> str:
    """Return the report on some explanations as the text of an HTML file.

    Args:
        local: Images explained; read once and one at a time, so that an iterator of thousands
            needs the memory of one.
        global_: Classes explained.
        diagnostics: How far the concepts can be trusted; without them the report says that nobody
            has looked.
        title: Of the page.

    Raises:
        ExplanationError: When there is nothing to report.
    """
    from vtcav.report.page import render

    return render(local, global_, diagnostics, title)


def write_report(
    folder: str | Path, output: str | Path | None = None, *, title: str | None = None
) -> Path:
    """Write the report on all that is saved in a folder and the folders below it.

    Args:
        folder: With saved explanations (`local.json`, `global.json`) and diagnostics
            (`diagnostics.json`), wherever they lie in it; hidden folders are left out.
        output: The file to write; None for `report.html` in the folder. One that is there is
            replaced.
        title: Of the page; None for the folder's name.

    Returns:
        The file.

    Raises:
        ExplanationError: When the folder has nothing to report, something in it is damaged, or the
            file cannot be written.
    """
    from vtcav.report.folder import write

    return write(Path(folder), None if output is None else Path(output), title)
