"""Keras 3 networks on the torch backend, with the same mathematics as PyTorch networks.

On this backend every Keras layer is a `torch.nn.Module` that computes with torch tensors. So a thin
module around the network (`module.ChannelsFirst`) is all that `Classifier` needs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor

from vtcav.errors import ModelError, warn
from vtcav.models.base import LayerInfo
from vtcav.models.classifier import Classifier
from vtcav.models.inspection.usable_layers import UsableLayers
from vtcav.models.keras.files import import_keras
from vtcav.models.keras.module import ChannelsFirst
from vtcav.models.keras.preprocess import Advice, advise, named_preprocess
from vtcav.models.keras.stages import end_stages_at_joints
from vtcav.models.settings import Runtime


class KerasLayers(UsableLayers):
    """The usable layers of a Keras network, with the layout that they have in Keras."""

    @functools.cached_property
    def infos(self) -> dict[str, LayerInfo]:
        """The usable layers by name, in the order in which they finish."""
        module = cast("ChannelsFirst", self.network.original)
        weighted = {name for name, child in module.named_children() if list(child.parameters())}
        layers = end_stages_at_joints(list(super().infos.values()), weighted, self.image)
        if module.channels_last:
            layers = [replace(x, layout=x.layout.replace("NCHW", "NHWC")) for x in layers]
        return {layer.name: layer for layer in layers}


class KerasClassifier(Classifier):
    """A Keras 3 network (torch backend) with its class names and its preprocessing.

    Layers go by their Keras names, those inside a nested network by their path: "resnet/conv1".

    Args:
        network: A built `keras.Model` that maps images to class scores [N, T]. It is borrowed as
            it is, compiled or not, and never changed. The scores are read before a softmax or
            sigmoid of the last layer.
        class_names: T names by class index. For a binary network [negative, positive].
        preprocess: A `vtcav.Preprocess`, or any callable from a PIL image to a tensor [3, H, W],
            channels first as everywhere in vtcav. Or the name of a scaling at the network's own
            size: "tf", "torch" or "caffe" as `keras.applications` calls them, or "pixels" (0 to
            255). None takes the network's own where that is certain: for a network of
            `keras.applications` with its 1000 classes, or one that scales pixels 0..255 itself.
            Otherwise it warns, resizes to the network's input and scales to [0, 1]. The channels
            are those that the network's input states.
        binary: Whether the network has a single logit, positive above 0.
        device: Where to compute. "auto" is where the network's weights are.
        runtime: As `Classifier` takes it.

    Raises:
        ModelError: When this is not a built Keras network with one image as its input, when Keras
            runs on a backend other than torch, or as for `Classifier`.
    """

    _runs_a_copy = False  # the graph of layers leads back to the user's
    _layers_of = KerasLayers

    def __init__(
        self,
        network: Any,
        class_names: Sequence[str] | None = None,
        preprocess: Callable[[Image.Image], Tensor] | str | None = None,
        binary: bool = False,
        device: str | torch.device = "auto",
        *,
        runtime: Runtime = "auto",
    ) -> None:
        module = ChannelsFirst(_checked(network))
        advice = advise(network, channels_last=module.channels_last)
        if isinstance(preprocess, str):
            preprocess = named_preprocess(
                preprocess, advice.preprocess.size, advice.preprocess.channels
            )
        if preprocess is None:
            preprocess = advice.preprocess
            if not advice.certain:
                self.assumed = _assumed(advice)
                warn(_warning(advice))
        if class_names is None:
            class_names = advice.class_names
        # 4-D outputs are channels first at the boundary, whatever their shapes suggest
        super().__init__(
            module,
            class_names,
            preprocess,
            binary=binary,
            device=device,
            layouts={"*": "NCHW"},
            runtime=runtime,
        )
        self.described = f"Keras {self.described}"

    @property
    def _name(self) -> str:
        return repr(cast("ChannelsFirst", self.module).network.name)


def _checked(network: Any) -> Any:
    """Return the network, or raise if it is not a Keras network that can be explained."""
    keras = import_keras()
    if not isinstance(network, keras.Model):
        raise ModelError(
            f"expected a keras.Model, got {type(network).__name__}; for a file use "
            'vtcav.load_model("keras:PATH"), for a torch.nn.Module vtcav.Classifier'
        )
    if not network.built:
        raise ModelError(
            f"expected a built network, but {network.name!r} has no weights yet; give it a "
            "keras.Input, or call it once on an image, before"
        )
    inputs = getattr(network, "inputs", None)
    if inputs is not None and len(inputs) != 1:
        names = ", ".join(repr(tensor.name) for tensor in inputs)
        raise ModelError(
            f"expected a network with one input, the image, got {len(inputs)}: {names}; "
            "make a keras.Model of the image alone"
        )
    if inputs is not None and len(inputs[0].shape) == 5:
        raise ModelError(
            f"expected a network of images, and {network.name!r} takes volumes "
            f"{list(inputs[0].shape[1:])}, which are served for PyTorch alone (vtcav.Classifier)"
        )
    return network


def _assumed(advice: Advice) -> str:
    size = advice.preprocess.size
    fitted = "used at their own size" if size is None else f"fitted to {size}"
    return f"pictures are {fitted} and scaled to [0, 1]"


def _warning(advice: Advice) -> str:
    hint = f"; {advice.hint}" if advice.hint else ""
    return (
        f"no preprocess given, and the network does not say for certain what it needs: "
        f"{_assumed(advice)}. Pass the preprocessing the network was trained with, "
        f'for example preprocess="tf" for -1 to 1{hint}'
    )
