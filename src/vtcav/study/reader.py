"""A study file becomes a `Study`: every key known, every type right, every path there."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path, PurePath

from vtcav.errors import ImageError, VtcavError
from vtcav.evaluation.compare.methods import METHODS
from vtcav.images.concepts import concept_folders, negative_folders
from vtcav.images.listing import collect
from vtcav.study.parts import given_in, read_model, read_options, read_top, unique
from vtcav.study.spec import (
    FORMATS,
    ConceptSpec,
    DiagnosticsSpec,
    ImageSpec,
    Options,
    Source,
    Study,
    paths,
)
from vtcav.study.yaml_nodes import Entry, read_yaml

__all__ = ["KEYS", "read_study"]

KEYS = (
    *("model", "layers", "concepts", "negatives", "classes", "images"),
    *("options", "diagnostics", "peers", "formats", "report", "output"),
)
"""The keys of a study file."""

_FOLDER = "the path of a folder of images, or a list of image files"


def read_study(path: Path) -> Study:
    """Read a study file and check it.

    Raises:
        StudyError: Naming the file, the line, the key, what was expected and what came.
    """
    root = read_yaml(path)
    given = root.keyed(KEYS, ("model", "concepts", "output"))
    given = {key: entry for key, entry in given.items() if _said(key, entry)}
    if "classes" not in given and "images" not in given:
        root.refuse(
            "there is nothing to explain: expected 'classes' (class names with folders of "
            "images) or 'images' (single photographs)"
        )
    with contextlib.chdir(path.parent):  # messages name paths as they are written
        study = _Reader(given).study()
    study = replace(study, base=path.parent, file=str(path))
    study.check_output(study.base / study.output)
    return study


def _said(key: str, entry: Entry) -> bool:
    """Whether a key says anything; required ones must."""
    return key in ("model", "concepts", "output") or not entry.is_null


class _Reader:
    """Reads the keys of one file, in whose folder the process is."""

    def __init__(self, given: Mapping[str, Entry]) -> None:
        self.given = given
        self.lines: dict[str, int] = {}

    def study(self) -> Study:
        for entry in self.given.values():
            self._note(entry)
        model = read_model(self.given["model"], self._exists)
        options = self._options()
        concepts = self._concepts(options.min_examples)
        classes = self._classes()
        images = self._images()
        given = self.given
        layers = given["layers"].items("a list of layer names") if "layers" in given else None
        diagnostics = self._diagnostics()
        return Study(
            model=model,
            concepts=concepts,
            classes=classes,
            images=images,
            output=given["output"].text("the path of a folder for the results"),
            layers=None if layers is None else tuple(unique(layers)),
            options=options,
            diagnostics=diagnostics,
            peers=self._peers(),
            formats=self._formats(),
            report=given["report"].boolean() if "report" in given else True,
            lines=self.lines,
            roots=self._roots(),
        )

    # -- concepts -----------------------------------------------------------------------------

    def _concepts(self, least: int) -> dict[str, ConceptSpec]:
        entry = self.given["concepts"]
        own: dict[str, Source] = {}
        examples: dict[str, tuple[Entry, Source]] = {}
        if entry.is_mapping:
            for name, given in entry.named("concepts by name").items():
                self._note(given)
                examples[name] = given, self._examples(given, name, own)
        else:
            folder = entry.text("a folder with one folder per concept, or concepts by name")
            for name in self._folders(entry, folder):
                examples[name] = entry, _join(folder, name)
        negatives = self._negatives(examples, own)
        for name, (given, source) in examples.items():
            self._enough(given, f"concept {name!r}", source, least)
        for name, source in negatives.items():
            given = self.given.get("negatives", examples[name][0])
            self._enough(given, f"negatives of {name!r}", source, least)
        return {name: ConceptSpec(found[1], negatives[name]) for name, found in examples.items()}

    def _examples(self, given: Entry, name: str, own: dict[str, Source]) -> Source:
        """Return the examples of a concept; its own negatives go to `own`."""
        if not given.is_mapping:
            return self._source(given, _FOLDER)
        parts = given.keyed(["examples", "negatives"], ["examples"])
        if "negatives" in parts:
            own[name] = self._source(parts["negatives"], _FOLDER)
        return self._source(parts["examples"], _FOLDER)

    def _folders(self, entry: Entry, folder: str) -> list[str]:
        negatives = self.given.get("negatives")
        besides = None
        if negatives is not None and not negatives.is_mapping and not negatives.is_list:
            besides = Path(negatives.text(_FOLDER))
        try:
            return list(concept_folders(folder, besides=besides))
        except VtcavError as error:
            entry.refuse(str(error))

    def _negatives(
        self, examples: Mapping[str, object], own: Mapping[str, Source]
    ) -> dict[str, Source]:
        entry = self.given.get("negatives")
        missing = [name for name in examples if name not in own]
        if entry is None:
            if missing:
                self.given["concepts"].refuse(
                    f"no negatives for {', '.join(map(repr, missing))}: give a folder of images "
                    "that do not show the concepts with the key 'negatives'"
                )
            return dict(own)
        if entry.is_mapping:
            return self._negatives_by_concept(entry, list(examples), own)
        source = self._source(entry, _FOLDER)
        shared: Mapping[str, Source] = dict.fromkeys(examples, source)
        if isinstance(source, str) and Path(source).is_dir():
            # one folder for each concept, as on the command line
            found = negative_folders(source, examples)
            if isinstance(found, dict):
                shared = {name: _join(source, name) for name in examples}
        return dict(shared) | dict(own)

    def _negatives_by_concept(
        self, entry: Entry, names: list[str], own: Mapping[str, Source]
    ) -> dict[str, Source]:
        found = dict(own)
        for name, given in entry.named("negatives by concept").items():
            self._note(given)
            if name not in names:
                given.refuse(f"there is no concept {name!r}; expected {', '.join(names)}")
            if name in own:
                given.refuse(f"the concept {name!r} has negatives of its own already; remove one")
            found[name] = self._source(given, _FOLDER)
        if missing := [name for name in names if name not in found]:
            entry.refuse(f"no negatives for {', '.join(map(repr, missing))}; add a folder for each")
        return found

    def _enough(self, entry: Entry, what: str, source: Source, least: int) -> None:
        count = len(collect(paths(source)))
        if count < least:
            entry.refuse(
                f"{what}: expected at least {least} images, got {count}; add images (30 or more "
                "are usual), or lower options.min_examples knowing this"
            )

    # -- what is explained --------------------------------------------------------------------

    def _classes(self) -> dict[str, Source]:
        if "classes" not in self.given:
            return {}
        named = self.given["classes"].named("a mapping from class names to folders of images")
        for given in named.values():
            self._note(given)
        return {name: self._source(given, _FOLDER) for name, given in named.items()}

    def _images(self) -> dict[str, ImageSpec]:
        if "images" not in self.given:
            return {}
        entry = self.given["images"]
        what = "a list of image files, a folder, or image files by name"
        if entry.is_mapping:
            named = entry.named(what)
            for given in named.values():
                self._note(given)
            return {name: self._image(given) for name, given in named.items()}
        if entry.is_list:
            parts = entry.items(what)
            files = [self._file(part) for part in parts]
        else:
            folder = entry.text(what)
            files = self._listed(entry, folder)
            parts = [entry] * len(files)
        if twice := [file for file, count in Counter(files).items() if count > 1]:
            entry.refuse(f"the image {twice[0]!r} is listed twice; remove one")
        stems = Counter(PurePath(file).stem.casefold() for file in files)
        found = {}
        for file, part in zip(files, parts, strict=True):
            stem = PurePath(file).stem
            name = stem if stems[stem.casefold()] == 1 else file
            self.lines[f"images.{name}"] = part.line
            found[name] = ImageSpec(file)
        return found

    def _image(self, entry: Entry) -> ImageSpec:
        if not entry.is_mapping:
            return ImageSpec(self._file(entry))
        given = entry.keyed(["file", "classes"], ["file"])
        classes = read_top(given["classes"]) if "classes" in given else None
        return ImageSpec(self._file(given["file"]), classes)

    # -- the rest -----------------------------------------------------------------------------

    def _options(self) -> Options:
        if "options" not in self.given:
            return Options()
        given = self.given["options"].keyed([part.name for part in fields(Options)])
        for entry in given.values():
            self._note(entry)
        return read_options(given)

    def _diagnostics(self) -> DiagnosticsSpec | None:
        entry = self.given.get("diagnostics")
        if entry is None:
            return DiagnosticsSpec()
        if entry.is_boolean:
            return DiagnosticsSpec() if entry.boolean() else None
        if not entry.is_mapping:
            entry.fail("true, false, or a mapping with the keys resamples, other_negatives")
        given = entry.keyed(["resamples", "other_negatives"])
        resamples, other = given.get("resamples"), given_in(given, "other_negatives")
        return DiagnosticsSpec(
            resamples.whole(20) if resamples else DiagnosticsSpec.resamples,
            self._source(other, _FOLDER) if other else None,
        )

    def _peers(self) -> tuple[str, ...]:
        entry = self.given.get("peers")
        if entry is None or (entry.is_list and not entry.node.value):
            return ()
        return tuple(unique(entry.items(f"a list among {', '.join(METHODS)}"), METHODS))

    def _formats(self) -> tuple[str, ...]:
        if "formats" not in self.given:
            return ("csv", "parquet")
        entries = self.given["formats"].items(f"a list among {', '.join(FORMATS)}")
        return tuple(unique(entries, FORMATS))

    # -- paths --------------------------------------------------------------------------------

    def _note(self, entry: Entry) -> None:
        self.lines[entry.key] = entry.line

    def _source(self, entry: Entry, what: str) -> Source:
        if not entry.is_list:
            path = entry.text(what)
            self._listed(entry, path)
            return path
        paths = []
        for part in entry.items(what):
            paths.append(part.text("the path of an image file or folder"))
            self._listed(part, paths[-1])
        return tuple(paths)

    def _listed(self, entry: Entry, path: str) -> list[str]:
        """Return the files that a path stands for."""
        try:
            return [ref.name for ref in collect(path)]
        except ImageError as error:
            entry.refuse(f"{error}{self._relative(path)}")

    def _file(self, entry: Entry) -> str:
        path = entry.text("the path of an image file")
        if Path(path).is_dir():
            entry.refuse(
                f"expected an image file, got the folder {path!r}; give a whole folder as "
                f"'images: {path}'"
            )
        self._exists(entry, path)
        return path

    def _exists(self, entry: Entry, path: str) -> None:
        if not Path(path).exists():
            entry.refuse(f"{path!r} does not exist{self._relative(path)}")

    def _relative(self, path: str) -> str:
        if PurePath(path).is_absolute() or Path(path).exists():
            return ""
        return "; paths are relative to the folder of the study file"

    def _roots(self) -> tuple[str, ...]:
        """Return the folders that names of concepts and photographs come from."""
        entries = [self.given.get(key) for key in ("concepts", "negatives", "images")]
        return tuple(
            entry.text(_FOLDER)
            for entry in entries
            if entry is not None and not entry.is_mapping and not entry.is_list
        )


def _join(folder: str, name: str) -> str:
    return str(PurePath(folder) / name)
