"""A commented study file, written from the contents of a folder."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

import yaml

from vtcav.errors import ImageError
from vtcav.files.paths import is_file, is_folder
from vtcav.images.listing import collect, subfolders
from vtcav.parameters import Parameter, parameters
from vtcav.study.spec import Options

_NEGATIVES = ("negatives", "random", "absent")
_CLASSES = ("classes", "images")
_PHOTOGRAPHS = ("photos", "photographs", "images")
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"}
_WEIGHTS = {".pt", ".pth", ".ckpt", ".safetensors"}
_MOST = 3  # photographs in a new study
_NAMES = ("names.txt", "class_names.txt", "classes.txt", "labels.txt")
_FINISHED = re.compile(r"\b(Classifier|KerasClassifier|load_model)\b")
_UNTOLD = (
    "  # A function that returns a bare module does not tell this. Set what it was trained with:\n"
)
_PREPROCESS = (
    "  # preprocess: {size: 224, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}\n"
)


@dataclass(frozen=True)
class FolderContent:
    """The parts of a study that a folder holds; empty or None where they were not found.

    Attributes:
        concepts: A folder with one folder per concept.
        negatives: A folder of images without the concepts.
        classes: Folders of images that are named after classes.
        photographs: Single images.
        networks: Names of networks: `python:FILE:build` for each Python file with a function
            `build` that needs no argument. The files are read, not run.
        checkpoints: Files of weights.
        others: Folders whose names say nothing.
        class_names: A file with a class name a line.
    """

    concepts: Path | None
    negatives: Path | None
    classes: tuple[Path, ...]
    photographs: tuple[Path, ...]
    networks: tuple[str, ...] = ()
    checkpoints: tuple[Path, ...] = ()
    others: tuple[Path, ...] = ()
    class_names: Path | None = None

    @property
    def network(self) -> str:
        """The network, if only one was found; else the demo's."""
        return self.networks[0] if len(self.networks) == 1 else "demo"

    @property
    def missing(self) -> list[str]:
        """The parts that a study needs and that were not found, in words."""
        lacks = {
            "concepts (a folder 'concepts' with one folder of images per concept)": self.concepts,
            "negatives (a folder 'negatives' or 'random')": self.negatives,
            "something to explain (a folder 'classes' with one folder of images per class)": (
                self.classes or self.photographs
            ),
        }
        return [what for what, found in lacks.items() if not found]


def look_into(root: Path) -> FolderContent:
    """Find the parts of a study by the names of folders.

    Negatives may also lie in the folder of concepts.
    """
    concepts = root / "concepts" if _folders(root / "concepts") else None
    above = [root] if concepts is None else [root, concepts]
    negatives = [folder / name for folder in above for name in _NEGATIVES]
    classes = next(filter(None, (_folders(root / name) for name in _CLASSES)), ())
    photographs = (_files(root / name) for name in _PHOTOGRAPHS)
    images = next(filter(None, photographs), _files(root))[:_MOST]
    absent = next((path for path in negatives if is_folder(path)), None)
    taken = {concepts, absent, *(path.parent for path in (*classes, *images))}
    return FolderContent(
        concepts,
        absent,
        classes,
        images,
        tuple(f"python:{path.stem}:build" for path in sorted(root.glob("*.py")) if _builds(path)),
        tuple(path for path in sorted(root.iterdir()) if path.suffix.lower() in _WEIGHTS),
        tuple(path for path in _folders(root) if path not in taken and not _is_result(path)),
        next((root / name for name in _NAMES if is_file(root / name)), None),
    )


def _is_result(folder: Path) -> bool:
    """Whether a folder holds results of a study, finished or not."""
    return is_file(folder / "study.json") or is_file(folder / "run" / "run.json")


def _builds(path: Path) -> bool:
    """Whether a Python file has a function `build` that needs no argument."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return path.stem.isidentifier() and any(
        isinstance(node, ast.FunctionDef)
        and node.name == "build"
        and len(node.args.posonlyargs + node.args.args) == len(node.args.defaults)
        and None not in node.args.kw_defaults
        for node in tree.body
    )


def untold(model: str, base: Path) -> tuple[str, ...]:
    """Return the settings that a network does not bring: those of a bare module.

    Args:
        model: The network.
        base: The folder of the study file, where Python modules are looked for. Their code is
            read, not run.
    """
    scheme, _, function = model.partition(":")
    if scheme != "python":
        return ()
    path = base.joinpath(*function.partition(":")[0].split(".")).with_suffix(".py")
    try:
        finished = _FINISHED.search(path.read_text("utf-8"))
    except (OSError, ValueError):
        finished = None
    return () if finished else ("preprocess", "class_names")


def study_text(holds: FolderContent, base: Path, *, model: str = "demo") -> str:
    """Return a commented study file.

    Args:
        holds: The parts that were found.
        base: The folder of the file.
        model: The network.
    """
    concepts = _path(holds.concepts, base, "concepts")
    negatives = _path(holds.negatives, base, "random")
    for folder in _folders(holds.concepts) if holds.concepts else ():
        if folder != holds.negatives:
            concepts += f"\n  # {folder.name}: {_count(folder)}"
    if holds.negatives:
        negatives += f"\n  # {_count(holds.negatives)}"
    classes = [
        f"  {_text(folder.name)}: {_path(folder, base)}  # {_count(folder)}"
        for folder in holds.classes
    ]
    images = [f"  - {_path(path, base)}" for path in holds.photographs]
    text = resources.files("vtcav.study").joinpath("template.yaml").read_text("utf-8")
    return Template(text).substitute(
        model=_model(model, holds.class_names, base),
        concepts=concepts,
        negatives=negatives,
        classes=_block("classes", classes, "{zebra: classes/zebra}"),
        images=_block("images", images, "[zebra.jpg]"),
        options="\n".join(_option(name, p) for name, p in parameters(Options).items()),
    )


def _model(model: str, names: Path | None, base: Path) -> str:
    """Return the network, with what its user has to add where it does not bring it."""
    if not untold(model, base):
        return f" {_text(model)}"
    found = f"  class_names: {_path(names, base)}  # in the order of the scores\n" if names else ""
    asked = "" if names else "  # class_names: names.txt\n"
    return f"\n  name: {_text(model)}\n{found}{_UNTOLD}{_PREPROCESS}{asked}".rstrip()


def _block(key: str, lines: list[str], example: str) -> str:
    """Return a key with its lines; as a comment, with an example, if there are none."""
    return "\n".join([f"{key}:", *lines]) if lines else f"# {key}: {example}"


def _option(name: str, declared: Parameter) -> str:
    """Return the line of an option: its default, and what it does."""
    value = "null" if declared.default is None else str(declared.default)
    meaning = declared.meaning + (f"; null: {declared.none}" if declared.none else "")
    return f"  {f'{name}: {value.lower()}':<20} # {meaning}"


def _folders(root: Path) -> tuple[Path, ...]:
    return tuple(map(Path, subfolders(root).values())) if is_folder(root) else ()


def _files(root: Path) -> tuple[Path, ...]:
    if not is_folder(root):
        return ()
    files = (path for path in sorted(root.iterdir()) if is_file(path))
    return tuple(p for p in files if p.suffix.lower() in _SUFFIXES and p.name.isprintable())


def _count(folder: Path) -> str:
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
    """Return a text as YAML, in quotes where it needs them; an index as it is."""
    pieces: Sequence[str] = [text]
    line = yaml.safe_dump(pieces, default_flow_style=True, allow_unicode=True, width=10**6)
    return text if text.isdecimal() else line.strip()[1:-1]
