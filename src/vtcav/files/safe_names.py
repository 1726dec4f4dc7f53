"""Names of folders that every file system takes, for classes and photographs of any name."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping

from vtcav.files.hashing import text_hash

_LONGEST = 80  # bytes of UTF-8; file systems take 255, whole paths on Windows 260 letters
_KEPT = " -_.,"
_RESERVED = {"con", "prn", "aux", "nul"} | {f"{d}{i}" for d in ("com", "lpt") for i in range(10)}


def folder_names(names: Mapping[str, str]) -> dict[str, str]:
    """Return a folder's name for each result: valid on every system, and no two alike.

    Names of letters, digits and a few signs stay as they are. In others, characters that a file
    system may refuse are replaced, and eight digits of a hash keep them apart. The same goes for
    names that differ only by case, which some systems do not tell apart.

    Args:
        names: The names of results by their keys, which are unique.

    Returns:
        Folder names by the same keys. They depend on the names alone, not on their order.

    Example:
        >>> folder_names({"a": "Egyptian cat", "b": "../x", "c": "a/b"})
        {'a': 'Egyptian cat', 'b': 'x-6261c7c2', 'c': 'a_b-1567b8f6'}
    """
    plain = {key: _plain(name) for key, name in names.items()}
    counts = Counter(name.casefold() for name in plain.values())
    stay = {key for key in names if plain[key] == names[key] and counts[plain[key].casefold()] == 1}
    hashes = {key: text_hash(f"{key}\n{name}")[:8] for key, name in names.items()}
    return {key: text if key in stay else f"{text}-{hashes[key]}" for key, text in plain.items()}


def _plain(name: str) -> str:
    """Return a name without characters that a file system may refuse."""
    composed = unicodedata.normalize("NFC", name)
    kept = "".join(c if c.isalnum() or c in _KEPT else "_" for c in composed)
    short = kept.encode()[:_LONGEST].decode(errors="ignore").strip(" ._") or "_"
    return f"{short}_" if short.split(".")[0].casefold() in _RESERVED else short
