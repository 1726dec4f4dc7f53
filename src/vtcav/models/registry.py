"""Models by name: `load_model("demo")`, `load_model("python:mymodule:build")`."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcav.errors import ExtraError, ModelError
from vtcav.models.base import Model
from vtcav.models.pytorch import Classifier

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import Tensor

__all__ = ["load_model"]


@dataclass(frozen=True)
class _Options:
    """What a user says beside a model's name; None leaves it to the model."""

    class_names: Sequence[str] | None
    preprocess: Callable[[Image.Image], Tensor] | None
    binary: bool
    device: str | torch.device


def load_model(
    name: str,
    class_names: Sequence[str] | None = None,
    preprocess: Callable[[Image.Image], Tensor] | None = None,
    *,
    binary: bool = False,
    device: str | torch.device = "auto",
) -> Model:
    """Load a model by name.

    Args:
        name: "demo" (EfficientNet-Lite0 with ImageNet weights; extra `vtcav[demo]`), or
            "python:MODULE:CALLABLE": a function without arguments that returns a `Classifier` or
            a `torch.nn.Module`. The module is looked for in the working directory too.
        class_names: In place of the model's own.
        preprocess: In place of the model's own.
        binary: Whether the network has a single logit.
        device: "auto" takes an accelerator where there is one.

    Raises:
        ModelError: For an unknown name, or when the callable fails or returns something else.
        ExtraError: When the package that the model needs is not installed.
    """
    scheme, _, rest = name.partition(":")
    if scheme not in _LOADERS or (scheme == "demo" and rest):
        close = difflib.get_close_matches(scheme, _LOADERS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ModelError(f"unknown model {name!r}: expected {_FORMS}{hint}")
    return _LOADERS[scheme](rest, _Options(class_names, preprocess, binary, device))


def _demo(_rest: str, options: _Options) -> Model:
    from vtcav.demo import network

    if options.binary:
        raise ModelError("the demo network has 1000 classes: drop binary=True")
    module, names, preprocess = network()
    return Classifier(
        module,
        options.class_names or names,
        options.preprocess or preprocess,
        device=_device(options.device),
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
        if options != _Options(None, None, False, "auto"):
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
    return Classifier(
        made,
        options.class_names,
        options.preprocess,
        binary=options.binary,
        device=_device(options.device),
    )


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


_LOADERS: dict[str, Callable[[str, _Options], Model]] = {"demo": _demo, "python": _python}
_FORMS = "'demo' or 'python:MODULE:CALLABLE'"
