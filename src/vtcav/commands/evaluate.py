"""`vtcav evaluate`: the controlled experiment."""

from typing import Any

from vtcav.commands.common import add_common
from vtcav.evaluation import command

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command."""
    command.add(commands, add_common)
