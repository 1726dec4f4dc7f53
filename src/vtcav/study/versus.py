"""A study carried out with two networks, and what differs between them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from vtcav.explainer.versus.result import Versus
from vtcav.files.paths import given_path
from vtcav.images.progress import check_progress
from vtcav.study.checkpoints import whole_path
from vtcav.study.prepare import prepare
from vtcav.study.run import run_study
from vtcav.study.second_network import between, check_classes, finished, named, with_network
from vtcav.study.study import Study
from vtcav.study.yaml_file import StudyError


def versus_study(
    study: Study,
    networks: tuple[Sequence[str], Sequence[str]],
    output: str | Path,
    *,
    margin: float | None,
    progress: bool | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Versus:
    """Carry out a study's concepts and classes with two networks, and compare them.

    Finished steps are kept, as by `run_study`: those of the networks in `a` and `b` of the folder,
    those of their further trainings in `a2`, `a3`, ... and `b2`, ...

    Args:
        study: The study; its network is replaced.
        networks: For each of the two its trainings: names of networks, or files of weights for the
            study's network.
        output: The folder of the results.
        margin: A difference from -margin to margin counts as none.
        progress: Whether to show progress bars; None where someone may be watching.
        say: Receives a line before every step.

    Raises:
        StudyError: For a study without classes, or a step that fails.
        VtcavError: When the work fails otherwise.
    """
    progress = check_progress(progress)
    if not study.classes:
        raise StudyError(study.located("classes", "expected classes to compare, got none"))
    folder = whole_path(given_path("output", output))
    studies = {
        f"{side}{number if number > 1 else ''}": with_network(study, network)
        for side, trainings in zip("ab", networks, strict=True)
        for number, network in enumerate(trainings, 1)
    }
    with contextlib.chdir(study.base):  # before one is explained for nothing
        every = []
        for own in studies.values():
            with named(str(own.model.weights or own.model.name)):
                every.append(prepare(own, progress, lambda text: None))
        check_classes(every)
    for side, own in studies.items():
        say(f"Network {side}: {own.model.name}")
        run_study(own, folder / side, progress=progress, say=say)
    with contextlib.chdir(study.base):
        a, b = (
            [
                finished(own, folder / name, progress)
                for name, own in studies.items()
                if name.startswith(side)
            ]
            for side in "ab"
        )
        first, second = map(", ".join, networks)
        return between(a, b, margin, (first, second))
