"""Class names from files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from vtcav.errors import ModelError, why
from vtcav.files.paths import expanded, is_there, usable

TAKEN = "a file with a name per line or JSON, or names with commas, such as cat,dog"
"""The forms of class names that are a text, in words."""


def given_names(text: str) -> list[str] | None:
    """Return the class names of a text like "cat,dog"; None where it is the path of a file.

    Example:
        >>> given_names("cat, dog"), given_names("names.txt")
        (['cat', 'dog'], None)

    Raises:
        ModelError: When a name is empty.
    """
    if "," not in text or is_there(text):
        return None
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise ModelError(f"class_names: a name is empty in {text!r}; expected {TAKEN}")
    return names


def read_class_names(path: str | Path) -> list[str]:
    """Return class names from a file, in the order of the class indices.

    Args:
        path: Text with one name per line; or JSON, a list of names or an object of names by
            index, as "id2label" in the configuration of a Hugging Face network.

    Raises:
        ModelError: When there is no such file or it holds no names.
    """
    path = expanded(path)
    try:
        text = usable(path).read_text("utf-8")
    except FileNotFoundError as error:
        message = f"there is no such file; class_names takes {TAKEN}"
        raise ModelError(f"cannot read class names from {str(path)!r}: {message}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot read class names from {str(path)!r}: {why(error)}") from error
    if path.suffix != ".json":
        return text.splitlines()
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ModelError(f"{str(path)!r} is no JSON: {error}") from error
    if isinstance(content, Mapping):
        content = content.get("id2label", content)
    if isinstance(content, Mapping):
        if sorted(content, key=str) != sorted(map(str, range(len(content)))):
            raise ModelError(
                f"expected names by class index from 0 to {len(content) - 1} in {str(path)!r}, "
                f"got the keys {', '.join(map(str, list(content)[:3]))}, ..."
            )
        content = [content[str(index)] for index in range(len(content))]
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise ModelError(
            f"expected a list of names, or names by class index, in {str(path)!r}; "
            f"got {text[:40]!r}"
        )
    return content
