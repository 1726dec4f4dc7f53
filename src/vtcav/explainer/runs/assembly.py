"""Assembly of a class's table from parts, which are computed once and kept when they are done.

`explain_images` computes the table over many images with an engine. A run folder (`run_folder`)
keeps the parts, so that the same call resumes where it was interrupted. Without one they are
assembled in memory, where only rows and sums stay.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vtcav.errors import ExplanationError
from vtcav.explainer.runs.engine import Engine, LocalEngine
from vtcav.explainer.runs.part import Chunk, Part, Task, chunks_of
from vtcav.explainer.runs.row_table import RowTable
from vtcav.explainer.runs.run_folder import opened
from vtcav.files.hashing import json_hash, text_hash
from vtcav.images.progress import progress_bar
from vtcav.images.references import ImageRef, Skipped, UnreadableError, report_skipped
from vtcav.images.signature import signature
from vtcav.method.cav import Cavs
from vtcav.method.significance import q_values
from vtcav.results.bank import CavBank

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ClassRows", "bank_digest", "engine_of", "explain_images", "identity"]


@dataclass(frozen=True, eq=False)
class ClassRows:
    """The table of a class over all its images.

    Attributes:
        rows: The rows, with q-values over all of them.
        used: The number of images that could be read.
        skipped: The images that could not be read, with reasons.
        sums: By layer, the sums over the images of the resampled CAVs' attributions [J].
    """

    rows: pd.DataFrame
    used: int
    skipped: tuple[Skipped, ...]
    sums: Mapping[str, NDArray[np.float64]]


def explain_images(
    task: Task,
    refs: Sequence[ImageRef],
    engine: Engine,
    *,
    run: str | Path | None = None,
    shown: bool | None = None,
) -> ClassRows:
    """Compute the table of a class over images.

    Args:
        task: The class, and the attributor.
        refs: The images.
        engine: The engine that computes the parts.
        run: A folder that keeps the parts; None keeps them in memory.
        shown: Whether to show a progress bar; None shows it where the output is a
            terminal.

    Raises:
        ImageError: When no image can be read, or one cannot when the task is strict, or the
            network's inputs have several shapes.
        ExplanationError: When the folder holds a run with other settings, is in use or cannot be
            written.
        ModelError: When the network gives infinite values or NaN.

    Warns:
        SkippedImageWarning: When images are left out.
        DamagedPartWarning: When a part in the folder is damaged, or its images have changed.
    """
    chunks = chunks_of(refs, task.attributor.settings.images)
    title = f"explaining {task.attributor.model.class_names[task.class_index]}"
    whole = _Assembly(task, len(refs))
    with engine, progress_bar(title, len(refs), shown=shown) as progress:
        if run is None:
            for number, part in engine.compute(task, chunks, progress):
                whole.add(number, part)
        else:
            settings = identity(task, refs, chunks, engine.device(task))
            with opened(Path(run), settings) as folder:
                missing = []
                for chunk in chunks:
                    if folder.holds(chunk):
                        progress.advance(len(chunk.refs))
                    else:
                        missing.append(chunk)
                for number, part in engine.compute(task, missing, progress) if missing else ():
                    folder.save(number, part)
                for chunk in chunks:
                    whole.add(chunk.number, folder.load(chunk.number))
    report_skipped(len(refs), whole.used, whole.skipped)
    return whole.finish()


def engine_of(name: str, ray_options: Mapping[str, Any] | None = None) -> Engine:
    """Return an engine by name.

    Args:
        name: "local" or "ray".
        ray_options: The arguments of `vtcav.explainer.runs.ray_engine.RayEngine`.

    Raises:
        ExplanationError: For an unknown name or option.
        ExtraError: When Ray is asked for and not installed.
    """
    if name == "ray":
        from vtcav.explainer.runs.ray_engine import RayEngine

        return RayEngine.of(ray_options or {})
    if name != "local":
        raise ExplanationError(f"unknown engine {name!r}: expected 'local' or 'ray'")
    if ray_options is not None:
        raise ExplanationError("ray_options go with engine='ray', not with 'local'")
    return LocalEngine()


def identity(
    task: Task, refs: Sequence[ImageRef], chunks: Sequence[Chunk], device: str
) -> dict[str, Any]:
    """Return what the parts of a run depend on, as JSON data.

    The content of the images is not included: each part records that of its own images.
    """
    attributor = task.attributor
    data = attributor.provenance({"class": task.class_index}, measured=False).to_dict()
    model, names = attributor.model, attributor.model.class_names
    return {
        "kind": "explain_class",
        # A patch release of Python changes no number.
        "versions": {name: v for name, v in data["versions"].items() if name != "python"},
        "model": {
            # The repr of a callable may hold its memory address; its behaviour counts, below.
            **{k: v for k, v in data["model"].items() if k != "preprocess"},
            "device": device,
            "classes": json_hash(names),
            "probabilities": getattr(model, "task", "auto"),
            "preprocess_behaves": text_hash(repr(signature(model.preprocess))),
        },
        "layers": [dict(layer) for layer in data["layers"]],
        "concepts": list(attributor.cavs.names),
        "cavs": bank_digest(attributor.cavs),
        "settings": data["settings"],
        "images": {
            "listed": len(refs),
            "names": json_hash([ref.name for ref in refs]),
            "in_a_part": len(chunks[0].refs),
        },
    }


def bank_digest(bank: CavBank) -> str:
    """Return the SHA-256 of everything in a bank that explanations depend on."""
    digest = hashlib.sha256()
    known = [bank.names, bank.contrast, bank.resampling.to_dict(), [s.digests for s in bank.sets]]
    digest.update(json.dumps(known).encode())
    for layer, cavs in bank.layers.items():
        digest.update(json.dumps(layer).encode())
        for part in (cavs, cavs.resampled):
            digest.update(b"-" if part is None else _cavs_bytes(part))
    return digest.hexdigest()


def _cavs_bytes(cavs: Cavs) -> bytes:
    tensors = (cavs.v, cavs.e_pos, cavs.e_neg, *(() if cavs.w is None else (cavs.w,)))
    return b"".join(f"{list(t.shape)}".encode() + t.cpu().numpy().tobytes() for t in tensors)


class _Assembly:
    """A table that parts are added to, in any order."""

    def __init__(self, task: Task, images: int) -> None:
        self.used = 0
        self.skipped: list[Skipped] = []
        self._strict = task.strict
        cavs = task.attributor.cavs
        self._rows = RowTable(images * len(cavs.layers) * len(cavs.names))
        self._sums: dict[str, NDArray[np.float64]] = {}
        self._shape: tuple[int, ...] = ()
        self._first = ""
        self._waiting: dict[int, Part] = {}
        self._next = 0

    def add(self, number: int, part: Part) -> None:
        """Add a part, or keep it until those before it have come."""
        self._waiting[number] = part
        while self._next in self._waiting:
            self._append(self._waiting.pop(self._next))
            self._next += 1

    def _append(self, part: Part) -> None:
        part.check_shape(self._shape, self._first)
        if not self._shape:
            self._shape, self._first = part.shape, part.first
        if part.skipped and self._strict:
            raise UnreadableError(part.skipped[0].name, part.skipped[0].reason)
        self.used += part.used
        self.skipped += part.skipped
        self._rows.add(part.rows)
        for layer, values in part.sums.items():
            if layer in self._sums:
                self._sums[layer] += values
            else:
                self._sums[layer] = values.copy()

    def finish(self) -> ClassRows:
        """Return the whole table."""
        rows = self._rows.frame()
        rows["q_value"] = q_values(rows["p_value"].to_numpy())
        return ClassRows(rows, self.used, tuple(self.skipped), self._sums)
