"""Concept maps of volumes as NIfTI files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vtcav.errors import ExtraError, warn
from vtcav.files.safe_names import folder_names
from vtcav.images.input_box import rescaled
from vtcav.images.medical.nifti import write_volume


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
