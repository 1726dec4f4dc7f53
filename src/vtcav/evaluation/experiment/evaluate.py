"""The controlled experiment: do concept attributions follow causal effects that are measured?

For every seed and every agreement q a small network learns images whose class can be read off a
texture and off a tag, which agrees with the class in a share q of its training images. What the
network really uses is measured by taking the one or the other out of test images; what the
methods say it uses is held against that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from vtcav.errors import ExplanationError
from vtcav.images.preprocess import Preprocess

if TYPE_CHECKING:
    import pandas as pd

    from vtcav.evaluation.experiment.photo_unit import PhotoExperiment, PhotoSettings
    from vtcav.evaluation.experiment.unit import UnitResult, UnitSettings
    from vtcav.evaluation.experiment.view import View
    from vtcav.models.base import Model

__all__ = ["AGREEMENTS", "Evaluation", "evaluate"]

AGREEMENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
SEEDS = (0, 1, 2)
QUICK_AGREEMENTS = (0.0, 0.5, 1.0)
QUICK_SEEDS = (0,)
PHOTOGRAPHS = 400
QUICK_PHOTOGRAPHS = 120

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What the experiment found.

    Attributes:
        folder: Where everything is.
        summary: As in `summary.json`.
        points: One row per seed, q, class, cue, method and layer: the mean value and the causal
            effect (share, centred_share, effect, centred_effect, gap).
        layers: Coefficients by seed, method and layer.
        local: The same over single images.
        localisation: Means of the map metrics by seed, q, cue and layer.
    """

    folder: Path
    summary: dict[str, Any] = field(repr=False)
    points: pd.DataFrame = field(repr=False)
    layers: pd.DataFrame = field(repr=False)
    local: pd.DataFrame = field(repr=False)
    localisation: pd.DataFrame = field(repr=False)

    @property
    def page(self) -> Path:
        """The HTML page with everything in it."""
        return self.folder / "report.html"


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
    """Run the controlled experiment, or go on with it where it stopped.

    On drawn images, or on a user's own photographs: these get tags, and the effect of a tag is
    measured by taking it off.

    Each finished (seed, q) is kept in the folder; an interrupted run that is started again with
    the same settings computes only what is missing, and gives the same tables.

    Args:
        output: The run's folder.
        quick: One seed, three agreements, shorter training, fewer images.
        seeds: One network per agreement for each; None takes 0, 1, 2 (quick: 0).
        agreements: The shares q, in [0, 1]; None takes 0, 0.25, 0.5, 0.75, 1 (quick: 0, 0.5, 1).
        settings: Training, images, methods; None takes those of the full or the quick mode.
        images: A folder of photographs with a folder for each of 2 to 10 classes, in the place of
            drawn images.
        model: Trains networks on its features, which stay as they are; for photographs. None
            trains small ones from nothing.
        layer: The layer of `model` whose maps are the features; None takes the deepest with
            maps of 12 x 12 or more.
        limit: At most this many photographs of each class, drawn with the first seed; None takes
            400 (quick: 120).
        device: "auto" (CUDA where there is a GPU, else the CPU), "cpu", "cuda", "mps".
        progress: Whether to show a progress bar; None where someone may be watching.

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
    from vtcav.evaluation.experiment.photo_unit import PhotoSettings
    from vtcav.evaluation.experiment.report import write_report
    from vtcav.evaluation.experiment.store import claim_folder
    from vtcav.evaluation.experiment.tables import collect_tables, summary_of
    from vtcav.evaluation.experiment.unit import UnitSettings
    from vtcav.images.progress import progress_bar

    wanted_seeds = _seeds(seeds, quick)
    if images is None:
        if model is not None or layer is not None or limit is not None:
            raise ExplanationError(
                "model, layer and limit are for photographs: give a folder of images"
            )
        kind, shares = "experiment", _agreements(agreements, QUICK_AGREEMENTS if quick else None)
        run: _Run = _DrawnRun(_of_type(settings, UnitSettings) or default_settings(quick=quick))
    else:
        kind, shares = "photographs", _agreements(agreements, None)
        run = _photo_run(
            images, model, layer, limit, wanted_seeds[0], quick, _of_type(settings, PhotoSettings)
        )
    folder = Path(output)
    claim_folder(folder, run.identity())
    units = {}
    place = _device(device) if model is None else model.device
    total = len(wanted_seeds) * len(shares) * run.steps
    with progress_bar("experiment", total, shown=progress) as bar:
        for seed in wanted_seeds:
            for q in shares:
                units[seed, q] = _unit(folder, seed, q, run, place, bar.advance)
    tables = collect_tables(units)
    about = {"seeds": wanted_seeds, "agreements": shares, "device": str(place), **run.identity()}
    found = Evaluation(folder=folder, summary=summary_of(tables, units, about, kind), **tables)
    write_report(found, run.view(units))
    return found


class _Run(Protocol):
    """Where the images of an experiment come from."""

    @property
    def steps(self) -> int:
        """How often a unit says that it advanced."""

    def identity(self) -> dict[str, Any]:
        """Return what every unit's numbers depend on, as JSON data."""

    def unit(self, seed: int, q: float, device: Any, advance: Callable[[], None]) -> UnitResult:
        """Compute a unit."""

    def view(self, units: Mapping[tuple[int, float], UnitResult]) -> View:
        """Return what the page shows and says."""


