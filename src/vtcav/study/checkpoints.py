"""The finished steps of a study: each is kept with a hash of its inputs, and loaded again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from vtcav.errors import ExplanationError, VtcavError, warn, why
from vtcav.explainer.runs.run_folder import DamagedPartWarning
from vtcav.explainer.visual_tcav import VisualTCAV
from vtcav.files.atomic import atomic_path
from vtcav.files.hashing import file_hash, json_hash
from vtcav.files.paths import resolved
from vtcav.images.listing import collect
from vtcav.images.references import ImageRef, UnreadableError
from vtcav.images.signature import signature
from vtcav.models.behaviour import behaviour
from vtcav.results.provenance import versions
from vtcav.study.sources import Source, paths
from vtcav.study.spec import Options, TextSpec
from vtcav.study.study import Study

T = TypeVar("T")

_FIGURES = "figures"


class Steps:
    """The finished steps of a study.

    Args:
        study: The study.
        folder: The folder of its results, with `run/done.json`, the list of finished steps.
        say: Receives a line for every step.
    """

    def __init__(self, study: Study, folder: Path, say: Callable[[str], None]) -> None:
        self._study = study
        self._folder = folder
        self._say = say
        self._path = folder / "run" / "done.json"
        self._done = self._read()

    def take(
        self,
        name: str,
        key: str,
        title: str,
        depends: Any,
        load: Callable[[Path], T],
        compute: Callable[[], Any],
    ) -> T:
        """Return the result of a step: loaded where it is finished, else computed and saved.

        Args:
            name: The file or folder of the result: "classes/zebra".
            key: The key of the study that an error is about.
            title: The work of the step, in words.
            depends: The inputs of the step, as JSON.
            load: Loads the result.
            compute: Computes the result, which has a method `save`.

        Warns:
            DamagedPartWarning: When a finished result cannot be used.
        """
        path, digest = self._folder / name, json_hash(depends)
        known = self._done.get(name)
        if known == digest:
            try:
                found = load(path)
            except VtcavError as error:
                _warn(name, str(error))
            else:
                self._say(f"{title}: kept from before")
                return found
        elif known is not None:
            _warn(name, "the images or classes that it is about have changed since")
        self._say(title)
        with self._study.at(key):
            result = compute()
        if self._done.pop(_FIGURES, None):
            self._write()
        result.save(path)
        found = load(path)  # so that a run that is resumed has the same numbers
        self._done[name] = digest
        self._write()
        return found

    def draw(self, names: Iterable[str], draw: Callable[[], None]) -> None:
        """Draw the figures of some steps together, unless none was taken since they were.

        Args:
            names: Of the steps.
            draw: Draws the figures.
        """
        digest = json_hash({name: self._done[name] for name in names})
        if self._done.get(_FIGURES) == digest:
            return
        self._say("Drawing the figures")
        draw()
        self._done[_FIGURES] = digest
        self._write()

    def _write(self) -> None:
        with atomic_path(self._path) as partial:
            partial.write_text(json.dumps(self._done, indent=1), encoding="utf-8")

    def _read(self) -> dict[str, str]:
        try:
            found = json.loads(self._path.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            _warn(self._path.name, why(error))
            return {}
        return found if isinstance(found, dict) else {}


def whole_path(folder: Path) -> Path:
    """Return the absolute path of a study's results.

    Raises:
        ExplanationError: For a name that no folder can have, and for a link to itself.
    """
    try:
        return resolved(folder)
    except OSError as error:
        message = f"cannot write to the folder {str(folder)!r}: {why(error)}"
        raise ExplanationError(message) from error


def identity(study: Study, explainer: VisualTCAV) -> dict[str, Any]:
    """Return the inputs that every number of a study depends on, as JSON.

    Classes and photographs are left out, as more of them may be added; each step has its own.
    """
    model = explainer.model
    options = study.options
    concepts = {
        name: {
            role: content(listed(source, options.limit, options.seed))
            for role, source in vars(spec).items()
        }
        for name, spec in study.concepts.items()
    }
    return {
        "kind": "study",
        # a patch release of Python changes no number
        "versions": {name: text for name, text in versions().items() if name != "python"},
        "model": {
            "network": model.described,
            "fingerprint": model.fingerprint,
            "logits": model.logits_source,
            "binary": model.binary,
            "task": study.model.task,
            "device": model.device.type,
            "classes": json_hash(list(model.class_names)),
            "behaviour": behaviour(model, explainer.layers, gradients=True),
            "preprocess_behaves": json_hash(repr(signature(model.preprocess))),
        },
        "layers": list(explainer.layers),
        "concepts": concepts,
        **({} if study.texts is None else {"texts": _of_texts(study.texts, options)}),
        "options": asdict(options),
    }


def _of_texts(texts: TextSpec, options: Options) -> dict[str, Any]:
    """Return what concepts as words depend on, with the files of the image-text model."""
    sources = {"images": texts.images, "negatives": texts.negatives or ()}
    images = {
        role: content(listed(source, options.limit, options.seed)) if source else None
        for role, source in sources.items()
    }
    folder = Path(texts.model or "")
    files = sorted(folder.iterdir()) if texts.model and folder.is_dir() else []
    hashes = {file.name: file_hash(file) for file in files if file.is_file()}
    data: dict[str, Any] = json.loads(json.dumps(asdict(texts)))
    return {**data, **images, "files": hashes}


def content(refs: Iterable[ImageRef]) -> dict[str, Any]:
    """Return how many images there are, and a hash of their names and bytes."""
    known = [(ref.name, _digest(ref)) for ref in refs]
    return {"images": len(known), "sha256": json_hash(known)}


def listed(source: Source, limit: int | None, seed: int) -> list[ImageRef]:
    """Return the images of a source, drawn with the seed of the study."""
    return collect(paths(source), limit=limit, seed=seed)


def _digest(ref: ImageRef) -> str:
    try:
        return ref.digest()
    except UnreadableError:
        return ""


def _warn(name: str, why: str) -> None:
    warn(f"{name} is made again: {why}", DamagedPartWarning)
