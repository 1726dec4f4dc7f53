"""One recorded forward pass: which modules ran when, and which layers all paths cross.

A layer can be explained when its output decides the logits alone: when every path from the
input to the logits crosses it. A layer that a skip connection bypasses is no such *cut*; the
rest of the network is then not a function of its feature maps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from vtcav.errors import ModelError
from vtcav.models.inspection.nested_tensors import Part, first_tensor, replaced, tensor_count
from vtcav.models.inspection.torch_internals import writes_to


@dataclass(eq=False)
class Call:
    """One run of one module.

    Attributes:
        name: Module path.
        kind: Class name of the module.
        inner: Whether the module has children.
        weights: Whether the module itself, without its children, has parameters.
        occurrence: 0 for the first run of this module in the pass, 1 for the second, ...
        parents: The calls this one ran inside, outermost first.
        start: Clock of the pass when it began.
        end: Clock of the pass when it ended.
        shape: Shape of the first tensor in its output, or None where there is none.
        part: Where in the output that tensor is; () where the output is the tensor.
        tensors: How many tensors the output holds.
        widths: Numbers of features that the linear and normalisation layers inside have.
        hands_on: Whether its output is its input, up to the order of dimensions (as of Identity,
            Dropout in evaluation mode or Permute).
    """

    name: str
    kind: str
    inner: bool
    weights: bool
    occurrence: int
    parents: tuple[Call, ...]
    start: int
    end: int = -1
    shape: tuple[int, ...] | None = None
    part: Part = ()
    tensors: int = 0
    widths: frozenset[int] = frozenset()
    hands_on: bool = False


@dataclass(frozen=True, eq=False)
class Trace:
    """All module calls of one pass over one image, and which of them are cuts.

    Attributes:
        calls: In the order in which they began.
        cuts: Names of the modules that run once and that every path crosses.
        reached: Names of the modules whose output the logits depend on.
        without_gradient: Names of the modules whose output autograd does not follow.
        read: For outputs [1, L, C] of modules that run once, which of the L rows have a gradient.
        classes: T, the number of logits.
    """

    calls: tuple[Call, ...]
    cuts: frozenset[str]
    reached: frozenset[str]
    without_gradient: frozenset[str]
    read: Mapping[str, Tensor]
    classes: int

    def calls_of(self, name: str) -> list[Call]:
        """Return the runs of one module."""
        return [call for call in self.calls if call.name == name]

    def before(self, layer: str) -> list[Call]:
        """Return the outermost calls that had ended when `layer` began.

        A head need not run them again.
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
        nodes: The autograd node of the tensor that a call returned, by call.
        rows: The tensor [1, L, C] that a call returned, by call.
        runs: The number of runs of each module.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.nodes: dict[Call, Any] = {}
        self.rows: dict[Call, Tensor] = {}
        self.runs: dict[str, int] = {}
        self._running: list[tuple[Call, list[int | None]]] = []  # with writes to its inputs
        self._clock = count()

    def begin(self, name: str) -> Callable[..., None]:
        """Return the hook that runs before the module `name`."""

        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            occurrence = self.runs.get(name, 0)
            self.runs[name] = occurrence + 1
            weights = any(True for _ in module.parameters(recurse=False))
            kind, parents = type(module).__name__, tuple(call for call, _ in self._running)
            inner = any(True for _ in module.children())
            call = Call(name, kind, inner, weights, occurrence, parents, next(self._clock))
            call.widths = frozenset(_widths(module))
            self.calls.append(call)
            self._running.append((call, _writes(inputs)))

        return hook

    def finish(self, _module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        """Record the end of a call, also of one that failed (whose output is None)."""
        call, writes = self._running.pop()
        call.end = next(self._clock)
        found = first_tensor(output)
        if found is None:
            return None
        call.part, tensor = found
        call.shape, call.tensors = tuple(tensor.shape), tensor_count(output)
        untouched = None not in writes and _writes(inputs) == writes
        call.hands_on = untouched and any(_same_values(tensor, value) for value in inputs)
        # A clone gives every output a node of its own: an Identity returns the very tensor
        # that a skip connection may also carry around it.
        tensor = tensor.clone()
        self.nodes[call] = tensor.grad_fn
        if tensor.ndim == 3 and tensor.grad_fn is not None:
            self.rows[call] = tensor
        return replaced(output, call.part, tensor)


def _widths(module: nn.Module) -> Iterator[int]:
    """Return the numbers of features of the linear and normalisation layers in a module."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            yield from (part.in_features, part.out_features)
        elif isinstance(shape := getattr(part, "normalized_shape", None), tuple):
            yield from shape[-1:]


def _same_values(output: Tensor, value: Any) -> bool:
    """Tell whether an output is an input, or a view of all of it."""
    if output is value:
        return True
    return (
        isinstance(value, Tensor)
        and output.numel() == value.numel()
        and output.data_ptr() == value.data_ptr()
    )


def _writes(inputs: tuple[Any, ...]) -> list[int | None]:
    """Return how often each input has been written to in place."""
    return [writes_to(value) for value in inputs if isinstance(value, Tensor)]


def record(module: nn.Module, x: Tensor, read_logits: Callable[[Any], Tensor]) -> Trace:
    """Run a network on one image and record every module call.

    Args:
        module: The network, in evaluation mode.
        x: One image [1, 3, H, W].
        read_logits: Takes the network's output to the logits z [1, T].

    Raises:
        ModelError: When no gradient flows from the logits back to the input.
    """
    recorder = _Recorder()
    x = x.detach().clone().requires_grad_()
    with ExitStack() as stack:
        for name, child in module.named_modules():
            if name:
                stack.callback(child.register_forward_pre_hook(recorder.begin(name)).remove)
                finish = child.register_forward_hook(recorder.finish, always_call=True)
                stack.callback(finish.remove)
        with torch.enable_grad():
            logits = read_logits(module(x))
    cuts, reached = _cuts(logits, x)
    once = [
        call
        for call, node in recorder.nodes.items()
        if node in cuts and recorder.runs[call.name] == 1
    ]
    rows = {call: recorder.rows[call] for call in once if call in recorder.rows}
    return Trace(
        calls=tuple(recorder.calls),
        cuts=frozenset(call.name for call in once),
        reached=frozenset(call.name for call, node in recorder.nodes.items() if node in reached),
        without_gradient=frozenset(c.name for c, node in recorder.nodes.items() if node is None),
        read=_read_rows(logits, rows),
        classes=logits.shape[1],
    )


def _read_rows(logits: Tensor, rows: Mapping[Call, Tensor]) -> dict[str, Tensor]:
    """Return which rows [L] of an output [1, L, C] the logits have a gradient for, by module."""
    if not rows:
        return {}
    # different weights, because logits may have a constant sum
    weights = torch.linspace(1, 2, logits.numel(), device=logits.device, dtype=logits.dtype)
    z = (logits * weights.reshape(logits.shape)).sum()
    gradients = torch.autograd.grad(z, list(rows.values()), allow_unused=True)
    return {
        call.name: torch.zeros(tensor.shape[1], dtype=torch.bool, device="cpu")
        if G is None
        else (G != 0).any(2)[0].cpu()
        for (call, tensor), G in zip(rows.items(), gradients, strict=True)
    }


def _cuts(logits: Tensor, x: Tensor) -> tuple[set[Any], set[Any]]:
    """Return the graph nodes that every path from the logits to x crosses, and all on paths.

    With the nodes in topological order, a node is on every path exactly when no edge jumps
    over its position.
    """
    order = topological_order(logits.grad_fn)
    on_path: set[Any] = set()
    for node in reversed(order):
        if getattr(node, "variable", None) is x or any(
            child in on_path for child, _ in node.next_functions
        ):
            on_path.add(node)
    # operators without a derivative, as in quantised networks, have a node that gives zeros
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


def topological_order(root: Any) -> list[Any]:
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
