"""`vtcav cache`: show, check or clear the cache of learning.

Show the cache that makes learning the same images again fast, check every entry against its hash,
or clear it. VTCAV_CACHE names another folder or turns the cache off, VTCAV_CACHE_SIZE limits its
size (default: 2 GB).

Examples:
  vtcav cache
  vtcav cache verify
  vtcav cache clear
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcav.cli import options
from vtcav.cli.terminal import print_json, print_line
from vtcav.errors import ExplanationError

if TYPE_CHECKING:
    from vtcav.files.cache import Cache

__all__ = ["add"]

_KINDS = {
    "look": "sets of images",
    "gap": "pooled activations of a set at a layer",
    "raw": "raw-map values of a set at a layer",
}


def add(commands: Any) -> None:
    """Add the command."""
    command = options.add_command(commands, "cache", __doc__, _run)
    command.add_argument(
        "action",
        nargs="?",
        choices=("show", "verify", "clear"),
        default="show",
        help="show (default) folder, size and entries; verify or clear all entries",
    )
    command.add_argument("--cache", metavar="DIR", help="the folder (default: the user's)")
    options.add_shared(command, quiet="")


def _run(arguments: argparse.Namespace) -> None:
    from vtcav.files.cache_location import cache_of

    cache = cache_of(arguments.cache, unset=True)
    if cache is None:
        raise options.UsageError(
            "the cache is off (VTCAV_CACHE); --cache DIR names a folder to look at"
        )
    try:
        {"show": _show, "verify": _verify, "clear": _clear}[arguments.action](cache, arguments.json)
    except OSError as error:
        raise ExplanationError(f"cannot read the cache {str(cache.folder)!r}: {error}") from error


def _show(cache: Cache, as_json: bool) -> None:
    entries = cache.entries()
    size = sum(entry.size for entry in entries)
    kinds = {kind: [e for e in entries if e.kind == kind] for kind in _KINDS}
    if as_json:
        print_json(
            {
                "folder": str(cache.folder.resolve()),
                "entries": len(entries),
                "bytes": size,
                "max_bytes": cache.max_bytes,
                "kinds": {kind: len(found) for kind, found in kinds.items()},
            }
        )
        return
    print_line(f"Folder   {cache.folder.resolve()}")
    print_line(f"Size     {_words(size)} of at most {_words(cache.max_bytes)}")
    print_line(f"Entries  {len(entries)}")
    for kind, found in kinds.items():
        if found:
            total = _words(sum(entry.size for entry in found))
            print_line(f"         {len(found)} {_KINDS[kind]}, {total}")


def _verify(cache: Cache, as_json: bool) -> None:
    damaged = cache.damaged()
    if as_json:
        print_json(
            {
                "folder": str(cache.folder.resolve()),
                "entries": len(cache.entries()),
                "damaged": {str(path): why for path, why in damaged.items()},
            }
        )
    elif not damaged:
        print_line(f"{len(cache.entries())} entries, all intact")
    if damaged:
        raise ExplanationError(
            f"{len(damaged)} entries of the cache are damaged: {_named(damaged)}. They are never "
            "used: each is computed again when it is needed; vtcav cache clear removes all"
        )


def _clear(cache: Cache, as_json: bool) -> None:
    size = sum(entry.size for entry in cache.entries())
    count = cache.clear()
    left = cache.entries()
    if as_json:
        print_json({"folder": str(cache.folder.resolve()), "removed": count, "left": len(left)})
    else:
        print_line(f"Removed {count} entries, {_words(size)}")
    if left:
        raise ExplanationError(
            f"{len(left)} entries cannot be removed from {str(cache.folder)!r}; is it read-only?"
        )


def _named(damaged: dict[Path, str]) -> str:
    first = [f"{path.name} ({why})" for path, why in list(damaged.items())[:3]]
    return "; ".join([*first, *(["..."] if len(damaged) > len(first) else [])])


def _words(size: float) -> str:
    """Return a size for a person."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
