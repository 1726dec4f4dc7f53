"""YAML with lines: every scalar as it is written, and the line of every key.

PyYAML's own values are not used: they lose the lines and follow YAML 1.1, where `no` is a boolean
and `1e-2` a text. Here names are read as they are written, and `50` is a number while `"50"` is
not.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from vtcav.errors import VtcavError, why
from vtcav.files.paths import home_text, usable

_WHOLE = re.compile(r"[-+]?[0-9]{1,300}")
_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_WORDS = {
    **dict.fromkeys(("", "~", "null"), None),
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
}


class StudyError(VtcavError):
    """A study cannot be read or carried out; the message names file, line and key."""


class Scalar(str):
    """A scalar as it is written.

    Attributes:
        bare: Its meaning without quotes: a text, a number, true, false or None.
        quoted: Whether it is in quotes.
        tag: A tag in front of it that YAML does not know; else empty.
    """

    bare: Any
    quoted: bool
    tag: str

    def __new__(cls, text: str, quoted: bool = False, tag: str = "") -> Scalar:
        """Read a text."""
        self = super().__new__(cls, text)
        self.quoted, self.tag = quoted, tag
        if _WHOLE.fullmatch(text):
            self.bare = int(text)
        else:
            self.bare = float(text) if _NUMBER.fullmatch(text) else text
        self.bare = _WORDS.get(text.lower(), self.bare)
        return self

    @property
    def value(self) -> Any:
        """Its meaning; with an unknown tag, a value that nothing accepts."""
        if self.tag:
            return ...
        return str(self) if self.quoted else self.bare


def read_yaml(path: Path) -> tuple[Any, dict[str, int]]:
    """Read a file of YAML.

    Returns:
        The values, as dicts, lists and scalars, and the line of every key: "options.limit".

    Raises:
        StudyError: When the file is missing, or is not text or not YAML.
    """
    hint = "vtcav init writes one from a folder"
    try:
        text = usable(path).read_text("utf-8-sig")
    except FileNotFoundError as error:
        raise StudyError(f"there is no study file {str(path)!r}; {hint}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"cannot read the study file {str(path)!r}: {why(error)}") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        parts = (getattr(error, "context", None), getattr(error, "problem", None))
        problem = " ".join(filter(None, parts)) or " ".join(str(error).split()) or "nested too deep"
        problem += "; YAML is indented with spaces, never with tabs" if "'\\t'" in problem else ""
        line = mark.line + 1 if mark else 1
        raise StudyError(located(str(path), line, "", f"this is not YAML: {problem}")) from error
    if node is None:
        raise StudyError(f"the study file {str(path)!r} is empty; {hint}")
    reader = _Reader(str(path))
    return reader.value(node, "", node.start_mark.line + 1), reader.lines


class _Reader:
    """Turns nodes into values and records the line of each."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[str, int] = {}
        self._known: dict[yaml.Node, Any] = {}  # an alias stands for the same value

    def value(self, node: yaml.Node, key: str, line: int) -> Any:
        empty = isinstance(node, yaml.ScalarNode) and not (node.value or node.style)
        # an empty value has no line of its own
        self.lines[key] = line if empty else node.start_mark.line + 1
        if node not in self._known:
            self._known[node] = None
            self._known[node] = self._read(node, key)
        elif self._known[node] is None:
            self._refuse(self.lines[key], key, "the alias stands for a value that holds it")
        return self._known[node]

    def _read(self, node: yaml.Node, key: str) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, key)
        if isinstance(node, yaml.SequenceNode):
            items = enumerate(node.value)
            return [self.value(item, f"{key}[{i}]", item.start_mark.line + 1) for i, item in items]
        known = re.fullmatch("tag:yaml.org,2002:[a-z]+", node.tag)
        quoted = isinstance(node, yaml.ScalarNode) and node.style is not None
        # alone it is YAML's null
        text = node.value if node.value == "~" else home_text(node.value)
        return Scalar(text, quoted, "" if known else node.tag)

    def _mapping(self, node: yaml.MappingNode, key: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        first: dict[str, int] = {}
        for at, value in node.value:
            name, line = at.value, at.start_mark.line + 1
            if not isinstance(at, yaml.ScalarNode):
                self._refuse(line, key, "expected a name in front of ':', got a list or mapping")
            if name in found:
                message = f"the key {name!r} stands here twice, first in line {first[name]}"
                self._refuse(line, key, f"{message}; remove one")
            if not name.strip() or not name.isprintable():
                self._refuse(line, key, f"expected a name in printable letters, got {name!r}")
            first[name] = line
            found[name] = self.value(value, f"{key}.{name}".lstrip("."), line)
        return found

    def _refuse(self, line: int, key: str, message: str) -> None:
        raise StudyError(located(self.file, line, key, message))


def plain(value: Any) -> Any:
    """Return a value with the meaning of its scalars."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    return value.value


def came(value: Any) -> str:
    """Return a value in words.

    Example:
        >>> came(Scalar("5")), came(Scalar("5", quoted=True)), came([])
        ('the number 5', "the text '5'", 'an empty list')
    """
    if isinstance(value, dict):
        return "a mapping with keys" if value else "an empty mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    meant = value.value
    if meant is None:
        return "nothing"
    if value.tag:
        return f"a value with the tag {value.tag!r}"
    if isinstance(meant, bool):
        return f"the boolean {value}"
    if isinstance(meant, int | float):
        return f"the number {value}"
    return f"the text {value if len(value) <= 60 else value[:57] + '...'!r}"


def located(file: str, line: int, key: str, message: str) -> str:
    """Return a message with its location in front.

    Example:
        >>> located("study.yaml", 7, "options.limit", "expected a number")
        'study.yaml, line 7, options.limit: expected a number'
    """
    return f"{file}, line {line}{f', {key}' if key else ''}: {message}"
