"""Evaluation of explanations against ground truth, masks, interventions and other methods.

Importing this package loads neither torch nor matplotlib; they load with the first use. Other
methods are computed by `vtcav.evaluation.compare.compare`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vtcav.evaluation.compare.result import Comparison as Comparison
    from vtcav.evaluation.correlation import Correlation as Correlation
    from vtcav.evaluation.correlation import Interval as Interval
    from vtcav.evaluation.correlation import PairOrder as PairOrder
    from vtcav.evaluation.correlation import bootstrap_interval as bootstrap_interval
    from vtcav.evaluation.correlation import interval_over_seeds as interval_over_seeds
    from vtcav.evaluation.correlation import pair_order as pair_order
    from vtcav.evaluation.correlation import pearson as pearson
    from vtcav.evaluation.correlation import spearman as spearman
    from vtcav.evaluation.experiment.evaluate import evaluate as evaluate
    from vtcav.evaluation.experiment.result import Evaluation as Evaluation
    from vtcav.evaluation.localisation.compute import localise_folder as localise_folder
    from vtcav.evaluation.localisation.result import FolderLocalisation as FolderLocalisation
    from vtcav.evaluation.metrics import Localisation as Localisation
    from vtcav.evaluation.metrics import at_resolution as at_resolution
    from vtcav.evaluation.metrics import balanced_mse as balanced_mse
    from vtcav.evaluation.metrics import cell_auc as cell_auc
    from vtcav.evaluation.metrics import covered as covered
    from vtcav.evaluation.metrics import energy_inside as energy_inside
    from vtcav.evaluation.metrics import localise as localise
    from vtcav.evaluation.metrics import pointing_game as pointing_game
    from vtcav.evaluation.metrics import soft_iou as soft_iou
    from vtcav.evaluation.pairs.compute import measure_pairs as measure_pairs
    from vtcav.evaluation.pairs.result import Pairs as Pairs
    from vtcav.evaluation.removal.compute import insertion_deletion as insertion_deletion
    from vtcav.evaluation.removal.result import InsertionDeletion as InsertionDeletion

_HOMES = {
    name: f"vtcav.evaluation.{module}"
    for module, names in {
        "compare.result": "Comparison",
        "correlation": "Correlation Interval PairOrder bootstrap_interval interval_over_seeds"
        " pair_order pearson spearman",
        "experiment.evaluate": "evaluate",
        "experiment.result": "Evaluation",
        "localisation.compute": "localise_folder",
        "localisation.result": "FolderLocalisation",
        "metrics": "Localisation at_resolution balanced_mse cell_auc covered energy_inside"
        " localise pointing_game soft_iou",
        "pairs.compute": "measure_pairs",
        "pairs.result": "Pairs",
        "removal.compute": "insertion_deletion",
        "removal.result": "InsertionDeletion",
    }.items()
    for name in names.split()
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'vtcav.evaluation' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
