"""A commented study, written from what a folder holds."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vtcav.images.listing import collect

__all__ = ["Found", "look_into", "study_text"]

_CONCEPTS = ("concepts",)
_NEGATIVES = ("negatives", "random", "absent")
_CLASSES = ("classes", "images")
_PHOTOGRAPHS = ("photos", "photographs", "images")
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"}
_MOST = 3  # photographs that a study begins with


@dataclass(frozen=True)
class Found:
    """What a folder holds of a study; empty or None where it was not found.

    Attributes:
        concepts: A folder with one folder per concept.
        negatives: A folder of images without the concepts.
        classes: Folders of images, named like classes.
        photographs: Single images.
    """

    concepts: Path | None
    negatives: Path | None
    classes: tuple[Path, ...]
    photographs: tuple[Path, ...]

    @property
    def missing(self) -> list[str]:
        """What the study cannot do without, in words."""
        lacks = {
            "concepts (a folder 'concepts' with one folder of images per concept)": self.concepts,
            "negatives (a folder 'negatives' or 'random')": self.negatives,
            "something to explain (a folder 'classes' with one folder of images per class)": (
                self.classes or self.photographs
            ),
        }
        return [what for what, found in lacks.items() if not found]


def look_into(root: Path) -> Found:
    """Find what belongs into a study, by the names of folders.

    Negatives may also lie inside of the folder of concepts.
    """
    concepts = next((root / name for name in _CONCEPTS if _folders(root / name)), None)
    places = [root] if concepts is None else [root, concepts]
    negatives = [place / name for place in places for name in _NEGATIVES]
    classes = (_folders(root / name) for name in _CLASSES)
    photographs = (_files(root / name) for name in _PHOTOGRAPHS)
    return Found(
        concepts,
        next((path for path in negatives if path.is_dir()), None),
        next(filter(None, classes), ()),
        next(filter(None, photographs), _files(root))[:_MOST],
    )


def study_text(found: Found, base: Path, *, model: str = "demo") -> str:
    """Return a commented study file.

    Args:
        found: What it is about.
        base: The folder that the file will lie in.
        model: The network.
    """
    return "\n".join([*_head(model), *_data(found, base), *_rest()]) + "\n"


def _head(model: str) -> Iterator[str]:
    yield "# A study for `vtcav run`. Paths are relative to the folder of this file."
    yield ""
    yield "# The network: demo, torchvision:NAME, timm:NAME, hf:NAME_OR_FOLDER, keras:FILE, or"
    yield "# python:MODULE:CALLABLE, a function that returns a Classifier or a torch module. A"
    yield "# mapping says more: {name: timm:resnet18, weights: net.safetensors, class_names:"
    yield "# names.txt, preprocess: {size: 224, mean: 0.5, std: 0.5}}"
    yield f"model: {_text(model)}"
    yield ""
    yield "# Layers by name, as `vtcav layers MODEL` lists them; left out: the recommended ones."
    yield "# layers: [features.7, features.8]"
    yield ""


def _data(found: Found, base: Path) -> Iterator[str]:
    yield "# A folder with one folder of examples per concept (30 to 100 images each), or a mapping"
    yield "# from names to folders or lists of files."
    yield f"concepts: {_path(found.concepts, base, 'concepts')}"
    for folder in _folders(found.concepts) if found.concepts else ():
        if found.negatives is None or folder != found.negatives:
            yield f"  # {folder.name}: {_count(folder)}"
    yield ""
    yield "# Images that do not show the concepts and are otherwise like all others; twice as many"
    yield "# as examples, for p-values. Or a folder for each concept, by its name."
    yield f"negatives: {_path(found.negatives, base, 'random')}"
    if found.negatives:
        yield f"  # {_count(found.negatives)}"
    yield ""
    yield "# Classes to explain, by name or index, each with a folder of its images."
    if found.classes:
        yield "classes:"
        for folder in found.classes:
            name = folder.name if folder.name.isdecimal() else _text(folder.name)
            yield f"  {name}: {_path(folder, base)}  # {_count(folder)}"
    else:
        yield "# classes:"
        yield "#   zebra: classes/zebra"
    yield ""
    yield "# Single photographs to explain: a list of files, or a folder."
    if found.photographs:
        yield "images:"
        yield from (f"  - {_path(path, base)}" for path in found.photographs)
    else:
        yield "# images: [zebra.jpg]"
    yield ""


def _rest() -> Iterator[str]:
    yield "options:"
    for key, value, meaning in (
        ("steps", "adaptive", "of the integral; the paper: 50"),
        ("tolerance", "0.01", "relative error of adaptive"),
        ("limit", "null", "at most this many images of each folder, drawn with the seed"),
        ("seed", "0", "seeds every random choice"),
        ("batch_size", "null", "images per pass through the network; null: what fits into memory"),
        ("null_cavs", "500", "CAVs of random images, for p-values; 0: no test"),
        ("bootstraps", "100", "CAVs of resampled examples, for intervals"),
        ("min_examples", "5", "the fewest images of a concept"),
        ("strict", "false", "true makes an unreadable image an error"),
        ("top", "3", "classes per photograph: the most probable ones, or a list of names"),
        ("variant", "paper", "what finds a concept; filter: Fisher's discriminant"),
        ("precision", "null", "bf16 or fp16: faster gradients; the error is measured"),
    ):
        yield f"  {f'{key}: {value}':<20} # {meaning}"
    yield ""
    yield "# How far each concept can be trusted (fine, look, do not use)."
    yield "diagnostics: true"
    yield ""
    yield "# Other methods on the same images; needs vtcav[evaluation]."
    yield "# peers: [tcav, grad_cam]"
    yield ""
    yield "formats: [csv, parquet]  # of the summary; json too"
    yield ""
    yield "# The folder of the results. What is finished there is kept and not done again."
    yield "output: results"


def _folders(root: Path) -> tuple[Path, ...]:
    if not root.is_dir():
        return ()
    hidden = (".", "__MACOSX")
    return tuple(p for p in sorted(root.iterdir()) if p.is_dir() and not p.name.startswith(hidden))


def _files(root: Path) -> tuple[Path, ...]:
    if not root.is_dir():
        return ()
    files = (path for path in sorted(root.iterdir()) if path.is_file())
    return tuple(p for p in files if p.suffix.lower() in _SUFFIXES and p.name.isprintable())


def _count(folder: Path) -> str:
    from vtcav.errors import ImageError

    try:
        count = len(collect(folder))
    except ImageError:
        return "no files"
    return f"{count} file{'' if count == 1 else 's'}"


def _path(path: Path | None, base: Path, otherwise: str = "") -> str:
    if path is None:
        return f"{otherwise}  # not found: put it there, or name another folder"
    return _text(Path(os.path.relpath(path, base)).as_posix())


def _text(text: str) -> str:
    """Return a text as YAML, in quotes where it needs them."""
    import yaml

    pieces: Sequence[str] = [text]
    line = yaml.safe_dump(pieces, default_flow_style=True, allow_unicode=True, width=10**6)
    return line.strip()[1:-1]
