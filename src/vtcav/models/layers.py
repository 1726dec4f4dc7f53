"""Which layers of a traced network can be explained, which to recommend, and why not the others."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence

from vtcav.models.base import LayerInfo
from vtcav.models.trace import Call, Trace

__all__ = ["refusal", "usable_layers"]


def usable_layers(trace: Trace, image: tuple[int, int]) -> dict[str, LayerInfo]:
    """Return the usable layers by name, in the order in which they finish.

    A layer is usable when its output is one tensor [1, C, h, w] with more than one place,
    computed once a pass, that every path from the input to the scores crosses.

    Args:
        trace: One recorded pass.
        image: (H, W) of the network's input.
    """
    usable = sorted(
        (c for c in trace.calls if c.name in trace.cuts and _problem(c.shape) is None),
        key=lambda call: call.end,
    )
    recommended = _last_of_each_stage(usable, trace, image)
    return {
        call.name: LayerInfo(call.name, call.kind, _map_shape(call), call.name in recommended)
        for call in usable
    }


def refusal(name: str, trace: Trace, usable: Collection[str], modules: Collection[str]) -> str:
    """Say why a layer cannot be explained and which near ones can."""
    names = list(usable)
    calls = trace.calls_of(name)
    if not calls:
        what = "has a module that did not run," if name in modules else "has no layer"
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
        hint = (
            f"the closest usable names are {_listing(close)}"
            if close
            else f"the last usable ones are {_listing(names[-3:])}"
        )
        return f"the network {what} {name!r}; {hint} (all: model.layers())"
    problem = _problem(calls[0].shape)
    if problem is None and len(calls) > 1:
        problem = f"runs {len(calls)} times in one pass, so its output is not one set of maps"
    elif problem is None and name not in trace.reached:
        problem = "does not reach the scores"
    elif problem is None:
        problem = "is bypassed: another path (a skip connection) leads around it"
    return (
        f"layer {name!r} cannot be explained: it {problem}. "
        f"The nearest usable layers: {_listing(_nearest(calls[0], trace, names))}"
    )


def _problem(shape: tuple[int, ...] | None) -> str | None:
    """Say why an output of this shape is no set of feature maps, or None where it is one."""
    if shape is None:
        return "gives no single tensor, expected feature maps [N, C, h, w]"
    if len(shape) != 4 or shape[0] != 1:
        return f"gives a tensor of shape {shape} for one image, expected feature maps [1, C, h, w]"
    if shape[1] == shape[2] != shape[3]:
        return f"gives maps in channels-last order, {shape}, expected [1, C, h, w]"
    if shape[2] * shape[3] == 1:
        return "gives maps of 1 x 1, which show no place"
    return None


def _map_shape(call: Call) -> tuple[int, int, int]:
    assert call.shape is not None
    _, channels, height, width = call.shape
    return channels, height, width


def _last_of_each_stage(usable: list[Call], trace: Trace, image: tuple[int, int]) -> set[str]:
    """Return the last layer of each resolution, from a quarter of the image on.

    The inside of a block that changes the resolution belongs to no stage, and sizes that differ
    by less than a third (unpadded convolutions, padding) are one resolution.
    """
    blocks = {id(call) for call in usable if _is_block(call, trace)}
    stages: list[tuple[int, str]] = []
    size = 0.0
    for call in usable:
        _, height, width = _map_shape(call)
        parents = [trace.calls[p] for p in call.parents]
        if any(id(p) in blocks and _map_shape(p)[1:] != (height, width) for p in parents):
            continue
        side = (height * width) ** 0.5
        if stages and side > 0.7 * size:
            stages[-1] = (max(height, width), call.name)
        else:
            size = side
            stages.append((max(height, width), call.name))
    small = {name for side, name in stages if 4 * side <= max(image)}
    return small or {name for _, name in stages[-1:]}


def _is_block(call: Call, trace: Trace) -> bool:
    """Tell a block, which halves the resolution at most, from a container of many stages."""
    position = trace.calls.index(call)
    sides = [
        inner.shape[2]
        for inner in trace.calls
        if position in inner.parents and inner.shape and _problem(inner.shape) is None
    ]
    return bool(sides) and max(sides) < 4 * min(sides)


def _nearest(call: Call, trace: Trace, names: Sequence[str]) -> list[str]:
    """Return the last usable layer before a call and the first one after it."""
    ends = {c.name: c.end for c in trace.calls}
    before = [name for name in names if ends[name] < call.start][-1:]
    after = [name for name in names if ends[name] > call.end][:1]
    return [*before, *after]


def _listing(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) if names else "none"
