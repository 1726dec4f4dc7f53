"""The controlled experiment: attributions against measured causal effects."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vtcav.evaluation.experiment.evaluate import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("vtcav.evaluation.experiment.evaluate"), name)
    raise AttributeError(f"module 'vtcav.evaluation.experiment' has no attribute {name!r}")
