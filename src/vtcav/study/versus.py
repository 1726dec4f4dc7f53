"""A study carried out with two networks, and what differs between them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from vtcav.explainer.versus.result import Versus
from vtcav.study.run import run_study
from vtcav.study.second_network import between, finished, with_network
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
    studies = [with_network(study, network) for network in networks]
    for own, side in zip(studies, "ab", strict=True):
        say(f"Network {side}: {own.model.name}")
        run_study(own, folder / side, progress=progress, say=say)
    with contextlib.chdir(study.base):
        a, b = (
            finished(own, folder / side, progress) for own, side in zip(studies, "ab", strict=True)
        )
        return between(a, b, margin, networks)
