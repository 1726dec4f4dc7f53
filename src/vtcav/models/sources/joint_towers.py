"""Image-text models of transformers, CLIP and SigLIP, from a local folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn

from vtcav.errors import ModelError, text_of
from vtcav.files.paths import home_text
from vtcav.models.joint_model import JointModel
from vtcav.models.sources.hub_folder import LOCAL, refuse_code, refuse_oversized, saved_file
from vtcav.models.sources.image_processor import processor_of
from vtcav.models.sources.source import package

_TOKENS = "tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "tokenizer.model"
_GET_ONE = (
    "vtcav downloads nothing. Get a model once, for example with: "
    "hf download openai/clip-vit-base-patch32 --local-dir clip"
)


class Towers(NamedTuple):
    """An image-text model of transformers, and what goes with it.

    Attributes:
        network: The network, with a vision tower and a text tower.
        tokenizer: Its tokenizer.
        preprocess: Its preprocessing.
    """

    network: Any
    tokenizer: Any
    preprocess: Callable[[Image.Image], Tensor]

    def image_features(self, x: Tensor) -> Tensor:
        """Return the embeddings of inputs [n, D]."""
        return _pooled(self.network.get_image_features(pixel_values=x))

    def text_features(self, texts: list[str]) -> Tensor:
        """Return the embeddings of texts [k, D].

        Raises:
            ModelError: For a text that is longer than what the model reads.
        """
        config = self.network.config
        most = config.text_config.max_position_embeddings
        for text in texts:
            if (count := len(self.tokenizer(text)["input_ids"])) > most:
                raise ModelError(
                    f"the text {text!r} has {count} tokens, and the model reads {most}: shorten it"
                )
        # SigLIP was trained on texts that are padded to the end
        padding = "max_length" if "siglip" in config.model_type else True
        length = {"max_length": most} if padding == "max_length" else {}
        tokens = self.tokenizer(texts, padding=padding, return_tensors="pt", **length)
        known = {"input_ids", "attention_mask"} if padding is True else {"input_ids"}
        inputs = {
            key: value.to(self.network.device) for key, value in tokens.items() if key in known
        }
        return _pooled(self.network.get_text_features(**inputs))


def load_joint_model(
    source: str | Path | JointModel, device: str | torch.device = "cpu"
) -> JointModel:
    """Return an image-text model of transformers in a folder. Nothing is downloaded.

    Args:
        source: A folder of `save_pretrained` with a CLIP or SigLIP model, its tokenizer and its
            image processor; or a model, which is returned as it is.
        device: Where it runs.

    Raises:
        ModelError: When there is no such model; the message says how to get one.
        ExtraError: When transformers is not installed.
    """
    if isinstance(source, JointModel):
        return source
    towers = load_towers(home_text(str(source).removeprefix("hf:")))
    towers.network.to(device)
    kind = type(towers.network).__name__
    described = f"{kind} of {Path(str(source)).name}"
    return joint_of(towers, described, device)


def joint_of(towers: Towers, described: str, device: str | torch.device) -> JointModel:
    """Return the towers as an image-text model."""
    return JointModel(
        towers.image_features, towers.text_features, towers.preprocess, described, device
    )


def load_towers(name: str) -> Towers:
    """Load an image-text model of transformers.

    Raises:
        ModelError: When it is not on this machine, is of another kind, or has no tokenizer or
            image processor.
        ExtraError: When transformers is not installed.
    """
    transformers = package("transformers", "hf")
    if not str(name).strip():
        raise ModelError(f"expected a folder with an image-text model, got none; {_GET_ONE}")
    refuse_code(name)
    try:
        config = transformers.AutoConfig.from_pretrained(name, **LOCAL)
        refuse_oversized(name, transformers.AutoModel, config)
        network, info = transformers.AutoModel.from_pretrained(
            name, **LOCAL, output_loading_info=True
        )
    except ModelError:
        raise
    except ImportError as error:  # the folder is not to blame
        raise ModelError(
            f"transformers cannot import what the image-text model in {name!r} needs: {error} "
            "Install versions of torch, torchvision and transformers that fit each other"
        ) from error
    except Exception as error:  # the parser of a foreign format, whatever the folder holds
        raise ModelError(
            f"cannot load an image-text model from {name!r}: {text_of(error)}. Expected a folder "
            f"of transformers with a CLIP or SigLIP model; {_GET_ONE}"
        ) from error
    if not is_joint(network.config) or not hasattr(network, "get_text_features"):
        raise ModelError(
            f"{name!r} has a {type(network).__name__}, which does not embed pictures and texts in "
            f"one space; expected a CLIP or SigLIP model. {_GET_ONE}"
        )
    if info["missing_keys"]:
        missing = ", ".join(sorted(info["missing_keys"])[:3])
        raise ModelError(f"{name!r} has no weights for {missing}, which would be random")
    tokenizer = _tokenizer(transformers, name)
    preprocess = processor_of(transformers, name)
    if preprocess is None:
        raise ModelError(
            f"{name!r} comes without preprocessor_config.json, so that it is unknown how its "
            "pictures are normalised; save the image processor of the model beside it"
        )
    module: nn.Module = network
    return Towers(module.eval(), tokenizer, preprocess)


def _tokenizer(transformers: Any, name: str) -> Any:
    """Return the tokenizer beside a network; transformers makes an empty one where it has none."""
    wrong = f"the tokenizer of {name!r} {{}}; save that of the model beside it: "
    wrong += "tokenizer.save_pretrained(FOLDER)"
    if not saved_file(name, _TOKENS):
        raise ModelError(wrong.format("has no file with its words"))
    try:
        return transformers.AutoTokenizer.from_pretrained(name, **LOCAL)
    except Exception as error:  # the parser of a foreign format, whatever the folder holds
        raise ModelError(wrong.format(f"cannot be loaded: {text_of(error)}")) from error


def is_joint(config: Any) -> bool:
    """Whether a configuration is that of an image-text model, and of no classifier made of it."""
    classifier = any("Classification" in name for name in config.architectures or ())
    towers = hasattr(config, "text_config") and hasattr(config, "vision_config")
    return towers and not classifier


def _pooled(features: Any) -> Tensor:
    """Return the embeddings, which versions of transformers return alone or with other outputs."""
    found: Tensor = features if isinstance(features, Tensor) else features.pooler_output
    return found
