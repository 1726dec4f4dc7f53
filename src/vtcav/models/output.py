"""From what a network returns to its logits, also when it ends in softmax or sigmoid.

The method differentiates pre-softmax scores. Where the last operation is a softmax or a
sigmoid, as a module or as a function, its input is taken; the network is not changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vtcav.errors import ModelError

__all__ = ["Activation", "LogitReader", "find_logits"]

Activation = Literal["softmax", "sigmoid"]

_FINAL: dict[Callable[..., Any], tuple[Activation, str]] = {
    torch.softmax: ("softmax", "softmax"),
    Tensor.softmax: ("softmax", "softmax"),
    F.softmax: ("softmax", "softmax"),
    torch.log_softmax: ("softmax", "log-softmax"),
    Tensor.log_softmax: ("softmax", "log-softmax"),
    F.log_softmax: ("softmax", "log-softmax"),
    torch.sigmoid: ("sigmoid", "sigmoid"),
    Tensor.sigmoid: ("sigmoid", "sigmoid"),
    F.sigmoid: ("sigmoid", "sigmoid"),
    torch.special.expit: ("sigmoid", "sigmoid"),
    F.logsigmoid: ("sigmoid", "log-sigmoid"),
}


class _FinalActivation(TorchFunctionMode):
    """Keeps the input and output of the last softmax or sigmoid that ran."""

    def __init__(self) -> None:
        super().__init__()
        self.last: tuple[str, Activation, Tensor, Tensor] | None = None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func in _FINAL and isinstance(result, Tensor):
            activation, name = _FINAL[func]
            source = args[0] if args else kwargs["input"]
            self.last = (name, activation, source, result)
        return result


@dataclass(frozen=True)
class LogitReader:
    """How to read the logits of a network.

    Attributes:
        binary: Whether there is a single logit.
        final: The softmax or sigmoid that ends the network, or None.
        activation: What turns the logits into probabilities.
        source: The same in words, for provenance.
    """

    binary: bool
    final: str | None
    activation: Activation
    source: str

    def run(self, module: nn.Module, x: Tensor) -> Tensor:
        """Run the network on x and return the logits z [N, T]."""
        if self.final is None:
            return self.read(module(x))
        with _FinalActivation() as mode:
            output = module(x)
        logits = _input_of_final(mode, scores_of(output))
        if logits is None:
            raise ModelError(
                f"the network ended in {self.final} when it was first run and does not any more; "
                f"expected the same last operation at every pass"
            )
        return _two_dimensional(logits)

    def read(self, output: Any) -> Tensor:
        """Return the scores [N, T] of the module's plain output."""
        return _two_dimensional(scores_of(output))


def scores_of(output: Any) -> Tensor:
    """Return the score tensor in a network's output: itself, its `logits`, or its first part.

    Raises:
        ModelError: When there is no such tensor.
    """
    candidate = getattr(output, "logits", None)
    if candidate is None and isinstance(output, dict):
        candidate = output.get("logits")
    if candidate is None and isinstance(output, tuple | list) and output:
        candidate = output[0]
    if candidate is None:
        candidate = output
    if not isinstance(candidate, Tensor) or not 1 <= candidate.ndim <= 2:
        came = (
            f"a tensor of shape {tuple(candidate.shape)}"
            if isinstance(candidate, Tensor)
            else type(candidate).__name__
        )
        raise ModelError(
            f"expected the network to return class scores [N, T], got {came}; "
            "wrap it in a module that returns the scores"
        )
    return candidate


def _two_dimensional(scores: Tensor) -> Tensor:
    return scores[:, None] if scores.ndim == 1 else scores


def _input_of_final(mode: _FinalActivation, output: Tensor) -> Tensor | None:
    """Return the logits when the last activation's result is the output (or a view of it)."""
    if mode.last is None:
        return None
    _, _, source, result = mode.last
    same = result is output or (
        result.data_ptr() == output.data_ptr() and result.numel() == output.numel()
    )
    return source.reshape(output.shape) if same else None


def find_logits(module: nn.Module, x: Tensor, *, binary: bool) -> tuple[LogitReader, int]:
    """Find out how to read the logits of a network.

    Args:
        module: In evaluation mode.
        x: A few images [N, 3, H, W].
        binary: Whether the user says that there is a single logit.

    Returns:
        The reader, and T, the number of logits.

    Raises:
        ModelError: When the output is no score vector, is probabilities whose softmax cannot be
            found, or has a size that contradicts `binary`.
    """
    with torch.no_grad(), _FinalActivation() as mode:
        output = scores_of(module(x))
    scores = _two_dimensional(output)
    size = scores.shape[1]
    if binary and size != 1:
        raise ModelError(
            f"binary=True expects a single logit per image, the network gives {size} scores; "
            "drop binary=True (two scores are two classes)"
        )
    if size == 1 and not binary:
        raise ModelError(
            "the network gives a single score per image: pass binary=True "
            "(class_names are then [negative, positive], positive where the logit is above 0)"
        )
    if _input_of_final(mode, output) is not None and mode.last is not None:
        final, activation, _, _ = mode.last
        return LogitReader(binary, final, activation, f"the input of the final {final}"), size
    if size > 1 and _looks_like_probabilities(scores):
        raise ModelError(
            "the network returns probabilities (each row sums to 1), but no softmax or sigmoid "
            "was found as its last operation, and the method needs the scores before it; "
            "return those from the network"
        )
    default: Activation = "sigmoid" if binary else "softmax"
    return LogitReader(binary, None, default, "the network's output"), size


def _looks_like_probabilities(scores: Tensor) -> bool:
    scores = scores.float()
    sums = scores.sum(1)
    return bool((scores >= 0).all() and torch.allclose(sums, torch.ones_like(sums), atol=1e-4))
