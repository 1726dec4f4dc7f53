"""Comparison of concept maps with masks of the concepts, over many images."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vtcav.errors import ExplanationError, ImageError, warn
from vtcav.evaluation.localisation.masked_image import MaskedImage, shrunk
from vtcav.evaluation.localisation.result import FolderLocalisation
from vtcav.evaluation.metrics import at_resolution, localise
from vtcav.explainer.visual_tcav import VisualTCAV
from vtcav.images.batches import Batch, Batches
from vtcav.images.input_box import Shares, input_box, shown_picture
from vtcav.images.listing import ImageSource, collect, draw
from vtcav.images.masks import MaskReader, MaskSource, MaskValue, find_masks
from vtcav.images.preprocess import Preprocess
from vtcav.images.progress import progress_bar
from vtcav.images.references import ImageRef, Skipped, SkippedImageWarning, with_reasons
from vtcav.images.volumes import check_pictures
from vtcav.models.finite import check_finite
from vtcav.parameters import Words, as_list, check

NOT_SEPARATED = "not separated: e+ <= e-, so the map is 0"
EXAMPLES = 2
"""Images of each concept in the figure."""

_WHOLE: Shares = (0.0, 0.0, 1.0, 1.0)


def localise_folder(
    explainer: VisualTCAV,
    images: ImageSource,
    masks: MaskSource | Mapping[str, MaskSource],
    concept: str | Sequence[str] | None = None,
    *,
    value: MaskValue | Mapping[str, MaskValue] = None,
    at: Literal["picture", "input"] = "picture",
    limit: int | None = None,
    seed: int = 0,
    strict: bool = False,
    batch_size: int = 16,
) -> FolderLocalisation:
    """Measure how well the maps of concepts agree with masks, at every layer.

    Each mask is brought to the cells of the map through the preprocessing: the parts that a crop
    cuts off do not count, and padding around the picture is outside of the mask.

    Args:
        explainer: With its concepts learned.
        images: In any form that `fit` takes.
        masks: A folder of masks named like the images (`cats/1.jpg` has `cats/1.png`), or one
            mask for each image; for masks of several concepts a mapping from their names.
        concept: The concept that the masks show. With several names the maps of each are compared
            with the same masks: a concept that is elsewhere should do worse. None takes the names
            in `masks` or `value`, or the only concept of the explainer.
        value: The values in the masks that mark the concept, or a mapping from concepts to these;
            see `masks.MaskReader`. None takes boolean masks, 0 and 255, or shares in [0, 1].
        at: "picture" for masks of the picture's proportions; "input" for masks of the network's
            input, which a preprocessing other than `Preprocess` needs.
        limit: At most this many of the images that have a mask, drawn with `seed`.
        seed: Seeds the draw.
        strict: Whether an image that cannot be used is an error.
        batch_size: Images per pass through the network.

    Returns:
        The metrics of every image, layer and concept.

    Raises:
        ExplanationError: For masks, concepts or settings that do not go together.
        ImageError: When no image can be used, or one cannot when `strict`.
        CavError: Before `fit`, for an unknown concept, or when the weights have changed since.

    Example:
        >>> import numpy as np, torch, vtcav
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 5, stride=2), torch.nn.ReLU(),
        ...     torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 3))
        >>> model = vtcav.Classifier(net, ["cat", "dog", "fox"], vtcav.Preprocess(32))
        >>> noise = np.random.default_rng(0).integers(0, 255, (20, 32, 32, 3)).astype(np.uint8)
        >>> explainer = vtcav.VisualTCAV(model, ["1"])
        >>> explainer = explainer.fit({"dark": noise[:10] // 4}, noise[10:])
        >>> masks = np.zeros((2, 32, 32), bool)
        >>> masks[:, :16] = True
        >>> found = localise_folder(explainer, noise[:2], masks, "dark")
        >>> found.table[["concept", "area"]].values.tolist()
        [['dark', 0.5], ['dark', 0.5]]
    """
    check("at", at, Words("picture", "input"))
    model = explainer.model
    if at == "picture" and not isinstance(model.preprocess, Preprocess):
        raise ExplanationError(
            "the preprocessing is a callable, so it is not known which part of the picture the "
            "network sees; use vtcav.Preprocess, or give masks of the network's input: at='input'"
        )
    explainer.check_cavs()
    check_pictures(explainer.model.preprocess, "localisation by masks")
    names = _names(explainer, masks, concept, value)
    values = value if isinstance(value, Mapping) else dict.fromkeys(names, value)
    readers = {name: MaskReader(values[name]) for name in names}
    run = _Run(explainer, readers, at, strict)
    refs = draw(run.find(images, masks), limit, seed)
    spread = np.linspace(0, len(refs) - 1, min(EXAMPLES, len(refs)))
    run.shown = {refs[round(i)] for i in spread}
    with progress_bar("localising", len(refs), shown=explainer.progress) as progress:
        batches = Batches(refs, model.preprocess, batch_size, strict=strict, progress=progress)
        for batch in batches:
            run.measure(batch)
    run.report(len(refs))
    settings = {
        "concepts": names,
        "value": repr(value),
        "at": at,
        "limit": limit and int(limit),
        "seed": int(seed),
    }
    return FolderLocalisation(
        layers=tuple(explainer.layers),
        concepts=tuple(names),
        skipped=(*batches.skipped, *run.skipped),
        examples=tuple(run.examples),
        provenance=explainer.provenance({"localisation": settings}),
        _rows=pd.DataFrame(run.rows),
    )


def _names(
    explainer: VisualTCAV,
    masks: object,
    concept: str | Sequence[str] | None,
    value: object,
) -> list[str]:
    """Return the concepts whose maps are compared with masks."""
    known = explainer.cavs.names
    sources = [given for given in (masks, value) if isinstance(given, Mapping)]
    if concept is not None:
        names = list(dict.fromkeys(map(str, as_list("concept", concept))))
    elif sources:
        names = list(sources[0])
    elif len(known) == 1:
        names = list(known)
    else:
        raise ExplanationError(
            f"whose masks are these? Name one or several of {', '.join(map(repr, known))} "
            "(concept), or give masks={name: folder}"
        )
    if not names:
        raise ExplanationError("expected at least one concept, got none")
    for name in names:
        explainer.cavs.evidence(name)  # raises for an unknown one
        for given in sources:
            if name not in given:
                raise ExplanationError(
                    f"no entry for concept {name!r} in {sorted(map(str, given))}: masks and values "
                    "by concept need one for each"
                )
    return names


@dataclass(eq=False)
class _Run:
    """Comparison of the maps of some concepts with their masks.

    Attributes:
        explainer: With its concepts learned.
        readers: Readers of the masks, by concept.
        at: Whether masks are of the picture or of the network's input.
        strict: Whether an image that cannot be used is an error.
        shown: The images that the figure shows.
        masks: The masks of each image, by concept.
        rows: Rows of the table, so far.
        skipped: Images, or masks of a concept, that cannot be used.
        examples: Images for the figure.
    """

    explainer: VisualTCAV
    readers: Mapping[str, MaskReader]
    at: str
    strict: bool
    shown: set[ImageRef] = field(default_factory=set)
    masks: dict[ImageRef, dict[str, Any]] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    examples: list[MaskedImage] = field(default_factory=list)

    def find(
        self, images: ImageSource, masks: MaskSource | Mapping[str, MaskSource]
    ) -> list[ImageRef]:
        """Return the images that have a mask of a concept."""
        refs = collect(images)
        self.masks = {ref: {} for ref in refs}
        if not isinstance(masks, Mapping | str | os.PathLike):
            # an iterator would be exhausted after the first concept
            masks = as_list("masks", masks)
        for name in self.readers:
            source = masks[name] if isinstance(masks, Mapping) else masks
            for ref, mask in zip(refs, find_masks(refs, images, source), strict=True):
                if mask is not None:
                    self.masks[ref][name] = mask
        usable = [ref for ref in refs if self.masks[ref]]
        if not usable:
            raise ExplanationError(
                f"none of the {len(refs)} images has a mask: expected masks named like the images, "
                f"for {refs[0].name!r} one of the same name with the ending .png, .bmp or .npy"
            )
        for ref in refs:
            missing = [name for name in self.readers if name not in self.masks[ref]]
            if missing:
                of = f" of concept {', '.join(map(repr, missing))}" * bool(self.masks[ref])
                self._leave_out(ref, f"there is no mask{of}")
        return usable

    def measure(self, batch: Batch) -> None:
        """Measure the maps of a batch of images."""
        cavs = self.explainer.cavs
        maps = self.explainer.model.activations(batch.x, self.explainer.layers)
        check_finite(batch.names, maps)
        M = {layer: cavs.layers[layer].maps(F).cpu().numpy() for layer, F in maps.items()}
        for n, ref in enumerate(batch.refs):
            for name in self.masks[ref]:
                k = cavs.names.index(name)
                # views would keep the maps of the whole batch
                own = {layer: values[n, k].copy() for layer, values in M.items()}
                self._measure(ref, name, batch.pictures[n], batch.x[n], own)

    def _measure(
        self,
        ref: ImageRef,
        name: str,
        picture: Image.Image,
        x: Tensor,
        M: Mapping[str, NDArray[np.float32]],
    ) -> None:
        """Measure the maps of one concept in one image."""
        source, cavs = self.masks[ref][name], self.explainer.cavs
        try:
            called = str(source) if isinstance(source, Path) else f"the mask of {ref.name}"
            mask = self.readers[name].read(source, called)
            box = self._box(mask, picture, x)
        except ImageError as error:
            self._leave_out(ref, f"its mask of concept {name!r} cannot be used: {error}")
            return
        k = cavs.names.index(name)
        for layer, values in M.items():
            row = localise(values, at_resolution(mask, values.shape, box)).to_dict()
            separated = bool(cavs.layers[layer].separated[k])
            notes = [NOT_SEPARATED * (not separated), row.pop("note")]
            row |= {"separated": separated, "note": "; ".join(filter(None, notes))}
            self.rows.append({"image": ref.name, "layer": layer, "concept": name, **row})
        if ref in self.shown:
            pixels, location = shown_picture(picture, x, self.explainer.model.preprocess)
            self.examples.append(
                MaskedImage(
                    image=ref.name,
                    concept=name,
                    picture=shrunk(pixels, Image.Resampling.BICUBIC),
                    box=location,
                    mask=shrunk(mask.astype(np.float32), Image.Resampling.BOX),
                    mask_box=location if self.at == "input" else _WHOLE,
                    maps=M,
                )
            )

    def _box(self, mask: NDArray[np.float64], picture: Image.Image, x: Tensor) -> Shares:
        """Return where the network's input lies on the mask, in shares of its sides."""
        high, wide = mask.shape
        if self.at == "input":
            if (high, wide) != tuple(x.shape[1:]):
                raise ImageError(
                    f"it is {wide} x {high}, expected the size of the network's input, "
                    f"{x.shape[2]} x {x.shape[1]}"
                )
            return _WHOLE
        width, height = picture.size
        # up to one pixel, because a smaller mask of the same picture has rounded sides
        if abs(wide * height - high * width) > max(width, height):
            raise ImageError(
                f"it is {wide} x {high} and the picture {width} x {height} (upright); expected the "
                "same size, or the same proportions"
            )
        preprocess = self.explainer.model.preprocess
        assert isinstance(preprocess, Preprocess)
        return input_box(picture, preprocess)

    def _leave_out(self, ref: ImageRef, reason: str) -> None:
        if self.strict:
            raise ImageError(f"{ref.name!r} cannot be used: {reason}")
        self.skipped.append(Skipped(ref.name, reason))

    def report(self, total: int) -> None:
        """Warn of the images that were left out, and fail when none is left."""
        if not self.skipped:
            return
        if not self.rows:
            raise ImageError(
                f"none of the {total} images can be used: {with_reasons(self.skipped)}"
            )
        warn(f"left out: {with_reasons(self.skipped)}", SkippedImageWarning)
