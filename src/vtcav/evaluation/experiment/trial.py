"""Test images with known cues, and the concept maps of these cues.

Drawn scenes and a user's photographs differ only in the origin of the images. Both become a
`Trial`: images that show cues of their classes, the same images without the cues, masks of the
cues, and the concepts that represent them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from vtcav.evaluation.metrics import at_resolution, localise
from vtcav.explainer.layer_result import NOT_SEPARATED

if TYPE_CHECKING:
    from vtcav.explainer.visual_tcav import VisualTCAV


@dataclass(frozen=True, eq=False)
class Trial:
    """Test images.

    Attributes:
        classes: The classes' names.
        labels: The class of each image [N].
        versions: The images, uint8 [N, H, W, 3]: "whole" with the cues of their classes, and
            "without_tag", ... without some of them; "against" with the tag of another class.
        x: The whole images as the network's input [N, 3, H, W].
        masks: The location of each cue, bool [N, H, W].
        concepts: By cue, the name of the concept that is the cue of each class.
        others: The class whose tag each of the images "against" shows [N].
    """

    classes: tuple[str, ...]
    labels: NDArray[np.intp]
    versions: Mapping[str, NDArray[np.uint8]]
    x: Tensor
    masks: Mapping[str, NDArray[np.bool_]]
    concepts: Mapping[str, tuple[str, ...]]
    others: NDArray[np.intp]

    @property
    def pictures(self) -> NDArray[np.uint8]:
        """The images with the cues of their classes, uint8 [N, H, W, 3]."""
        return self.versions["whole"]

    @property
    def cues(self) -> tuple[str, ...]:
        """The known cues of a class."""
        return tuple(self.concepts)

    def of_class(self, t: int) -> NDArray[np.intp]:
        """Return the positions of the images of a class."""
        return np.flatnonzero(self.labels == t)


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


def map_table(explainers: Mapping[str, VisualTCAV], trial: Trial) -> pd.DataFrame:
    """Return the agreement of the maps of each image's own cues with the true masks.

    Args:
        explainers: By method, of one network and the same concepts.
        trial: The images.
    """
    rows = []
    maps = {method: own_maps(explainer, trial) for method, explainer in explainers.items()}
    for layer in next(iter(maps.values())):
        for method, explainer in explainers.items():
            cavs, names = explainer.cavs.layers[layer], explainer.cavs.names
            for i, t in enumerate(trial.labels.tolist()):
                for cue in trial.cues:
                    M = maps[method][layer][cue][i]
                    row = localise(M, at_resolution(trial.masks[cue][i], M.shape)).to_dict()
                    if not cavs.separated[names.index(trial.concepts[cue][t])]:
                        row["note"] = NOT_SEPARATED
                    key = {"method": method, "layer": layer, "class_index": t}
                    key |= {"class_name": trial.classes[t], "cue": cue, "image": i}
                    rows.append(key | row)
    return pd.DataFrame(rows)
