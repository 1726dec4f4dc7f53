"""Settings of a network: which one to load, what its user knows about it, where it computes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, get_args

from vtcav.errors import ModelError, VtcavError, why
from vtcav.files.paths import expanded
from vtcav.models.class_names import TAKEN, given_names, read_class_names
from vtcav.parameters import Constraint, Flag, Settings, Text, Words, parameter, unknown_key

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import Tensor

    from vtcav.models.inspection.layout import Layout


Task: TypeAlias = Literal["auto", "classes", "labels", "regression"]
"""The kind of scores that a network gives."""

Runtime: TypeAlias = Literal["auto", "onnxruntime", "torch"]
"""What computes the forward passes (`vtcav.models.passes.forward`)."""

Precision: TypeAlias = Literal["auto", "bf16", "fp16"]
"""The precision of gradients (`vtcav.explainer.gradient_precision`)."""


def _names(value: Any) -> Any:
    """Accept class names, or a file of them."""
    if isinstance(value, str):
        value = given_names(value) or value
    return value if isinstance(value, str | os.PathLike) else tuple(value)


def _device(value: Any) -> Any:
    """Accept a device by name, or PyTorch's own object."""
    if type(value).__name__ != "device" and not isinstance(value, str):
        raise ValueError
    return value


def _output(value: Any) -> int | str:
    """Accept an index or a key."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError
    return value


def _score(value: Any) -> Any:
    """Accept a function, or the name of one in a Python module."""
    if callable(value):
        return value
    scheme, _, rest = value.partition(":")
    module, _, name = rest.partition(":")
    if scheme != "python" or not module.strip() or not name.strip():
        raise ValueError
    return value


def _parse_output(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdecimal() else text


def _layouts(value: Any) -> dict[str, Any] | None:
    """Accept layouts by layer; an empty mapping is None."""
    return dict(value) or None


def _parse_layouts(text: str) -> dict[str, str]:
    """Return the layouts of layer3=NHWC,blocks.*=tokens(1+14x14)."""
    return dict(part.strip().rsplit("=", 1) for part in text.split(","))


def _preprocess(value: Any) -> Any:
    """Accept a callable, the arguments of `Preprocess`, or the name of a Keras scaling."""
    from vtcav.images.preprocess import Preprocess

    if not isinstance(value, Mapping):
        return value
    known = [entry.name for entry in fields(Preprocess)]
    for name in value:
        if name not in known:
            raise ModelError(f"preprocess: {unknown_key(str(name), known)}")
    if "size" not in value:
        raise ModelError("preprocess: the key 'size' is missing; null keeps every picture's size")
    return Preprocess(**value)


def _parse_yaml(text: str) -> Any:
    """Return what a text, or the YAML file that it names, holds."""
    import yaml

    path = text.endswith((".yaml", ".yml", ".json"))
    try:
        return yaml.safe_load(expanded(text).read_text("utf-8") if path else text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        if not path and _is_mapping(braced := f"{{{text}}}"):
            raise ModelError(f"put {{ }} around {text!r}: {braced!r}") from error
        raise ModelError(f"cannot read {text!r}: {' '.join(why(error).split())}") from error


def _is_mapping(text: str) -> bool:
    """Whether a text is YAML of a mapping whose values are given."""
    import yaml

    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        return False
    return isinstance(found, dict) and None not in found.values()


@dataclass(frozen=True)
class LoadSettings(Settings):
    """A network by name, with its user's settings; None leaves a setting to the network.

    Attributes:
        name: The network's name, as `vtcav.load_model` takes it.
        weights: None for the pretrained ones, "random", or a file.
        class_names: A list or a file of names, or "cat,dog", in place of the network's own.
        binary: Whether the network has a single logit.
        task: The kind of scores.
        device: Where to compute.
        layouts: The layouts of layers, by name or pattern, where they cannot be detected.
        preprocess: The preprocessing, in place of the network's own.
        output: Which of several outputs holds the scores.
        runtime: What computes the forward passes.
        score: A score of one's own, or the name of one.

    Raises:
        ModelError: For a value of the wrong kind.
    """

    error: ClassVar[type[VtcavError]] = ModelError

    name: str = parameter(
        MISSING,
        Text("the name of a network, such as demo or timm:convnext_atto"),
        (
            "demo, torchvision:NAME, timm:NAME, hf:NAME_OR_FOLDER, keras:FILE, or "
            "python:MODULE:CALLABLE (which returns a Classifier or a module)"
        ),
    )
    weights: str | Path | None = parameter(
        None,
        Text("the path of a file of weights, or random", "FILE"),
        "a checkpoint (safetensors or a state dict), or random",
        none="pretrained",
    )
    class_names: Sequence[str] | str | Path | None = parameter(
        None,
        Constraint(f"a list of class names, or {TAKEN}", _names, metavar="NAMES"),
        f"class names: {TAKEN}",
        none="the network's own",
    )
    binary: bool = parameter(False, Flag(), "the network has a single logit")
    task: Task = parameter(
        "auto",
        Words(*get_args(Task)),
        (
            "classes (one right), labels (each right or not), or regression (one number); auto "
            "tells the first two apart"
        ),
    )
    device: str | torch.device = parameter(
        "auto",
        Constraint("a device: auto, cpu, cuda, mps", _device),
        "cpu, cuda, mps; auto prefers an accelerator",
    )
    layouts: Mapping[str, str | Layout] | None = parameter(
        None,
        Constraint("layouts by layer, such as layer3=NHWC", _layouts, _parse_layouts),
        "of layers, by name or pattern: layer3=NHWC,blocks.*=tokens(1+14x14), or tiles(2x3)",
        none="found from shapes",
    )
    preprocess: Callable[[Image.Image], Tensor] | None = parameter(
        None,
        Constraint("a mapping with the size", _preprocess, _parse_yaml, metavar="YAML"),
        (
            "the arguments of vtcav.Preprocess, or a file of them: "
            "'{size: 224, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}'"
        ),
        none="the network's own",
    )

    output: int | str | None = parameter(
        None,
        Constraint("the index or key of an output", _output, _parse_output, metavar="KEY"),
        "the index or key of the scores among several outputs",
        none="logits, or the only candidate",
    )
    runtime: Runtime = parameter(
        "auto",
        Words(*get_args(Runtime)),
        (
            "for forward passes on a processor; auto takes ONNX Runtime where it gives the same "
            "numbers"
        ),
    )

    score: Callable[[Any], Tensor] | str | None = parameter(
        None,
        Constraint("python:MODULE:NAME, a function of the network's output", _score),
        (
            "a score of your own: python:MODULE:NAME, a function of the output, or one of "
            "vtcav.scores"
        ),
        none="the logits",
    )

    @property
    def names(self) -> Sequence[str] | None:
        """The class names that the user gives, read from the file if it is one."""
        given = self.class_names
        return read_class_names(given) if isinstance(given, str | os.PathLike) else given

    @property
    def scores(self) -> int | None:
        """The number of scores that the network must have; None where it is not known."""
        if self.score is not None:  # names and kind are those of the user's own scores
            return None
        if self.binary or self.task == "regression":
            return 1
        names = self.names
        return None if names is None else len(names)
