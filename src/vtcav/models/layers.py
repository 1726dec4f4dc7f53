"""Which layers of a traced network can be explained, which to recommend, and why not the others."""

from __future__ import annotations

import difflib
import math
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
        (c for c in trace.calls if c.name in trace.cuts and _problem(c.shape, image) is None),
        key=lambda call: call.end,
    )
    recommended = _last_of_each_stage(usable, trace, image)
    return {
        call.name: LayerInfo(call.name, call.kind, _map_shape(call), call in recommended)
        for call in usable
    }


def refusal(
    name: str,
    trace: Trace,
    image: tuple[int, int],
    usable: Collection[str],
    modules: Collection[str],
) -> str:
    """Say why a layer cannot be explained and which near ones can.

    Args:
        name: The layer.
        trace: One recorded pass.
        image: (H, W) of the network's input.
        usable: Names of the usable layers, in order.
        modules: Names of all modules.
    """
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
    problem = _problem(calls[0].shape, image)
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


def _problem(shape: tuple[int, ...] | None, image: tuple[int, int]) -> str | None:
    """Say why an output of this shape is no set of feature maps, or None where it is one."""
    if shape is None:
        return "gives no single tensor, expected feature maps [N, C, h, w]"
    if len(shape) != 4 or shape[0] != 1:
        return f"gives a tensor of shape {shape} for one image, expected feature maps [1, C, h, w]"
    if _channels_last(shape, image):
        return f"gives maps in channels-last order, {shape}, expected [1, C, h, w]"
    if shape[2] * shape[3] == 1:
        return "gives maps of 1 x 1, which show no place"
    return None


def _channels_last(shape: tuple[int, ...], image: tuple[int, int]) -> bool:
    """Tell [1, h, w, C] from [1, C, h, w]: h and w are to each other as H and W."""

    def distortion(height: int, width: int) -> float:
        return abs(math.log(height / width) - math.log(image[0] / image[1]))

    _, first, second, third = shape
    rounding = 1.5 / min(first, second)  # of the divisions that made h and w
    return distortion(first, second) < min(rounding, distortion(second, third))


def _map_shape(call: Call) -> tuple[int, int, int]:
    assert call.shape is not None
    _, channels, height, width = call.shape
    return channels, height, width


def _last_of_each_stage(usable: list[Call], trace: Trace, image: tuple[int, int]) -> set[Call]:
    """Return the last layer of each resolution, from a quarter of the image on.

    Sizes that differ by less than a third (unpadded convolutions, padding) are one resolution,
    and one where nothing with weights computes (a mere pooling) is no stage.
    """
    stages: list[list[Call]] = []
    for call in _candidates(usable, trace, image) or usable:
        if stages and _side(call) > 0.7 * _side(stages[-1][0]):
            stages[-1].append(call)
        else:
            stages.append([call])
    last = [stage[-1] for stage in stages]
    begins = [-1, *(call.end for call in last)]
    learned = [
        call
        for begin, call in zip(begins, last, strict=False)
        if any(c.weights and begin < c.start and c.end <= call.end for c in trace.calls)
    ]
    small = {call for call in learned or last if 4 * max(_map_shape(call)[1:]) <= max(image)}
    return small or set((learned or last)[-1:])


def _candidates(usable: list[Call], trace: Trace, image: tuple[int, int]) -> list[Call]:
    """Return the usable layers that could be the last of a stage.

    Left out are: a layer that hands on its input, the inside of a block that changes the
    resolution, a container of several stages where its last part can be named instead, and maps
    that are the scores already but for pooling.
    """
    heights = {call: _heights_inside(call, trace, image) for call in usable}
    blocks = {call for call, inner in heights.items() if inner and max(inner) < 4 * min(inner)}
    shapes = {call: _map_shape(call) for call in usable}

    def several_stages(call: Call) -> bool:
        same = any(call in c.parents and shapes[c] == shapes[call] for c in usable)
        return bool(heights[call]) and call not in blocks and same

    def within_block(call: Call) -> bool:
        return any(p in blocks and shapes[p][1:] != shapes[call][1:] for p in call.parents)

    def scores(call: Call) -> bool:
        final = not any(c.weights and c.start > call.end for c in trace.calls)
        return final and shapes[call][0] == trace.classes

    return [
        call
        for call in usable
        if not (call.hands_on or several_stages(call) or within_block(call) or scores(call))
    ]


def _heights_inside(call: Call, trace: Trace, image: tuple[int, int]) -> list[int]:
    """Return the heights of all feature maps that a module's parts give."""
    inner = (c.shape for c in trace.calls if call in c.parents)
    return [shape[2] for shape in inner if shape and _problem(shape, image) is None]


def _side(call: Call) -> float:
    _, height, width = _map_shape(call)
    return math.sqrt(height * width)


def _nearest(call: Call, trace: Trace, names: Sequence[str]) -> list[str]:
    """Return the last usable layer before a call and the first one after it."""
    ends = {c.name: c.end for c in trace.calls}
    before = [name for name in names if ends[name] < call.start][-1:]
    after = [name for name in names if ends[name] > call.end][:1]
    return [*before, *after]


def _listing(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) if names else "none"
