"""The logits in a network's output, also when it ends in softmax or sigmoid.

The method differentiates pre-softmax scores. Where the last operation is a softmax or a sigmoid, as
a module or as a function, its input is taken; the network is not changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vtcav.errors import ModelError, text_of
from vtcav.models.inspection.nested_tensors import map_tensors, parts_of, tensors_in

Activation = Literal["softmax", "sigmoid", "none"]

Score: TypeAlias = Callable[[Any], Tensor]
"""Takes a network's output for N images to scores [N, T]."""

_IN_PLACE = (torch.sigmoid_, Tensor.sigmoid_)
_NAMES: dict[Callable[..., Any], str] = {
    **dict.fromkeys((torch.softmax, Tensor.softmax, F.softmax, torch.special.softmax), "softmax"),
    **dict.fromkeys(
        (torch.log_softmax, Tensor.log_softmax, F.log_softmax, torch.special.log_softmax),
        "log-softmax",
    ),
    **dict.fromkeys(
        (torch.sigmoid, Tensor.sigmoid, F.sigmoid, torch.special.expit, *_IN_PLACE), "sigmoid"
    ),
    F.logsigmoid: "log-sigmoid",
}
_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda z: torch.softmax(z, 1),
    "log-softmax": lambda z: torch.log_softmax(z, 1),
    "sigmoid": torch.sigmoid,
    "log-sigmoid": F.logsigmoid,
}


class _Activated(NamedTuple):
    """A softmax or sigmoid in a pass: its name, its input and its result."""

    name: str
    source: Tensor
    result: Tensor

    @property
    def is_vector(self) -> bool:
        """Whether there is one vector for each image, [N], [N, T] or [N, T, 1, 1]."""
        return self.result.numel() == self.result.shape[:2].numel()


class _Activations(TorchFunctionMode):
    """Records the softmaxes and sigmoids of a pass that could be its last operation.

    These are the ones over one vector per image, and the very last. The large ones of attentions
    are not kept.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[_Activated] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func not in _NAMES:
            return func(*args, **kwargs)
        source = args[0] if args else kwargs["input"]
        if func in _IN_PLACE:
            source = source.clone()
        result = func(*args, **kwargs)
        if self.found and not self.found[-1].is_vector:
            self.found.pop()
        self.found.append(_Activated(_NAMES[func], source, result))
        return result

    def that_gave(self, scores: Tensor) -> _Activated | None:
        """Return the last activation whose result is the scores, up to shape and rounding."""
        for activated in reversed(self.found):
            result = activated.result
            if result.numel() != scores.numel():
                continue
            if result.data_ptr() == scores.data_ptr() or _close(result, scores):
                return activated
        return None


def _close(a: Tensor, b: Tensor) -> bool:
    """Tell whether two score tensors agree up to a clamp or another precision."""
    eps = max(torch.finfo(a.dtype).eps, torch.finfo(b.dtype).eps)
    a, b = a.detach().reshape(-1).float(), b.detach().reshape(-1).float()
    return torch.allclose(a, b.to(a.device), rtol=max(4 * eps, 1e-5), atol=1e-6)


@dataclass(frozen=True)
class LogitReader:
    """How to read the logits of a network.

    Attributes:
        classes: T, the number of logits.
        final: The softmax or sigmoid that ends the network, or None.
        activation: The function that turns the logits into probabilities; "none" where there is
            none.
        source: Where the logits are, in words, for provenance.
        output: The one of several outputs that holds the scores: an index, a key or an attribute.
        score: A score of the user's own, in place of what is found.
    """

    classes: int
    final: str | None
    activation: Activation
    source: str
    output: int | str | None = None
    score: Score | None = None

    @property
    def holds(self) -> bool:
        """Whether the score depends on something that the plain pass decides (`vtcav.scores`)."""
        return hasattr(self.score, "hold")

    def held(self, module: nn.Module, x: Tensor) -> Any:
        """Run the network on x, and return what its score holds of each image."""
        return _held(self.score, module(x), len(x))

    def run(
        self, module: nn.Module, x: Tensor, rows: int | None = None, state: Any = None
    ) -> Tensor:
        """Run the network on x and return the logits z [N, T].

        Args:
            module: The network.
            x: Images [N, C, H, W].
            rows: N, where it differs from the length of x (because feature maps are replaced).
            state: What the score holds of the images; None for what this pass decides.
        """
        rows = len(x) if rows is None else rows
        if self.final is None:
            return self.read(module(x), rows, state)
        with _Activations() as mode:
            output = module(x)
        activated = mode.that_gave(_scores(output, self.output)[0])
        if activated is None:
            raise ModelError(
                f"the network ended in {self.final} when it was first run and does not any more; "
                f"expected the same last operation at every pass"
            )
        return self._rows(activated.source, rows)

    def read(self, output: Any, rows: int, state: Any = None) -> Tensor:
        """Return the scores [N, T] in the module's output for N images."""
        if self.score is not None:
            return self._rows(_own_scores(output, self.score, rows, state), rows)
        return self._rows(_scores(output, self.output)[0], rows)

    def _rows(self, scores: Tensor, rows: int) -> Tensor:
        """Return scores as [N, T], also where a squeeze() took the dimension of one image."""
        if scores.numel() != rows * self.classes:
            raise ModelError(
                f"expected {self.classes} scores for each of {rows} images, got a tensor of shape "
                f"{tuple(scores.shape)}; the network must give as many scores for every image"
            )
        return scores.reshape(rows, self.classes)


