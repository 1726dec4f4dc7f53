"""A file read by a process of its own, which a damaged one may end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_SECONDS, _PER_SECOND = (
    20,
    10 << 20,
)  # the time of a process, and what it reads in a second at least


def can_run() -> bool:
    """Whether there is a Python to run, which a frozen program has not."""
    return bool(sys.executable) and not getattr(sys, "frozen", False)


def run_apart(program: str, arguments: Sequence[str], source: Path, library: str) -> None:
    """Run a program that reads a file, in a process of its own.

    Args:
        program: The program's file; it imports nothing of vtcav.
        arguments: What it is told.
        source: The file that it reads, whose size sets its time.
        library: The name of the library that reads it, for the message.

    Raises:
        ValueError: When the program fails, is ended by the file or does not come to an end; the
            message is the last line that it wrote.
    """
    command = [sys.executable, "-P", program, *arguments]
    seconds = _SECONDS + source.stat().st_size / _PER_SECOND
    try:
        code, said = finished(command, seconds)
    except subprocess.TimeoutExpired:
        raise ValueError(
            f"{library} does not come to an end with it; the file is damaged"
        ) from None
    if code:
        lines = said.decode(errors="replace").strip().splitlines()[-1:]
        raise ValueError(lines[0] if lines and code == 1 else f"{library} fails: it is damaged")


def finished(command: Sequence[str], seconds: float) -> tuple[int, bytes]:
    """Run a command to its end; return its exit code and what it wrote to its standard error.

    Raises:
        subprocess.TimeoutExpired: When it takes longer.
    """
    done = subprocess.run(command, capture_output=True, timeout=seconds, check=False)
    return done.returncode, done.stderr
