"""`vtcav cache`: show, check or clear the cache of learning.

Show, check or clear the cache of learning. VTCAV_CACHE names another folder or turns it off,
VTCAV_CACHE_SIZE limits its size (default: 2 GB).

Example:
  vtcav cache verify
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vtcav.cli.options import Arguments, Parser, UsageError
from vtcav.errors import ExplanationError, why

if TYPE_CHECKING:
    from vtcav.files.cache import Cache


_KINDS = {
    "look": "sets of images",
    "gap": "pooled activations of a set at a layer",
    "raw": "raw-map values of a set at a layer",
    "logits": "mean logits of a set",
    "places": "place filters of a concept at a layer",
    "drawn": "place filters of resampled CAVs at a layer",
    "response": "highest responses of place filters at a layer",
    "scored": "logits of a few images of a set",
    "zeros": "scores at zero feature maps of a layer",
}


def add_options(command: Parser) -> None:
    """Add the options."""
    meaning = "show (default) folder, size and entries; verify or clear all entries"
    actions = ("show", "verify", "clear")
    command.add_argument("action", nargs="?", choices=actions, default="show", help=meaning)
    command.option("--cache", "the folder (default: the user's)", metavar="DIR")
    command.add_shared(quiet="")


def run(arguments: Arguments) -> None:
    """Carry out the command."""
    from vtcav.files.cache_location import cache_of

    cache = cache_of(arguments.cache, unset=True)
    if cache is None:
        message = "the cache is off (VTCAV_CACHE); --cache DIR names a folder to look at"
        raise UsageError(message)
    action = {"show": _show, "verify": _verify, "clear": _clear}[arguments.action]
    try:
        data, lines, fault = action(cache)
    except OSError as error:
        raise ExplanationError(
            f"cannot read the cache {str(cache.folder)!r}: {why(error)}"
        ) from error
    arguments.answer({"folder": str(cache.folder.resolve()), **data}, *lines)
    if fault:
        raise ExplanationError(fault)


def _show(cache: Cache) -> tuple[dict[str, Any], list[str], str]:
    """Return the size of the cache as JSON and as lines, and no fault."""
    entries = cache.entries()
    size = sum(entry.size for entry in entries)
    kinds = {kind: [e.size for e in entries if e.kind == kind] for kind in _KINDS}
    data = {"entries": len(entries), "bytes": size, "max_bytes": cache.max_bytes}
    lines = [
        f"Folder   {cache.folder.resolve()}",
        f"Size     {_words(size)} of at most {_words(cache.max_bytes)}",
        f"Entries  {len(entries)}",
    ]
    for kind, sizes in kinds.items():
        if sizes:
            lines.append(f"         {len(sizes)} {_KINDS[kind]}, {_words(sum(sizes))}")
    return {**data, "kinds": {kind: len(sizes) for kind, sizes in kinds.items()}}, lines, ""


def _verify(cache: Cache) -> tuple[dict[str, Any], list[str], str]:
    """Check every entry against its hash."""
    damaged, count = cache.damaged(), len(cache.entries())
    data = {"entries": count, "damaged": {str(path): why for path, why in damaged.items()}}
    if not damaged:
        return data, [f"{count} entries, all intact"], ""
    named = [f"{path.name} ({why})" for path, why in damaged.items()]
    shown = "; ".join(named if len(named) <= 3 else [*named[:3], "..."])
    fault = (
        f"{len(damaged)} entries of the cache are damaged: {shown}. They are never used: each is "
        "computed again when it is needed; vtcav cache clear removes all"
    )
    return data, [f"{count} entries"], fault


def _clear(cache: Cache) -> tuple[dict[str, Any], list[str], str]:
    """Remove every entry."""
    size = sum(entry.size for entry in cache.entries())
    count, left = cache.clear(), len(cache.entries())
    fault = f"{left} entries cannot be removed from {str(cache.folder)!r}; is it read-only?"
    lines = [f"Removed {count} entries, {_words(size)}"]
    return {"removed": count, "left": left}, lines, fault if left else ""


def _words(size: int) -> str:
    """Return a size in words."""
    from rich.filesize import decimal

    return decimal(size)
