"""How far an explanation can be trusted: against ground truth, masks, interventions and peers.

Importing this package loads neither torch nor matplotlib; they load with the first use. The
methods of others are compared by `vtcav.evaluation.compare.compute.compare`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vtcav.evaluation.compare.result import Comparison
    from vtcav.evaluation.correlation import (
        Correlation,
        Interval,
        PairOrder,
        bootstrap_interval,
        interval_over_seeds,
        pair_order,
        pearson,
        spearman,
    )
    from vtcav.evaluation.experiment.evaluate import Evaluation, evaluate
    from vtcav.evaluation.localisation.compute import FolderLocalisation, localise_folder
    from vtcav.evaluation.metrics import (
        Localisation,
        at_resolution,
        balanced_mse,
        cell_auc,
        covered,
        energy_inside,
        localise,
        pointing_game,
        soft_iou,
    )
    from vtcav.evaluation.removal.compute import InsertionDeletion, insertion_deletion

_HOMES = {
    "Comparison": "vtcav.evaluation.compare.result",
    "Correlation": "vtcav.evaluation.correlation",
    "Evaluation": "vtcav.evaluation.experiment.evaluate",
    "FolderLocalisation": "vtcav.evaluation.localisation.compute",
    "InsertionDeletion": "vtcav.evaluation.removal.compute",
    "Interval": "vtcav.evaluation.correlation",
    "Localisation": "vtcav.evaluation.metrics",
    "PairOrder": "vtcav.evaluation.correlation",
    "at_resolution": "vtcav.evaluation.metrics",
    "balanced_mse": "vtcav.evaluation.metrics",
    "bootstrap_interval": "vtcav.evaluation.correlation",
    "cell_auc": "vtcav.evaluation.metrics",
    "covered": "vtcav.evaluation.metrics",
    "energy_inside": "vtcav.evaluation.metrics",
    "evaluate": "vtcav.evaluation.experiment.evaluate",
    "insertion_deletion": "vtcav.evaluation.removal.compute",
    "interval_over_seeds": "vtcav.evaluation.correlation",
    "localise": "vtcav.evaluation.metrics",
    "localise_folder": "vtcav.evaluation.localisation.compute",
    "pair_order": "vtcav.evaluation.correlation",
    "pearson": "vtcav.evaluation.correlation",
    "pointing_game": "vtcav.evaluation.metrics",
    "soft_iou": "vtcav.evaluation.metrics",
    "spearman": "vtcav.evaluation.correlation",
}

__all__ = [
    "Comparison",
    "Correlation",
    "Evaluation",
    "FolderLocalisation",
    "InsertionDeletion",
    "Interval",
    "Localisation",
    "PairOrder",
    "at_resolution",
    "balanced_mse",
    "bootstrap_interval",
    "cell_auc",
    "covered",
    "energy_inside",
    "evaluate",
    "insertion_deletion",
    "interval_over_seeds",
    "localise",
    "localise_folder",
    "pair_order",
    "pearson",
    "pointing_game",
    "soft_iou",
    "spearman",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'vtcav.evaluation' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
