"""One image explained (steps 4 to 9), or a region erased from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vtcav.errors import ExplanationError, ImageError, brief
from vtcav.explainer.attributor import Attributor
from vtcav.explainer.erasing.allotment import Allotment
from vtcav.explainer.erasing.by_hand import HandEraser
from vtcav.explainer.forward_pass import ForwardPass
from vtcav.images.cropping import warn_of_cropping
from vtcav.images.fitting.blank import warn_of_blank
from vtcav.images.input_box import input_affine, shown_input, shown_picture
from vtcav.images.listing import ImageSource, collect
from vtcav.images.marked_region import RegionSource
from vtcav.images.preprocess import to_tensor
from vtcav.models.base import Model
from vtcav.results.bank.cav_bank import CavBank
from vtcav.results.effect_tables import effect_table
from vtcav.results.erasure import Erasure
from vtcav.results.local_explanation import LocalExplanation
from vtcav.results.provenance import Provenance
from vtcav.results.rows import Row
from vtcav.results.tables.shapes import predictions, table


@dataclass(frozen=True, eq=False)
class OneImage:
    """An image to explain.

    Attributes:
        name: Its name.
        digest: SHA-256 of its content.
        picture: The upright picture.
        x: The network's input [3, H, W].
    """

    name: str
    digest: str
    picture: Image.Image
    x: Tensor

    @classmethod
    def read(cls, image: ImageSource, model: Model, *, erases: bool = False) -> OneImage:
        """Read the one image of a source.

        Raises:
            ImageError: When it cannot be read, or there is more than one.
        """
        refs = collect(image)
        if len(refs) != 1:
            if erases:
                raise ImageError(f"erase takes one image, got {len(refs)}")
            raise ImageError(
                f"explain takes one image, got {len(refs)}; use explain_class for many"
            )
        if not erases:  # of a marked region a note says what the network does not see
            warn_of_cropping([refs], model.preprocess)
        picture, name = refs[0].load(), refs[0].name
        x = to_tensor(model.preprocess, picture, name)
        warn_of_blank(name, picture, x)
        return cls(name, refs[0].digest(), picture, x)

    def explained(
        self, attributor: Attributor, images: ForwardPass, classes: list[int]
    ) -> LocalExplanation:
        """Return the explanation of this image, from its pass."""
        attributor.measure_precision([images], classes)
        model, cavs = attributor.model, attributor.cavs
        regions = attributor.eraser.regions(images)
        filled: dict[tuple[int, int], Tensor] = {}
        allotment = Allotment(attributor.erasure.placebos)
        effects = attributor.effects(images, regions, classes, allotment, filled)
        together = attributor.eraser.together(images)
        learned_from = cavs.concepts_of(self.digest)
        rows: list[Row] = []
        maps: dict[str, NDArray[np.float32]] = {}
        for result in attributor.results(images, classes):
            maps[result.layer] = result.M[0].cpu().numpy()
            rows += result.rows(self.name, model.class_names, learned_from=learned_from)
        shown, box = shown_picture(self.picture, self.x, model.preprocess)
        return LocalExplanation(
            image=self.name,
            layers=tuple(layer.name for layer in attributor.layers),
            concepts=cavs.names,
            picture=shown,
            box=box,
            thumbnails=dict(cavs.thumbnails),
            provenance=attributor.provenance({"classes": classes, "image_sha256": self.digest}),
            _rows=table(rows, list(Row._fields), cavs.null_cavs),
            _predictions=predictions(images.probabilities[0], model.class_names),
            _maps=maps,
            _effects=effect_table(effects),
            _regions=regions.H[0].bool().cpu().numpy(),
            _together=together[0].cpu().numpy(),
            _input=shown_input(self.x, model.preprocess, self.x),
            _filled={
                cavs.names[k]: shown_input(x, model.preprocess, self.x)
                for (_, k), x in filled.items()
            },
            best_layers=cavs.best_layers,
            affine=input_affine(self.picture, model.preprocess),
        )

    def erased(
        self,
        hand: HandEraser,
        region: RegionSource,
        images: ForwardPass,
        classes: list[int],
        cavs: CavBank | None,
    ) -> Erasure:
        """Return the effect of erasing a marked region from this image, from its pass."""
        before_and_after, rows = hand.erase(region, self.picture, images, classes)
        shown, box = shown_picture(self.picture, self.x, hand.model.preprocess)
        settings = {
            **hand.settings.describe(),
            "region": before_and_after.concept,
            "classes": classes,
            "image_sha256": self.digest,
        }
        return Erasure(
            image=self.name,
            region=before_and_after.concept,
            picture=shown,
            box=box,
            erased=before_and_after,
            provenance=Provenance.of(hand.model, [], cavs, settings),
            _effects=effect_table(rows),
            _predictions=predictions(images.probabilities[0], hand.model.class_names),
        )


def wanted_classes(
    model: Model, classes: int | str | Sequence[str | int], probabilities: Tensor
) -> list[int]:
    """Return the class indices asked for.

    Args:
        model: The network.
        classes: A number of top classes, or names or indices in a list.
        probabilities: Of all classes [T].

    Raises:
        ModelError: For an unknown class.
        ExplanationError: For `classes` that are neither a number nor a list.
    """
    if isinstance(classes, str):
        classes = [classes]
    if isinstance(classes, int | np.integer) and not isinstance(classes, bool) and classes >= 1:
        order = probabilities.argsort(descending=True, stable=True)
        return [int(i) for i in order[: int(classes)]]
    if not isinstance(classes, Iterable):
        raise ExplanationError(
            f"expected classes to be a number of top classes (at least 1) or a list of "
            f"names or indices, got {brief(classes)}"
        )
    wanted = list(dict.fromkeys(model.class_index(c) for c in classes))
    if not wanted:
        raise ExplanationError("classes is empty: name at least one class, or a number")
    return wanted
