"""What a study says: the network, concepts, classes, images and options of a whole run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from vtcav.errors import VtcavError
from vtcav.explainer.settings import FitSettings
from vtcav.method.variants import PAPER, Variant
from vtcav.models.heads.options import Precision
from vtcav.study.yaml_nodes import StudyError, located

if TYPE_CHECKING:
    from vtcav.images.preprocess import Preprocess

__all__ = [
    "FORMATS",
    "ConceptSpec",
    "DiagnosticsSpec",
    "ImageSpec",
    "ModelSpec",
    "Options",
    "Source",
    "Study",
    "TopOrNames",
    "paths",
]

Source: TypeAlias = str | tuple[str, ...]
"""A folder or file, or several of them; as they are written in the study."""

TopOrNames: TypeAlias = int | tuple[str, ...]
"""A number of most probable classes, or classes by name or index."""

FORMATS = ("csv", "parquet", "json")
"""Of the summary; the tables of each class and image are always CSV and Parquet."""


@dataclass(frozen=True)
class ModelSpec:
    """The network, as `vtcav.load_model` takes it; `preprocess` None leaves it to the model."""

    name: str
    weights: str | None = None
    class_names: Source | None = None
    binary: bool = False
    task: Literal["auto", "classes", "labels", "regression"] = "auto"
    device: str = "auto"
    layouts: Mapping[str, str] = field(default_factory=dict)
    preprocess: Preprocess | None = None


@dataclass(frozen=True)
class ConceptSpec:
    """The examples of a concept, and the negatives that it is contrasted with."""

    examples: Source
    negatives: Source


@dataclass(frozen=True)
class ImageSpec:
    """A single photograph; `classes` None takes the study's `top`."""

    file: str
    classes: TopOrNames | None = None


@dataclass(frozen=True)
class DiagnosticsSpec:
    """How concepts are diagnosed: draws of each kind, and other negatives to compare with."""

    resamples: int = 100
    other_negatives: Source | None = None


@dataclass(frozen=True)
class Options:
    """The settings of the method.

    Attributes:
        steps: Of the integral: "adaptive", or a number of trapezoid steps.
        tolerance: Relative error of "adaptive".
        limit: At most this many images of each folder, drawn with `seed`; None takes all.
        seed: Seeds every random choice.
        batch_size: Images per pass; None finds it.
        null_cavs: CAVs of random images for p-values.
        bootstraps: CAVs of resampled examples for intervals.
        min_examples: The fewest images of a concept or of negatives.
        strict: Whether an unreadable image is an error.
        top: The classes that single photographs are explained for.
        variant: What finds the concepts: "paper" or "filter".
        precision: Of the gradients: "bf16", "fp16", or None for the network's own.
    """

    steps: int | Literal["adaptive"] = "adaptive"
    tolerance: float = 0.01
    limit: int | None = None
    seed: int = 0
    batch_size: int | None = None
    null_cavs: int = 500
    bootstraps: int = 100
    min_examples: int = FitSettings.min_examples
    strict: bool = False
    top: TopOrNames = 3
    variant: Variant = PAPER
    precision: Precision | None = None


