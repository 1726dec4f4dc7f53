"""A study: what to explain with which concepts, and where the results go."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from vtcav.errors import VtcavError
from vtcav.files.paths import given_path, is_folder
from vtcav.models.settings import LoadSettings
from vtcav.results.limits import ConceptLimit
from vtcav.study.reader import read_study
from vtcav.study.sources import Source
from vtcav.study.spec import (
    ConceptSources,
    CorrectSpec,
    DiagnosticsSpec,
    DiscoverySpec,
    ErrorsSpec,
    ImageSpec,
    Options,
    TextSpec,
    VersusSpec,
)
from vtcav.study.yaml_file import StudyError, located


@dataclass(frozen=True)
class Study:
    """A whole run: what to explain with which concepts, and where the results go.

    Paths are as written: relative to the folder of the study file.

    Attributes:
        model: The network.
        concepts: By name.
        texts: Concepts as words; None for none.
        output: The folder of the results.
        classes: Images of each class to explain, by the class's name or index.
        images: Single photographs to explain, by the name of their results.
        layers: Layer names; None takes the recommended ones.
        options: The settings of the method.
        diagnostics: How concepts are diagnosed; None for not at all.
        limits: How much concepts may count, by concept.
        discover: Where concepts that nobody named are looked for; None for nowhere.
        groups: Which images are alike: a pattern in their names, or TABLE:COLUMN.
        errors: Labelled images, of which the wrong ones are compared with the right ones.
        correct: Concepts that are taken out of the network.
        versus: A second network to compare with.
        peers: Methods to compute beside Visual-TCAV.
        formats: Of the summary table.
        report: Whether to write the page.
        title: Its title; None for the network and the classes.
        base: The folder that paths are relative to.
        file: The study file.
        lines: The line of each key in the file.
        roots: Folders that the names of concepts or photographs were found in.
    """

    model: LoadSettings
    concepts: Mapping[str, ConceptSources]
    output: str
    texts: TextSpec | None = None
    classes: Mapping[str, Source] = field(default_factory=dict)
    images: Mapping[str, ImageSpec] = field(default_factory=dict)
    layers: tuple[str, ...] | None = None
    options: Options = field(default_factory=Options)
    diagnostics: DiagnosticsSpec | None = field(default_factory=DiagnosticsSpec)
    limits: Mapping[str, ConceptLimit] = field(default_factory=dict)
    discover: DiscoverySpec | None = None
    groups: str | None = None
    errors: ErrorsSpec | None = None
    correct: CorrectSpec | None = None
    versus: VersusSpec | None = None
    peers: tuple[str, ...] = ()
    formats: tuple[str, ...] = ("csv", "parquet")
    report: bool = True
    title: str | None = None
    base: Path = field(default=Path(), compare=False)
    file: str = field(default="", compare=False)
    lines: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)
    roots: tuple[str, ...] = field(default=(), compare=False, repr=False)

    @classmethod
    def load(cls, path: str | Path) -> Study:
        """Read a study file and check it: keys, types, and that every path exists.

        Raises:
            StudyError: Naming the file, the line, the key, what was expected and what came.
            ExplanationError: For what is no path.
        """
        path = given_path("path", path)
        study = cls(**read_study(path), base=path.parent, file=str(path))
        study.check_output(study.base / study.output)
        return study

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all concepts."""
        return (*self.concepts, *(self.texts.concepts if self.texts else ()))

    def resolved(self, layers: Sequence[str] | None = None) -> Study:
        """Return the study with the layers that are explained.

        Defaults, and the concepts and images that were found in folders, are in every study.

        Args:
            layers: The layers that the network recommends.
        """
        return self if layers is None else replace(self, layers=tuple(layers))

    def to_dict(self) -> dict[str, Any]:
        """Return the study as plain data, every key of a study file filled in."""
        model = {n: v for n, v in vars(self.model).items() if n in _ALWAYS or v is not None}
        negatives = {name: sources.negatives for name, sources in self.concepts.items()}
        alike = len(set(negatives.values())) == 1
        data = {
            "model": model,
            "layers": self.layers,
            "concepts": {name: sources.examples for name, sources in self.concepts.items()} or None,
            "negatives": (next(iter(negatives.values())) if alike else negatives) or None,
            "texts": self.texts,
            "classes": self.classes or None,
            "images": {
                name: image.file if image.classes is None else image
                for name, image in self.images.items()
            }
            or None,
            "options": self.options,
            "diagnostics": self.diagnostics or False,
            "limits": self.limits or None,
            "discover": self.discover,
            "groups": self.groups,
            "errors": self.errors,
            "correct": self.correct,
            "versus": self.versus,
            "peers": self.peers or None,
            "formats": self.formats,
            "report": self.report,
            "title": self.title,
            "output": self.output,
        }
        whole: dict[str, Any] = json.loads(json.dumps(data, default=asdict))
        return whole

    def to_yaml(self) -> str:
        """Return the text of a study file with the same content, for the folder of this one."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True, width=100)

    def check_output(self, output: Path) -> None:
        """Refuse a folder for the results that would change the study's images or its next run.

        Raises:
            StudyError: When it is the study's own folder, or lies among its images.
        """
        whole = output.resolve()
        if whole == self.base.resolve():
            message = "the results would lie among the study's own files; choose a folder for them"
            raise StudyError(self.located("output", message))
        for path in self._sources():
            folder = (self.base / path).resolve()
            if is_folder(folder) and (whole == folder or folder in whole.parents):
                message = f"the results would lie in {path!r}, whose images the study reads"
                message += "; choose a folder outside of it"
                raise StudyError(self.located("output", message))

    def _sources(self) -> Iterator[str]:
        """Yield every path whose images are read."""
        sources: list[Source | None] = [*self.roots, *self.classes.values()]
        for concept in self.concepts.values():
            sources += [concept.examples, concept.negatives]
        if self.texts is not None:
            sources += [self.texts.images, self.texts.negatives]
        sources.append(self.diagnostics.other_negatives if self.diagnostics else None)
        asked = (self.discover, self.errors, self.correct)
        sources += [spec.images for spec in asked if spec is not None]
        for source in sources:
            yield from (source,) if isinstance(source, str) else source or ()

    @contextmanager
    def at(self, key: str) -> Iterator[None]:
        """Put the line of a key in front of the errors of a block.

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
        """Return a message with the file, the line and the key in front."""
        above = key
        while above and above not in self.lines:
            above = above.rpartition(".")[0]
        return located(self.file, self.lines[above], key, message) if above else message


_ALWAYS = ("name", "weights", "class_names", "binary", "task", "device")
"""The settings of the network that are written even where they are None."""
