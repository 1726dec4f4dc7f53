"""The measured effect of a thing in pairs of photographs, beside the attribution of its concept."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from vtcav.errors import ExplanationError, ImageError, warn
from vtcav.evaluation.pairs.aligned import MOST, NO_PHOTOGRAPH, Pair, alone, masked, paired
from vtcav.evaluation.pairs.result import Pairs
from vtcav.explainer.runs.class_task import ClassTask
from vtcav.explainer.runs.image_table import compute_images
from vtcav.explainer.visual_tcav import VisualTCAV
from vtcav.images.listing import ImageSource, collect, draw
from vtcav.images.masks import MaskReader, MaskSource, MaskValue, find_masks, mask_files
from vtcav.images.references import ImageRef, Skipped, SkippedImageWarning, with_reasons
from vtcav.images.volumes import check_pictures
from vtcav.method.erasure.effect import class_scores
from vtcav.method.erasure.fill import filled
from vtcav.method.erasure.region import elsewhere
from vtcav.models.base import Model
from vtcav.models.finite import check_finite
from vtcav.models.inspection.ambient import unaffected
from vtcav.parameters import Flag, Whole, check
from vtcav.results.effect_tables import TOGETHER
from vtcav.results.words import count


@unaffected
def measure_pairs(
    explainer: VisualTCAV,
    images: ImageSource,
    without: ImageSource | None = None,
    class_name: str | int | None = None,
    *,
    masks: MaskSource | None = None,
    value: MaskValue = None,
    placebos: int = 4,
    everywhere: bool = False,
    limit: int | None = None,
    seed: int = 0,
) -> Pairs:
    """Measure what a thing does to a class's score, and compare with the attribution of concepts.

    Photographs with and without the thing are paired by their names: edited, inpainted or taken
    twice. Or the thing is filled in where masks mark it, as erasing fills in regions. A pair that
    is not aligned (other sizes, or most of the picture differs) is left out and named, and so is a
    photograph without a mask.

    Args:
        explainer: The network with its concepts.
        images: Photographs with the thing, in any form that `fit` takes.
        without: The same photographs without it, under the same names; None with `masks`.
        class_name: The class whose score is measured; None takes for each photograph the class
            that is predicted with the thing.
        masks: A folder of masks named like the photographs, or one mask for each in order, of the
            size of the upright photograph. What they mark is filled in with the explainer's `fill`,
            or "convolution" where it has none.
        value: The values in the masks that mark the thing; see `masks.MaskReader`.
        placebos: Regions of the same shape elsewhere that are filled in from around them; their
            mean effect is what changing so much of the picture does anywhere. There are none where
            more than half of the picture differs.
        everywhere: Whether the thing may be all over a picture, as a scanner's noise or a colour
            cast. Otherwise a pair of which more than half differs is taken for two pictures.
        limit: At most this many pairs, drawn at random with `seed`.
        seed: Seeds the draw.

    Returns:
        One row per photograph, layer and concept, and correlations over photographs.

    Raises:
        ImageError: When no pair is left.
        ModelError: For an unknown class.
        CavError: Before `fit`.
        ExplanationError: For a number of placebos below 0, for `without` and `masks` together or
            neither, and for masks that cannot be found or understood.
    """
    explainer.check_cavs()
    check_pictures(explainer.model.preprocess, "a comparison of photographs")
    check("placebos", placebos, Whole(0))
    check("everywhere", everywhere, Flag())
    model = explainer.model
    wanted = None if class_name is None else model.class_index(class_name)
    if (without is None) == (masks is None):
        raise ExplanationError(
            "expected the photographs without the thing, or masks of it, and not both: give "
            "without= or masks="
        )
    if masks is not None:
        pairs, skipped = _masked(explainer, images, masks, MaskReader(value), (limit, seed))
    else:
        assert without is not None
        pairs, skipped = _paired(explainer, images, without, (limit, seed), everywhere=everywhere)
    if not pairs:
        raise ImageError(f"no pair is left: {with_reasons(skipped)}")
    measured = pd.DataFrame([_measured(model, pair, wanted, placebos) for pair in pairs])
    tables = []
    for index, own in measured.groupby("class_index", sort=False):
        refs = [pairs[i].ref for i in own.index]
        tables.append(_explained(explainer, refs, int(str(index))))
    rows = measured.merge(pd.concat(tables, ignore_index=True), on="image")
    settings: dict[str, Any] = {"class": wanted, "placebos": placebos, "limit": limit, "seed": seed}
    settings |= {"without": "photographs" if masks is None else "masks", "value": repr(value)}
    if skipped:
        left_out = f"{count(len(skipped), 'picture')} left out"
        warn(f"{left_out}: {with_reasons(skipped)}", SkippedImageWarning)
    return Pairs(
        layers=tuple(explainer.layers),
        concepts=explainer.cavs.names,
        skipped=tuple(skipped),
        provenance=explainer.provenance(settings),
        class_name="" if wanted is None else model.class_names[wanted],
        _rows=rows,
    )


def _masked(
    explainer: VisualTCAV,
    images: ImageSource,
    masks: MaskSource,
    reader: MaskReader,
    draws: tuple[int | None, int],
) -> tuple[list[Pair], list[Skipped]]:
    """Return the pairs of photographs with masks, and what was left out."""
    refs = collect(images)
    sources = list(zip(refs, find_masks(refs, images, masks), strict=True))
    used = {source for _, source in sources if isinstance(source, Path)}
    skipped = [Skipped(str(m), NO_PHOTOGRAPH) for m in mask_files(masks) if m not in used]
    fill = explainer.attributor.erasure.fill or "convolution"
    preprocess, drawn = explainer.model.preprocess, draw(sources, *draws)
    return list(masked(preprocess, drawn, reader, fill, skipped)), skipped


def _paired(
    explainer: VisualTCAV,
    images: ImageSource,
    without: ImageSource,
    draws: tuple[int | None, int],
    *,
    everywhere: bool,
) -> tuple[list[Pair], list[Skipped]]:
    """Return the pairs of two sets of photographs, and what was left out."""
    others = collect(without)
    refs, skipped = alone(collect(images), others)
    preprocess, drawn = explainer.model.preprocess, draw(refs, *draws)
    return list(paired(preprocess, drawn, others, skipped, everywhere=everywhere)), skipped


def _measured(model: Model, pair: Pair, wanted: int | None, placebos: int) -> dict[str, Any]:
    """Return what the thing, and placebos, do to the score of a photograph's class."""
    placebos = placebos if float(pair.H.mean()) <= MOST else 0  # no region elsewhere is as large
    H = elsewhere(pair.H, placebos, zlib.crc32(pair.H.bool().numpy().tobytes()))
    x = torch.cat([pair.x, filled(pair.x[:1].expand(placebos, -1, -1, -1), H, pair.fill)])
    with torch.no_grad():
        z = model.logits(x)
    check_finite([pair.ref.name] * len(x), {}, z)
    probabilities = model.probabilities(z)
    index = int(probabilities[0].argmax()) if wanted is None else wanted
    scores = class_scores(z, [index], binary=model.binary)[:, 0].double().cpu()
    drops = scores[:1] - scores[1:]
    return {
        "image": pair.ref.name,
        "class_index": index,
        "class_name": model.class_names[index],
        "measured": float(drops[0]),
        "placebo": float(drops[1:].mean()) if placebos else float("nan"),
        "changed": float(pair.H.mean()),
    }


def _explained(explainer: VisualTCAV, refs: Sequence[ImageRef], index: int) -> pd.DataFrame:
    """Return what is attributed to each concept, by photograph, layer and concept.

    The layers together have the effect of erasing the concept's region.
    """
    task = ClassTask(explainer.attributor, False, index, len(refs))
    done = compute_images(task, refs, shown=explainer.progress)
    effects = done.effects().frame()
    effects = effects[effects["layer"] == TOGETHER].rename(columns={"drop": "attribution"})
    columns = ["image", "layer", "concept", "attribution", "note"]
    return pd.concat([done.rows().frame(columns), effects[columns]], ignore_index=True)
