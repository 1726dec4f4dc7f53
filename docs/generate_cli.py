"""Writes docs/cli.md, the command-line reference, from the parser itself.

    python docs/generate_cli.py            # after a change to a command
    python docs/generate_cli.py --check    # exit code 1 where the page is out of date

From the parser's parts and not from the text of `--help`, which Python's versions lay out
differently.
"""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from vtcav.cli import parser

PAGE = Path(__file__).with_name("cli.md")
HEAD = """# Command line

<!-- Written by docs/generate_cli.py from the parser. Do not edit. -->

What each command takes; `vtcav COMMAND --help` explains more, with examples. Exit codes: 0 done, 1
failed (one line says why), 2 wrong usage, 3 a limit is broken, 130 interrupted. Results go to
standard output, with `-o FOLDER` to files; progress and warnings to standard error. Images are a
folder, glob, URI or Parquet file. Defaults are in parentheses.

## Options of many commands

{shared}
"""
GROUPS = {
    "network": "model weights class-names binary task layouts preprocess model-output score "
    "runtime layers device",
    "concepts": "concepts negatives cavs text text-model probe variant batch-size limit "
    "min-examples strict seed cache no-cache",
    "numbers": "steps tolerance precision fill placebos features null-cavs bootstraps",
    "long runs": "run no-resume engine address workers",
    "output": "json quiet debug",
}
"""Options that many commands have in the same words. Each group is described once for all."""
ALL = "output"
"""The group that nearly all commands have."""
GUIDES = {
    "demo": "getting-started",
    "layers": "models",
    "explain": "getting-started",
    "explain-class": "getting-started",
    "concepts": "data",
    "explore": "explorer",
    "init": "studies",
    "run": "studies",
    "find": "finding",
    "discover": "discovery",
    "errors": "errors",
    "report": "report",
    "diagnose": "trust",
    "localise": "evaluation",
    "compare": "peers",
    "evaluate": "experiment evaluation",
    "correct": "correction",
    "versus": "versus",
    "cache": "cache",
}
"""The page that shows a command at work."""
WITHOUT = 3
"""A command that lacks at most so many options of a group is said to have it without these."""


def page() -> str:
    """Return the whole page."""
    action = subcommands()
    shared = shared_rows(action)
    lists = [
        "\n".join([f"### {group.capitalize()}", "", *found.values()])
        for group, found in shared.items()
    ]
    lists[-1] += f"\n\nEvery command has these, {without(action, shared[ALL])}."
    head = HEAD.format(shared="\n\n".join(lists))
    lines = {each.dest: each.help or "" for each in action._choices_actions}
    commands = action.choices.items()
    return "\n".join([head, *(section(n, lines[n], each, shared) for n, each in commands)])


def shared_rows(action: argparse._SubParsersAction) -> dict[str, dict[str, str]]:
    """Return the rows of each group by option, in the words that most commands have."""
    every = Counter(row(a) for command in action.choices.values() for a in options_of(command))
    most: dict[str, str] = {}
    for each, _ in reversed(every.most_common()):
        most[each.split("`")[1].split()[0]] = each
    return {
        group: {f"--{name}": most[f"--{name}"] for name in names.split()}
        for group, names in GROUPS.items()
    }


def without(action: argparse._SubParsersAction, rows: dict[str, str]) -> str:
    """Return which commands lack which options of a group."""
    lacking: dict[str, list[str]] = {}
    for name, command in action.choices.items():
        had = command._option_string_actions
        for option in rows:
            if option not in had:
                lacking.setdefault(option, []).append(name)
    parts = (f"{', '.join(names)} without `{option}`" for option, names in lacking.items())
    return "; ".join(parts)


def options_of(command: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the options of a command, without --help."""
    for action in command._actions:
        if action.option_strings and not isinstance(action, argparse._HelpAction):
            yield action


def row(action: argparse.Action) -> str:
    """Return the line of an option in a list."""
    told, default = re.fullmatch(r"(.*?)(?: \(default: (.*)\))?", action.help or "").groups()
    typed = f"{spelled(action)} ({default})" if default else spelled(action)
    return f"- {typed}: {escaped(told)}"


def subcommands() -> argparse._SubParsersAction:
    """Return the part of the parser that holds the commands."""
    return next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))


def section(
    name: str, line: str, command: argparse.ArgumentParser, shared: dict[str, dict[str, str]]
) -> str:
    """Return a command's heading, its line of help, the pages that show it, and what it takes."""
    described = {each for rows in shared.values() for each in rows.values()}
    options = list(options_of(command))
    taken = [f"`{placed(a)}`" for a in command._actions if not a.option_strings]
    taken += [f"`{a.option_strings[0]}`" for a in options if row(a) not in described]
    taken += [of_group(group, rows, options) for group, rows in shared.items() if group != ALL]
    told = f"{line[0].upper()}{line[1:]} ({', '.join(map(linked, GUIDES[name].split()))})."
    return f"## vtcav {name}\n\n{told} Takes {', '.join(filter(None, taken))}.\n"


def linked(page: str) -> str:
    """Return a link to a page."""
    return f"[{page.replace('-', ' ')}]({page}.md)"


def of_group(group: str, rows: dict[str, str], options: list[argparse.Action]) -> str:
    """Return which options of a group a command has."""
    had = [a.option_strings[-1] for a in options if row(a) in rows.values()]
    if not had:
        return ""
    lacking = [name for name in rows if name not in had]
    few = len(lacking) <= min(WITHOUT, len(had) - 1)
    link = f"[{group}](#{group.replace(' ', '-')})"
    if not lacking:
        return link
    if few:
        return f"{link} (not {', '.join(f'`{name}`' for name in lacking)})"
    return ", ".join(f"[`{name}`](#{group.replace(' ', '-')})" for name in had)


def metavar(action: argparse.Action) -> str:
    """Return what stands for the value: IMAGE, FILE, {a,b}."""
    if isinstance(action.metavar, tuple):
        return " ".join(action.metavar)
    if action.metavar:
        return action.metavar
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
    """Return a text as Markdown shows it: options and YAML as code, no emphasis."""
    text = (text or "").replace("%%", "%").replace("<", "&lt;").replace("*", "\\*")
    text = re.sub(r"'(\{.*?\})'", r"`'\1'`", text)
    return re.sub(r"(?<![`\w-])--[a-z][a-z-]*", r"`\g<0>`", text)


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
