"""A second network beside that of a study: its own run, and what differs between the two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vtcav.explainer.settings import ExplainerSettings
from vtcav.explainer.versus.result import Versus
from vtcav.explainer.versus.versus import compared
from vtcav.explainer.visual_tcav import VisualTCAV
from vtcav.files.paths import is_file
from vtcav.images.references import ImageRef
from vtcav.models.registry import load_network
from vtcav.models.settings import LoadSettings
from vtcav.results.bank.cav_bank import CavBank
from vtcav.results.explanation import GlobalExplanation
from vtcav.study.prepare import prepare
from vtcav.study.study import Study


@dataclass(frozen=True, eq=False)
class Side:
    """A network that has explained the classes of a study.

    Attributes:
        explainer: The network with its concepts.
        classes: What it explained, by the class's key in the study.
        refs: The images of each class, by its name.
    """

    explainer: VisualTCAV
    classes: Mapping[str, GlobalExplanation]
    refs: Mapping[str, Sequence[ImageRef]]


def with_network(study: Study, network: str) -> Study:
    """Return the study of another network's concepts and classes alone.

    Args:
        study: The study.
        network: The network's name, or a file of weights for the study's network.
    """
    model = (
        replace(study.model, weights=str(Path(network).resolve()))
        if is_file(network)
        else LoadSettings(**{**vars(study.model), "name": network, "weights": None})
    )
    return replace(
        study,
        model=model,
        images={},
        limits={},
        discover=None,
        errors=None,
        correct=None,
        versus=None,
        diagnostics=None,
        peers=(),
        report=False,
    )


def finished(study: Study, folder: Path, progress: bool | None = None) -> Side:
    """Return what a study that has run found; the working directory is that of the study file.

    Args:
        study: The study.
        folder: The folder of its results.
        progress: Whether to show progress bars; None where someone may be watching.
    """
    bank = CavBank.load(folder / "cavs.safetensors")
    model, settings = load_network(study.model), study.options.part(ExplainerSettings)
    prepared = prepare(study, progress, lambda text: None)
    classes = {
        one.key: GlobalExplanation.load(folder / "classes" / name)
        for name, one in prepared.classes.items()
    }
    return Side(
        VisualTCAV(model, cavs=bank, progress=progress, **settings),
        classes,
        {classes[one.key].class_name: one.refs for one in prepared.classes.values()},
    )


def between(
    a: Sequence[Side], b: Sequence[Side], margin: float | None, names: tuple[str, str]
) -> Versus:
    """Compare what two networks found for the same classes.

    Args:
        a: The first network, or all trainings of it.
        b: The second.
        margin: A difference from -margin to margin counts as none.
        names: What to call the two.
    """
    pairs = [
        ([each.classes[key] for each in a], [each.classes[key] for each in b])
        for key in a[0].classes
    ]
    both = [each.explainer for each in a], [each.explainer for each in b]
    return compared(both, pairs, b[0].refs, margin=margin, names=names)
