"""`vtcav run`: carry out a study that one file describes.

Carry out a study and write tables, figures and a report, or resume it where it was interrupted.
Exit code 3 says that a concept counts more than the study's limits allow.

Example:
  vtcav run study.yaml
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcav.cli.options import Arguments, Parser
from vtcav.cli.terminal import print_line, print_summary
from vtcav.errors import warn
from vtcav.files.paths import expanded
from vtcav.results.words import count

if TYPE_CHECKING:
    from vtcav.study import Study
    from vtcav.study.unfinished import UnfinishedError

BROKEN = 3
"""The exit code where a limit is broken."""
_FIRST = 5


def add_options(command: Parser) -> None:
    """Add the options."""
    command.add_argument(
        "study", metavar="STUDY", type=expanded, help="the file; vtcav init writes one"
    )
    command.add_output("folder for the results, in place of the study's own")
    command.add_cache()
    command.add_shared()


def run(arguments: Arguments) -> int:
    """Carry out the command, and return 3 when a limit is broken."""
    import pandas as pd

    from vtcav.files.manifest import load_manifest
    from vtcav.results.provenance import Provenance
    from vtcav.study import Study

    study = Study.load(arguments.study)
    if arguments.output is None:  # an interruption names it
        arguments.output = study.base / study.output
    folder, unfinished = _carried_out(study, arguments)
    report = str((folder / "report.html").resolve()) if study.report else None
    found = load_manifest(folder, "study", "study")
    table = pd.DataFrame(found["summary"])
    null_cavs = Provenance.read(found["provenance"]).null_cavs
    said = {
        key: found.get(key, []) for key in ("cautions", "groups", "photographs")
    }  # none in older folders
    findings = found.get("findings", {})
    if not arguments.json:
        _print_sentences(found["verdicts"], said)
        for line in _first(findings):
            print_line(line)
        for name, rows in table[table["kind"] == "class"].groupby("name", sort=False):
            _print_class(str(name), rows, null_cavs)
    data = {key: found[key] for key in ("verdicts", "summary", "skipped", "limits")}
    data |= {
        **said,
        "not_done": found["not_done"],
        "findings": findings,
        "output": str(folder.resolve()),
        "report": report,
    }
    lines = [f"Written to {folder.resolve()}", *([f"Report: {report}"] if report else [])]
    limits = found["limits"]
    lines = [*_limits(limits), *lines]
    arguments.answer(data, *lines)
    for one in limits:
        if one["state"] == "cannot tell" and not one["failed"]:
            warn(f"limit: {one['sentence']}")
    if unfinished is not None:  # said after what is done
        raise unfinished
    return BROKEN if any(one["failed"] for one in limits) else 0


def _print_sentences(
    verdicts: Sequence[Mapping[str, Any]], said: Mapping[str, Sequence[str]]
) -> None:
    """Print what the study says: cautions, verdicts, groups, and the first on photographs."""
    for caution in said["cautions"]:
        print_line(caution)
    for verdict in verdicts:
        print_line(f"{verdict['kind']}: {verdict['sentence']}")
    for sentence in (*said["groups"], *said["photographs"][:_FIRST]):
        print_line(sentence)
    if (more := len(said["photographs"]) - _FIRST) > 0:
        print_line(f"{more} more on photographs in study.json")


def _carried_out(study: Study, arguments: Arguments) -> tuple[Path, UnfinishedError | None]:
    """Return the folder of the results, and which steps failed."""
    from vtcav.files.cache_location import cache_of
    from vtcav.study import run_study
    from vtcav.study.unfinished import UnfinishedError

    try:
        folder = run_study(
            study,
            arguments.output,
            progress=arguments.shown(),
            say=arguments.say,
            cache=cache_of(arguments.cache, unset=True) or False,
        )
    except UnfinishedError as error:
        return error.folder, error
    return folder, None


def _first(findings: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield the first sentences on errors, a correction and a second network."""
    for kind, sentences in findings.items():
        yield from (f"{kind}: {sentence}" for sentence in sentences[:_FIRST])
        if len(sentences) > _FIRST:
            yield f"{kind}: {len(sentences) - _FIRST} more in {kind}/{kind}.json"


def _limits(limits: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each broken limit, and how many are kept."""
    kept = sum(one["state"] == "kept" for one in limits)
    said = {"broken": "Limit broken", "cannot tell": "Limit failed (strict)"}
    lines = [f"{said[one['state']]}: {one['sentence']}" for one in limits if one["failed"]]
    return [*lines, f"{kept} of {count(len(limits), 'limit')} kept"] if limits else []


def _print_class(name: str, rows: Any, null_cavs: int) -> None:
    numbers = ["mean", "ci_low", "ci_high", "cav_low", "cav_high", "null_mean"]
    numbers += ["p_value", "q_value", "presence"]
    rows = rows.rename(columns={"attribution": "mean"}).astype(dict.fromkeys(numbers, float))
    title = f"{name}: concept attributions over {int(rows['n'].max())} images"
    print_summary(title, rows, null_cavs)
