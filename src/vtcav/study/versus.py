"""A study carried out with two networks, and what differs between them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vtcav.explainer.settings import ExplainerSettings
from vtcav.explainer.versus.result import Versus
from vtcav.explainer.versus.versus import compared
from vtcav.explainer.visual_tcav import VisualTCAV
from vtcav.models.registry import load_network
from vtcav.models.settings import LoadSettings
from vtcav.results.bank.cav_bank import CavBank
from vtcav.results.explanation import GlobalExplanation
from vtcav.study.prepare import prepare
from vtcav.study.run import run_study
from vtcav.study.study import Study
from vtcav.study.yaml_file import StudyError


def versus_study(
    study: Study,
    networks: tuple[str, str],
    output: str | Path,
    *,
    margin: float,
    progress: bool | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Versus:
    """Carry out a study's concepts and classes with two networks, and compare them.

    Finished steps are kept, as by `run_study`: those of the networks in `a` and `b` of the folder.

    Args:
        study: The study; its network is replaced.
        networks: Each a network's name, or a file of weights for the study's network.
        output: The folder of the results.
        margin: A difference from -margin to margin counts as none.
        progress: Whether to show progress bars; None where someone may be watching.
        say: Receives a line before every step.

    Raises:
        StudyError: For a study without classes, or a step that fails.
        VtcavError: When the work fails otherwise.
    """
    if not study.classes:
        raise StudyError(study.located("classes", "expected classes to compare, got none"))
    folder = Path(output).resolve()
    studies = [_with(study, network) for network in networks]
    for own, side in zip(studies, "ab", strict=True):
        say(f"Network {side}: {own.model.name}")
        run_study(own, folder / side, progress=progress, say=say)
    settings = study.options.part(ExplainerSettings)
    explainers, explained, refs = [], [], {}
    with contextlib.chdir(study.base):
        for own, side in zip(studies, "ab", strict=True):
            bank = CavBank.load(folder / side / "cavs.safetensors")
            model = load_network(own.model)
            explainers.append(VisualTCAV(model, cavs=bank, progress=progress, **settings))
            prepared = prepare(own, progress, lambda text: None)
            explained.append(
                {
                    one.key: GlobalExplanation.load(folder / side / "classes" / name)
                    for name, one in prepared.classes.items()
                }
            )
            refs = {
                explained[-1][one.key].class_name: one.refs for one in prepared.classes.values()
            }
        a, b = explainers
        pairs = [(first, explained[1][key]) for key, first in explained[0].items()]
        return compared((a, b), pairs, refs, margin=margin, names=networks)


def _with(study: Study, network: str) -> Study:
    """Return the study of a network's concepts and classes alone."""
    file = Path(network).resolve()
    model = (
        replace(study.model, weights=str(file))
        if file.is_file()
        else LoadSettings(**{**vars(study.model), "name": network, "weights": None})
    )
    return replace(
        study,
        model=model,
        images={},
        limits={},
        discover=None,
        diagnostics=None,
        peers=(),
        report=False,
    )
