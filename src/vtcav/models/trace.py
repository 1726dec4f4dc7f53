"""One recorded forward pass: which modules ran when, and which layers all paths cross.

A layer can be explained when its output decides the logits alone: when every path from the
input to the logits crosses it. A layer that a skip connection bypasses is no such *cut*; the
rest of the network is then not a function of its feature maps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from vtcav.errors import ModelError

__all__ = ["Call", "Trace", "record"]


@dataclass(eq=False)
class Call:
    """One run of one module.

    Attributes:
        name: Module path.
        kind: Class name of the module.
        weights: Whether the module itself, without its children, has parameters.
        occurrence: 0 for the first run of this module in the pass, 1 for the second, ...
        parents: The calls this one ran inside, outermost first.
        start: Clock of the pass when it began.
        end: Clock of the pass when it ended.
        shape: Shape of its output, or None where that is not one tensor.
        hands_on: Whether its output is its input (Identity, Dropout in evaluation mode).
    """

    name: str
    kind: str
    weights: bool
    occurrence: int
    parents: tuple[Call, ...]
    start: int
    end: int = -1
    shape: tuple[int, ...] | None = None
    hands_on: bool = False


@dataclass(frozen=True, eq=False)
class Trace:
    """All module calls of one pass over one image, and those that are cuts.

    Attributes:
        calls: In the order in which they began.
        cuts: Names of the modules that run once and that every path crosses.
        reached: Names of the modules whose output the logits depend on.
        classes: T, the number of logits.
    """

    calls: tuple[Call, ...]
    cuts: frozenset[str]
    reached: frozenset[str]
    classes: int

    def calls_of(self, name: str) -> list[Call]:
        """Return the runs of one module."""
        return [call for call in self.calls if call.name == name]

    def before(self, layer: str) -> list[Call]:
        """Return the outermost calls that had ended when `layer` began.

        These are what the head need not run again.
        """
        start = self.calls_of(layer)[0].start
        return [
            call
            for call in self.calls
            if call.end < start and all(parent.end > start for parent in call.parents)
        ]


class _Recorder:
    """The hooks of a recorded pass.

    Attributes:
        calls: The calls so far, in the order in which they began.
        nodes: For each call that gave a tensor, the tensor's node in the autograd graph.
        runs: How often each module ran.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.nodes: dict[Call, Any] = {}
        self.runs: dict[str, int] = {}
        self._running: list[tuple[Call, int]] = []  # with the writes in place to its inputs
        self._clock = count()

    def begin(self, name: str) -> Callable[..., None]:
        """Return the hook that runs before the module `name`."""

        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            occurrence = self.runs.get(name, 0)
            self.runs[name] = occurrence + 1
            weights = any(True for _ in module.parameters(recurse=False))
            kind, parents = type(module).__name__, tuple(call for call, _ in self._running)
            call = Call(name, kind, weights, occurrence, parents, next(self._clock))
            self.calls.append(call)
            self._running.append((call, _writes(inputs)))

        return hook

    def finish(self, _module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        """Run after every module, also after one that failed (with None for its output)."""
        call, writes = self._running.pop()
        call.end = next(self._clock)
        if not isinstance(output, Tensor):
            return None
        call.shape = tuple(output.shape)
        untouched = _writes(inputs) == writes
        call.hands_on = untouched and any(output is value for value in inputs)
        # A clone gives every output a node of its own: an Identity returns the very tensor
        # that a skip connection may also carry around it.
        output = output.clone()
        self.nodes[call] = output.grad_fn
        return output


def _writes(inputs: tuple[Any, ...]) -> int:
    """Return how often the inputs have been written to in place."""
    return sum(value._version for value in inputs if isinstance(value, Tensor))


def record(module: nn.Module, x: Tensor, read_logits: Callable[[Any], Tensor]) -> Trace:
    """Run `module` on one image and note every module call.

    Args:
        module: In evaluation mode.
        x: One image [1, 3, H, W].
        read_logits: From the module's output to the logits z [1, T].

    Returns:
        The trace of the pass.

    Raises:
        ModelError: When no gradient flows from the logits back to the input.
    """
    recorder = _Recorder()
    x = x.detach().clone().requires_grad_()
    handles = []
    try:
        for name, child in module.named_modules():
            if name:
                handles.append(child.register_forward_pre_hook(recorder.begin(name)))
                handles.append(child.register_forward_hook(recorder.finish, always_call=True))
        with torch.enable_grad():
            logits = read_logits(module(x))
    finally:
        for handle in handles:
            handle.remove()
    cuts, reached = _cuts(logits, x)
    return Trace(
        calls=tuple(recorder.calls),
        cuts=frozenset(
            call.name
            for call, node in recorder.nodes.items()
            if node in cuts and recorder.runs[call.name] == 1
        ),
        reached=frozenset(call.name for call, node in recorder.nodes.items() if node in reached),
        classes=logits.shape[1],
    )


def _cuts(logits: Tensor, x: Tensor) -> tuple[set[Any], set[Any]]:
    """Return the graph nodes that every path from the logits to x crosses, and all on paths.

    With the nodes in topological order, a node is on every path exactly when no edge jumps
    over its position.
    """
    order = _topological_order(logits.grad_fn)
    on_path: set[Any] = set()
    for node in reversed(order):
        if getattr(node, "variable", None) is x or any(
            child in on_path for child, _ in node.next_functions
        ):
            on_path.add(node)
    # Operators without a derivative, of quantised networks for instance, have a node that gives
    # zeros and a warning.
    broken = [node.name() for node in on_path if "NotImplemented" in node.name()]
    if broken or not on_path:
        raise ModelError(
            "no gradient flows from the network's scores back to its input. Expected a network "
            "that autograd can differentiate; a quantised or frozen export, or a forward pass "
            "under torch.no_grad() or .detach(), breaks the path. Use the float, eager module"
        )
    path = [node for node in order if node in on_path]
    position = {node: i for i, node in enumerate(path)}
    cuts: set[Any] = set()
    furthest = 0
    for i, node in enumerate(path):
        if furthest <= i:
            cuts.add(node)
        children = [position[c] for c, _ in node.next_functions if c in position]
        furthest = max([furthest, *children])
    return cuts, on_path


def _topological_order(root: Any) -> list[Any]:
    """Return the autograd nodes below `root`, each before those it depends on."""
    if root is None:
        return []
    finished: list[Any] = []
    seen = {root}
    stack = [(root, iter(root.next_functions))]
    while stack:
        node, children = stack[-1]
        for child, _ in children:
            if child is not None and child not in seen:
                seen.add(child)
                stack.append((child, iter(child.next_functions)))
                break
        else:
            finished.append(node)
            stack.pop()
    return finished[::-1]
