"""A second network beside that of a study: its own run, and what differs between the two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from vtcav.errors import ExplanationError, ModelError, VtcavError
from vtcav.explainer.settings import ExplainerSettings
from vtcav.explainer.versus.result import Versus
from vtcav.explainer.versus.versus import compared
from vtcav.explainer.visual_tcav import VisualTCAV
from vtcav.files.paths import expanded, is_file
from vtcav.images.references import ImageRef
from vtcav.models.registry import load_network
from vtcav.models.settings import LoadSettings
from vtcav.results.bank.cav_bank import CavBank
from vtcav.results.explanation import GlobalExplanation
from vtcav.study.prepare import Prepared, prepare
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
        replace(study.model, weights=str(expanded(network).resolve()))
        if is_file(expanded(network))
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
        # the network stands in no line of the study
        lines={key: line for key, line in study.lines.items() if key.partition(".")[0] != "model"},
    )


@contextmanager
def named(network: str) -> Iterator[None]:
    """Put the name of a network in front of the errors of a block.

    Raises:
        ExplanationError: In place of every other error of vtcav.
    """
    try:
        yield
    except VtcavError as error:
        raise ExplanationError(f"{network}: {error}") from error


def check_second(prepared: Prepared, network: str, progress: bool | None) -> None:
    """Find what keeps a second network from being compared, before anything is learned.

    Args:
        prepared: The study with its own network.
        network: The second network, or a file of weights.
        progress: Whether to show progress bars.

    Raises:
        StudyError: When it cannot be loaded, or lacks a layer or a class.
    """
    study = prepared.study
    with study.at("versus"), named(network):
        other = prepare(
            replace(with_network(study, network), lines={}), progress, lambda text: None
        )
        check_classes([prepared, other])


def check_classes(every: Sequence[Prepared]) -> None:
    """Refuse networks that do not have the same classes.

    Args:
        every: The study with each of them.

    Raises:
        ModelError: Naming the class.
    """
    for found in zip(*(each.classes.values() for each in every), strict=True):
        both = zip(every, found, strict=True)
        names = dict.fromkeys(each.explainer.model.class_names[one.index] for each, one in both)
        if len(names) > 1:
            raise ModelError(
                f"expected the class {found[0].key!r} to be the same in both networks; it is "
                f"{' and '.join(map(repr, names))}"
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
