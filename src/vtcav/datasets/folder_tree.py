"""Folder trees of concepts, written from listed images."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcav.datasets.patches import PatchImage
from vtcav.errors import DatasetError, ImageError, why
from vtcav.files.atomic import atomic_path, replace_files
from vtcav.files.csv_text import unmarked, write_csv
from vtcav.files.paths import is_file, is_there, resolved
from vtcav.files.safe_names import folder_names
from vtcav.images.references import ImageRef, write_picture

if TYPE_CHECKING:
    import pandas as pd


_LONGEST = 60


def write_tree(concepts: Mapping[str, Sequence[ImageRef]], folder: Path) -> dict[str, Path]:
    """Write one folder per concept, all or nothing, and a table of the images' sources.

    The table is `FOLDER.sources.csv` beside the folder, as every file inside counts as an image.
    Image files are copied byte by byte. Patches and images from elsewhere become PNG files (TIFF
    where PNG cannot hold their values), without loss. Every name begins with the image's number.

    Args:
        concepts: Images by concept.
        folder: The folder to write to; created when missing.

    Returns:
        The folder of each concept.

    Raises:
        DatasetError: For a name that no folder can have, a folder that exists already, or an image
            that cannot be read or written. Nothing is left behind then.
    """
    safe = folder_names({name: name for name in concepts})
    for name, kept in safe.items():
        if kept != name:
            raise DatasetError(
                f"no folder can be named {name!r} on every system; give the concept another name, "
                f"such as {{{kept!r}: {name!r}}}"
            )
    for name in concepts:
        if is_there(folder / name):
            raise DatasetError(
                f"{str(folder / name)!r} exists already; choose another folder, or remove it"
            )
    try:
        return _write(concepts, folder)
    except ImageError as error:
        raise DatasetError(f"{error}; nothing was left in {str(folder)!r}") from error
    except OSError as error:
        raise DatasetError(
            f"cannot write to {str(folder)!r}: {why(error)}; nothing was left there"
        ) from error


def _write(concepts: Mapping[str, Sequence[ImageRef]], folder: Path) -> dict[str, Path]:
    import pandas as pd

    whole = resolved(folder)
    sources = whole.with_name(f"{whole.name}.sources.csv")
    rows = []
    with atomic_path(sources) as partial, replace_files(folder) as staging:
        for name, refs in concepts.items():
            (staging / name).mkdir()
            for i, ref in enumerate(refs):
                rows.append({"concept": name, **_write_one(ref, i, staging / name)})
        table = pd.DataFrame(rows)
        if is_file(sources):
            table = pd.concat([_earlier(sources, table), table])
        write_csv(partial, table)
    return {name: folder / name for name in concepts}


def _earlier(sources: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the existing table that stay."""
    import pandas as pd

    try:
        found = pd.read_csv(sources, dtype=str, keep_default_na=False).map(unmarked)
    except ValueError as error:
        raise DatasetError(f"cannot add to the table {str(sources)!r}: {error}") from error
    if list(found.columns) != list(table.columns):
        raise DatasetError(
            f"{str(sources)!r} is another table; move it, as the table of sources is written there"
        )
    # rows of folders that were removed since are out of date
    return found[~found["concept"].isin(table["concept"])]


def _write_one(ref: ImageRef, number: int, folder: Path) -> dict[str, Any]:
    """Write one image and return its row of the table."""
    stem, suffix = _stem(ref.photograph.name)
    if ref.path is not None:
        ref.load()  # a file that is no picture fails here, not later
        file = folder / f"{number:04d}_{stem}{suffix}"
        shutil.copyfile(ref.path, file)
    else:
        file = write_picture(ref.load(), folder, f"{number:04d}_{stem}", source=ref.name)
    box = ref.box if isinstance(ref, PatchImage) else ("", "", "", "")
    return {
        "file": file.name,
        "source": ref.photograph.name,
        **dict(zip(("left", "top", "right", "bottom"), box, strict=True)),
        "source_sha256": ref.photograph.digest(),
    }


def _stem(name: str) -> tuple[str, str]:
    """Return a short and safe name for a file, and its suffix."""
    bare = re.split(r"[/\\]", name)[-1]
    stem, dot, suffix = bare.rpartition(".")
    known = dot and re.fullmatch(r"[A-Za-z0-9]{1,5}", suffix)
    stem = re.sub(r"[^\w.-]+", "_", stem if known else bare)[:_LONGEST].strip("._") or "image"
    return stem, f".{suffix}" if known else ""