@dataclass(frozen=True)
class Study:
    """A whole run: what to explain with which concepts, and where the results go.

    Paths are as written: relative to the folder of the study file.

    Attributes:
        model: The network.
        concepts: By name.
        classes: Images of each class to explain, by the class's name or index.
        images: Single photographs to explain, by the name of their results.
        output: The folder of the results.
        layers: Layer names; None takes the recommended ones.
        options: The settings of the method.
        diagnostics: How concepts are diagnosed; None for not at all.
        peers: Methods to compute beside Visual-TCAV.
        formats: Of the summary table.
        report: Whether to write the page.
        base: The folder that paths are relative to.
        file: The study file.
        lines: The line of each key in the file.
        roots: Folders that the names of concepts or photographs were found in.
    """

    model: ModelSpec
    concepts: Mapping[str, ConceptSpec]
    classes: Mapping[str, Source]
    images: Mapping[str, ImageSpec]
    output: str
    layers: tuple[str, ...] | None = None
    options: Options = Options()
    diagnostics: DiagnosticsSpec | None = DiagnosticsSpec()
    peers: tuple[str, ...] = ()
    formats: tuple[str, ...] = ("csv", "parquet")
    report: bool = True
    base: Path = field(default=Path(), compare=False)
    file: str = field(default="", compare=False)
    lines: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)
    roots: tuple[str, ...] = field(default=(), compare=False, repr=False)

    @classmethod
    def load(cls, path: str | Path) -> Study:
        """Read a study file and check it: keys, types, and that every path exists.

        Raises:
            StudyError: Naming the file, the line, the key, what was expected and what came.
        """
        from vtcav.study.reader import read_study

        return read_study(Path(path))

    def resolved(self, layers: Sequence[str] | None = None) -> Study:
        """Return the study with what it leaves to others: the layers that are explained.

        Defaults, and the concepts and images that were found in folders, are in every study.

        Args:
            layers: The layers that the network recommends.
        """
        return self if layers is None else replace(self, layers=tuple(layers))

    def to_dict(self) -> dict[str, Any]:
        """Return the study as plain data, every key of a study file filled in."""
        negatives = [concept.negatives for concept in self.concepts.values()]
        shared = all(source == negatives[0] for source in negatives)
        return {
            "model": _model(self.model),
            "layers": _plain(self.layers),
            "concepts": {name: _plain(spec.examples) for name, spec in self.concepts.items()},
            "negatives": _plain(negatives[0])
            if shared
            else {name: _plain(spec.negatives) for name, spec in self.concepts.items()},
            "classes": {name: _plain(source) for name, source in self.classes.items()} or None,
            "images": {name: _image(spec) for name, spec in self.images.items()} or None,
            "options": {key: _plain(value) for key, value in asdict(self.options).items()},
            "diagnostics": False
            if self.diagnostics is None
            else {key: _plain(value) for key, value in asdict(self.diagnostics).items()},
            "peers": list(self.peers) or None,
            "formats": list(self.formats),
            "report": self.report,
            "output": self.output,
        }

    def to_yaml(self) -> str:
        """Return the text of a study file that says the same, to be kept beside this one."""
        import yaml

        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True, width=100)

    def check_output(self, output: Path) -> None:
        """Refuse a folder for the results that the study, or its next run, would stumble over.

        Raises:
            StudyError: When it is the study's own folder, or lies among its images.
        """
        whole = output.resolve()
        if whole == self.base.resolve():
            message = "the results would lie among the study's own files; choose a folder for them"
            raise StudyError(self.located("output", message))
        for path in self._sources():
            folder = (self.base / path).resolve()
            if folder.is_dir() and (whole == folder or folder in whole.parents):
                raise StudyError(
                    self.located(
                        "output",
                        f"the results would lie in {path!r}, whose images the study reads; choose "
                        "a folder outside of it",
                    )
                )

    def _sources(self) -> Iterator[str]:
        """Yield every path whose images are read."""
        sources: list[Source] = [*self.roots, *self.classes.values()]
        for concept in self.concepts.values():
            sources += [concept.examples, concept.negatives]
        if self.diagnostics is not None and self.diagnostics.other_negatives is not None:
            sources.append(self.diagnostics.other_negatives)
        for source in sources:
            yield from (source,) if isinstance(source, str) else source

    @contextmanager
    def at(self, key: str) -> Iterator[None]:
        """Name the line of a key when the block fails.

        Raises:
            StudyError: In place of every other error of vtcav.
        """
        try:
            yield
        except StudyError:
            raise
        except VtcavError as error:
            raise StudyError(self.located(key, str(error))) from error

    def located(self, key: str, message: str) -> str:
        """Return a message with the file, line and key in front."""
        line = next((self.lines[part] for part in _ways(key) if part in self.lines), 0)
        return located(self.file, line, key, message) if line else message


def paths(source: Source) -> Path | list[Path]:
    """Return a source as the API takes it."""
    return Path(source) if isinstance(source, str) else [Path(path) for path in source]


def _ways(key: str) -> Iterator[str]:
    """Yield a key, and the keys that it stands under."""
    yield key
    while "." in key:
        key = key.rpartition(".")[0]
        yield key


def _plain(value: Any) -> Any:
    """Return tuples as lists, for YAML."""
    return list(value) if isinstance(value, tuple) else value


def _model(spec: ModelSpec) -> str | dict[str, Any]:
    given = {
        entry.name: _plain(getattr(spec, entry.name))
        for entry in fields(spec)
        if entry.name not in ("layouts", "preprocess")
    }
    if spec.layouts:
        given["layouts"] = dict(spec.layouts)
    if spec.preprocess is not None:
        own = asdict(spec.preprocess)
        given["preprocess"] = {key: _plain(value) for key, value in own.items()}
    return given


def _image(spec: ImageSpec) -> str | dict[str, Any]:
    if spec.classes is None:
        return spec.file
    return {"file": spec.file, "classes": _plain(spec.classes)}
