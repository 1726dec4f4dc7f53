"""Test images with known cues, and the concept maps of these cues.

Drawn scenes and a user's photographs differ only in the origin of the images. From here on both are
the same: images that show cues of their classes, masks of the cues, and the concepts that stand for
them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from vtcav.evaluation.metrics import at_resolution, localise
from vtcav.explainer.layer_result import NOT_SEPARATED

if TYPE_CHECKING:
    from vtcav.explainer.visual_tcav import VisualTCAV

__all__ = ["Trial", "map_table", "own_maps"]


@dataclass(frozen=True, eq=False)
class Trial:
    """Test images.

    Attributes:
        classes: The classes' names.
        labels: The class of each image [N].
        pictures: uint8 [N, H, W, 3], with the cues of their classes.
        x: The same as the network's input [N, 3, H, W].
        masks: The location of each cue, bool [N, H, W].
        concepts: By cue, the name of the concept that is the cue of each class.
    """

    classes: tuple[str, ...]
    labels: NDArray[np.intp]
    pictures: NDArray[np.uint8]
    x: Tensor
    masks: Mapping[str, NDArray[np.bool_]]
    concepts: Mapping[str, tuple[str, ...]]

    @property
    def cues(self) -> tuple[str, ...]:
        """The known cues of a class."""
        return tuple(self.concepts)

    def of_class(self, t: int) -> NDArray[np.intp]:
        """Return the positions of the images of a class."""
        return np.flatnonzero(self.labels == t)


def map_table(explainers: Mapping[str, VisualTCAV], trial: Trial) -> pd.DataFrame:
    """Return how well the maps of each image's own cues agree with the true masks.

    Args:
        explainers: By method, of one network and the same concepts.
        trial: The images.
    """
    rows = []
    first = next(iter(explainers.values()))
    for layer, F in first.model.activations(trial.x, first.layers).items():
        for method, explainer in explainers.items():
            cavs = explainer.cavs.layers[layer]
            M, separated = cavs.maps(F).cpu().numpy(), cavs.separated.numpy()
            key = {"method": method, "layer": layer}
            rows += [key | row for row in _map_rows(M, separated, first.cavs.names, trial)]
    return pd.DataFrame(rows)


def _map_rows(
    M: NDArray[np.float32], separated: NDArray[np.bool_], names: tuple[str, ...], trial: Trial
) -> Iterator[dict[str, Any]]:
    """Yield the metrics of the maps of each image's own cues; M is [N, K, h, w]."""
    for i, t in enumerate(trial.labels.tolist()):
        for cue in trial.cues:
            k = names.index(trial.concepts[cue][t])
            row = localise(M[i, k], at_resolution(trial.masks[cue][i], M.shape[2:])).to_dict()
            if not separated[k]:
                row["note"] = NOT_SEPARATED
            name = trial.classes[t]
            yield {"class_index": t, "class_name": name, "cue": cue, "image": i, **row}


def own_maps(explainer: VisualTCAV, trial: Trial) -> dict[str, dict[str, NDArray[np.float32]]]:
    """Return the maps of each image's own cues, by layer and cue [N, h, w]."""
    names, images = explainer.cavs.names, range(len(trial.labels))
    found = {}
    for layer, F in explainer.model.activations(trial.x, explainer.layers).items():
        M = explainer.cavs.layers[layer].maps(F).cpu().numpy()
        found[layer] = {
            cue: M[images, [names.index(trial.concepts[cue][t]) for t in trial.labels]]
            for cue in trial.cues
        }
    return found
