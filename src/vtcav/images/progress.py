"""Progress bars on terminals and in notebooks; silent elsewhere."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from vtcav.parameters import Flag, check


class Progress:
    """The progress of a long step."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def advance(self, steps: int = 1) -> None:
        """Count `steps` more as done."""
        if steps:
            self._bar.update(steps)


def check_progress(shown: object) -> bool | None:
    """Return whether progress bars are shown; None where someone may be watching.

    Raises:
        ExplanationError: For anything else.

    Example:
        >>> check_progress("no")
        Traceback (most recent call last):
        vtcav.errors.ExplanationError: expected progress to be true or false, got 'no'; None takes \
true on a terminal and in a notebook
    """
    plain: bool | None = check(
        "progress", shown, Flag(), none="true on a terminal and in a notebook"
    )
    return plain


@contextmanager
def progress_bar(title: str, total: int, *, shown: bool | None) -> Iterator[Progress]:
    """Show a bar while the block runs.

    Args:
        title: The name of the work.
        total: The number of steps.
        shown: Whether to show the bar; None shows it only where someone may be watching.
    """
    tqdm = _bar()
    disable = None if shown is None else not shown
    if sys.stderr is None:  # a program without a console, such as pythonw
        disable = True
    with tqdm(total=total, desc=title, disable=disable, leave=False, unit="image") as bar:
        yield Progress(bar)


@cache
def _bar() -> Any:
    """Return the kind of bar: a widget where a notebook can show one, else text."""
    from tqdm import TqdmWarning

    with warnings.catch_warnings():
        # a notebook without widgets is no news to someone who waits for images
        warnings.simplefilter("ignore", TqdmWarning)
        from tqdm.auto import tqdm
    return tqdm
