"""Comparison of Visual-TCAV with other methods on the same images."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vtcav.evaluation.compare.compute import compare
    from vtcav.evaluation.compare.result import Comparison

__all__ = ["Comparison", "compare"]


def __getattr__(name: str) -> Any:
    # The command line names the methods before it loads what computes them.
    if name not in __all__:
        raise AttributeError(f"module 'vtcav.evaluation.compare' has no attribute {name!r}")
    home = "compute" if name == "compare" else "result"
    return getattr(import_module(f"vtcav.evaluation.compare.{home}"), name)
