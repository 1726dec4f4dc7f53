"""Report on a folder of saved results."""

from __future__ import annotations

from pathlib import Path

from vtcav.diagnostics.result import Diagnostics
from vtcav.errors import ExplanationError
from vtcav.files.atomic import atomic_path
from vtcav.report.page import render
from vtcav.results.explanation import GlobalExplanation, LocalExplanation

__all__ = ["write"]


def write(folder: Path, output: Path | None, title: str | None) -> Path:
    """Write the report on a folder, as `vtcav.report.write_report` describes.

    Raises:
        ExplanationError: When there is nothing to report, or the file cannot be written.
    """
    if not folder.is_dir():
        raise ExplanationError(
            f"expected a folder of saved explanations, got {str(folder)!r}, which is no folder"
        )
    images, classes, diagnosed = (_saved(folder, k) for k in ("local", "global", "diagnostics"))
    if not images and not classes:
        raise ExplanationError(
            f"there is nothing to report in {str(folder)!r}: no saved explanation (local.json, "
            "global.json) lies in it or below it; save some with .save(folder) or vtcav explain -o"
        )
    if len(diagnosed) > 1:
        places = ", ".join(repr(str(path)) for path in diagnosed)
        raise ExplanationError(
            f"expected the diagnostics of one study in {str(folder)!r}, found {len(diagnosed)}: "
            f"{places}; report on each study's folder by itself"
        )
    page = render(
        map(LocalExplanation.load, images),
        list(map(GlobalExplanation.load, classes)),
        Diagnostics.load(diagnosed[0]) if diagnosed else None,
        folder.resolve().name if title is None else title,
    )
    output = folder / "report.html" if output is None else output
    try:
        with atomic_path(output) as partial:
            partial.write_text(page, encoding="utf-8", newline="\n")
    except OSError as error:
        raise ExplanationError(f"cannot write the report {str(output)!r}: {error}") from error
    return output


def _saved(folder: Path, kind: str) -> list[Path]:
    """Return the folders that hold a result of a kind, in order, without hidden ones."""
    folders = (path.parent for path in folder.rglob(f"{kind}.json") if path.is_file())
    return sorted(
        path
        for path in folders
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
