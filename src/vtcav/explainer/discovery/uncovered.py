"""What the named concepts leave of the attribution of the predicted classes, image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from vtcav.explainer.attributor import Attributor
from vtcav.images.batches import Batches
from vtcav.images.input_box import shown_input
from vtcav.images.references import ImageRef
from vtcav.method.discovery.coverage import coverage
from vtcav.models.memory import IMAGES, Budget

Uncovered = list[NDArray[np.float32]]
Pictures = dict[str, NDArray[np.uint8]]
_SIDE = 192  # most pixels of a picture that is kept


def uncovered(
    attributor: Attributor, layers: Sequence[str], of_classes: Mapping[int, Sequence[ImageRef]]
) -> tuple[pd.DataFrame, Uncovered, Pictures]:
    """Return what the concepts of a bank cover of the predicted classes' attributions.

    Args:
        attributor: Of the named concepts.
        layers: The layers to look at, which the bank has.
        of_classes: Images by the class that is predicted for them.

    Returns:
        One row per image and layer (layer, image, class_index, class_name, attribution, covered),
        for each row the attribution that is not covered [h, w], and the images as the network sees
        them, by name, uint8 [H, W, 3].
    """
    rows, maps, pictures, model = [], Uncovered(), Pictures(), attributor.model
    for index, refs in of_classes.items():
        for batch in Batches(refs, model.preprocess, IMAGES):
            passed = attributor.forward(batch.names, batch.x)
            for name, x in zip(batch.names, batch.x, strict=True):
                small = Image.fromarray(shown_input(x, model.preprocess, x))
                small.thumbnail((_SIDE, _SIDE))
                pictures[name] = np.array(small)
            for layer in layers:
                here = attributor.layer_images(layer, passed, [index])
                size = Budget(attributor.settings.batch_size).of(here.head, here.F, 1)
                IG = here.integral(attributor.settings, size).IG
                pair = coverage(*here.relevance(IG, here.all), here.concept_maps, here.pooled)
                total, covered = (each[:, 0].cpu() for each in pair)
                for name, whole, part in zip(batch.names, total, covered, strict=True):
                    maps.append((whole - part).numpy())
                    row = layer, name, index, model.class_names[index]
                    rows.append((*row, float(whole.sum()), float(part.sum())))
    names = ["layer", "image", "class_index", "class_name", "attribution", "covered"]
    return pd.DataFrame(rows, columns=names), maps, pictures
