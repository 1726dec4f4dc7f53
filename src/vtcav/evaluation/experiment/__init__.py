"""The controlled experiment: attributions against measured causal effects."""

from vtcav.evaluation.experiment.evaluate import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
