"""Preparation of a study: the network is loaded, every name and path is resolved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vtcav.errors import ModelError, warn
from vtcav.explainer.groups import groups_of
from vtcav.explainer.runs.labelled import labelled
from vtcav.explainer.settings import ExplainerSettings
from vtcav.explainer.visual_tcav import VisualTCAV
from vtcav.files.cache import Cache
from vtcav.files.safe_names import folder_names
from vtcav.images.batches import check_same_shape, prepared
from vtcav.images.listing import collect
from vtcav.images.preprocess import Preprocess
from vtcav.images.references import (
    ImageRef,
    Skipped,
    SkippedImageWarning,
    UnreadableError,
    with_reasons,
)
from vtcav.models.base import Model
from vtcav.models.registry import load_network, score_of
from vtcav.study.checkpoints import listed
from vtcav.study.sources import paths
from vtcav.study.study import Study
from vtcav.study.yaml_file import StudyError


@dataclass(frozen=True, eq=False)
class ClassToExplain:
    """A class to explain: its index, its key in the study, and its images."""

    index: int
    key: str
    refs: Sequence[ImageRef]


@dataclass(frozen=True, eq=False)
class ImageToExplain:
    """A photograph to explain: its name, itself, and the classes to explain it for."""

    name: str
    ref: ImageRef
    classes: int | list[int]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A study whose names are all known to the network.

    Attributes:
        study: The study.
        explainer: The explainer, before it has learned the concepts.
        classes: The classes by the names of their folders.
        images: The photographs by the names of their folders.
        skipped: The photographs that cannot be read.
    """

    study: Study
    explainer: VisualTCAV
    classes: Mapping[str, ClassToExplain]
    images: Mapping[str, ImageToExplain]
    skipped: Sequence[Skipped]


def prepare(
    study: Study,
    progress: bool | None,
    say: Callable[[str], None],
    cache: bool | str | Path | Cache | None = None,
) -> Prepared:
    """Load the network and find mistakes before the minutes that learning may take."""
    say(f"Loading the network {study.model.name}")
    with study.at("model.score"):
        score_of(study.model)
    with study.at("model"):
        model = load_network(study.model)
    with study.at("layers"):
        settings = study.options.part(ExplainerSettings)
        explainer = VisualTCAV(model, study.layers, **settings, progress=progress, cache=cache)
    for concept, limit in study.limits.items():
        if limit.layer is not None and limit.layer not in explainer.layers:
            known = ", ".join(explainer.layers)
            message = f"layer {limit.layer!r} is not explained; expected one of {known}"
            raise StudyError(study.located(f"limits.{concept}.layer", message))
    _check_correction(study, explainer)
    classes = _classes(study, model)
    for one in classes.values():
        groups_in(study, one.refs)
    for key, spec in (("errors", study.errors), ("correct", study.correct)):
        if spec is not None:
            groups_in(study, labelled_images(study, model, key, spec.images)[0])
    images, skipped = _images(study, model)
    if study.diagnostics is not None:
        first = [one.refs[0] for one in classes.values()]
        _check_shapes(study, model, [*first, *(one.ref for one in images.values())])
    return Prepared(study, explainer, classes, images, skipped)


def _check_shapes(study: Study, model: Model, refs: Sequence[ImageRef]) -> None:
    """Refuse pictures of several shapes, which diagnostics pass together."""
    if isinstance(model.preprocess, Preprocess) and model.preprocess.size is not None:
        return
    known = None
    for ref in refs:
        with suppress(UnreadableError):  # named when it is explained
            shape = prepared(model.preprocess, ref)[1].shape
            known = known or (shape, ref.name)
            with study.at("diagnostics"):
                check_same_shape(shape, ref.name, *known)


def _check_correction(study: Study, explainer: VisualTCAV) -> None:
    """Refuse a correction at a layer that is not explained, or of concepts without examples."""
    spec = study.correct
    if spec is None:
        return
    if spec.layer is not None and spec.layer not in explainer.layers:
        known = ", ".join(explainer.layers)
        message = f"layer {spec.layer!r} is not explained; expected one of {known}"
        raise StudyError(study.located("correct.layer", message))
    unknown = [name for name in spec.concepts if name not in study.concepts]
    if spec.rounds > 1 and unknown:
        message = f"rounds after the first need examples, and {unknown[0]!r} is a text: set it to 1"
        raise StudyError(study.located("correct.rounds", message))


def labelled_images(
    study: Study, model: Model, key: str, images: str
) -> tuple[list[ImageRef], list[int]]:
    """Return images of several classes with the index of each one's class.

    Args:
        study: The study.
        model: Its network.
        key: The key of the study that names them.
        images: Their folder or table.
    """
    options = study.options
    with study.at(f"{key}.images"):
        return labelled(images, None, model, limit=options.limit, seed=options.seed)


def groups_in(study: Study, refs: Sequence[ImageRef]) -> list[dict[str, str]]:
    """Return the group of each image, if they come in groups."""
    groups = study.groups
    with study.at("groups"):
        return [] if groups is None else [groups_of([ref.name for ref in refs], groups)]


def _classes(study: Study, model: Model) -> dict[str, ClassToExplain]:
    """Return the classes to explain by the names of their folders."""
    found: dict[int, ClassToExplain] = {}
    for key, source in study.classes.items():
        with study.at(f"classes.{key}"):
            index = model.class_of_folder(key)
            if index in found:
                raise ModelError(
                    f"{key!r} and {found[index].key!r} are the same class, "
                    f"{model.class_names[index]!r}; put their images into one list"
                )
            refs = listed(source, study.options.limit, study.options.seed)
            found[index] = ClassToExplain(index, key, refs)
    folders = folder_names({str(index): model.class_names[index] for index in found})
    return {folders[str(index)]: one for index, one in found.items()}


def _images(study: Study, model: Model) -> tuple[dict[str, ImageToExplain], list[Skipped]]:
    """Return the photographs by the names of their folders, and those that are left out."""
    found: dict[str, ImageToExplain] = {}
    skipped: list[Skipped] = []
    for name, spec in study.images.items():
        top = study.options.top if spec.classes is None else spec.classes
        with study.at("options.top" if spec.classes is None else f"images.{name}"):
            classes = top if isinstance(top, int) else [model.class_of_folder(t) for t in top]
        [ref] = collect(paths(spec.file))
        try:
            ref.load()
        except UnreadableError as error:
            if study.options.strict or len(skipped) + 1 == len(study.images):
                raise StudyError(study.located(f"images.{name}", str(error))) from error
            skipped.append(Skipped(*error.args))
        else:
            found[name] = ImageToExplain(name, ref, classes)
    if skipped:
        verb = "is" if len(skipped) == 1 else "are"
        left_out = f"{len(skipped)} of {len(study.images)} photographs {verb} left out"
        warn(f"{left_out}: {with_reasons(skipped)}", SkippedImageWarning)
    folders = folder_names({name: name for name in found})
    return {folders[name]: one for name, one in found.items()}, skipped
