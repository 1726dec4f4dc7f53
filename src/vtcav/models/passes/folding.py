"""Batch norm folded into the convolution before it, in passes through a private copy.

In evaluation mode batch norm multiplies each channel by a constant and adds another, so a
convolution with other weights and another bias gives its result at once. The modules stay where
they are and run when they did: for a pass, the copy's convolutions get the other weights, and its
norms hand on what they are given. A convolution whose own output may be asked for keeps its norm,
so that every pass computes the same, whichever layers are asked for.

`find_folds` takes what one recorded pass shows to be a convolution whose output nothing but a norm
reads, and compares each pair with its norm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from vtcav.models.inspection.fingerprint import sum_of_bits
from vtcav.models.inspection.nested_tensors import tensors_in
from vtcav.models.inspection.torch_internals import forward_hooks, writes_to
from vtcav.models.inspection.trace import topological_order
from vtcav.models.instance_attributes import replaced

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_TOLERANCE = 1e-5  # between a folded pair and its norm, relative to the largest value

_State: TypeAlias = tuple[object, ...]


@dataclass(frozen=True)
class Fold:
    """A convolution and the norm that alone reads its output.

    Attributes:
        convolution: Its module path.
        norm: That of the norm.
    """

    convolution: str
    norm: str


class FoldedNorms:
    """Folds of a network, with the weights that they give as long as the network's stay the same.

    Args:
        folds: The folds.
        structure: The modules of the network they were found in, as `structure` tells them.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).eval().requires_grad_(False)
        >>> folds = find_folds(net, torch.rand(1, 3, 2, 2), lambda z: z, layers=list)
        >>> x, folded = torch.ones(1, 3, 1, 1), FoldedNorms(folds, structure(net))
        >>> with folded.applied(net):
        ...     found = net(x)
        >>> len(folded), torch.allclose(found, net(x))
        (1, True)
    """

    def __init__(self, folds: Sequence[Fold], structure: _State) -> None:
        self._folds, self._structure = tuple(folds), structure
        self._made: dict[Fold, _Folded] = {}

    def __len__(self) -> int:
        return len(self._folds)

    def __reduce__(self) -> tuple[Any, ...]:
        return FoldedNorms, (self._folds, self._structure)

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """Fold the norms during the passes inside.

        Nothing is folded once the network has other modules than it had.

        Args:
            module: The private copy.
        """
        same = structure(module) == self._structure
        with ExitStack() as stack:
            for fold in self._folds if same else ():
                convolution = module.get_submodule(fold.convolution)
                norm = module.get_submodule(fold.norm)
                weight, bias = self._weights(fold, convolution, norm)
                stack.enter_context(_with_weights(convolution, weight, bias))
                stack.enter_context(replaced(norm, forward=_rest_of(norm)))
            yield

    def _weights(
        self, fold: Fold, convolution: nn.Module, norm: nn.Module
    ) -> tuple[nn.Parameter, nn.Parameter]:
        """Return the folded weight and bias, made anew if the network's have changed."""
        known, tensors = self._made.get(fold), _tensors(convolution, norm)
        state: _State = tuple(
            (writes_to(t), t.data_ptr(), t.shape, int(sum_of_bits(t))) for t in tensors
        )
        if known is None or known.state != state:
            known = self._made[fold] = _Folded(*_folded(convolution, norm), state)
        return known.weight, known.bias


@dataclass(frozen=True, eq=False)
class _Folded:
    """The weights of a folded pair, and what shows a change of those that they come from."""

    weight: nn.Parameter
    bias: nn.Parameter
    state: _State


def structure(module: nn.Module) -> _State:
    """Return the names and classes of a network's modules."""
    return tuple((name, type(part).__qualname__) for name, part in module.named_modules())


def find_folds(
    module: nn.Module,
    x: Tensor,
    read_logits: Callable[[Any], Tensor],
    layers: Callable[[], Collection[str]],
) -> tuple[Fold, ...]:
    """Return the pairs of a convolution and a norm that can be folded.

    Args:
        module: A private copy of the network, in evaluation mode.
        x: An image [1, 3, H, W].
        read_logits: Takes the network's output to the logits.
        layers: Returns the layers whose output may be asked for; called where there are norms.
    """
    recorder = _Recorder(
        frozenset(part for part in module.modules() if _is_convolution(part)),
        frozenset(part for part in module.modules() if _is_norm(part)),
    )
    if not recorder.norms:
        return ()
    asked = frozenset(layers())
    with ExitStack() as stack:
        for name, part in module.named_modules():
            stack.callback(part.register_forward_pre_hook(recorder.begin(name)).remove)
            stack.callback(part.register_forward_hook(recorder.finish(name)).remove)
        with torch.enable_grad():
            z = read_logits(module(x.detach().clone().requires_grad_()))
    nodes = topological_order(z.grad_fn)
    readers = Counter(child for node in nodes for child, _ in node.next_functions)
    return tuple(
        Fold(between.convolution, norm)
        for norm, between in recorder.pairs
        if readers[between.node] == recorder.runs[between.convolution] == recorder.runs[norm] == 1
        and asked.isdisjoint(recorder.names[id(between.output)])
    )


@dataclass(frozen=True, eq=False)
class _Output:
    """The output of a convolution.

    Attributes:
        convolution: Its module path.
        part: The convolution.
        x: What it was given.
        output: What it returned.
        node: That tensor's node in the graph, as long as nobody writes to it.
    """

    convolution: str
    part: nn.Module
    x: Tensor
    output: Tensor
    node: Any


