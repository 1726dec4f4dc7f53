"""The measured effect of a thing in pairs of photographs, beside the attribution of its concept."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from vtcav.errors import ImageError, warn
from vtcav.evaluation.pairs.result import Pairs
from vtcav.explainer.runs.class_task import ClassTask
from vtcav.explainer.runs.image_table import compute_images
from vtcav.explainer.visual_tcav import VisualTCAV
from vtcav.images.listing import ImageSource, collect
from vtcav.images.preprocess import to_tensor
from vtcav.images.references import ImageRef, Skipped, SkippedImageWarning, with_reasons
from vtcav.images.volumes import check_pictures
from vtcav.method.erasure.effect import class_scores
from vtcav.method.erasure.fill import filled
from vtcav.method.erasure.region import elsewhere
from vtcav.models.base import Model
from vtcav.models.finite import check_finite
from vtcav.models.inspection.ambient import unaffected
from vtcav.parameters import Whole, check
from vtcav.results.effect_tables import TOGETHER

CHANGED = 0.04
"""The share of the range of the inputs from which on a pixel counts as changed: 10 of 255."""
MOST = 0.5
"""The share of changed pixels above which a pair is not taken for aligned."""
_ALONE = "there is no picture of this name {} the thing"
_SIZES = "not aligned: the network's inputs are {} x {} with the thing, {} x {} without"
_APART = "not aligned: {:.0%} of the picture differs, where at most {:.0%} may"


@dataclass(frozen=True, eq=False)
class _Pair:
    """A photograph with and without the thing.

    Attributes:
        ref: The photograph with it.
        x: The network's inputs with and without it [2, 3, H, W].
        H: Where they differ [H, W], of 0 and 1.
    """

    ref: ImageRef
    x: Tensor
    H: Tensor


@unaffected
def measure_pairs(
    explainer: VisualTCAV,
    images: ImageSource,
    without: ImageSource,
    class_name: str | int | None = None,
    *,
    placebos: int = 4,
    limit: int | None = None,
    seed: int = 0,
) -> Pairs:
    """Measure what a thing does to a class's score, and compare with the attribution of concepts.

    Photographs with and without the thing are paired by their names: edited, inpainted or taken
    twice. A pair that is not aligned (other sizes, or most of the picture differs) is left out and
    named.

    Args:
        explainer: The network with its concepts.
        images: Photographs with the thing, in any form that `fit` takes.
        without: The same photographs without it, under the same names.
        class_name: The class whose score is measured; None takes for each photograph the class
            that is predicted with the thing.
        placebos: Regions of the same shape elsewhere that are filled in from around them; their
            mean effect is what changing so much of the picture does anywhere.
        limit: At most this many pairs, drawn at random with `seed`.
        seed: Seeds the draw.

    Returns:
        One row per photograph, layer and concept, and correlations over photographs.

    Raises:
        ImageError: When no pair is left.
        ModelError: For an unknown class.
        CavError: Before `fit`.
        ExplanationError: For a number of placebos below 0.
    """
    explainer.check_cavs()
    check_pictures(explainer.model.preprocess, "a comparison of photographs")
    check("placebos", placebos, Whole(0))
    model = explainer.model
    wanted = None if class_name is None else model.class_index(class_name)
    skipped: list[Skipped] = []
    pairs = list(_pairs(model, collect(images, limit=limit, seed=seed), collect(without), skipped))
    if not pairs:
        raise ImageError(f"no pair is left: {with_reasons(skipped)}")
    measured = pd.DataFrame([_measured(model, pair, wanted, placebos) for pair in pairs])
    tables = []
    for index, own in measured.groupby("class_index", sort=False):
        refs = [pairs[i].ref for i in own.index]
        tables.append(_explained(explainer, refs, int(str(index))))
    rows = measured.merge(pd.concat(tables, ignore_index=True), on="image")
    if skipped:
        warn(f"{len(skipped)} pictures are left out: {with_reasons(skipped)}", SkippedImageWarning)
    return Pairs(
        layers=tuple(explainer.layers),
        concepts=explainer.cavs.names,
        skipped=tuple(skipped),
        provenance=explainer.provenance({"class": wanted, "placebos": placebos, "seed": seed}),
        class_name="" if wanted is None else model.class_names[wanted],
        _rows=rows,
    )


def _pairs(
    model: Model, refs: Sequence[ImageRef], others: Sequence[ImageRef], skipped: list[Skipped]
) -> Iterator[_Pair]:
    """Yield the pairs that are aligned; the others are added to `skipped`."""
    by_name = {_key(ref): ref for ref in others}
    known = {_key(ref) for ref in refs}
    skipped += [Skipped(r.name, _ALONE.format("with")) for r in others if _key(r) not in known]
    for ref in refs:
        other = by_name.get(_key(ref))
        if other is None:
            skipped.append(Skipped(ref.name, _ALONE.format("without")))
            continue
        try:
            first, second = (to_tensor(model.preprocess, r.load(), r.name) for r in (ref, other))
        except ImageError as error:
            skipped.append(Skipped(ref.name, str(error)))
            continue
        if first.shape != second.shape:
            sides = (first.shape[2], first.shape[1], second.shape[2], second.shape[1])
            skipped.append(Skipped(ref.name, _SIZES.format(*sides)))
            continue
        x = torch.stack([first, second])
        H = ((first - second).abs() > CHANGED * (x.amax() - x.amin())).any(0).float()
        if (share := float(H.mean())) > MOST:
            skipped.append(Skipped(ref.name, _APART.format(share, MOST).replace("%", " %")))
            continue
        yield _Pair(ref, x, H)


def _key(ref: ImageRef) -> str:
    """Return what the two photographs of a pair have in common: the name without its folder."""
    return PurePath(ref.name).stem


def _measured(model: Model, pair: _Pair, wanted: int | None, placebos: int) -> dict[str, Any]:
    """Return what the thing, and placebos, do to the score of a photograph's class."""
    H = elsewhere(pair.H, placebos, zlib.crc32(pair.H.bool().numpy().tobytes()))
    x = torch.cat([pair.x, filled(pair.x[:1].expand(placebos, -1, -1, -1), H, "convolution")])
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