@dataclass(frozen=True)
class _DrawnRun:
    settings: UnitSettings

    @property
    def steps(self) -> int:
        from vtcav.evaluation.experiment.unit import unit_steps

        return unit_steps(self.settings)

    def identity(self) -> dict[str, Any]:
        return _identity(self.settings)

    def unit(self, seed: int, q: float, device: Any, advance: Callable[[], None]) -> UnitResult:
        from vtcav.evaluation.experiment.unit import run_unit

        return run_unit(seed, q, self.settings, device=device, advance=advance)

    def view(self, units: Mapping[tuple[int, float], UnitResult]) -> View:
        from vtcav.evaluation.experiment.view import drawn_view

        return drawn_view(units, self.settings)


@dataclass(frozen=True, eq=False)
class _PhotoRun:
    experiment: PhotoExperiment

    @property
    def steps(self) -> int:
        return self.experiment.steps

    def identity(self) -> dict[str, Any]:
        frozen = self.experiment.frozen
        return {
            "kind": "photographs",
            **_identity(self.experiment.settings),
            "photographs": self.experiment.photographs.to_dict(),
            "model": None if frozen is None else frozen.describe(),
        }

    def unit(self, seed: int, q: float, device: Any, advance: Callable[[], None]) -> UnitResult:
        return self.experiment.run(seed, q, device, advance)

    def view(self, units: Mapping[tuple[int, float], UnitResult]) -> View:
        from vtcav.evaluation.experiment.view import photo_view

        return photo_view(units, self.experiment)


def _photo_run(
    images: str | Path,
    model: Model | None,
    layer: str | None,
    limit: int | None,
    seed: int,
    quick: bool,
    settings: PhotoSettings | None,
) -> _PhotoRun:
    """Read the photographs and find the layer, before the minutes that training takes."""
    from vtcav.evaluation.experiment.photo_network import Frozen, scratch_preprocess
    from vtcav.evaluation.experiment.photo_unit import PhotoExperiment
    from vtcav.evaluation.experiment.photographs import read_photographs

    if model is None and layer is not None:
        raise ExplanationError(f"layer {layer!r} of which network? give a model")
    frozen = None if model is None else Frozen.of(model, layer)
    preprocess = scratch_preprocess() if frozen is None else frozen.model.preprocess
    assert isinstance(preprocess, Preprocess)
    most = limit or (QUICK_PHOTOGRAPHS if quick else PHOTOGRAPHS)
    photographs = read_photographs(images, preprocess, limit=most, seed=seed)
    chosen = settings or default_photo_settings(quick=quick, frozen=frozen is not None)
    return _PhotoRun(PhotoExperiment(photographs, frozen, preprocess, chosen))


