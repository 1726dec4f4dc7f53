"""Several methods beside Visual-TCAV on the same images."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vtcav.evaluation.compare.compute import compare
    from vtcav.evaluation.compare.result import Comparison

__all__ = ["Comparison", "compare"]


def __getattr__(name: str) -> Any:
    # The command line names the methods before it loads what computes them.
    if name == "compare":
        from vtcav.evaluation.compare.compute import compare

        return compare
    if name == "Comparison":
        from vtcav.evaluation.compare.result import Comparison

        return Comparison
    raise AttributeError(f"module 'vtcav.evaluation.compare' has no attribute {name!r}")
