"""`vtcav run`: carry out a study that one file describes.

Carry out a study: learn its concepts, diagnose how far they can be trusted, explain its classes
and photographs, and write tables, figures and a report. Finished steps are kept: the same command
resumes an interrupted study and gives the same tables.

Examples:
  vtcav init
  vtcav run study.yaml
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vtcav.cli.options import Arguments, Parser
from vtcav.cli.terminal import print_summary


def add_options(command: Parser) -> None:
    """Add the options."""
    command.add_argument(
        "study", metavar="STUDY", type=Path, help="the file; vtcav init writes one"
    )
    command.add_output("folder for the results, in place of the study's own")
    command.add_cache()
    command.add_shared()


def run(arguments: Arguments) -> None:
    """Carry out the command."""
    import pandas as pd

    from vtcav.files.cache_location import cache_of
    from vtcav.files.manifest import load_manifest
    from vtcav.results.provenance import Provenance
    from vtcav.study import Study, run_study

    study = Study.load(arguments.study)
    folder = run_study(
        study,
        arguments.output,
        progress=arguments.shown(),
        say=arguments.say,
        cache=cache_of(arguments.cache, unset=True) or False,
    )
    report = str((folder / "report.html").resolve()) if study.report else None
    found = load_manifest(folder, "study", "study")
    table = pd.DataFrame(found["summary"])
    null_cavs = Provenance.from_dict(found["provenance"]).null_cavs
    if not arguments.json:
        for name, rows in table[table["kind"] == "class"].groupby("name", sort=False):
            _print_class(str(name), rows, null_cavs)
    data = {key: found[key] for key in ("summary", "skipped")}
    data |= {"output": str(folder.resolve()), "report": report}
    lines = [f"Written to {folder.resolve()}", *([f"Report: {report}"] if report else [])]
    arguments.answer(data, *lines)


def _print_class(name: str, rows: Any, null_cavs: int) -> None:
    numbers = ["mean", "ci_low", "ci_high", "cav_low", "cav_high", "null_mean"]
    numbers += ["p_value", "q_value", "presence"]
    rows = rows.rename(columns={"attribution": "mean"}).astype(dict.fromkeys(numbers, float))
    title = f"{name}: concept attributions over {int(rows['n'].max())} images"
    print_summary(title, rows, null_cavs)
