"""The controlled experiment: comparison of attributions with measured causal effects."""

from vtcav.evaluation.experiment.evaluate import evaluate
from vtcav.evaluation.experiment.result import Evaluation

__all__ = ["Evaluation", "evaluate"]
