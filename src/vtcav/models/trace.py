"""One recorded forward pass: which modules ran when, and which layers all paths cross.

A layer can be explained when its output decides the logits alone: when every path from the
input to the logits crosses it. A layer that a skip connection bypasses is no such *cut*; the
rest of the network is then not a function of its feature maps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vtcav.errors import ModelError

__all__ = ["Call", "Trace", "record"]


@dataclass
class Call:
    """One run of one module.

    Attributes:
        name: Module path.
        kind: Class name of the module.
        occurrence: 0 for the first run of this module in the pass, 1 for the second, ...
        parents: Positions (in `Trace.calls`) of the calls this one ran inside.
        start: Clock of the pass when it began.
        end: Clock of the pass when it ended.
        shape: Shape of its output, or None where that is not one tensor.
        node: Identity of the output in the autograd graph.
    """

    name: str
    kind: str
    occurrence: int
    parents: tuple[int, ...]
    start: int
    end: int = -1
    shape: tuple[int, ...] | None = None
    node: Any = None


@dataclass(frozen=True)
class Trace:
    """All module calls of one pass over one image, and those that are cuts.

    Attributes:
        calls: In the order in which they began.
        cuts: Names of the modules that run once and that every path crosses.
        reached: Names of the modules whose output the logits depend on.
    """

    calls: tuple[Call, ...]
    cuts: frozenset[str]
    reached: frozenset[str]

    def calls_of(self, name: str) -> list[Call]:
        """Return the runs of one module."""
        return [call for call in self.calls if call.name == name]

    def before(self, layer: str) -> list[Call]:
        """Return the outermost calls that had ended when `layer` began.

        These are what the head need not run again.
        """
        target = self.calls_of(layer)[0]
        return [
            call
            for call in self.calls
            if call.end < target.start
            and all(self.calls[p].end > target.start for p in call.parents)
        ]


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
    calls: list[Call] = []
    running: list[int] = []
    seen: dict[str, int] = {}
    clock = iter(range(2**62))

    def begin(name: str, kind: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any) -> None:
            occurrence = seen.get(name, 0)
            seen[name] = occurrence + 1
            calls.append(Call(name, kind, occurrence, tuple(running), next(clock)))
            running.append(len(calls) - 1)

        return hook

    def finish(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        call = calls[running.pop()]
        call.end = next(clock)
        if not isinstance(output, Tensor):
            return None
        call.shape = tuple(output.shape)
        # A clone gives every output a node of its own: an Identity returns the very tensor
        # that a skip connection may also carry around it.
        output = output.clone()
        call.node = output.grad_fn
        return output

    x = x.detach().clone().requires_grad_()
    handles = []
    try:
        for name, child in module.named_modules():
            if name:
                kind = type(child).__name__
                handles.append(child.register_forward_pre_hook(begin(name, kind)))
                handles.append(child.register_forward_hook(finish))
        with torch.enable_grad():
            logits = read_logits(module(x))
    finally:
        for handle in handles:
            handle.remove()
    cuts, reached = _cuts(logits, x)
    once = {name for name, count in seen.items() if count == 1}
    trace = Trace(
        tuple(calls),
        frozenset(c.name for c in calls if c.node in cuts and c.name in once),
        frozenset(c.name for c in calls if c.node in reached),
    )
    for call in calls:
        call.node = None  # frees the graph
    return trace


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
    if not on_path:
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
