"""An image-text model as a classifier whose classes are prompts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vtcav.errors import ModelError
from vtcav.models.inspection.ambient import ambient
from vtcav.models.settings import LoadSettings
from vtcav.models.sources.joint_towers import joint_of, load_towers
from vtcav.models.sources.source import Source


class ZeroShot(nn.Module):
    """The vision tower of CLIP or SigLIP, with a logit for each of T prompts.

    Args:
        network: The image-text model.
        texts: The embeddings of the prompts, each of length 1 [T, D].
    """

    texts: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, network: Any, texts: Tensor) -> None:
        super().__init__()
        self.vision_model = network.vision_model
        self.visual_projection = getattr(network, "visual_projection", nn.Identity())
        bias = getattr(network, "logit_bias", None)
        self.register_buffer("texts", texts.float())
        self.register_buffer("scale", network.logit_scale.detach().exp().reshape(()))
        self.register_buffer("bias", torch.zeros(()) if bias is None else bias.detach().reshape(()))

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return the logits [N, T]: scaled cosines between pictures and prompts."""
        pooled = self.vision_model(pixel_values=pixel_values).pooler_output
        embeddings = self.visual_projection(pooled)
        embeddings = embeddings / embeddings.norm(dim=-1, keepdim=True)
        logits: Tensor = embeddings @ self.texts.T * self.scale + self.bias
        return logits


def load(name: str, settings: LoadSettings) -> Source:
    """Load an image-text model as a zero-shot classifier, whose class names are the prompts.

    Raises:
        ModelError: Without class names, or with settings that it does not take.
    """
    prompts = settings.names
    if prompts is None:
        raise ModelError(
            f"hf:{name} is an image-text model, which has no classes of its own: pass prompts as "
            "class names, class_names=['a photo of a cat', 'a photo of a dog'], or a file with one "
            "in each line (--class-names FILE)"
        )
    if settings.weights is not None or settings.binary or settings.output is not None:
        raise ModelError(
            f"hf:{name} with prompts as classes takes its own weights and gives a logit for each "
            "prompt: drop weights, binary and output"
        )
    towers = load_towers(name)
    own = joint_of(towers, f"the text tower of hf:{name}", "cpu")
    with ambient():
        module = ZeroShot(towers.network, own.embed_texts(prompts))
    return Source(module.eval(), list(prompts), settings.preprocess or towers.preprocess, own)