def _scores(output: Any, wanted: int | str | None) -> tuple[Tensor, str]:
    """Return the score tensor in a network's output, and where it is.

    It is the wanted part, or else the output itself, its `logits` (an attribute or a key), or its
    only tensor that can be scores [N, T].

    Raises:
        ModelError: When there is no such tensor, or several.
    """
    if wanted is None:
        candidate, where = _unnamed(output, "the network's output")
    else:
        part, where = _part(output, wanted), f"the output {wanted!r} of the network"
        candidate = _unnamed(part, where)[0]
    if _can_be_scores(candidate):
        return candidate, where
    came = type(candidate).__name__
    if isinstance(candidate, Tensor):
        came = f"a {candidate.dtype} tensor of shape {tuple(candidate.shape)}"
    elif isinstance(candidate, dict):
        came = f"a dict with the keys {list(candidate)}"
    raise ModelError(
        f"expected {'class scores [N, T]' if wanted is None else where + ' to be class scores'}, "
        f"got {came}; wrap the network in a module that returns the scores, or name the output "
        "that holds them: output=1, or output='KEY'"
    )


def _held(score: Any, output: Any, rows: int) -> Any:
    """Return what a score holds of each of N images: tensors [N, ...].

    Raises:
        ModelError: When it fails, or holds something else.
    """
    with _explained(score, output):
        state = score.hold(output)
    held = [part for _, part in tensors_in(state)]
    if not held or any(part.ndim == 0 or len(part) != rows for part in held):
        raise ModelError(
            f"expected the score to hold tensors [N, ...] of {rows} images, got "
            f"{', '.join(str(tuple(part.shape)) for part in held) or 'none'}"
        )
    return map_tensors(state, Tensor.detach)


def _own_scores(output: Any, score: Any, rows: int, state: Any) -> Tensor:
    """Return the user's scores of N images.

    Raises:
        ModelError: When the score fails, or is no tensor [N, T].
    """
    if hasattr(score, "hold") and state is None:
        state = _held(score, output, rows)
    with _explained(score, output):
        found: Any = score(output) if state is None else score.read(output, state)
    if not _can_be_scores(found) or not found.ndim or len(found) != rows:
        came = type(found).__name__
        if isinstance(found, Tensor):
            came = f"a {found.dtype} tensor of shape {tuple(found.shape)}"
        raise ModelError(
            f"expected score to return scores [N, T] of {rows} image{'s' * (rows > 1)}, got {came}"
        )
    scores: Tensor = found
    return scores


