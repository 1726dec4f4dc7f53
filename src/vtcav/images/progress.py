"""Progress bars: on a terminal or in a notebook, silent elsewhere."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

__all__ = ["Progress", "progress_bar"]


class Progress:
    """What a long step tells of itself."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def advance(self, steps: int = 1) -> None:
        """Note that `steps` more are done."""
        if steps:
            self._bar.update(steps)


@contextmanager
def progress_bar(title: str, total: int, *, shown: bool | None) -> Iterator[Progress]:
    """Show a bar while the block runs.

    Args:
        title: What is done.
        total: How many steps there are.
        shown: True or False; None shows it only where someone may be watching.
    """
    tqdm = _bar()
    disable = None if shown is None else not shown
    with tqdm(total=total, desc=title, disable=disable, leave=False, unit="image") as bar:
        yield Progress(bar)


@cache
def _bar() -> Any:
    """Return the bar that fits: a widget where a notebook can show one, else one of letters."""
    from tqdm import TqdmWarning

    with warnings.catch_warnings():
        # that a notebook has no widgets is no news for who waits for images
        warnings.simplefilter("ignore", TqdmWarning)
        from tqdm.auto import tqdm
    return tqdm
