"""Claims on folders: a JSON file states what the results in a folder depend on."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vtcav.errors import ExplanationError
from vtcav.files.atomic import atomic_path
from vtcav.files.json_text import parsed
from vtcav.files.paths import is_there

_HASH = re.compile(r"[0-9a-f]{32,}")
_RUNS = {
    "study": "the run of a study",
    "explain_class": "the explanation of a class",
    "rank": "a ranking of images",
    "presence": "an analysis of errors",
    "correction": "a correction",
    "corrected attributions": "a correction",
    "experiment": "the controlled experiment",
}
_MEANING = {
    "fingerprint": "the network's weights",
    "behaviour": "what the network computes",
    "preprocess_behaves": "how pictures become inputs",
    "classes": "the names of the classes",
    "cavs": "what was learned",
}


def claim(path: Path, identity: Mapping[str, Any]) -> None:
    """Claim a folder for one run, or check that it is the folder of this run already.

    Args:
        path: The JSON file in the folder; written when missing.
        identity: What the run's results depend on, as JSON data.

    Raises:
        ExplanationError: When the folder holds a run with another identity, naming what differs.
        ValueError: When the file is damaged.
        OSError: When it cannot be read or written.
    """
    text = json.dumps(identity, indent=1, ensure_ascii=False)
    if not is_there(path):
        with atomic_path(path) as partial:
            partial.write_text(text, encoding="utf-8")
        return
    known = parsed(path.read_text(encoding="utf-8"))
    kinds = [each.get("kind") if isinstance(each, dict) else None for each in (known, identity)]
    if all(kinds) and kinds[0] != kinds[1]:
        raise ExplanationError(
            f"the folder {str(path.parent)!r} holds {_named(kinds[0])}, which is not continued by "
            f"{_named(kinds[1])}; choose another folder, or delete this one"
        )
    if lines := _differences(known, json.loads(text), path.name):
        raise ExplanationError(
            f"the folder {str(path.parent)!r} holds a run with other settings: {'; '.join(lines)}. "
            "Undo the change, choose another folder, or delete this one"
        )


def _named(kind: object) -> str:
    return _RUNS.get(str(kind), f"a run of another kind ({kind})")


def _differences(known: Any, wanted: Any, whole: str, name: str = "") -> list[str]:
    """Return, in words, where two pieces of JSON data differ.

    Hashes and lists of fractions tell a reader nothing: that they have changed is enough, and of
    a mapping of such lists once.
    """
    if isinstance(known, dict) and isinstance(wanted, dict):
        values = [*known.values(), *wanted.values()]
        if known != wanted and all(map(_are_fractions, values)):
            return [_changed(name)]
        return [
            line
            for key in dict.fromkeys([*wanted, *known])
            for line in _differences(
                known.get(key), wanted.get(key), whole, f"{name}.{key}" if name else str(key)
            )
        ]
    if known == wanted:
        return []
    if all(map(_is_hash, (known, wanted))) or all(map(_are_fractions, (known, wanted))):
        return [_changed(name or whole)]
    return [f"{name or whole} was {_short(known)}, is {_short(wanted)}"]


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and bool(_HASH.fullmatch(value))


def _are_fractions(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(each, float) for each in value)


def _changed(name: str) -> str:
    meaning = _MEANING.get(name.rpartition(".")[2])
    return f"{name}{f' ({meaning})' if meaning else ''} has changed"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:20] + "..." + text[-20:]