@dataclass(eq=False)
class _Recorder:
    """The hooks of the recorded pass.

    Attributes:
        convolutions: Convolutions that can take other weights.
        norms: Norms that can be left out.
        runs: How often each module ran.
        names: The modules that returned a tensor, by its identity.
        pairs: The norms that give what their convolution gives with other weights.
    """

    convolutions: frozenset[nn.Module]
    norms: frozenset[nn.Module]
    runs: Counter[str] = field(default_factory=Counter)
    names: dict[int, list[str]] = field(default_factory=dict)
    pairs: list[tuple[str, _Output]] = field(default_factory=list)
    _outputs: dict[int, _Output] = field(default_factory=dict)
    _given: dict[str, _Output] = field(default_factory=dict)
    _kept: list[Tensor] = field(default_factory=list)  # so that no identity is used twice

    def begin(self, name: str) -> Callable[..., None]:
        """Return the hook that runs before a module."""

        def hook(part: nn.Module, inputs: tuple[Any, ...]) -> None:
            self.runs[name] += 1
            known = self._outputs.get(id(inputs[0])) if len(inputs) == 1 else None
            if part in self.norms and known and known.output.grad_fn is known.node:
                self._given[name] = known

        return hook

    def finish(self, name: str) -> Callable[..., None]:
        """Return the hook that runs after a module."""

        def hook(part: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            for _, tensor in tensors_in(output):
                self._kept.append(tensor)
                self.names.setdefault(id(tensor), []).append(name)
            known = self._given.pop(name, None)
            if known and isinstance(output, Tensor) and _agrees(known, part, output):
                self.pairs.append((name, known))
            if part in self.convolutions and len(inputs) == 1 and output.grad_fn is not None:
                self._outputs[id(output)] = _Output(name, part, *inputs, output, output.grad_fn)

        return hook


def _is_convolution(part: nn.Module) -> bool:
    # a weight that is computed (spectral norm, parametrisations) is no parameter
    return (
        isinstance(part, _CONVOLUTIONS) and isinstance(part.weight, nn.Parameter) and _plain(part)
    )


def _is_norm(part: nn.Module) -> bool:
    return isinstance(part, _NORMS) and part.running_mean is not None and _plain(part)


def _plain(part: nn.Module) -> bool:
    """Tell whether a module computes in float, with no other code around it."""
    precise = all(t.dtype in (torch.float32, torch.float64) for t in part.parameters())
    return precise and not forward_hooks(part) and "forward" not in part.__dict__


def _agrees(between: _Output, norm: nn.Module, expected: Tensor) -> bool:
    """Tell whether a folded pair gives what the norm gave, also for an input that is quite another.

    A subclass may clip, or take absolute values, where this input shows nothing of it.
    """
    part, x = between.part, between.x
    run: Any = type(part).forward
    normed: Any = type(norm).forward
    try:
        with torch.no_grad():
            another = normed(norm, run(part, -10 * x))
            with _with_weights(part, *_folded(part, norm)):
                found = [_rest_of(norm)(run(part, each)) for each in (x, -10 * x)]
            return all(_close(a, b) for a, b in zip(found, (expected, another), strict=True))
    except Exception:  # noqa: BLE001  (a user's class may do anything)
        return False


def _close(found: Tensor, expected: Tensor) -> bool:
    return float((found - expected).abs().max()) <= _TOLERANCE * float(expected.abs().max())


def _folded(convolution: nn.Module, norm: nn.Module) -> tuple[nn.Parameter, nn.Parameter]:
    """Return the weight and the bias of a convolution that does the work of the norm, too."""
    conv, own = cast("nn.Conv2d", convolution), cast("nn.BatchNorm2d", norm)
    with torch.no_grad():
        weight, bias = fuse_conv_bn_weights(
            _double(conv.weight),
            _double(conv.bias),
            _double(own.running_mean),
            _double(own.running_var),
            own.eps,
            _double(own.weight),
            _double(own.bias),
        )
        return (
            nn.Parameter(weight.to(conv.weight.dtype), requires_grad=False),
            nn.Parameter(bias.to(conv.weight.dtype), requires_grad=False),
        )


def _double(tensor: Tensor | None) -> Any:
    return None if tensor is None else tensor.detach().double()


def _rest_of(norm: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return what a norm does beside normalising: nothing, or the activation of timm's."""
    drop, act = getattr(norm, "drop", None), getattr(norm, "act", None)
    if isinstance(drop, nn.Module) and isinstance(act, nn.Module):
        return lambda x: cast("Tensor", act(drop(x)))
    return lambda x: x


@contextmanager
def _with_weights(
    convolution: nn.Module, weight: nn.Parameter, bias: nn.Parameter
) -> Iterator[None]:
    own: Any = convolution
    before = own.weight, own.bias
    own.weight, own.bias = weight, bias
    try:
        yield
    finally:
        own.weight, own.bias = before


def _tensors(convolution: nn.Module, norm: nn.Module) -> list[Tensor]:
    parts: Any = convolution, norm
    named = [(0, "weight"), (0, "bias"), (1, "weight"), (1, "bias")]
    found = [getattr(parts[i], name) for i, name in named]
    return [t for t in (*found, parts[1].running_mean, parts[1].running_var) if t is not None]