@contextmanager
def _explained(score: object, output: Any) -> Iterator[None]:
    """Say what a score was given where it fails."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"the score {name_of(score)} failed on the network's output: "
            f"{type(error).__name__}: {text_of(error)}. It got {_described(output)}"
        ) from error


def name_of(score: object) -> str:
    """Return a score in words."""
    return getattr(score, "__qualname__", None) or repr(score)


def _can_be_scores(value: object) -> bool:
    return isinstance(value, Tensor) and value.ndim <= 2 and value.is_floating_point()


def _part(output: Any, wanted: int | str) -> Any:
    """Return one of several outputs.

    Raises:
        ModelError: When there is none of this index, key or name.
    """
    try:
        if isinstance(wanted, int) or isinstance(output, dict):
            return output[wanted]
        return getattr(output, wanted)
    except (LookupError, TypeError, AttributeError):
        raise ModelError(
            f"the network has no output {wanted!r}: it returns {_described(output)}"
        ) from None


def _unnamed(output: Any, where: str) -> tuple[Any, str]:
    """Return what holds the scores: the output, its `logits`, or its only part that can be scores.

    Raises:
        ModelError: When several can.
    """
    if isinstance(output, Tensor):
        return output, where
    if getattr(output, "logits", None) is not None:
        return output.logits, "the `logits` of the network's output"
    if isinstance(output, dict) and output.get("logits") is not None:
        return output["logits"], "the 'logits' of the network's output"
    fitting = [(path, part) for path, part in tensors_in(output) if _can_be_scores(part)]
    # without dimensions it is a loss, or the score of one image after a squeeze()
    fitting = [(path, part) for path, part in fitting if part.ndim] or fitting
    if len(fitting) > 1:
        keys = list(dict.fromkeys(path[0] for path, _ in fitting))
        advice = f"Say which: output={keys[0]!r} or output={keys[-1]!r}"
        if len(keys) == 1:
            advice = "Wrap the network in a module that returns one of them"
        raise ModelError(
            f"the network returns {_described(output)}: {len(fitting)} of them can be "
            f"class scores [N, T]. {advice}"
        )
    if fitting:
        [(path, part)] = fitting
        key = path[0] if len(path) == 1 else path
        return part, f"the output {key!r} of the network's {len(parts_of(output))} outputs"
    return output, where


def _described(output: Any) -> str:
    """Return what a network returned, in words."""
    parts = parts_of(output)
    if not parts:
        return f"a {type(output).__name__}"
    shapes = ((k, f" {tuple(p.shape)}" if isinstance(p, Tensor) else "") for k, p in parts[:6])
    return f"{len(parts)} outputs, {', '.join(f'{key!r}{shape}' for key, shape in shapes)}"


def find_logits(
    module: nn.Module,
    x: Tensor,
    *,
    binary: bool,
    output: int | str | None = None,
    score: Score | None = None,
) -> LogitReader:
    """Find out how to read the logits of a network.

    Args:
        module: The network, in evaluation mode.
        x: A few images [N, 3, H, W].
        binary: Whether there is a single logit, according to the user.
        output: The one of several outputs that holds the scores, according to the user.
        score: The user's own score, which is taken as it is.

    Raises:
        ModelError: When the output is no score vector, is probabilities whose softmax cannot be
            found, has a size that contradicts `binary`, or is no function of each image alone.
    """
    if score is not None:
        return _own_reader(module, x, score, binary=binary)
    with torch.no_grad(), _Activations() as mode:
        scores, where = _scores(module(x), output)
    size = _count_classes(scores, len(x), binary=binary)
    activated = mode.that_gave(scores)
    if activated is None:
        logits = scores.reshape(-1, size)
        _refuse_probabilities(logits, mode.found)
        default: Activation = "sigmoid" if binary else "softmax"
        reader = LogitReader(size, None, default, where, output)
    else:
        final = activated.name
        logits = activated.source.reshape(-1, size)
        if not _close(_FUNCTIONS[final](logits), scores):
            raise ModelError(
                f"the network ends in {final}, but not over the {size} scores of each image (dim=1)"
                "; return the scores before it from the network"
            )
        activation: Activation = "softmax" if "softmax" in final else "sigmoid"
        reader = LogitReader(size, final, activation, f"the input of the final {final}", output)
    with torch.no_grad():
        alone = reader.run(module, x[:1])
    _refuse_unsteady(logits[:1].float(), alone.float(), 8 * torch.finfo(x.dtype).eps)
    return reader


def _own_reader(module: nn.Module, x: Tensor, score: Score, *, binary: bool) -> LogitReader:
    """Return how to read the user's own scores."""
    with torch.no_grad():
        scores = _own_scores(module(x), score, len(x), None)
        size = scores.shape[1] if scores.ndim == 2 else 1
        if binary and size != 1:
            raise ModelError(f"binary=True expects a single score per image, score gives {size}")
        source = f"the score {name_of(score)}"
        reader = LogitReader(size, None, "sigmoid" if binary else "none", source, score=score)
        alone = reader.run(module, x[:1])
    together = scores.reshape(len(x), size)[:1]
    _refuse_unsteady(together.float(), alone.float(), 8 * torch.finfo(x.dtype).eps)
    return reader