def _of_type(settings: Any, kind: type[T]) -> T | None:
    if settings is not None and not isinstance(settings, kind):
        raise ExplanationError(f"expected {kind.__name__}, got {type(settings).__name__}")
    return settings


def default_photo_settings(*, quick: bool = False, frozen: bool = False) -> PhotoSettings:
    """Return the settings for photographs, of the full or of the quick mode.

    Args:
        quick: Fewer samples, test photographs and CAVs.
        frozen: Whether a given network's features are used, which need less training.
    """
    from vtcav.evaluation.experiment.network import Training
    from vtcav.evaluation.experiment.photo_unit import PhotoSettings

    methods = _all_methods()
    if quick:
        training = Training(scenes=400, epochs=15) if frozen else Training(scenes=1500, epochs=8)
        return PhotoSettings(
            training, examples=30, test_images=8, methods=methods, tcav_runs=5, steps=8
        )
    training = Training(scenes=1200, epochs=12) if frozen else Training(scenes=4000, epochs=8)
    return PhotoSettings(training, methods=methods)


def _all_methods() -> tuple[str, ...]:
    from vtcav.evaluation.compare.methods import FILTER, METHODS

    return ("visual_tcav", FILTER, *(name for name in METHODS if name != "visual_tcav"))


def default_settings(*, quick: bool = False) -> UnitSettings:
    """Return the settings of the full or of the quick mode."""
    from vtcav.evaluation.experiment.network import Training
    from vtcav.evaluation.experiment.unit import UnitSettings

    methods = _all_methods()
    if quick:
        training = Training(scenes=3000, epochs=4)
        return UnitSettings(training, test_images=16, methods=methods, tcav_runs=5)
    return UnitSettings(methods=methods)


def _identity(settings: UnitSettings | PhotoSettings) -> dict[str, Any]:
    """Return what a unit's numbers depend on, as JSON data."""
    return {"vtcav": version("vtcav"), "settings": asdict(settings)}


def _seeds(seeds: Sequence[int] | None, quick: bool) -> list[int]:
    chosen = list(dict.fromkeys(seeds if seeds is not None else QUICK_SEEDS if quick else SEEDS))
    if not chosen or any(isinstance(s, bool) or int(s) != s or s < 0 for s in chosen):
        raise ExplanationError(f"expected seeds as whole numbers of at least 0, got {seeds!r}")
    return [int(seed) for seed in chosen]


def _agreements(agreements: Sequence[float] | None, default: Sequence[float] | None) -> list[float]:
    given = agreements if agreements is not None else default or AGREEMENTS
    chosen = sorted({float(q) for q in given})
    if not chosen or not all(0 <= q <= 1 for q in chosen):
        raise ExplanationError(f"expected agreements between 0 and 1, got {agreements!r}")
    if len({round(100 * q) for q in chosen}) < len(chosen):
        raise ExplanationError(f"expected agreements that differ by 0.01 or more, got {chosen}")
    return chosen


def _device(device: str) -> Any:
    import torch

    from vtcav.models.inspection.unwrapping import place

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return place(torch.nn.Linear(1, 1), device)[1]


def _unit(
    folder: Path, seed: int, q: float, run: _Run, device: Any, advance: Callable[[], None]
) -> UnitResult:
    """Return a unit, stored or computed now."""
    from vtcav.evaluation.experiment.store import load_unit, save_unit, unit_folder

    place = unit_folder(folder, seed, q)
    stored = load_unit(place)
    if stored is not None:
        for _ in range(run.steps):
            advance()
        return stored
    found = run.unit(seed, q, device, advance)
    save_unit(place, found)
    return found
