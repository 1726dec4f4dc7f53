"""Export of concepts made in the explorer, to folders of images and files of CAVs.

```
FOLDER/concepts/NAME/001.png ...     FOLDER/negatives/NAME/001.png ...     FOLDER/NAME.safetensors
```
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from vtcav.errors import ConceptError, VtcavError, why
from vtcav.explainer.settings import FitSettings
from vtcav.explorer.pictures import PictureRef
from vtcav.explorer.schemas import Form
from vtcav.files.paths import is_there
from vtcav.images.decoding import INVERTED, VOI, WHITE, BandPicture, as_rgb, shallow
from vtcav.images.file_names import hidden
from vtcav.images.preprocess import Preprocess
from vtcav.images.references import write_picture
from vtcav.images.scaling import Scale
from vtcav.results.bank.cav_bank import CavBank

_SUFFIXES = {
    *(".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    *(".npy", ".npz", ".dcm", ".dicom"),
}


class ExistsError(VtcavError):
    """A concept of this name was saved before."""


def save_folders(
    root: Path,
    name: str,
    sets: Mapping[str, Sequence[PictureRef]],
    preprocess: object = None,
    *,
    replace: bool,
) -> list[Path]:
    """Write a concept as a folder of examples and one of negatives, as `vtcav explain` takes them.

    Patches are written without loss, and files keep their order, so the numbers stay the same.

    Args:
        root: The explorer's folder.
        name: The concept's name.
        sets: Its images, and those that it is contrasted with: "concepts" and "negatives".
        preprocess: The network's preprocessing.
        replace: Whether to replace what was saved under this name before.

    Returns:
        The two folders.

    Raises:
        ExistsError: When the name was saved before and `replace` is not set.
        ConceptError: For an invalid name, when the folder cannot be written, and for a patch whose
            values mean something that no file of it would say.
    """
    folder = _file_name(name)
    targets = {part: _inside(root, part, folder) for part in sets}
    if not replace and any(is_there(target) for target in targets.values()):
        raise ExistsError(f"a concept {folder!r} is saved already")
    try:
        root.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".saving-", dir=root, ignore_cleanup_errors=True) as staging:
            for part, refs in sets.items():
                _write(Path(staging, part), refs, preprocess)
                targets[part].parent.mkdir(exist_ok=True)
            _replace(Path(staging), targets)
    except OSError as error:
        raise ConceptError(f"cannot write to {str(root)!r}: {why(error)}") from error
    return list(targets.values())


def _replace(staging: Path, targets: Mapping[str, Path]) -> None:
    """Move folders to their places, all or none: what was there comes back when one fails.

    Raises:
        OSError: When one cannot be moved.
    """
    undo = contextlib.ExitStack()
    with undo:
        for part, target in targets.items():
            if is_there(target):
                old = staging / f"old {part}"
                target.rename(old)
                undo.callback(old.rename, target)
            (staging / part).rename(target)
            undo.callback(target.rename, staging / part)
        undo.pop_all()


def save_bank(root: Path, name: str, bank: CavBank, *, replace: bool) -> Path:
    """Write a concept's CAVs as a file that `vtcav explain --cavs` takes.

    Raises:
        ExistsError: When there is a file of this name and `replace` is not set.
        ConceptError: For an invalid name.
        CavError: When the file cannot be written.
    """
    path = _inside(root, f"{_file_name(name)}.safetensors")
    if is_there(path) and not replace:
        raise ExistsError(f"{path.name!r} is saved already")
    bank.save(path)
    return path


def command(root: Path, name: str, model: str | Sequence[str], form: Form, examples: int) -> str:
    """Return the command that uses what was saved, or why it cannot be used yet.

    Args:
        root: The explorer's folder.
        name: The concept's name.
        model: The network as `--model` takes it, and the words of further options.
        form: What was saved.
        examples: The number of examples.
    """
    network = "--model", *([model] if isinstance(model, str) else model)
    if form == "cavs":
        path = root / f"{_file_name(name)}.safetensors"
        return _shell("vtcav", "explain", "PHOTO", *network, "--cavs", path, "-o", "out")
    least = FitSettings.min_examples
    if examples < least:
        return (
            f"vtcav explain refuses a folder of fewer than {least} examples: add "
            f"{least - examples} more, or save a CAV file to continue with these"
        )
    sets = "--concepts", root / "concepts", "--negatives", root / "negatives"
    return _shell("vtcav", "explain", "PHOTO", *network, *sets, "-o", "out")


def _shell(*words: str | Path) -> str:
    """Return a command to paste into a shell, whatever is in its words."""
    texts = list(map(str, words))
    return subprocess.list2cmdline(texts) if os.name == "nt" else shlex.join(texts)


def _file_name(name: str) -> str:
    """Return a concept's name as a folder or file can have it.

    Raises:
        ConceptError: For a name that leads out of the folder, is hidden or is empty.
    """
    stripped = name.strip()
    if not stripped:
        raise ConceptError("give the concept a name first")
    if any(letter in stripped for letter in "/\\") or hidden(stripped):
        raise ConceptError(
            f"{stripped!r} cannot be the name of a concept's folder: expected one without / and "
            "\\ that does not begin with a dot and is no folder of the system"
        )
    return re.sub('[<>:"|?*]', "_", stripped).rstrip(". ")


def _inside(root: Path, *parts: str) -> Path:
    """Return a path that stays below the root, whatever links there are.

    Raises:
        ConceptError: When it would leave the root.
    """
    path = root.joinpath(*parts)
    if not path.parent.resolve().is_relative_to(root.resolve()) or path.is_symlink():
        raise ConceptError(f"{str(path)!r} leads out of the explorer's folder")
    return path


def _write(folder: Path, refs: Sequence[PictureRef], preprocess: object) -> None:
    """Write images in their order: files as they are, anything else without loss."""
    folder.mkdir()
    for i, ref in enumerate(refs, start=1):
        suffix = Path(ref.name).suffix.lower()
        if suffix in _SUFFIXES and isinstance(ref.source, bytes):
            (folder / f"{i:04d}{suffix}").write_bytes(ref.source)
        elif suffix in _SUFFIXES and ref.path is not None:
            shutil.copyfile(ref.path, folder / f"{i:04d}{suffix}")
        else:
            picture = _writable(ref.load(), ref.name, preprocess)
            write_picture(picture, folder, f"{i:04d}")


def _writable(picture: Image.Image, name: str, preprocess: object) -> Image.Image:
    """Return a picture whose file, read again, gives the network the same values.

    Raises:
        ConceptError: When no file would say what its values mean.
    """
    own = preprocess if isinstance(preprocess, Preprocess) else None
    if isinstance(picture, BandPicture) and picture.holds != "values":
        count = None if own is None else own.channels
        every = picture.values.shape[2] == count
        return BandPicture.of(picture.values) if every else picture
    if shallow(picture) or not {VOI, INVERTED, WHITE} & set(picture.info):
        return picture
    stated = own is not None and bool(own.ranges)
    if stated and not picture.info.get(INVERTED):
        return picture  # its own window does not count
    if stated or own is None:
        raise ConceptError(
            f"the values of {name!r} go by what its file says (a window, or that large values are "
            "dark), which a file of a patch cannot; save the concept as a CAV file, or take whole "
            "images"
        )
    if own.rounds:
        return as_rgb(picture)
    unit = Scale().unit(np.asarray(picture)[..., None], picture.info)
    return Image.fromarray(unit[..., 0])
