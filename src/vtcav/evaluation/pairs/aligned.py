"""Pairs of inputs with and without a thing: from two sets of photographs, or from one and masks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vtcav.errors import ImageError
from vtcav.images.marked_region import marked_region
from vtcav.images.masks import MaskReader
from vtcav.images.preprocess import to_tensor
from vtcav.images.references import ImageRef, Skipped
from vtcav.method.erasure.fill import Fill, filled

CHANGED = 0.04
"""The share of the range of the inputs from which on a pixel counts as changed: 10 of 255."""
MOST = 0.5
"""The share of changed pixels above which a pair is not taken for aligned."""
_ALONE = "there is no picture of this name {} the thing"
_SEVERAL = "several pictures {} the thing have this name"
_SIZES = "not aligned: the network's inputs are {} x {} with the thing, {} x {} without"
_APART = (
    "not aligned: {:.0%} of the picture differs, where at most {:.0%} may; for what is all over a "
    "picture, such as a scanner's noise, give everywhere=True (--everywhere)"
)
_NO_MASK = "there is no mask of this name"
NO_PHOTOGRAPH = "it is a mask, and there is no picture of its name with the thing"
_UNFIT = "its mask cannot be used: {}"
_LARGE = "its mask covers {:.0%} of the picture, where at most {:.0%} may be filled in"

Preprocessing = Callable[[Image.Image], Tensor]


@dataclass(frozen=True, eq=False)
class Pair:
    """A photograph with and without the thing.

    Attributes:
        ref: The photograph with it.
        x: The network's inputs with and without it [2, 3, H, W].
        H: The region of the thing [H, W], of 0 and 1: where they differ, or its mask.
        fill: How placebos of the region are filled in.
    """

    ref: ImageRef
    x: Tensor
    H: Tensor
    fill: Fill


def paired(
    preprocess: Preprocessing,
    refs: Sequence[ImageRef],
    others: Sequence[ImageRef],
    skipped: list[Skipped],
    *,
    everywhere: bool = False,
) -> Iterator[Pair]:
    """Yield the pairs that are aligned; pictures that cannot be used are added to `skipped`.

    Args:
        preprocess: The network's preprocessing.
        refs: Photographs with the thing.
        others: Photographs without it, under the same names.
        skipped: Pictures that were left out, with reasons.
        everywhere: Whether the thing may be all over a picture.
    """
    by_name = _by_name(others)
    for ref in refs:
        own = by_name.get(_key(ref), [])
        if len(own) != 1:
            reason = _SEVERAL if own else _ALONE
            skipped.append(Skipped(ref.name, reason.format("without")))
            continue
        try:
            first, second = (to_tensor(preprocess, r.load(), r.name) for r in (ref, own[0]))
        except ImageError as error:
            skipped.append(Skipped(ref.name, str(error)))
            continue
        if first.shape != second.shape:
            sides = (first.shape[2], first.shape[1], second.shape[2], second.shape[1])
            skipped.append(Skipped(ref.name, _SIZES.format(*sides)))
            continue
        x = torch.stack([first, second])
        H = ((first - second).abs() > CHANGED * (x.amax() - x.amin())).any(0).float()
        if everywhere or not _too_much(ref, H, _APART, skipped):
            yield Pair(ref, x, H, "convolution")


def alone(
    refs: Sequence[ImageRef], others: Sequence[ImageRef]
) -> tuple[list[ImageRef], list[Skipped]]:
    """Return the photographs with the thing that have a name of their own, and what is left out.

    Args:
        refs: Photographs with the thing.
        others: Photographs without it.
    """
    by_name = _by_name(refs)
    skipped = [Skipped(r.name, _ALONE.format("with")) for r in others if _key(r) not in by_name]
    single = [ref for ref in refs if len(by_name[_key(ref)]) == 1]
    twice = [Skipped(r.name, _SEVERAL.format("with")) for r in refs if len(by_name[_key(r)]) > 1]
    return single, skipped + twice


def masked(
    preprocess: Preprocessing,
    masks: Sequence[tuple[ImageRef, Path | Image.Image | Any | None]],
    reader: MaskReader,
    fill: Fill,
    skipped: list[Skipped],
) -> Iterator[Pair]:
    """Yield pairs whose second picture is the first with its mask's region filled in.

    Args:
        preprocess: The network's preprocessing.
        masks: Photographs with the thing, and the mask of each; None where there is none.
        reader: Reads the masks.
        fill: How regions are filled in.
        skipped: Photographs that were left out, with reasons.
    """
    for ref, source in masks:
        if source is None:
            skipped.append(Skipped(ref.name, _NO_MASK))
            continue
        try:
            picture = ref.load()
            x = to_tensor(preprocess, picture, ref.name)
        except ImageError as error:
            skipped.append(Skipped(ref.name, str(error)))
            continue
        try:
            name = str(source) if isinstance(source, Path) else f"the mask of {ref.name}"
            mask = reader.read(source, name) >= 1 / 2
            H = marked_region(mask, picture, preprocess, x, name).H
        except ImageError as error:
            skipped.append(Skipped(ref.name, _UNFIT.format(error)))
            continue
        if not _too_much(ref, H, _LARGE, skipped):
            second = filled(x[None], H[None], fill)[0]
            yield Pair(ref, torch.stack([x, second]), H, fill)


def _too_much(ref: ImageRef, H: Tensor, reason: str, skipped: list[Skipped]) -> bool:
    """Whether too much of a picture is another one, which `skipped` then says."""
    if (share := float(H.mean())) > MOST:
        skipped.append(Skipped(ref.name, reason.format(share, MOST).replace("%", " %")))
    return share > MOST


def _by_name(refs: Sequence[ImageRef]) -> dict[str, list[ImageRef]]:
    found = defaultdict(list)
    for ref in refs:
        found[_key(ref)].append(ref)
    return dict(found)


def _key(ref: ImageRef) -> str:
    """Return what the two photographs of a pair have in common: the name without its folder."""
    return PurePath(ref.name).stem
