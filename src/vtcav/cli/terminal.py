"""Output of the command line: lines, tables and JSON; warnings and errors on standard error."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from vtcav.errors import SUBJECT, ExplanationError
from vtcav.files.manifest import records
from vtcav.results.words import SIGNIFICANT, interval, not_significant, notes_by_class

if TYPE_CHECKING:
    import pandas as pd


_FAILING = "strict", "surrogateescape"  # the second is Python's in the C locale
_RESULTS: ContextVar[TextIO | None] = ContextVar("_RESULTS", default=None)


@contextmanager
def sound_streams() -> Iterator[None]:
    """Make standard output and error such that no text fails.

    Letters that their encoding does not know are written as escapes. Where they are closed, as in
    a program without a console, the text is lost.
    """
    with ExitStack() as stack:
        for stream, redirect in ((sys.stdout, redirect_stdout), (sys.stderr, redirect_stderr)):
            if stream is None:
                nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
                stack.enter_context(redirect(nowhere))
            elif isinstance(stream, io.TextIOWrapper) and stream.errors in _FAILING:
                stream.reconfigure(errors="backslashreplace")
        yield


@contextmanager
def results_alone() -> Iterator[None]:
    """Keep standard output for the command's results.

    Whatever else the block prints, such as a user's code that builds a network, goes to standard
    error, as does what libraries write to the file of standard output.
    """
    with ExitStack() as stack:
        results = sys.stdout
        if isinstance(results, io.TextIOWrapper) and _number(results) == 1 and _number(sys.stderr):
            results.flush()
            kept = stack.enter_context(
                os.fdopen(os.dup(1), "w", encoding=results.encoding, errors=results.errors)
            )
            os.dup2(sys.stderr.fileno(), 1)
            stack.callback(os.dup2, kept.fileno(), 1)
            stack.callback(results.flush)
            results = kept
        token = _RESULTS.set(results)
        stack.callback(_RESULTS.reset, token)
        stack.enter_context(redirect_stdout(sys.stderr))
        yield


def _number(stream: TextIO) -> int:
    """Return the number of a stream's file; 0 where it has none."""
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return 0


def print_line(text: str) -> None:
    """Print a line at once."""
    stream = _RESULTS.get() or sys.stdout
    if stream is not None:  # it is, in a program without a console
        with _written(stream):
            stream.write(f"{text}\n")
            stream.flush()


@contextmanager
def _written(stream: TextIO) -> Iterator[None]:
    """Turn errors of writing, as on a full disk, into one sentence.

    What is left in the stream goes nowhere: Python would try again at its end.
    """
    try:
        yield
    except BrokenPipeError:  # the reader had enough, as `head` has
        _leave(stream)
        raise
    except OSError as error:
        _leave(stream)
        raise ExplanationError(f"cannot write the output: {error.strerror or error}") from error


def _leave(stream: TextIO) -> None:
    if number := _number(stream):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)


def print_json(data: Any) -> None:
    """Print strict JSON, in ASCII for other encodings than UTF-8; a table is a list of its rows."""
    encoding = getattr(_RESULTS.get() or sys.stdout, "encoding", None) or "utf-8"
    escaped = not encoding.lower().startswith("utf")
    print_line(json.dumps(data, indent=1, ensure_ascii=escaped, allow_nan=False, default=records))


def print_frame(title: str, frame: pd.DataFrame, columns: Mapping[Any, str] | str) -> None:
    """Print some columns of a table, leaving out those that it lacks and those that are empty.

    Args:
        title: The title.
        frame: The table.
        columns: Their titles by name, or as a text: "layer, concept, null_mean: random".
    """
    if isinstance(columns, str):
        pairs = [column.partition(": ") for column in columns.split(", ")]
        columns = {name: title or name for name, _, title in pairs}
    cells = {key: [_cell(value) for value in frame[key]] for key in columns if key in frame}
    shown = [key for key in cells if any(cells[key])]
    numeric = [columns[key] for key in shown if frame[key].dtype.kind == "f"]
    rows = list(zip(*(cells[key] for key in shown), strict=True))
    print_table(title, [columns[key] for key in shown], rows, numeric)


def print_removed(effects: pd.DataFrame, columns: str) -> None:
    """Print the effects of taking concepts out of feature maps, if there are any.

    Args:
        effects: The rows of single layers of a table of effects.
        columns: The columns beside layer, concept and class.
    """
    if not effects.empty:
        print_frame(
            "A second opinion: each concept taken out of the feature maps of a layer; specific "
            "where things are in one place, and finds too little",
            effects,
            f"layer, concept, class_name: class, {columns}",
        )


def by_class(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return attributions with a column for each class, and the columns' titles.

    A number is marked "ns" where q > 0.05.
    """
    keys = ["layer", "concept"]
    marks = (table["q_value"] > SIGNIFICANT).map({True: " ns", False: ""})
    texts = table.assign(text=table["attribution"].map("{:.4f}".format) + marks)
    wide = texts.pivot(index=keys, columns="class_index", values="text")
    wide = wide[table["class_index"].unique()]
    names = table.drop_duplicates("class_index").set_index("class_index")["class_name"]
    groups = table.groupby(keys, sort=False)
    rest = groups.agg(presence=("presence", "first"), error=("error", "max"))
    rest["note"] = [notes_by_class(group) for _, group in groups]
    titles = {key: key for key in keys} | {index: str(names[index]) for index in wide.columns}
    found = rest.join(wide).reset_index()
    return found, titles | {"presence": "presence", "error": "error", "note": "note"}


def print_summary(title: str, summary: pd.DataFrame, null_cavs: int) -> None:
    """Print the attributions of a class with both intervals, and what is not significant."""

    def texts(low: str, high: str) -> list[str]:
        return list(map(interval, summary[low], summary[high]))

    intervals = {"images": texts("ci_low", "ci_high"), "examples": texts("cav_low", "cav_high")}
    columns = "layer, concept, mean, images, examples, null_mean: random, q_value: q, presence"
    columns += ", trust, note"
    print_frame(title, summary.assign(**intervals), columns)
    if found := not_significant(summary, null_cavs):
        print_line(f"not significant (q > {SIGNIFICANT}): {found}")


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:z.4f}"
    return str(value)


def print_table(
    title: str, header: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[str] = ()
) -> None:
    """Print a table of texts; the columns named in `numeric` are aligned to the right."""
    if sys.stdout is None:
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in header:
        table.add_column(
            Text(name),
            justify="right" if name in numeric else "left",
            no_wrap=name == "layer",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    with _written(sys.stdout):
        console.print(Text(f"\n{title}", style="bold"))
        console.print(table)
        sys.stdout.flush()


def show_warning(message: Warning | str, *place: Any, **more: Any) -> None:
    """Print a warning as one line, without its location in the code.

    One of another package, such as a decoder, is given the name of the file that is being read.
    """
    subject = SUBJECT.get()
    where = "" if subject in str(message) else f"{subject!r}: "
    _complain(" ".join(f"warning: {where}{message}".split()))


def fail(message: str, code: int) -> int:
    """Print an error as one line and return the exit code."""
    _complain(" ".join(message.split()))
    return code


def _complain(message: str) -> None:
    if sys.stderr is not None:
        with suppress(OSError):  # there is nowhere left to say it
            sys.stderr.write(f"vtcav: {message}\n")
