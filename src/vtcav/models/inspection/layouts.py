"""The layouts of all outputs in a recorded pass."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from fnmatch import fnmatchcase

from vtcav.errors import LayerError
from vtcav.models.inspection.layout import Evidence, Layout, find_layout, is_ambiguous, map_shape
from vtcav.models.inspection.trace import Call, Trace


def check_names(named: Collection[str], modules: Collection[str]) -> None:
    """Refuse layouts for layers that do not exist.

    Args:
        named: Layer names and patterns.
        modules: Names of all modules.

    Raises:
        LayerError: Naming the closest layers.
    """
    for name in named:
        if name not in modules and not any(sign in name for sign in "*?["):
            close = difflib.get_close_matches(name, modules, n=3, cutoff=0.4)
            raise LayerError(
                f"layouts names {name!r}, and the network has no layer of this name; the closest "
                f"are {listing(close)} (patterns such as 'blocks.*' are taken too)"
            )


def find_layouts(
    trace: Trace,
    image: tuple[int, ...],
    named: Mapping[str, Layout],
    prefixes: Collection[int],
    wide: Callable[[], Mapping[str, tuple[int, ...]]],
) -> dict[Call, Layout]:
    """Return the layout of every call of the trace that gives maps, as far as shapes tell.

    Args:
        trace: A recorded pass.
        image: (H, W) of its image, or (D, H, W).
        named: Layouts that the user names, by layer name or pattern.
        prefixes: Numbers of prefix tokens that modules of the network state.
        wide: Returns the shapes of all outputs by module, for an image of double width; empty
            where the network does not take one. Called only where it decides something.

    Raises:
        LayerError: When the layout that the user names for a layer does not fit its output.
    """
    layouts: dict[Call, Layout] = {}
    grids: set[tuple[int, ...]] = set()
    for call in sorted(trace.calls, key=lambda call: call.end):
        shape = call.shape
        if shape is None or len(shape) not in (3, len(image) + 2) or 0 in shape:
            continue
        fitting = named
        if several := shape[0] != 1:  # for one image: these can only be its tiles
            fitting = {name: each for name, each in named.items() if each.order == "tiles"}
        layout = _named(call, shape, fitting)
        if several and layout is None:
            continue
        if layout is None:
            ambiguous = is_ambiguous(shape, image)
            other = wide().get(call.name) if ambiguous else None
            evidence = Evidence(image, grids, call.widths, prefixes, other)
            layout = find_layout(shape, evidence)
        if layout is None:
            continue
        layouts[call] = Layout(layout.order, layout.prefix, layout.grid, layout.image, call.part)
        if len(shape) == len(image) + 2:
            grids.add(map_shape(layout, shape)[1:])
    return layouts


def listing(names: Sequence[str]) -> str:
    """Return names for a message."""
    return ", ".join(map(repr, names)) if names else "none"


def _named(call: Call, shape: Sequence[int], named: Mapping[str, Layout]) -> Layout | None:
    """Return the layout that the user names for a layer, by its name or else by a pattern."""
    if call.name in named:
        layout = named[call.name]
        if fault := layout.fault(shape):
            raise LayerError(
                f"layer {call.name!r} cannot have the layout {layout} given by layouts: {fault}, "
                f"but its output has the shape {tuple(shape)}"
            )
        return layout
    fitting = (
        layout
        for pattern, layout in named.items()
        if fnmatchcase(call.name, pattern) and layout.fault(shape) is None
    )
    return next(fitting, None)
