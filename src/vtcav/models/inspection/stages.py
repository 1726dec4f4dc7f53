"""The layers to recommend: the last usable one of every stage."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from vtcav.models.inspection.trace import Call, Trace

Maps: TypeAlias = Mapping[Call, tuple[int, ...]]
"""(C, h, w), or (C, d, h, w), of every call that gives maps."""

FEWEST_BLOCKS = 4  # in a single stage, to recommend several of them


def recommend(
    usable: Sequence[Call], maps: Maps, trace: Trace, image: tuple[int, ...]
) -> set[Call]:
    """Return the last layer of each stage, from a quarter of the image's size on.

    Sizes that differ by less than a third (unpadded convolutions, padding) are one resolution,
    and one where nothing with weights computes (a mere pooling) is no stage. A network of one
    resolution (transformers, mixers) has the quarters of its blocks for stages.

    Args:
        usable: The usable layers, in the order in which they finish.
        maps: The shapes of their maps and of all others.
        trace: One recorded pass.
        image: (H, W) of the network's input, or (D, H, W).
    """
    stages: list[list[Call]] = []
    for call in _candidates(usable, maps, trace, image) or usable:
        if stages and side(maps[call]) > 0.7 * side(maps[stages[-1][0]]):
            stages[-1].append(call)
        else:
            stages.append([call])
    last = [stage[-1] for stage in stages]
    begins = [-1, *(call.end for call in last)]
    learned = [
        (call, stage)
        for begin, call, stage in zip(begins, last, stages, strict=False)
        if any(begin < c.start and c.end <= call.end for c in _weighted(trace))
    ]
    found = learned or list(zip(last, stages, strict=True))
    small = [(call, stage) for call, stage in found if 4 * max(maps[call][1:]) <= max(image)]
    chosen = small or found[-1:]
    return _spread(chosen[0][1]) if len(chosen) == 1 else {call for call, _ in chosen}


def _spread(stage: Sequence[Call]) -> set[Call]:
    """Return the last layer of a stage and, where it has many blocks, some before it."""
    siblings = Counter(_siblings(call) for call in stage if call.inner)
    group, count = max(siblings.items(), key=lambda item: item[1], default=("", 0))
    if count < FEWEST_BLOCKS:
        return {stage[-1]}
    blocks = [call for call in stage if call.inner and _siblings(call) == group]
    last = [call for call in stage if not any(call in block.parents for block in blocks)][-1]
    return {*(blocks[math.ceil(count * k / 4) - 1] for k in (1, 2, 3)), last}


def _siblings(call: Call) -> tuple[str, str]:
    """Return the list that a block is in, and its kind."""
    return call.name.rpartition(".")[0], call.kind


def _weighted(trace: Trace) -> list[Call]:
    """Return the calls with weights that the scores depend on: not those of an auxiliary head."""
    return [call for call in trace.calls if call.weights and call.name in trace.reached]


def _candidates(
    usable: Sequence[Call], maps: Maps, trace: Trace, image: tuple[int, ...]
) -> list[Call]:
    """Return the usable layers that could be the last of a stage.

    Left out are layers that return their input, the inside of blocks that change the resolution,
    containers of several stages whose last part can be named instead, and maps that are the scores
    up to pooling. A module with whole blocks (with a bypass) of another resolution inside is a
    stage that ends by changing the resolution, and no block.
    """
    sides = {maps[call][1:] for call in usable}
    # the weights of an attention [1, heads, L, L] have the shape of maps and are none
    real = [call for call in trace.calls if call in maps and maps[call][1:] in sides]
    heights = {call: [maps[c][-2] for c in real if call in c.parents] for call in usable}
    bypassed = [call for call in real if call not in usable]
    whole = {c for c in usable if any(c in part.parents for part in bypassed)}

    def is_block(call: Call) -> bool:
        inner = heights[call]
        stage = any(call in c.parents and maps[c][1:] != maps[call][1:] for c in whole)
        return bool(inner) and max(inner) < 4 * min(inner) and not stage

    blocks = {call for call in usable if is_block(call)}

    def several_stages(call: Call) -> bool:
        same = any(call in c.parents and maps[c] == maps[call] for c in usable)
        return bool(heights[call]) and call not in blocks and same

    def within_block(call: Call) -> bool:
        return any(p in blocks and maps[p][1:] != maps[call][1:] for p in call.parents)

    def scores(call: Call) -> bool:
        final = not any(c.start > call.end for c in _weighted(trace))
        return final and maps[call][0] == trace.classes

    return [
        call
        for call in usable
        if not (call.hands_on or several_stages(call) or within_block(call) or scores(call))
    ]


def side(shape: tuple[int, ...]) -> float:
    """Return the side of a square, or a cube, with as many positions as maps of this shape."""
    _, *sides = shape
    return float(math.prod(sides) ** (1 / len(sides)))
