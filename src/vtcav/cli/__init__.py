"""The command line: a thin shell over the API.

Each command is a module of its name in `commands`: its docstring is the help, `add_options`
declares the options and `run` does the work.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

from vtcav.cli.options import USAGE, Arguments, Parser, UsageError
from vtcav.cli.said import in_options
from vtcav.cli.terminal import fail, results_alone, show_warning, sound_streams
from vtcav.errors import VtcavError, text_of
from vtcav.files.paths import is_folder, is_there

__all__ = ["main", "parser"]

DONE, FAILED, INTERRUPTED = 0, 1, 130
_COMMANDS = (
    *("demo", "layers", "explain", "explain_class", "concepts", "explore", "init", "run"),
    *("find", "discover", "errors", "report", "diagnose", "localise", "compare", "evaluate"),
    *("correct", "versus", "cache"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments; None takes the process's.

    Returns:
        0 done, 1 the work failed, 2 wrong usage, 3 a limit of a study is broken, 130 interrupted.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    arguments = parser().parse_args(words, Arguments(words=words))
    output = results_alone() if getattr(arguments, "json", False) else nullcontext()
    with warnings.catch_warnings():
        if not arguments.debug:
            warnings.simplefilter("default", UserWarning)
            warnings.simplefilter("ignore", DeprecationWarning)  # for who writes code, not runs it
            warnings.showwarning = _each_once(arguments.parser)
        try:
            with sound_streams(), _no_empty_folders(getattr(arguments, "output", None)), output:
                return arguments.run(arguments) or DONE
        except KeyboardInterrupt:
            return fail(_interrupted(getattr(arguments, "output", None)), INTERRUPTED)
        except UsageError as error:
            return fail(str(error), USAGE)
        except BrokenPipeError:
            # the reader of a pipe went away (vtcav layers ... | head)
            if sys.stderr is not None:
                sys.stderr.close()
        except Exception as error:
            if arguments.debug:
                raise
            if isinstance(error, VtcavError):
                return fail(in_options(str(error), arguments.parser.format_usage()), FAILED)
            kind = type(error).__name__
            return fail(f"{kind}: {text_of(error)} (unexpected; --debug shows where)", FAILED)
    return DONE


def _each_once(command: Parser) -> Callable[..., None]:
    """Return what shows warnings in the words of the command, each sentence once.

    A command that passes images a second time would warn of them again.
    """
    shown: set[str] = set()

    def show(message: Warning | str, *place: Any, **more: Any) -> None:
        text = in_options(str(message), command.format_usage())
        if text not in shown:
            shown.add(text)
            show_warning(text, *place, **more)

    return show


def _interrupted(output: Path | None) -> str:
    """Return the message of an interrupted command that writes a folder, or another."""
    if output is None or not is_folder(output):
        return "interrupted; nothing is left half-written"
    return f"interrupted; every file in {str(output)!r} is whole: run the same command to go on"


@contextmanager
def _no_empty_folders(output: Path | None) -> Iterator[None]:
    """Remove the result folders that the block creates and leaves empty, as when it fails."""
    missing = []
    if output is not None:
        missing = [path for path in (Path(output), *Path(output).parents) if not is_there(path)]
    try:
        yield
    finally:
        for path in missing:
            with suppress(OSError):
                path.rmdir()


def parser() -> Parser:
    """Return the parser of all commands."""
    root = Parser(
        prog="vtcav",
        description="Where an image classifier sees a concept, and how much that contributes.",
        epilog="Start with: vtcav demo",
    )
    root.add_argument("--version", action="version", version=f"vtcav {version('vtcav')}")
    commands = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in _COMMANDS:
        _add_command(commands, import_module(f"vtcav.cli.commands.{name}"))
    return root


def _add_command(commands: Any, module: ModuleType) -> None:
    """Add the command of a module.

    Its docstring is "`vtcav NAME`: a line of help.", a description, and examples.
    """
    head, _, rest = (module.__doc__ or "").partition("\n\n")
    name, _, line = head.partition("`: ")
    description, _, examples = rest.partition("\nExample")
    command = commands.add_parser(
        name.removeprefix("`vtcav "),
        help=line.removesuffix("."),
        description=description.strip(),
        epilog=f"example{examples.rstrip()}",
    )
    command.set_defaults(run=module.run, parser=command)
    module.add_options(command)
