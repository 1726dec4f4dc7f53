"""Steps that no other step needs: where one fails, the others and the report are still made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from vtcav.errors import VtcavError
from vtcav.study.yaml_file import StudyError

T = TypeVar("T")


class UnfinishedError(StudyError):
    """Steps of a study failed; everything else is done and written.

    Attributes:
        folder: The folder of the results.
    """

    def __init__(self, message: str, folder: Path) -> None:
        super().__init__(message)
        self.folder = folder


class Attempts:
    """Steps that may fail.

    Args:
        say: Receives a line for every step that failed.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._failed: dict[str, VtcavError] = {}

    def take(self, name: str, step: Callable[[], T]) -> T | None:
        """Return what a step gives; None where it fails.

        Args:
            name: The folder of its result.
            step: Carries it out.
        """
        try:
            return step()
        except VtcavError as error:
            self._failed[name] = error
            self._say(f"Not done: {name}; all else goes on")
            return None

    @property
    def not_done(self) -> list[dict[str, str]]:
        """The steps that failed and why, without the line of the study."""
        return [
            {"step": name, "why": str(error.__cause__ or error)}
            for name, error in self._failed.items()
        ]

    def check(self, folder: Path) -> None:
        """Refuse to call a study finished.

        Args:
            folder: The folder of its results.

        Raises:
            UnfinishedError: Where a step failed.
        """
        if self._failed:
            reasons = "; ".join(map(str, self._failed.values())).rstrip(".")
            message = f"not done: {', '.join(self._failed)}: {reasons}. All else is written"
            raise UnfinishedError(message, folder) from next(iter(self._failed.values()))
