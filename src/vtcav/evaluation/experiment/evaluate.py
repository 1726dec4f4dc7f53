"""The controlled experiment: do concept attributions follow measured causal effects?

For every seed and every agreement q, a small network is trained on images whose class shows in a
texture and in a tag, which agrees with the class in a share q of the training images. Removing one
or the other from test images measures how much the network uses each; the values of the methods
are compared with these effects.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from vtcav.errors import ExplanationError, brief
from vtcav.evaluation.experiment.drawn_unit import DrawnExperiment, UnitSettings
from vtcav.evaluation.experiment.network import Training
from vtcav.evaluation.experiment.photo_network import Frozen
from vtcav.evaluation.experiment.photo_unit import PhotoExperiment, PhotoSettings
from vtcav.evaluation.experiment.photographs import read_photographs
from vtcav.evaluation.experiment.report import write_report
from vtcav.evaluation.experiment.result import Evaluation, collect_tables, summary_of
from vtcav.evaluation.experiment.scenes import PREPROCESS
from vtcav.evaluation.experiment.store import claim_folder, load_unit, save_unit, unit_folder
from vtcav.evaluation.experiment.unit import Experiment, UnitResult
from vtcav.files.paths import given_path
from vtcav.images.progress import Progress, check_progress, progress_bar
from vtcav.models.base import Model
from vtcav.models.inspection.unwrapping import place
from vtcav.parameters import Flag, Whole, as_list, check

AGREEMENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
SEEDS = (0, 1, 2)
QUICK_AGREEMENTS = (0.0, 0.5, 1.0)
QUICK_SEEDS = (0,)
PHOTOGRAPHS = 400
QUICK_PHOTOGRAPHS = 120

T = TypeVar("T")


def evaluate(
    output: str | Path,
    *,
    quick: bool = False,
    seeds: Sequence[int] | None = None,
    agreements: Sequence[float] | None = None,
    settings: UnitSettings | PhotoSettings | None = None,
    images: str | Path | None = None,
    model: Model | None = None,
    layer: str | None = None,
    limit: int | None = None,
    device: str = "auto",
    progress: bool | None = None,
) -> Evaluation:
    """Run the controlled experiment, or resume it.

    It runs on drawn images, or on your own photographs, which get tags; the effect of a tag is
    measured by removing it.

    The folder keeps each finished (seed, q). An interrupted run that is started again with the
    same settings computes only the missing ones, and gives the same tables.

    Args:
        output: The run's folder.
        quick: One seed, three agreements, shorter training, fewer images.
        seeds: Each seed trains one network per agreement; None takes 0, 1, 2 (quick: 0).
        agreements: The shares q, in [0, 1]; None takes 0, 0.25, 0.5, 0.75, 1 (quick: 0, 0.5, 1).
        settings: Training, images, methods; None takes those of the full or the quick mode.
        images: A folder of photographs with a folder for each of 2 to 10 classes, instead of drawn
            images.
        model: For photographs, a network on whose frozen features networks are trained. None
            trains small networks from scratch.
        layer: The layer of `model` whose maps are the features; None takes the deepest with
            maps of 12 x 12 or more.
        limit: At most this many photographs of each class, drawn with the first seed; None takes
            400 (quick: 120).
        device: "auto" (CUDA where there is a GPU, else the CPU), "cpu", "cuda", "mps".
        progress: Whether to show a progress bar; None shows it on a terminal or in a notebook.

    Returns:
        The tables and the summary; tables (CSV and Parquet), figures, `summary.json` and
        `report.html` are in the folder.

    Raises:
        ExplanationError: When the folder holds a run with other settings, a stored unit is
            damaged, seeds or agreements are out of range, files cannot be written, or there are
            too few classes or photographs.
        ImageError: When the folder of photographs cannot be read.
        LayerError: For a layer that cannot be used.
        ExtraError: When Captum or scikit-learn is absent.
        ModelError: When the device cannot be used.
    """
    quick, progress = check("quick", quick, Flag()), check_progress(progress)
    wanted_seeds = _seeds(seeds, quick)
    default = QUICK_AGREEMENTS if quick and images is None else AGREEMENTS
    shares = _agreements(agreements, default)
    experiment: Experiment
    if images is None:
        if model is not None or layer is not None or limit is not None:
            raise ExplanationError(
                "model, layer and limit are for photographs: give a folder of images"
            )
        drawn = _of_type(settings, UnitSettings) or default_settings(quick=quick)
        experiment = DrawnExperiment(drawn)
    else:
        if model is None and layer is not None:
            raise ExplanationError(f"layer {layer!r} of which network? Give a model")
        frozen = None if model is None else Frozen.of(model, layer)
        chosen = _of_type(settings, PhotoSettings) or default_photo_settings(
            quick=quick, frozen=frozen is not None
        )
        preprocess = PREPROCESS if frozen is None else frozen.preprocess
        most = limit or (QUICK_PHOTOGRAPHS if quick else PHOTOGRAPHS)
        photographs = read_photographs(images, preprocess, limit=most, seed=wanted_seeds[0])
        experiment = PhotoExperiment(photographs, frozen, preprocess, chosen)
    folder, identity = given_path("output", output), experiment.identity()
    claim_folder(folder, identity)
    units = {}
    where = _device(device) if model is None else model.device
    total = len(wanted_seeds) * len(shares) * experiment.steps
    with progress_bar("experiment", total, shown=progress) as bar:
        for seed, q in product(wanted_seeds, shares):
            units[seed, q] = _unit(unit_folder(folder, seed, q), seed, q, experiment, where, bar)
    tables = collect_tables(units)
    about = {"seeds": wanted_seeds, "agreements": shares, "device": str(where), **identity}
    found = Evaluation(folder=folder, summary=summary_of(tables, units, about), **tables)
    write_report(found, experiment, units)
    return found


def _of_type(settings: Any, kind: type[T]) -> T | None:
    if settings is not None and not isinstance(settings, kind):
        raise ExplanationError(f"expected {kind.__name__}, got {type(settings).__name__}")
    return settings


def default_settings(*, quick: bool = False) -> UnitSettings:
    """Return the settings for drawn images, of the full or of the quick mode."""
    if not quick:
        return UnitSettings()
    return UnitSettings(Training(scenes=3000, epochs=4), test_images=16, tcav_runs=5)


def default_photo_settings(*, quick: bool = False, frozen: bool = False) -> PhotoSettings:
    """Return the settings for photographs, of the full or of the quick mode.

    Args:
        quick: Fewer samples, test photographs and CAVs.
        frozen: Whether a given network's features are used, which need less training.
    """
    if not quick:
        return PhotoSettings() if frozen else PhotoSettings(Training(scenes=4000, epochs=8))
    training = Training(scenes=400, epochs=15) if frozen else Training(scenes=1500, epochs=8)
    return PhotoSettings(training, examples=30, test_images=8, tcav_runs=5, steps=8)


def _seeds(seeds: Sequence[int] | None, quick: bool) -> list[int]:
    given = QUICK_SEEDS if quick else SEEDS
    try:
        whole = [Whole(0).accept(s) for s in (given if seeds is None else as_list("seeds", seeds))]
    except (ValueError, TypeError):
        whole = []
    if not whole:
        raise ExplanationError(f"expected seeds as whole numbers of at least 0, got {brief(seeds)}")
    return list(dict.fromkeys(whole))


def _agreements(agreements: Sequence[float] | None, default: Sequence[float]) -> list[float]:
    given = default if agreements is None else as_list("agreements", agreements)
    if not len(given) or not all(isinstance(q, int | float | np.number) for q in given):
        raise ExplanationError(f"expected agreements between 0 and 1, got {brief(agreements)}")
    chosen = sorted({float(q) for q in given})
    if not all(0 <= q <= 1 for q in chosen):
        raise ExplanationError(f"expected agreements between 0 and 1, got {brief(agreements)}")
    if len({round(100 * q) for q in chosen}) < len(chosen):
        raise ExplanationError(f"expected agreements that differ by 0.01 or more, got {chosen}")
    return chosen


def _device(device: str) -> torch.device:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return place(torch.nn.Linear(1, 1), device)[1]


def _unit(
    folder: Path,
    seed: int,
    q: float,
    experiment: Experiment,
    device: torch.device,
    progress: Progress,
) -> UnitResult:
    """Return a unit, stored or computed now."""
    stored = load_unit(folder)
    if stored is not None:
        progress.advance(experiment.steps)
        return stored
    found = experiment.run(seed, q, device, progress.advance)
    save_unit(folder, found)
    return found
