"""Which layers of a traced network can be explained, in which layout, and why not the others."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from vtcav.errors import LayerError
from vtcav.models.base import LayerInfo
from vtcav.models.inspection.layout import Evidence, Layout, find_layout, is_ambiguous, map_shape
from vtcav.models.inspection.stages import Maps, recommend
from vtcav.models.inspection.trace import Call, Trace

__all__ = ["Surroundings", "check_names", "find_layouts", "refusal", "usable_layers"]

_FORMS = "feature maps [1, C, h, w] or [1, h, w, C], or the tokens [1, L, C] of a grid"


@dataclass(frozen=True)
class Surroundings:
    """What tells the layout of outputs whose shape alone does not.

    Attributes:
        image: (H, W) of the network's input in the trace.
        prefixes: Numbers of prefix tokens that modules of the network state.
        wide: Returns the shapes of all outputs by module, for an image of double width; empty
            where the network does not take one. Called only where it decides something.
        said: Layouts that the user names, by layer name or pattern.
    """

    image: tuple[int, int]
    prefixes: Collection[int]
    wide: Callable[[], Mapping[str, tuple[int, ...]]]
    said: Mapping[str, Layout]


def check_names(said: Collection[str], modules: Collection[str]) -> None:
    """Refuse layouts for layers that there are not.

    Args:
        said: Layer names and patterns.
        modules: Names of all modules.

    Raises:
        LayerError: Naming the closest.
    """
    for name in said:
        if name not in modules and not any(sign in name for sign in "*?["):
            close = difflib.get_close_matches(name, modules, n=3, cutoff=0.4)
            raise LayerError(
                f"layouts names {name!r}, and the network has no layer of this name; the closest "
                f"are {_listing(close)} (patterns such as 'blocks.*' are taken too)"
            )


def find_layouts(trace: Trace, around: Surroundings) -> dict[Call, Layout]:
    """Return the layout of every call of the trace that gives maps, as far as shapes tell.

    Raises:
        LayerError: When the layout that the user names for a layer does not fit its output.
    """
    layouts: dict[Call, Layout] = {}
    grids: set[tuple[int, int]] = set()
    for call in sorted(trace.calls, key=lambda call: call.end):
        shape = call.shape
        if shape is None or len(shape) not in (3, 4) or shape[0] != 1 or 0 in shape:
            continue
        layout = _said(call, shape, around)
        if layout is None:
            ambiguous = is_ambiguous(shape, around.image)
            other = around.wide().get(call.name) if ambiguous else None
            evidence = Evidence(around.image, grids, call.widths, around.prefixes, other)
            layout = find_layout(shape, evidence)
        if layout is None:
            continue
        layouts[call] = Layout(layout.order, layout.prefix, layout.grid, layout.image, call.part)
        if len(shape) == 4:
            grids.add(map_shape(layout, shape)[1:])
    return layouts


def _said(call: Call, shape: Sequence[int], around: Surroundings) -> Layout | None:
    """Return the layout that the user names for a layer, by its name before a pattern."""
    if call.name in around.said:
        layout = around.said[call.name]
        if fault := layout.fault(shape):
            raise LayerError(
                f"layer {call.name!r} cannot have the layout {layout} that layouts says: {fault}, "
                f"and it gives a tensor of shape {tuple(shape)}"
            )
        return layout
    fitting = (
        layout
        for pattern, layout in around.said.items()
        if fnmatchcase(call.name, pattern) and layout.fault(shape) is None
    )
    return next(fitting, None)


def usable_layers(
    trace: Trace,
    layouts: Mapping[Call, Layout],
    image: tuple[int, int],
    misplaced: Collection[str] = (),
) -> dict[str, LayerInfo]:
    """Return the usable layers by name, in the order in which they finish.

    A layer is usable when its output holds feature maps with more than one place, computed once a
    pass, that every path from the input to the scores crosses.

    Args:
        trace: One recorded pass.
        layouts: Of its calls.
        image: (H, W) of the network's input.
        misplaced: Names of layers whose maps do not lie as the picture does (`locality`).
    """
    usable = sorted(
        (
            call
            for call in trace.calls
            if call.name in trace.cuts
            and call.name not in misplaced
            and _problem(call, trace, layouts) is None
        ),
        key=lambda call: call.end,
    )
    maps: Maps = {
        call: map_shape(layout, call.shape)
        for call, layout in layouts.items()
        if call.shape is not None
    }
    recommended = recommend(usable, maps, trace, image)
    return {
        call.name: LayerInfo(
            call.name, call.kind, maps[call], call in recommended, str(layouts[call])
        )
        for call in usable
    }


def refusal(
    name: str,
    trace: Trace,
    layouts: Mapping[Call, Layout],
    usable: Collection[str],
    modules: Collection[str],
    misplaced: Collection[str] = (),
) -> str:
    """Say why a layer cannot be explained and which near ones can.

    Args:
        name: The layer.
        trace: One recorded pass.
        layouts: Of its calls.
        usable: Names of the usable layers, in order.
        modules: Names of all modules.
        misplaced: Names of layers whose maps do not lie as the picture does.
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
    problem = _problem(calls[0], trace, layouts)
    if problem is None and name in misplaced:
        problem = (
            f"gives a tensor that would be maps as {layouts[calls[0]]}, but a change in one part "
            "of the picture is found in another part of them (windows, or tokens in another "
            "order); if you know how its maps lie, name that by layouts="
        )
    elif problem is None and len(calls) > 1:
        problem = f"runs {len(calls)} times in one pass, so its output is not one set of maps"
    elif problem is None and name not in trace.reached:
        problem = "does not reach the scores"
    elif problem is None and calls[0].tensors > 1:
        problem = (
            f"gives {calls[0].tensors} tensors, and the scores depend on more than the first, or "
            "on a path (a skip connection) around it"
        )
    elif problem is None:
        problem = "is bypassed: another path (a skip connection) leads around it"
    return (
        f"layer {name!r} cannot be explained: it {problem}. "
        f"The nearest usable layers: {_listing(_nearest(calls[0], trace, names))}"
    )


def _problem(call: Call, trace: Trace, layouts: Mapping[Call, Layout]) -> str | None:
    """Say why the output of a call is no set of feature maps, or None where it is one."""
    if call.shape is None:
        return f"gives no tensor, expected {_FORMS}"
    if call not in layouts:
        where = f"a tensor of shape {call.shape} for one image"
        return f"gives {where}, expected {_FORMS}; what holds maps can be named by layouts="
    layout = layouts[call]
    _, height, width = map_shape(layout, call.shape)
    if height * width == 1:
        return "gives maps of 1 x 1, which show no place"
    if 1 in (height, width) and layout.order == "tokens":
        return f"gives {height * width} tokens of no grid that fits the picture"
    read = trace.read.get(call.name)
    if layout.prefix and read is not None and not read[layout.prefix :].any():
        token = "class token" if layout.prefix == 1 else f"{layout.prefix} prefix tokens"
        return (
            f"comes too late: after it the network reads the {token} alone, and none of the "
            f"{height} x {width} tokens that show a place"
        )
    return None


def _nearest(call: Call, trace: Trace, names: Sequence[str]) -> list[str]:
    """Return the last usable layer before a call and the first one after it."""
    ends = {c.name: c.end for c in trace.calls}
    before = [name for name in names if ends[name] < call.start][-1:]
    after = [name for name in names if ends[name] > call.end][:1]
    return [*before, *after]


def _listing(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) if names else "none"
