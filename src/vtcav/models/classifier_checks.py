"""Arguments of a classifier: checked before the network runs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import get_args

from torch import nn

from vtcav.errors import ExtraError, ModelError
from vtcav.models.passes.onnx_runtime import runtime_version
from vtcav.models.settings import Runtime, Task
from vtcav.parameters import Flag, Words, check


def check_arguments(
    module: object,
    preprocess: object,
    binary: object,
    task: object,
    runtime: object,
    score: object,
) -> None:
    """Refuse arguments of the wrong kind."""
    if not isinstance(module, nn.Module):
        what = "for a model by name use vtcav.load_model"
        if type(module).__name__ == "ExportedProgram":
            what = "of an exported program take torch.export.unflatten(program)"
        raise ModelError(f"expected a torch.nn.Module, got {type(module).__name__}; {what}")
    keras = sys.modules.get("keras")
    if keras is not None and isinstance(module, keras.Model):
        raise ModelError(
            "a Keras network goes into vtcav.models.keras.KerasClassifier, or by its file into "
            'vtcav.load_model("keras:FILE")'
        )
    if preprocess is not None and not callable(preprocess):
        raise ModelError(
            "preprocess must be vtcav.Preprocess(...) or a callable from a PIL image to a "
            f"tensor [C, H, W], got {type(preprocess).__name__}"
        )
    if score is not None and not callable(score):
        raise ModelError(
            "score must be a function of the network's output that returns scores [N, T], got "
            f"{type(score).__name__}"
        )
    check("binary", binary, Flag(), error=ModelError)
    check("task", task, Words(*get_args(Task)), error=ModelError)
    check("runtime", runtime, Words(*get_args(Runtime)), error=ModelError)
    if runtime == "onnxruntime" and runtime_version() is None:
        raise ExtraError(
            "runtime=\"onnxruntime\" needs onnxruntime and onnx: pip install 'vtcav[fast]'"
        )


def checked_names(
    names: Sequence[str] | None, count: int, ends: tuple[str, str] | None
) -> tuple[str, ...]:
    """Return the class names; for a single logit those of its two ends."""
    if names is None:
        return ends or tuple(f"class {i}" for i in range(count))
    if isinstance(names, Iterable) and not isinstance(names, str):
        names = list(names)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ModelError("class_names must be a list of texts, one per class index")
    if len(names) != count:
        order = f" ([{', '.join(ends)}])" if ends else ""
        raise ModelError(
            f"expected {count} class names{order}, one per score of the network, got {len(names)}"
        )
    for name in names:
        try:
            name.encode()
        except UnicodeError:
            raise ModelError(f"the class name {name!r} holds half a letter, no Unicode") from None
    return tuple(names)
