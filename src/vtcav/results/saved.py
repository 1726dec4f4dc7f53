"""The declarations of saved results: columns of their tables, pictures, maps and provenance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from vtcav.errors import ExtraError, warn
from vtcav.files.manifest import read_table
from vtcav.files.safe_names import folder_names
from vtcav.files.schema import ANY_OR_NONE, Column, Letters, Saved, checked_array, checked_table
from vtcav.images.input_box import Shares, rescaled
from vtcav.images.medical.nifti import write_volume
from vtcav.images.references import Skipped

THUMBNAIL = 96
_TEXT, _NUMBER = Column(str), Column(float, gaps=True)
_SHARE = Column(float, 0, 1 + 1e-6, gaps=True)
_COUNT = Column(int, 0)

COLUMNS: Mapping[str, Column] = {
    **dict.fromkeys(
        ("image", "layer", "concept", "class_name", "predicted_class", "true_class"), _TEXT
    ),
    **dict.fromkeys(("note", "same_region", "confused_with"), _TEXT),
    **dict.fromkeys(("kind", "check", "level", "meaning", "other"), _TEXT),
    **dict.fromkeys(("set", "other_set", "other_image", "nearest", "factorisation"), _TEXT),
    **dict.fromkeys(
        ("class_index", "evaluations", "placebos", "draw", "n", "wrong", "right"), _COUNT
    ),
    **dict.fromkeys(("examples", "negatives", "k", "stable", "fine"), _COUNT),
    **dict.fromkeys(("separated", "raised", "measured"), Column(bool)),
    **dict.fromkeys(("p_value", "q_value"), _SHARE),
    # scores of one's own and those of a regression are no probabilities
    **dict.fromkeys(("probability", "probability_without"), _NUMBER),
    **dict.fromkeys(("presence", "area", "seen", "auc", "present_wrong", "present_right"), _SHARE),
    **dict.fromkeys(("told", "area_apart"), _SHARE),
    **dict.fromkeys(("attribution", "mean"), Column(float)),
    **dict.fromkeys(("error", "reference_std", "placebo_std"), Column(float, 0, gaps=True)),
    **dict.fromkeys(("cav_low", "cav_high", "null_mean", "effect", "low", "high"), _NUMBER),
    **dict.fromkeys(("logit", "without", "drop", "drop_low", "drop_high", "share"), _NUMBER),
    "drop_apart": _NUMBER,
    **dict.fromkeys(("reference", "placebo_mean", "value", "stability", "similarity"), _NUMBER),
    **dict.fromkeys(("e_pos", "e_neg", "seeds", "halves", "noise", "cosine"), _NUMBER),
    **dict.fromkeys(("prevalence", "median"), _NUMBER),
}
"""The columns of saved tables: a name means the same in all of them."""

Names = Annotated[tuple[Letters, ...], Field(min_length=1)]
Name = Annotated[Letters, Field(min_length=1)]
Number = Annotated[float, Field(allow_inf_nan=False)]


NO_REGIONS = np.zeros((0, 0, 0), bool)
NO_MAPS = np.zeros((0, 0, 0), np.float32)
NO_PICTURE = np.zeros((0, 0, 3), np.uint8)


class ErasedNumbers(Saved):
    """The numbers of a picture without a region."""

    image: str
    concept: str
    drop: Number
    share: Number | None
    slice: str = ""


class SavedLocal(Saved):
    """The manifest of an explanation of an image."""

    image: str
    layers: Names
    concepts: Names
    box: Shares
    best_layers: Mapping[str, str] = Field(default_factory=dict)
    affine: tuple[tuple[float, float, float, float], ...] | None = None


class SavedGlobal(Saved):
    """The manifest of an explanation of a class."""

    class_index: Annotated[int, Field(ge=0)]
    class_name: str
    layers: Names
    concepts: Names
    skipped: tuple[Skipped, ...]
    best_layers: Mapping[str, str] = Field(default_factory=dict)
    groups: Mapping[str, str] = Field(default_factory=dict)  # of older files
    erased: tuple[ErasedNumbers, ...] = ()


def read_columns(
    folder: str | Path, name: str, columns: Iterable[str], values: Mapping[str, Any] = {}
) -> pd.DataFrame:
    """Return a table of a saved result, with its columns in their kinds.

    Args:
        folder: The folder.
        name: The table's name.
        columns: Its columns.
        values: The only texts of some columns.

    Raises:
        ValueError: Naming the first column that does not fit.
    """
    return checked_table(
        read_table(Path(folder) / name), name, {c: COLUMNS[c] for c in columns}, values
    )


def read_predictions(folder: str | Path, name: str) -> pd.DataFrame:
    """Return the predictions of a saved result, the most probable class first.

    Raises:
        ValueError: When there are none, or two of a class.
    """
    table = read_columns(folder, name, ("class_index", "class_name", "probability"))
    if table.empty or not table["class_index"].is_unique:
        raise ValueError(f"{name}: expected one row for each class")
    return table


def read_best(
    best: Mapping[str, str], layers: Sequence[str], concepts: Sequence[str]
) -> Mapping[str, str]:
    """Return the layers to read first, by concept.

    Raises:
        ValueError: When one is unknown.
    """
    if not (set(best) <= set(concepts) and set(best.values()) <= set(layers)):
        raise ValueError(f"best_layers: expected concepts and layers of this result, got {best}")
    return best


def read_picture(
    arrays: Mapping[str, NDArray[Any]], name: str, *, volume: bool = False
) -> NDArray[np.uint8]:
    """Return a picture, uint8 [H, W, 3], or the slices of a volume [D, H, W, 3] where allowed.

    Raises:
        ValueError: When it is missing, or is none.
    """
    sides = 3 if volume and name in arrays and arrays[name].ndim == 4 else 2
    return checked_array(arrays, name, "uint8", *[-1] * sides, 3)


def read_thumbnails(
    arrays: Mapping[str, NDArray[Any]], concepts: Sequence[str]
) -> dict[str, NDArray[np.uint8]]:
    """Return the thumbnails of concepts by name, uint8 [n, 96, 96, 3].

    Raises:
        ValueError: When some are missing, or are none.
    """
    if len(set(concepts)) < len(concepts):
        raise ValueError("two concepts have one name")
    shape = ANY_OR_NONE, THUMBNAIL, THUMBNAIL, 3
    return {
        name: checked_array(arrays, f"thumbnails/{k}", "uint8", *shape)
        for k, name in enumerate(concepts)
    }


def read_map(arrays: Mapping[str, NDArray[Any]], name: str, *shape: int) -> NDArray[np.float32]:
    """Return concept maps, float32 in [0, 1].

    Raises:
        ValueError: When they are missing, or are none.
    """
    return checked_array(arrays, name, "float32", *shape, within=(-1e-6, 1 + 1e-6))


def read_box(box: Shares) -> Shares:
    """Return the network's input on a picture.

    Raises:
        ValueError: When it is no box.
    """
    left, top, right, bottom = box
    if not (left < right and top < bottom and all(map(math.isfinite, box))):
        raise ValueError(f"box: expected left, top, right and bottom, got {box}")
    return box


def check_order(rows: pd.DataFrame, name: str, **keys: Sequence[Any]) -> None:
    """Check that a table has a row for each combination of values, in order, once an image.

    Args:
        rows: Ordered by image, then by the keys.
        name: The table's name, for messages.
        keys: The values of columns, in their order.

    Raises:
        ValueError: When rows are missing, double or elsewhere.
    """
    block = pd.MultiIndex.from_product(list(keys.values()), names=list(keys))
    fits = len(block) > 0 and len(rows) > 0 and len(rows) % len(block) == 0
    for column in keys if fits else ():
        found = rows[column].to_numpy(object).reshape(-1, len(block))
        fits = fits and bool((found == block.get_level_values(column).to_numpy(object)).all())
    if fits:
        images = rows["image"].to_numpy(object).reshape(-1, len(block))
        fits = bool((images == images[:, :1]).all())
    if not fits:
        raise ValueError(
            f"{name}: expected one row an image for each {' and '.join(keys)}, in order"
        )


def write_maps(
    folder: Path,
    maps: Mapping[str, NDArray[np.float32]],
    concepts: Sequence[str],
    size: Sequence[int],
    affine: NDArray[np.float64] | None,
) -> None:
    """Write every concept map of a volume as `local_map_LAYER_CONCEPT.nii.gz`.

    Args:
        folder: Where.
        maps: By layer, M of every concept [K, d, h, w].
        concepts: K names.
        size: (D, H, W) of the network's input.
        affine: The matrix of the input's voxels; None writes cells in units of its voxels.

    Warns:
        UserWarning: Without nibabel, when nothing is written.
    """
    pairs = {f"{layer}\n{k}": (layer, k) for layer in maps for k in range(len(concepts))}
    names = folder_names({key: f"{layer}_{concepts[k]}" for key, (layer, k) in pairs.items()})
    own = np.eye(4) if affine is None else affine
    try:
        for key, (layer, k) in pairs.items():
            M = maps[layer][k]
            cells = rescaled(own, [(0, side) for side in size], M.shape)
            write_volume(folder / f"local_map_{names[key]}.nii.gz", M, cells)
    except ExtraError as error:
        warn(f"concept maps are saved as NPZ and not as NIfTI: {error}")


def read_affine(rows: Sequence[Sequence[float]] | None) -> NDArray[np.float64] | None:
    """Return a matrix that was saved.

    Raises:
        ValueError: When it is no matrix [4, 4] of finite numbers that can be inverted.
    """
    if rows is None:
        return None
    affine = np.array(rows, float)
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or not np.linalg.det(affine):
        raise ValueError("affine: expected a matrix [4, 4] that can be inverted")
    return affine


def numbered(
    thumbnails: Mapping[str, NDArray[np.uint8]], concepts: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """Return thumbnails under keys without the concepts' names, which are paths in an archive."""
    return {f"thumbnails/{k}": thumbnails[name] for k, name in enumerate(concepts)}


def read_erased(stored: Mapping[str, NDArray[Any]], concepts: Sequence[str]) -> dict[str, Any]:
    """Return what was erased, where a result has it."""
    if stored.get("regions", NO_REGIONS).size == 0:
        return {}
    # an earlier version kept regions without pictures
    kept = stored.get("input", NO_PICTURE).size > 0
    seen = read_picture(stored, "input", volume=True) if kept else NO_PICTURE
    side = seen.shape[:-1] if kept else (-1, -1)
    regions = checked_array(stored, "regions", "bool", len(concepts), *side)
    filled = {
        name: checked_array(stored, f"filled/{k}", "uint8", *seen.shape)
        for k, name in enumerate(concepts)
        if f"filled/{k}" in stored
    }
    return {
        "_regions": regions,
        "_together": read_map(stored, "together", len(concepts), *[-1] * (regions.ndim - 1))
        if "together" in stored
        else NO_MAPS,
        "_input": seen,
        "_filled": {
            name: np.where(regions[concepts.index(name), ..., None], picture, seen)
            for name, picture in filled.items()
        },
    }
