"""The report on a folder of saved results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vtcav.diagnostics.result import Diagnostics
from vtcav.errors import ExplanationError, why
from vtcav.files.atomic import atomic_path
from vtcav.files.manifest import load_manifest
from vtcav.files.paths import given_path, is_file, is_folder
from vtcav.report.page import build_report
from vtcav.report.sections import KINDS, section
from vtcav.results.explanation import GlobalExplanation, LocalExplanation


def write_report(
    folder: str | Path, output: str | Path | None = None, *, title: str | None = None
) -> Path:
    """Write the report on all that is saved in a folder and the folders below it.

    Args:
        folder: A folder with saved explanations (`local.json`, `global.json`), diagnostics
            (`diagnostics.json`), errors, corrections and comparisons of two networks, at any depth;
            hidden folders are left out.
        output: The file to write, replaced if it exists; None for `report.html` in the folder.
        title: The title of the page; None for the study's, or the network and the classes or
            images.

    Returns:
        The path of the file.

    Raises:
        ExplanationError: When the folder has nothing to report, something in it is damaged, or the
            file cannot be written.
    """
    folder = given_path("folder", folder)
    if not is_folder(folder):
        raise ExplanationError(
            f"expected a folder of saved explanations, got {str(folder)!r}, which is no folder"
        )
    study = _study(folder)
    undone = study.get("not_done", [])
    # what lies there is of an earlier study, or a part
    without = [folder / one["step"] for one in undone]
    kinds = ("local", "global", "diagnostics")
    images, classes, diagnosed = (_saved(folder, kind, without) for kind in kinds)
    sections = [
        section(kind, place, number)
        for kind in KINDS
        for number, place in enumerate(_saved(folder, kind, without))
    ]
    if not images and not classes and not sections:
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
    page = build_report(
        map(LocalExplanation.load, images),
        list(map(GlobalExplanation.load, classes)),
        Diagnostics.load(diagnosed[0]) if diagnosed else None,
        title or study.get("study", {}).get("title"),
        study.get("limits", []),
        sections,
        [f"Not done: {one['step']}: {one['why'].rstrip('.')}." for one in undone],
    )
    output = folder / "report.html" if output is None else given_path("output", output)
    try:
        with atomic_path(output) as partial:
            partial.write_text(page, encoding="utf-8", newline="\n")
    except OSError as error:
        raise ExplanationError(f"cannot write the report {str(output)!r}: {why(error)}") from error
    return output


def _study(folder: Path) -> dict[str, Any]:
    """Return what is kept of the study in a folder; nothing without a study."""
    if not is_file(folder / "study.json"):
        return {}
    return load_manifest(folder, "study", "study")


def _saved(folder: Path, kind: str, without: Sequence[Path]) -> list[Path]:
    """Return the folders that hold a result of a kind, in order, without hidden and some others.

    What lies below a comparison of two networks is of one of these alone, and is left out.
    """
    folders = (path.parent for path in folder.rglob(f"{kind}.json") if is_file(path))
    compared = {path.parent for path in folder.rglob("versus.json")}
    return sorted(
        path
        for path in folders
        if not set(without) & {path, *path.parents}
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and not compared & set(path.parents)
    )
