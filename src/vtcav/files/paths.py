"""What lies at a path that a user gave, which may be a text that no file can have as its name.

`pathlib` raises for names that are too long, hold a null character or no letters of the system's
encoding, and otherwise in every version of Python.
"""

from __future__ import annotations

import errno
import os
import stat
from glob import glob
from pathlib import Path

from vtcav.errors import ExplanationError, PathError, VtcavError, check_system
from vtcav.parameters import Text, check

_NOTHING = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL}
_LONGEST = 4096  # letters of a path that a system takes
_SHOWN = 200  # letters of a path in a message


def given_path(name: str, value: object, error: type[VtcavError] = ExplanationError) -> Path:
    """Return the path that a parameter of this name gives; a leading ``~/`` is the home folder.

    Raises:
        VtcavError: `error`, for what is no path, and for an empty text, which `pathlib` takes for
            the current folder.

    Example:
        >>> given_path("folder", "out").name
        'out'
    """
    return expanded(check(name, value, Text("a path"), error=error))


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with a leading ``~/`` replaced by the home folder.

    A folder in the working directory that is named ``~`` wins, as do names such as ``~old``.

    Example:
        >>> expanded("~/photos") == Path.home() / "photos", expanded("~old").name
        (True, '~old')
    """
    return Path(home_text(os.fspath(path)))


def home_text(text: str) -> str:
    """Return a path, glob or URI as it is, but for a leading ``~/``, as `expanded` replaces it.

    Example:
        >>> home_text("s3://bucket/zebras"), home_text("./a//b.csv")
        ('s3://bucket/zebras', './a//b.csv')
    """
    if (text == "~" or text.startswith(("~/", f"~{os.sep}"))) and not is_there("~"):
        return str(Path(text).expanduser())
    return text


def is_folder(path: str | os.PathLike[str]) -> bool:
    r"""Whether there is a folder.

    Raises:
        PathError: When the system does not let it be looked up.

    Example:
        >>> is_folder("."), is_folder("x" * 1000), is_folder("a\0b")
        (True, False, False)
    """
    return stat.S_ISDIR(_mode(path))


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether there is a file, and no folder, pipe or device.

    Raises:
        PathError: When the system does not let it be looked up.
    """
    return stat.S_ISREG(_mode(path))


def is_there(path: str | os.PathLike[str]) -> bool:
    """Whether there is anything.

    Raises:
        PathError: When the system does not let it be looked up.
    """
    return bool(_mode(path))


def is_link(path: str | os.PathLike[str]) -> bool:
    """Whether there is a link, also one to what is not there."""
    try:
        return stat.S_ISLNK(os.lstat(path).st_mode)
    except (OSError, ValueError):
        return False


def matching(pattern: str, *, recursive: bool = False) -> list[Path]:
    """Return what a pattern of file names matches; nothing for one longer than any path.

    Args:
        pattern: The pattern, as of `glob.glob`.
        recursive: Whether `**` stands for folders at any depth.

    Example:
        >>> matching("no such folder/*"), matching("[" * 100_000)
        ([], [])
    """
    if len(pattern) > _LONGEST:
        return []
    while recursive and "**/**/" in pattern:  # each would look through all folders again
        pattern = pattern.replace("**/**/", "**/")
    # Path.glob takes no absolute pattern
    return [Path(match) for match in glob(pattern, recursive=recursive)]  # noqa: PTH207


def usable(path: str | os.PathLike[str]) -> Path:
    r"""Return a path whose name a file can have.

    Raises:
        OSError: For another one, as for what else cannot be opened.

    Example:
        >>> usable("a").name
        'a'
        >>> usable("a\0b")
        Traceback (most recent call last):
        OSError: [Errno 22] no file can have this name: 'a\x00b'
    """
    text = os.fspath(path)
    try:
        known = b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        known = False
    if not known:
        raise OSError(errno.EINVAL, "no file can have this name", text[:_SHOWN])
    return Path(text)


def resolved(path: str | os.PathLike[str]) -> Path:
    """Return an absolute path without links.

    Raises:
        OSError: For a name that no file can have, and for a link to itself.
    """
    try:
        return usable(path).resolve()
    except RuntimeError as error:  # of Python before 3.13
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)[:_SHOWN]) from error


def _mode(path: str | os.PathLike[str]) -> int:
    """Return the kind of what is there, as `os.stat` tells; 0 for nothing."""
    try:
        return os.stat(path).st_mode  # noqa: PTH116 - takes any text
    except ValueError:  # a null character, or letters that the encoding of names does not know
        return 0
    except OSError as error:
        if error.errno in _NOTHING:
            return 0
        check_system(error)
        raise PathError(f"cannot look up {str(path)[:_SHOWN]!r}: {error.strerror}") from error