def _count_classes(output: Tensor, count: int, *, binary: bool) -> int:
    """Return T, or raise where the output is no [N, T] or T contradicts `binary`."""
    if not output.ndim or len(output) != count:
        raise ModelError(
            f"expected class scores [N, T], got a tensor of shape {tuple(output.shape)} for "
            f"{count} images; wrap the network in a module that returns the scores of each image"
        )
    size = output.shape[1] if output.ndim == 2 else 1
    if binary and size != 1:
        raise ModelError(
            f"binary=True expects a single logit per image, the network gives {size} scores; "
            "drop binary=True (two scores are two classes)"
        )
    if size == 1 and not binary:
        raise ModelError(
            "the network gives a single score per image: pass binary=True (in a study "
            "binary: true; class_names are then [negative, positive], positive where the logit is "
            'above 0), or task="regression" for a predicted number'
        )
    return size


def _refuse_probabilities(scores: Tensor, found: Sequence[_Activated]) -> None:
    """Raise where the scores are probabilities that no known last operation gave."""
    scores = scores.float()
    positive = bool((scores >= 0).all())
    if scores.shape[1] == 1:
        gates = any(activated.result.numel() == scores.numel() for activated in found)
        probabilities = gates and positive and bool((scores <= 1).all())
        why = "each lies in [0, 1], and a sigmoid gives one value for each image"
    else:
        sums = scores.sum(1) if positive else scores.exp().sum(1)
        probabilities = torch.allclose(sums, torch.ones_like(sums), atol=1e-4)
        why = f"each row{'' if positive else ' of their exponentials'} sums to 1"
    if probabilities:
        raise ModelError(
            f"the network returns probabilities ({why}), but no softmax or sigmoid was found as "
            "its last operation, and the method needs the scores before it; return those from "
            "the network"
        )


def _refuse_unsteady(together: Tensor, alone: Tensor, rounding: float) -> None:
    """Raise where scores are not finite, or those of an image alone differ from those in a batch.

    Rounding may depend on the size of a batch, by up to 1e-3 on accelerators.
    """
    if not together.isfinite().all():
        raise ModelError(
            "the network gives scores that are not finite for an image of noise; expected finite "
            "scores. Are its weights finite, and does it compute in a precision that holds them?"
        )
    tolerance = max(0.02, rounding) * float(together.abs().max())
    if float((together - alone).abs().max()) > tolerance:
        raise ModelError(
            "the network gives an image other scores alone than in a batch, in evaluation mode: it "
            "is random (F.dropout without training=self.training?) or mixes the images of a batch "
            "(BatchNorm without running statistics?); the method needs scores that depend on each "
            "image alone"
        )
