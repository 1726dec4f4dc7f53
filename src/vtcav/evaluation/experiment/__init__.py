"""The controlled experiment: do concept attributions follow causal effects that are measured?

For every seed and every agreement q a small network learns images whose class can be read off a
texture and off a tag, which agrees with the class in a share q of its training images. What the
network really uses is measured by taking the one or the other out of test images; what the
methods say it uses is held against that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcav.errors import ExplanationError

if TYPE_CHECKING:
    import pandas as pd

    from vtcav.evaluation.experiment.unit import UnitResult, UnitSettings

__all__ = ["AGREEMENTS", "Evaluation", "evaluate"]

AGREEMENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
SEEDS = (0, 1, 2)
QUICK_AGREEMENTS = (0.0, 0.5, 1.0)
QUICK_SEEDS = (0,)


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
    settings: UnitSettings | None = None,
    device: str = "auto",
    progress: bool | None = None,
) -> Evaluation:
    """Run the controlled experiment, or go on with it where it stopped.

    Each finished (seed, q) is kept in the folder; an interrupted run that is started again with
    the same settings computes only what is missing, and gives the same tables.

    Args:
        output: The run's folder.
        quick: One seed, three agreements, shorter training, fewer images.
        seeds: One network per agreement for each; None takes 0, 1, 2 (quick: 0).
        agreements: The shares q, in [0, 1]; None takes 0, 0.25, 0.5, 0.75, 1 (quick: 0, 0.5, 1).
        settings: Training, images, methods; None takes those of the full or the quick mode.
        device: "auto" (CUDA where there is a GPU, else the CPU), "cpu", "cuda", "mps".
        progress: Whether to show a progress bar; None where someone may be watching.

    Returns:
        The tables and the summary; tables (CSV and Parquet), figures, `summary.json` and
        `report.html` are in the folder.

    Raises:
        ExplanationError: When the folder holds a run with other settings, a stored unit is
            damaged, seeds or agreements are out of range, or files cannot be written.
        ExtraError: When Captum or scikit-learn is absent.
        ModelError: When the device cannot be used.
    """
    from vtcav.evaluation.experiment.report import write_report
    from vtcav.evaluation.experiment.store import claim
    from vtcav.evaluation.experiment.tables import collect_tables, summary_of

    chosen = settings or default_settings(quick=quick)
    wanted_seeds = _seeds(seeds, quick)
    shares = _agreements(agreements, quick)
    folder = Path(output)
    claim(folder, _identity(chosen))
    units = {}
    place = _device(device)
    with _bar(chosen, len(wanted_seeds) * len(shares), progress) as bar:
        for seed in wanted_seeds:
            for q in shares:
                units[seed, q] = _unit(folder, seed, q, chosen, place, bar)
    tables = collect_tables(units)
    run = {"seeds": wanted_seeds, "agreements": shares, "device": str(place), **_identity(chosen)}
    found = Evaluation(folder=folder, summary=summary_of(tables, units, run), **tables)
    write_report(found, units, chosen)
    return found


def default_settings(*, quick: bool = False) -> UnitSettings:
    """Return the settings of the full or of the quick mode."""
    from vtcav.evaluation.experiment.unit import UnitSettings
    from vtcav.evaluation.method_names import FILTER, METHODS
    from vtcav.evaluation.network import Training

    methods = ("visual_tcav", FILTER, *(name for name in METHODS if name != "visual_tcav"))
    if quick:
        training = Training(scenes=3000, epochs=4)
        return UnitSettings(training, test_images=16, methods=methods, tcav_runs=5)
    return UnitSettings(methods=methods)


def _identity(settings: UnitSettings) -> dict[str, Any]:
    """Return what a unit's numbers depend on, as JSON data."""
    from vtcav import __version__

    return {"vtcav": __version__, "settings": asdict(settings)}


def _seeds(seeds: Sequence[int] | None, quick: bool) -> list[int]:
    chosen = list(dict.fromkeys(seeds if seeds is not None else QUICK_SEEDS if quick else SEEDS))
    if not chosen or any(isinstance(s, bool) or int(s) != s or s < 0 for s in chosen):
        raise ExplanationError(f"expected seeds as whole numbers of at least 0, got {seeds!r}")
    return [int(seed) for seed in chosen]


def _agreements(agreements: Sequence[float] | None, quick: bool) -> list[float]:
    default = QUICK_AGREEMENTS if quick else AGREEMENTS
    chosen = sorted({float(q) for q in (agreements if agreements is not None else default)})
    if not chosen or not all(0 <= q <= 1 for q in chosen):
        raise ExplanationError(f"expected agreements between 0 and 1, got {agreements!r}")
    if len({round(100 * q) for q in chosen}) < len(chosen):
        raise ExplanationError(f"expected agreements that differ by 0.01 or more, got {chosen}")
    return chosen


def _device(device: str) -> Any:
    import torch

    from vtcav.models.wrapping import place

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return place(torch.nn.Linear(1, 1), device)[1]


@contextmanager
def _bar(settings: UnitSettings, units: int, shown: bool | None) -> Iterator[Any]:
    from vtcav.evaluation.experiment.unit import unit_steps
    from vtcav.progress import progress_bar

    with progress_bar("experiment", units * unit_steps(settings), shown=shown) as bar:
        yield bar


def _unit(
    folder: Path, seed: int, q: float, settings: UnitSettings, device: Any, bar: Any
) -> UnitResult:
    """Return a unit, stored or computed now."""
    from vtcav.evaluation.experiment.store import load_unit, save_unit, unit_folder
    from vtcav.evaluation.experiment.unit import run_unit, unit_steps

    place = unit_folder(folder, seed, q)
    stored = load_unit(place)
    if stored is not None:
        bar.advance(unit_steps(settings))
        return stored
    found = run_unit(seed, q, settings, device=device, advance=bar.advance)
    save_unit(place, found)
    return found
