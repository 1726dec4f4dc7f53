"""The layers of a network that can be explained, and why the others cannot."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import cached_property, partial

import torch
from torch import Tensor

from vtcav.errors import LayerError, brief, warn
from vtcav.models.base import LayerInfo
from vtcav.models.inspection.activations import shapes_of
from vtcav.models.inspection.layout import Layout, map_shape
from vtcav.models.inspection.layouts import check_names, find_layouts, listing
from vtcav.models.inspection.locality import Locality, locality, needs_test, reshaped
from vtcav.models.inspection.logits import LogitReader
from vtcav.models.inspection.network import Network
from vtcav.models.inspection.probing import noise
from vtcav.models.inspection.stages import recommend
from vtcav.models.inspection.trace import Call, Trace, record

_FORMS = (
    "feature maps [1, C, h, w] or [1, h, w, C] (of volumes with d before h), or the tokens "
    "[1, L, C] of a grid"
)


class UsableLayers:
    """The usable layers of a network, found from one recorded pass when first needed.

    A layer is usable when its output holds feature maps with more than one position, computed once
    a pass, that every path from the input to the scores crosses.

    Attributes:
        network: The network.
        image: (H, W) of the network's input in that pass, or (D, H, W).

    Args:
        network: The network.
        reader: How its logits are read.
        probe: An image of noise [1, C, H, W].
        named: Layouts that the user names, by layer name or pattern.

    Raises:
        LayerError: When a named layout does not fit.
    """

    def __init__(
        self,
        network: Network,
        reader: LogitReader,
        probe: Tensor,
        named: Mapping[str, str | Layout],
    ) -> None:
        self.network, self._reader, self._probe = network, reader, probe
        self.image: tuple[int, ...] = tuple(probe.shape[2:])
        self._named = {
            name: layout if isinstance(layout, Layout) else Layout.parse(layout, self.image)
            for name, layout in named.items()
        }
        self._warned: set[str] = set()
        if named:
            self.layouts  # noqa: B018  (a wrong layout is refused at once)

    @cached_property
    def trace(self) -> Trace:
        """The recorded pass."""
        with self.network.running() as module:
            return record(module, self._probe, lambda output: self._reader.read(output, 1))

    @cached_property
    def layouts(self) -> dict[Call, Layout]:
        """The layouts of the calls that give maps, as far as shapes tell."""
        parts = self.network.original.modules()
        stated = (getattr(part, "num_prefix_tokens", None) for part in parts)
        prefixes = {count for count in stated if isinstance(count, int)}
        check_names(self._named, self._modules)
        return find_layouts(
            self.trace, self.image, self._named, prefixes, lambda: self._wide_shapes
        )

    @cached_property
    def infos(self) -> dict[str, LayerInfo]:
        """The usable layers by name, in the order in which they finish."""
        misplaced = self._misplaced
        return self._described([call for call in self._candidates if call.name not in misplaced])

    def layout_of(self, layer: str) -> Layout:
        """Return how a layer holds its maps."""
        return self.layouts[self.trace.calls_of(layer)[0]]

    def check(self, names: Sequence[str] | None) -> list[LayerInfo]:
        """Return the named layers in the order of the network (None: the recommended ones).

        Raises:
            LayerError: For a name that is unknown or a layer that cannot be explained; the
                message names the closest usable ones.
        """
        if isinstance(names, str):
            raise LayerError(f"layers must be a list of names, got the text {names!r}")
        if names is None:
            chosen = [layer for layer in self.infos.values() if layer.recommended]
            if not chosen:
                raise LayerError(
                    "this network has no usable layer: none gives feature maps or tokens of "
                    "a grid that every path from the input to the scores crosses"
                )
        else:
            if not names:
                raise LayerError("layers is empty: name at least one, or leave it out")
            for name in names:
                if not isinstance(name, str):
                    raise LayerError(f"layers must be a list of names, got {brief(name)} in it")
                if name not in self.infos:
                    raise LayerError(self._refusal(name))
            chosen = [layer for name, layer in self.infos.items() if name in set(names)]
        self._warn_of_diffuse(layer.name for layer in chosen)
        return chosen

    # -- inside -------------------------------------------------------------------------------

    @property
    def _modules(self) -> list[str]:
        return [name for name, _ in self.network.original.named_modules()]

    @cached_property
    def _wide_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of all outputs for a wide image; none where the network does not take one."""
        *others, width = self.image
        wide = noise(1, (self._probe.shape[1], *others, 2 * width)).to(self._probe)
        with suppress(Exception), torch.no_grad(), self.network.running() as module:
            return shapes_of(module, wide)
        return {}

    @cached_property
    def _candidates(self) -> list[Call]:
        """The calls that are usable but for where their maps lie."""
        cuts = (call for call in self.trace.calls if call.name in self.trace.cuts)
        return sorted((c for c in cuts if self._problem(c) is None), key=lambda call: call.end)

    def _described(self, usable: Sequence[Call]) -> dict[str, LayerInfo]:
        maps = {
            call: map_shape(layout, call.shape)
            for call, layout in self.layouts.items()
            if call.shape is not None
        }
        recommended = recommend(usable, maps, self.trace, self.image)
        return {
            c.name: LayerInfo(c.name, c.kind, maps[c], c in recommended, str(self.layouts[c]))
            for c in usable
        }

    @cached_property
    def _locality(self) -> dict[str, Locality]:
        """Where the maps of layers change with the picture, for layers where this is uncertain."""
        candidates = self._described(self._candidates)
        untold = {
            name: layer.shape[1:]
            for name, layer in candidates.items()
            if not any(fnmatchcase(name, pattern) for pattern in self._named)
        }
        layouts = {name: self.layout_of(name) for name in untold}
        windows = dict.fromkeys(reshaped(untold, self.image), Locality.ELSEWHERE)
        if not needs_test(self.network.original, layouts, self.trace):
            return windows
        with self.network.running() as module:
            run = partial(self._reader.run, module)
            return locality(module, run, self._probe, layouts) | windows

    @cached_property
    def _misplaced(self) -> frozenset[str]:
        """Layers whose maps do not lie as the picture does."""
        found = self._locality.items()
        return frozenset(name for name, where in found if where is Locality.ELSEWHERE)

    def _warn_of_diffuse(self, layers: Iterable[str]) -> None:
        """Warn once of each layer whose maps change everywhere alike."""
        everywhere = (name for name in layers if self._locality.get(name) is Locality.EVERYWHERE)
        diffuse = [name for name in everywhere if name not in self._warned]
        self._warned.update(diffuse)
        # attention mixes the positions of tokens
        if diffuse and any(layout.order == "tokens" for layout in self.layouts.values()):
            warn(
                f"the maps of {', '.join(map(repr, diffuse))} change everywhere alike, whichever "
                "part of the picture changes: each position depends on the whole picture (global "
                "attention). Attributions hold, but the maps do not show where a concept is; take "
                "an earlier layer for that"
            )

    def _problem(self, call: Call) -> str | None:
        """Say why the output of a call is no set of feature maps, or None where it is one."""
        if call.shape is None:
            return f"gives no tensor, expected {_FORMS}"
        if call not in self.layouts:
            where = f"a tensor of shape {call.shape} for one image"
            tiles = " (tiles of the picture: 'tiles(2x3)')" if call.shape[0] > 1 else ""
            return (
                f"gives {where}, expected {_FORMS}; what holds maps can be named by layouts={tiles}"
            )
        layout = self.layouts[call]
        _, *sides = map_shape(layout, call.shape)
        size = " x ".join(map(str, sides))
        if math.prod(sides) == 1:
            return f"gives maps of {size}, a single position"
        if 1 in sides and layout.order == "tokens":
            return f"gives {math.prod(sides)} tokens of no grid that fits the picture"
        read = self.trace.read.get(call.name)
        if layout.prefix and read is not None and not read[layout.prefix :].any():
            token = "class token" if layout.prefix == 1 else f"{layout.prefix} prefix tokens"
            return (
                f"comes too late: after it the network only reads the {token}, and none of the "
                f"{size} tokens of the grid"
            )
        return None

    def _refusal(self, name: str) -> str:
        """Say why a layer cannot be explained and which near ones can."""
        names = list(self.infos)
        calls = self.trace.calls_of(name)
        if not calls:
            known = name in self._modules
            what = "has a module that did not run," if known else "has no layer"
            close = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
            hint = (
                f"the closest usable names are {listing(close)}"
                if close
                else f"the last usable ones are {listing(names[-3:])}"
            )
            return f"the network {what} {name!r}; {hint} (all: model.layers())"
        ends = {call.name: call.end for call in self.trace.calls}
        before = [name for name in names if ends[name] < calls[0].start][-1:]
        after = [name for name in names if ends[name] > calls[0].end][:1]
        return (
            f"layer {name!r} cannot be explained: it {self._problem_of(calls)}. "
            f"The nearest usable layers: {listing([*before, *after])}"
        )

    def _problem_of(self, calls: Sequence[Call]) -> str:
        """Say why a layer that runs cannot be explained."""
        call = calls[0]
        if problem := self._problem(call):
            return problem
        if call.name in self._misplaced:
            return (
                f"gives a tensor that would be maps as {self.layouts[call]}, but a change in one "
                "part of the picture is found in another part of them (windows, or tokens in "
                "another order); if you know how its maps lie, name that by layouts="
            )
        if len(calls) > 1:
            return f"runs {len(calls)} times in one pass, so its output is not one set of maps"
        if call.name in self.trace.without_gradient:
            return (
                "does not reach the scores by a gradient: it runs without any, as inside of "
                "reentrant activation checkpointing (there use_reentrant=False helps), of "
                "torch.no_grad() or of an autograd function"
            )
        if call.name not in self.trace.reached:
            return "does not reach the scores"
        if call.tensors > 1:
            return (
                f"gives {call.tensors} tensors, and the scores depend on more than the first, or "
                "on a path (a skip connection) around it"
            )
        return "is bypassed: another path (a skip connection) leads around it"
