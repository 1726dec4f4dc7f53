"""Writes docs/cli.md, the command-line reference, from the parser itself.

    python docs/generate_cli.py            # after a change to a command
    python docs/generate_cli.py --check    # exit code 1 where the page is out of date

From the parser's parts and not from the text of `--help`, which Python's versions lay out
differently.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from vtcav.cli import parser

PAGE = Path(__file__).with_name("cli.md")
HEAD = """# Command line

<!-- Written by docs/generate_cli.py from the parser. Do not edit. -->

Every command has `--help`. Exit codes: 0 done, 1 the work failed (one line says why; `--debug`
shows the traceback), 2 wrong usage, 130 interrupted. Progress and warnings go to standard error,
results to standard output; `--json` makes these JSON.

| command | |
|---|---|
{commands}

## Options of many commands

{shared}
"""
SHARED = 4
"""An option that this many commands have, in the same words, is described once for all."""


def page() -> str:
    """Return the whole page."""
    action = subcommands()
    rows = [
        f"| [`vtcav {choice.dest}`](#vtcav-{choice.dest}) | {escaped(choice.help)} |"
        for choice in action._choices_actions
    ]
    shared = shared_rows(action)
    head = HEAD.format(
        commands="\n".join(rows), shared="\n".join(["| option | |", "|---|---|", *shared])
    )
    return "\n".join([head, *(section(n, each, shared) for n, each in action.choices.items())])


def shared_rows(action: argparse._SubParsersAction) -> list[str]:
    """Return the rows of options that many commands have, in the order in which they appear.

    What a command writes stands beside it, though several write the same.
    """
    every = Counter(row(a) for command in action.choices.values() for a in options_of(command))
    return [each for each, count in every.items() if count >= SHARED and "`--output" not in each]


def options_of(command: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the options of a command, without --help."""
    for action in command._actions:
        if action.option_strings and not isinstance(action, argparse._HelpAction):
            yield action


def row(action: argparse.Action) -> str:
    """Return the row of an option in a table."""
    return f"| {spelled(action)} | {escaped(action.help)} |"


def subcommands() -> argparse._SubParsersAction:
    """Return the part of the parser that holds the commands."""
    return next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))


def section(name: str, command: argparse.ArgumentParser, shared: list[str]) -> str:
    """Return a command's heading, description, usage, own options and examples."""
    positional = [a for a in command._actions if not a.option_strings]
    options = list(options_of(command))
    own = [a for a in options if row(a) not in shared]
    common = [f"`{a.option_strings[-1]}`" for a in options if row(a) in shared]
    required = [f"{a.option_strings[-1]} {metavar(a)}" for a in options if a.required]
    usage = ["vtcav", name, *map(placed, positional), *required, "[options]"]
    lines = [f"## vtcav {name}", "", command.description or "", ""]
    lines += ["```text", " ".join(usage), "```", ""]
    if positional:
        lines += ["| argument | |", "|---|---|"]
        lines += [f"| `{metavar(a)}` | {escaped(a.help)} |" for a in positional]
        lines.append("")
    if own:
        lines += ["| option | |", "|---|---|", *map(row, own), ""]
    if common:
        lines += [f"Also {', '.join(common)} ([described above](#options-of-many-commands)).", ""]
    if command.epilog:
        title, *examples = command.epilog.strip().splitlines()
        lines += [title.capitalize(), "", "```"]
        lines += [line.strip() for line in examples]
        lines += ["```", ""]
    return "\n".join(lines)


def metavar(action: argparse.Action) -> str:
    """Return what stands for the value: IMAGE, FILE, {a,b}."""
    if action.metavar:
        return str(action.metavar)
    if action.choices:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return action.dest.upper()


def placed(action: argparse.Action) -> str:
    """Return what stands for a positional argument, in brackets where it may be left out."""
    return f"[{metavar(action)}]" if action.nargs == "?" else metavar(action)


def spelled(action: argparse.Action) -> str:
    """Return an option as it is typed: `-o`, `--output OUTPUT`."""
    value = "" if action.nargs == 0 else f" {metavar(action)}"
    *short, last = action.option_strings
    return ", ".join([*(f"`{s}`" for s in short), f"`{last}{value}`"])


def escaped(text: str | None) -> str:
    """Return a text for the cell of a table."""
    return (text or "").replace("%%", "%").replace("|", "\\|").replace("<", "&lt;")


def main() -> int:
    written = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    if "--check" in sys.argv[1:]:
        if written != page():
            print(f"{PAGE.name} is out of date: run python docs/{Path(__file__).name}")
            return 1
        return 0
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
