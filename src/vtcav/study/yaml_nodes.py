"""YAML as marked nodes: every value knows its line and its key, and so does every error.

PyYAML's own values are not used, for they lose the lines and follow YAML 1.1, where `no` is a
boolean and `1e-2` a text: names are read as they are written, and `50` is a number while `"50"`
is none.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from vtcav.errors import VtcavError

__all__ = ["Entry", "StudyError", "read_yaml"]

_WHOLE = re.compile(r"[-+]?[0-9]+")
_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_TAG = "tag:yaml.org,2002:"
_KINDS = ("str", "int", "float", "bool", "null", "timestamp", "merge", "value")


class StudyError(VtcavError):
    """A study file cannot be read or carried out; the message names file, line and key."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A value of the file and where it stands.

    Attributes:
        file: The file, as given.
        key: The way to it: "options.limit"; empty for the whole file.
        node: The value.
    """

    file: str
    key: str
    node: yaml.Node

    @property
    def line(self) -> int:
        """The line it begins in, from 1."""
        return int(self.node.start_mark.line) + 1

    def fail(self, expected: str, cure: str = "") -> NoReturn:
        """Raise a `StudyError`: what was expected here, what came, and what to do.

        Args:
            expected: "a whole number of at least 1".
            cure: What to do, where that is more than to follow `expected`.
        """
        self.refuse(f"expected {expected}, got {self.came()}{f'; {cure}' if cure else ''}")

    def refuse(self, message: str) -> NoReturn:
        """Raise a `StudyError` with a message about this value."""
        raise StudyError(located(self.file, self.line, self.key, message))

    # -- what it is ---------------------------------------------------------------------------

    @property
    def is_mapping(self) -> bool:
        """Whether it holds keys."""
        return isinstance(self.node, yaml.MappingNode)

    @property
    def is_list(self) -> bool:
        """Whether it is a list."""
        return isinstance(self.node, yaml.SequenceNode)

    @property
    def is_null(self) -> bool:
        """Whether nothing, or null, is written there."""
        return self._is("null")

    @property
    def is_boolean(self) -> bool:
        """Whether it is true or false."""
        return self._is("bool")

    @property
    def is_whole(self) -> bool:
        """Whether it is a whole number."""
        return self._plain(_WHOLE)

    def _is(self, kind: str) -> bool:
        return isinstance(self.node, yaml.ScalarNode) and self.node.tag == _TAG + kind

    def _plain(self, pattern: re.Pattern[str]) -> bool:
        """Whether it is written without quotes, after a pattern."""
        node = self.node
        known = node.tag in (_TAG + "str", _TAG + "int", _TAG + "float")
        bare = isinstance(node, yaml.ScalarNode) and node.style is None
        return bare and known and pattern.fullmatch(node.value) is not None

    def came(self) -> str:
        """Return what stands there, in words."""
        if self.is_mapping:
            return "a mapping with keys" if self.node.value else "an empty mapping"
        if self.is_list:
            return "a list" if self.node.value else "an empty list"
        if self.is_null:
            return "nothing"
        if self.is_boolean:
            return f"the boolean {self.node.value}"
        if self._plain(_NUMBER):
            return f"the number {self.node.value}"
        if self.node.tag.removeprefix(_TAG) not in _KINDS:
            return f"a value with the tag {self.node.tag!r}"
        text = self.node.value
        return f"the text {text if len(text) <= 60 else text[:57] + '...'!r}"

    # -- its value ----------------------------------------------------------------------------

    def text(self, what: str) -> str:
        """Return a text that is not empty.

        Args:
            what: For the message: "the path of a folder".
        """
        if not self._is("str") or self._plain(_NUMBER):
            scalar = isinstance(self.node, yaml.ScalarNode) and not self.is_null
            quoted = f'if this is meant, write "{self.node.value}" in quotes' if scalar else ""
            self.fail(what, quoted)
        if not self.node.value.strip():
            self.refuse(f"expected {what}, got an empty text")
        if not self.node.value.isprintable():
            self.refuse(f"expected {what} in printable letters, got {self.node.value!r}")
        return str(self.node.value)

    def name(self, what: str) -> str:
        """Return a name as it is written, `1` and `no` too."""
        if not isinstance(self.node, yaml.ScalarNode) or self.is_null:
            self.fail(what)
        if not self.node.value.strip() or not self.node.value.isprintable():
            self.refuse(f"expected {what} in printable letters, got {self.node.value!r}")
        return str(self.node.value)

    def choice(self, among: Sequence[str]) -> str:
        """Return one of some words."""
        words = ", ".join(among)
        text = self.text(f"one of {words}")
        if text not in among:
            self.fail(f"one of {words}", did_you_mean(text, among))
        return text

    def boolean(self) -> bool:
        """Return true or false."""
        if not self.is_boolean:
            self.fail("true or false")
        return self.node.value.lower() in ("true", "yes", "on")

    def whole(self, least: int) -> int:
        """Return a whole number of at least `least`."""
        expected = f"a whole number of at least {least}"
        if not self.is_whole:
            self.fail(expected, self._unquoted())
        if int(self.node.value) < least:
            self.fail(expected)
        return int(self.node.value)

    def number(self, expected: str = "a number") -> float:
        """Return a number."""
        if not self._plain(_NUMBER):
            self.fail(expected, self._unquoted())
        return float(self.node.value)

    def _unquoted(self) -> str:
        node = self.node
        quoted = isinstance(node, yaml.ScalarNode) and node.style is not None
        alike = quoted and _NUMBER.fullmatch(node.value)
        return "write it without quotes" if alike else ""

    def items(self, what: str) -> list[Entry]:
        """Return the entries of a list that is not empty.

        Args:
            what: For the message: "a list of image files".
        """
        if not self.is_list or not self.node.value:
            self.fail(what)
        return [
            Entry(self.file, f"{self.key}[{i}]", node) for i, node in enumerate(self.node.value)
        ]

    def named(self, what: str) -> dict[str, Entry]:
        """Return the entries of a mapping from free names, as they are written.

        Args:
            what: For the message: "a mapping from class names to folders".
        """
        if not self.is_mapping or not self.node.value:
            self.fail(what)
        return dict(self._pairs())

    def keyed(self, known: Sequence[str], required: Sequence[str] = ()) -> dict[str, Entry]:
        """Return the entries of a mapping that has certain keys and no others.

        Args:
            known: The keys it may have.
            required: Those it must have.
        """
        if not self.is_mapping:
            self.fail(f"a mapping with the keys {', '.join(known)}")
        found = {}
        for name, entry in self._pairs():
            if name not in known:
                hint = did_you_mean(name, known) or f"expected one of {', '.join(known)}"
                raise StudyError(
                    located(self.file, entry.line, self.key, f"unknown key {name!r}; {hint}")
                )
            found[name] = entry
        if missing := [name for name in required if name not in found]:
            self.refuse(f"the key {missing[0]!r} is missing; expected {', '.join(required)}")
        return found

    def _pairs(self) -> Iterator[tuple[str, Entry]]:
        """Yield the names of a mapping with their values; each name once."""
        seen: dict[str, int] = {}
        for key, value in self.node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                message = "expected a name in front of ':', got a list or mapping"
                raise StudyError(located(self.file, line, self.key, message))
            name = key.value
            if name in seen:
                message = f"the key {name!r} stands here twice, first in line {seen[name]}"
                raise StudyError(located(self.file, line, self.key, f"{message}; remove one"))
            if not name.strip() or not name.isprintable():
                message = f"expected a name in printable letters, got {name!r}"
                raise StudyError(located(self.file, line, self.key, message))
            seen[name] = line
            # an empty value has no line of its own
            inside = value if not _empty(value) else _at(value, key.start_mark)
            yield name, Entry(self.file, f"{self.key}.{name}".lstrip("."), inside)


def read_yaml(path: Path) -> Entry:
    """Read a file of YAML.

    Raises:
        StudyError: When it is missing, no text, or no YAML.
    """
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError as error:
        raise StudyError(
            f"there is no study file {str(path)!r}; vtcav init writes one from a folder"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"cannot read the study file {str(path)!r}: {error}") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = " ".join(filter(None, [error.context, error.problem]))
        said += "; YAML is indented with spaces, never with tabs" if "'\\t'" in said else ""
        line = mark.line + 1 if mark else 1
        raise StudyError(located(str(path), line, "", f"this is no YAML: {said}")) from error
    except (yaml.YAMLError, RecursionError) as error:
        said = " ".join(str(error).split()) or "nested too deep"
        raise StudyError(located(str(path), 1, "", f"this is no YAML: {said}")) from error
    if node is None:
        raise StudyError(
            f"the study file {str(path)!r} is empty; vtcav init writes one from a folder"
        )
    return Entry(str(path), "", node)


def located(file: str, line: int, key: str, message: str) -> str:
    """Return a message with its place in front.

    Example:
        >>> located("study.yaml", 7, "options.limit", "expected a number")
        'study.yaml, line 7, options.limit: expected a number'
    """
    return f"{file}, line {line}{f', {key}' if key else ''}: {message}"


def did_you_mean(word: str, among: Sequence[str]) -> str:
    """Return a hint at the word that is closest; empty where none is close."""
    close = difflib.get_close_matches(word.casefold(), among, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else ""


def _empty(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.value == "" and node.style is None


def _at(node: yaml.Node, mark: Any) -> yaml.Node:
    return yaml.ScalarNode(node.tag, node.value, mark, node.end_mark, style=None)
