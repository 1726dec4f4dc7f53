"""Preparation of a study: the network is loaded, every name and path is resolved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vtcav.errors import ModelError, warn
from vtcav.explainer.settings import ExplainerSettings
from vtcav.explainer.visual_tcav import VisualTCAV
from vtcav.files.cache import Cache
from vtcav.files.safe_names import folder_names
from vtcav.images.listing import collect
from vtcav.images.references import (
    ImageRef,
    Skipped,
    SkippedImageWarning,
    UnreadableError,
    with_reasons,
)
from vtcav.models.base import Model
from vtcav.models.registry import load_network
from vtcav.results.bank import CavBank
from vtcav.study.checkpoints import listed
from vtcav.study.spec import paths
from vtcav.study.study import Study
from vtcav.study.yaml_file import StudyError

__all__ = ["ClassToExplain", "Prepared", "class_of_folder", "explainer_of", "prepare"]


@dataclass(frozen=True, eq=False)
class ClassToExplain:
    """A class to explain: its index, its key in the study, and its images."""

    index: int
    key: str
    refs: Sequence[ImageRef]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A study whose names are all known to the network.

    Attributes:
        study: The study.
        explainer: The explainer, before it has learned the concepts.
        classes: The classes by the names of their folders.
        images: The names of the photographs by the names of their folders.
        skipped: The photographs that cannot be read.
        wanted: The classes that each photograph is explained for, by its name.
    """

    study: Study
    explainer: VisualTCAV
    classes: Mapping[str, ClassToExplain]
    images: Mapping[str, str]
    skipped: Sequence[Skipped]
    wanted: Mapping[str, int | list[int]]


def prepare(
    study: Study,
    progress: bool | None,
    say: Callable[[str], None],
    cache: bool | str | Path | Cache | None = None,
) -> Prepared:
    """Load the network and find mistakes before the minutes that learning may take."""
    say(f"Loading the network {study.model.name}")
    with study.at("model"):
        model = load_network(study.model)
    options = study.options
    with study.at("layers"):
        explainer = explainer_of(study, model, study.layers, progress=progress, cache=cache)
    classes = _classes(study, model)
    images, skipped = _readable(study)
    wanted: dict[str, int | list[int]] = {}
    for name, spec in study.images.items():
        key = "options.top" if spec.classes is None else f"images.{name}"
        with study.at(key):
            top = options.top if spec.classes is None else spec.classes
            wanted[name] = (
                top if isinstance(top, int) else [class_of_folder(model, one) for one in top]
            )
    return Prepared(study, explainer, classes, images, skipped, wanted)


def explainer_of(
    study: Study,
    model: Model,
    layers: Sequence[str] | None,
    *,
    cavs: CavBank | None = None,
    progress: bool | None = None,
    cache: bool | str | Path | Cache | None = None,
) -> VisualTCAV:
    """Return an explainer with the settings of a study."""
    settings = study.options.part(ExplainerSettings)
    return VisualTCAV(model, layers, **settings, cavs=cavs, progress=progress, cache=cache)


def _classes(study: Study, model: Model) -> dict[str, ClassToExplain]:
    """Return the classes to explain by the names of their folders."""
    found: dict[int, ClassToExplain] = {}
    for key, source in study.classes.items():
        with study.at(f"classes.{key}"):
            index = class_of_folder(model, key)
            if index in found:
                raise ModelError(
                    f"{key!r} and {found[index].key!r} are the same class, "
                    f"{model.class_names[index]!r}; put their images into one list"
                )
            refs = listed(source, study.options.limit, study.options.seed)
            found[index] = ClassToExplain(index, key, refs)
    folders = folder_names({str(index): model.class_names[index] for index in found})
    return {folders[str(index)]: one for index, one in found.items()}


def class_of_folder(model: Model, name: str) -> int:
    """Return the class that a folder is named after.

    The name may differ in case, and in signs that are neither letters nor digits, where it is like
    that of one class only ("Egyptian_cat"); or it is an index.

    Raises:
        ModelError: When no class is named so.
    """

    def plain(text: str) -> str:
        return "".join(c if c.isalnum() else " " for c in text.casefold()).strip()

    alike = [i for i, known in enumerate(model.class_names) if plain(known) == plain(name)]
    if len(alike) == 1 and not name.isdecimal():
        return alike[0]
    return model.class_index(name)


def _readable(study: Study) -> tuple[dict[str, str], list[Skipped]]:
    """Return the photographs by the names of their folders, and those that are left out."""
    good: dict[str, str] = {}
    skipped: list[Skipped] = []
    for name, spec in study.images.items():
        try:
            collect(paths(spec.file))[0].load()
        except UnreadableError as error:
            if study.options.strict or len(skipped) + 1 == len(study.images):
                raise StudyError(study.located(f"images.{name}", str(error))) from error
            skipped.append(Skipped(*error.args))
        else:
            good[name] = name
    if skipped:
        warn(
            f"{len(skipped)} of {len(study.images)} photographs are left out: "
            f"{with_reasons(skipped)}",
            SkippedImageWarning,
        )
    folders = folder_names(good)
    return {folders[name]: name for name in good}, skipped
