"""The controlled experiment: comparison of attributions with measured causal effects."""

from vtcav.evaluation.experiment.evaluate import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
