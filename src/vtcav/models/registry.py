"""Models by name: `load_model("timm:convnext_atto")`, `load_model("python:mymodule:build")`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vtcav.errors import ExtraError, ImageError, ModelError, text_of
from vtcav.files.paths import home_text
from vtcav.models.base import Model
from vtcav.models.classifier import Classifier
from vtcav.models.inspection.layout import Layout
from vtcav.models.inspection.logits import Score
from vtcav.models.settings import LoadSettings, Runtime, Task
from vtcav.models.sources.checkpoints import build_with_weights
from vtcav.models.sources.source import Source
from vtcav.parameters import did_you_mean


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
    output: int | str | None = None,
    runtime: Runtime = "auto",
    score: Score | str | None = None,
) -> Model:
    """Load a model by name. Nothing is ever downloaded.

    - "demo": EfficientNet-Lite0 with ImageNet weights; extra `vtcav[demo]`.
    - "torchvision:NAME", as "torchvision:resnet50" or, for certain pretrained weights,
      "torchvision:resnet50:IMAGENET1K_V1"; extra `vtcav[torchvision]`.
    - "timm:NAME", as "timm:convnext_atto.d2_in1k"; extra `vtcav[timm]`.
    - "hf:NAME_OR_FOLDER": an image classifier of transformers, or a CLIP or SigLIP model, whose
      classes are the prompts in `class_names`; extra `vtcav[hf]`.
    - "keras:FILE": a .keras or .h5 file of Keras 3 or TF-Keras 2; extra `vtcav[keras]`.
    - "python:MODULE:CALLABLE": a function without arguments that returns a `Classifier` or a
      `torch.nn.Module`. The module is looked for in the working directory too.

    Preprocessing and class names come with the model.

    Args:
        name: As above.
        class_names: In place of the model's own: a list, "cat,dog", or a file with one name per
            line or JSON.
        preprocess: In place of the model's own.
        binary: Whether the network has a single logit.
        device: "auto" takes an accelerator where there is one.
        weights: None takes the pretrained ones from the local cache; "random" builds the network
            without (to try the mechanics); or a file: safetensors, or torch.save of a state dict,
            also inside of a checkpoint. Code in a file is never run.
        layouts: As `Classifier` takes them.
        task: As `Classifier` takes it.
        output: As `Classifier` takes it.
        runtime: As `Classifier` takes it.
        score: As `Classifier` takes it, or "python:MODULE:NAME", where it stands in a module.

    Raises:
        ModelError: For an unknown name, for weights that are not on this machine or do not fit,
            or when the callable fails or returns something else.
        ExtraError: When the package that the model needs is not installed.
    """
    return load_network(
        LoadSettings(
            name,
            weights,
            class_names,
            binary,
            task,
            device,
            layouts,
            preprocess,
            output,
            runtime,
            score,
        )
    )


def load_network(settings: LoadSettings) -> Model:
    """Load a model by its settings, as `load_model` does."""
    scheme, _, rest = settings.name.partition(":")
    if scheme in _REFUSED:
        raise ModelError(f"{scheme}: cannot be explained: {_REFUSED[scheme]}")
    if scheme not in _LOADERS or (scheme == "demo") == bool(rest):
        hint = "" if scheme in _LOADERS else did_you_mean(scheme, _LOADERS, 3)
        if scheme.endswith(".py"):
            stem = Path(scheme).stem
            hint = f"; for a function build() in {stem}.py write python:{stem}:build"
        hint = _file_hint(settings.name) or hint
        raise ModelError(f"unknown model {settings.name!r}: expected {_FORMS}{hint}")
    loader, rest = _LOADERS[scheme], home_text(rest)
    if isinstance(loader, str):
        return _classifier(importlib.import_module(loader).load(rest, settings), settings)
    return loader(rest, settings)


def _file_hint(name: str) -> str:
    """Return how to give what looks like a file of weights, or of Keras; empty for other names."""
    suffix = Path(name).suffix.lower()
    if suffix in _WEIGHTS:
        return (
            "; this looks like a file of weights: give the network that they are for, such as "
            f"timm:resnet50, and weights={name!r}"
        )
    return f"; for a Keras network write keras:{name}" if suffix in _KERAS else ""


def _keras(path: str, settings: LoadSettings) -> Model:
    from vtcav.models.keras.classifier import KerasClassifier
    from vtcav.models.keras.files import read_network

    if not path:
        raise ModelError("expected keras:FILE, a .keras or .h5 file")
    if settings.weights == "random":
        raise ModelError("keras: takes the weights of the file, or those of weights=FILE")
    if settings.layouts or settings.task != "auto" or settings.output is not None:
        raise ModelError("keras: tells layouts, task and output itself: drop them")
    if settings.score is not None:
        raise ModelError("keras: networks take no score of one's own: their logits are explained")
    network = read_network(path, device=settings.device, weights=settings.weights)
    return KerasClassifier(
        network,
        settings.names,
        settings.preprocess,
        settings.binary,
        runtime=settings.runtime,
    )


def _python(target: str, settings: LoadSettings) -> Model:
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise ModelError(
            f"expected python:MODULE:CALLABLE, got 'python:{target}'; for a function build() in "
            "mymodel.py write python:mymodel:build"
        )
    made = _in_module(module_name, attribute, lambda build: build())
    if isinstance(made, Model):
        known = vars(LoadSettings(settings.name))
        if vars(settings) != known:
            given = [name for name, value in vars(settings).items() if value != known[name]]
            raise ModelError(
                f"python:{target} returns a finished model; set {', '.join(given)} there, or "
                "return the bare torch.nn.Module"
            )
        return made
    if not isinstance(made, torch.nn.Module):
        raise ModelError(
            f"expected python:{target} to return a vtcav.Classifier or a torch.nn.Module, "
            f"got {type(made).__name__}"
        )
    if settings.weights not in (None, "random"):
        module = made
        made = build_with_weights(lambda _count: module, settings.weights, settings.scores)
    return _classifier(Source(made, None, None), settings)


def _classifier(source: Source, settings: LoadSettings) -> Model:
    """Return the model of a network from a package.

    Raises:
        ModelError: When it cannot be explained, or its own preprocessing fails.
    """
    try:
        model = Classifier(
            source.module,
            settings.names,
            settings.preprocess or source.preprocess,
            binary=settings.binary,
            device=_device(settings.device),
            layouts=settings.layouts,
            task=settings.task,
            output=settings.output,
            runtime=settings.runtime,
            score=score_of(settings),
        )
    except ImageError as error:  # of the picture that the preprocessing is tried with
        raise ModelError(f"{settings.name!r}: {error}") from error
    known = source.class_names or ()
    # another number of classes has other names
    same = len(known) == len(model.class_names) and not model.binary
    if settings.class_names is None and same and settings.score is None:
        model.class_names = tuple(known)
    model.joint = source.joint
    return model


def score_of(settings: LoadSettings) -> Score | None:
    """Return the score of one's own; None for the network's logits.

    Raises:
        ModelError: When a module does not hold it.
        ExtraError: When the module needs a package that is not installed.
    """
    given = settings.score
    if given is None or not isinstance(given, str):
        return given
    module_name, _, attribute = given.removeprefix("python:").partition(":")
    found = _in_module(module_name, attribute, lambda score: score)
    if not callable(found) or isinstance(found, type):
        kind = f"the class {attribute}" if isinstance(found, type) else type(found).__name__
        raise ModelError(
            f"expected {given} to be a function of the network's output that returns scores, or an "
            f"object as BoxScore(), got {kind}"
        )
    score: Score = found
    return score


def _in_module(module_name: str, attribute: str, use: Callable[[Any], Any]) -> Any:
    """Import a user's module, also from the working directory, and use what it holds."""
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
        if hasattr(module, attribute):
            return use(getattr(module, attribute))
    except ModuleNotFoundError as error:
        if error.name is not None and module_name.split(".")[0] == error.name.split(".")[0]:
            raise ModelError(
                f"there is no Python module {module_name!r} in the working directory or among the "
                "installed packages"
            ) from error
        raise ExtraError(
            f"{module_name} needs the package {error.name!r}, which is not installed"
        ) from error
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"python:{module_name}:{attribute} failed: {type(error).__name__}: {text_of(error)}"
        ) from error
    finally:
        if added:
            sys.path.remove(here)
    raise ModelError(f"the module {module_name!r} has no {attribute!r}")


def _device(device: str | torch.device) -> str | torch.device:
    """Return an accelerator for "auto" where there is one."""
    if device != "auto":
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


_LOADERS: dict[str, str | Callable[[str, LoadSettings], Model]] = {
    "demo": "vtcav.models.sources.demo_network",
    "torchvision": "vtcav.models.sources.from_torchvision",
    "timm": "vtcav.models.sources.from_timm",
    "hf": "vtcav.models.sources.from_huggingface",
    "keras": _keras,
    "python": _python,
}
_FORMS = (
    "'demo', 'torchvision:NAME', 'timm:NAME', 'hf:NAME_OR_FOLDER', 'keras:FILE' or "
    "'python:MODULE:CALLABLE'"
)
_WEIGHTS = {".pt", ".pth", ".ckpt", ".bin", ".safetensors"}
_KERAS = {".keras", ".h5", ".hdf5"}
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
