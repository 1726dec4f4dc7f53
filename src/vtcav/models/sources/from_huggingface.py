"""Image classifiers of Hugging Face transformers, with their processor and label names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from PIL import Image
from torch import Tensor, nn

from vtcav.errors import ModelError, text_of, warn
from vtcav.files.paths import is_folder
from vtcav.images.preprocess import Preprocess
from vtcav.models.settings import LoadSettings
from vtcav.models.sources import zero_shot
from vtcav.models.sources.checkpoints import build_network
from vtcav.models.sources.hub_folder import LOCAL, refuse_code, refuse_oversized
from vtcav.models.sources.image_processor import NEEDED, processor_of
from vtcav.models.sources.joint_towers import is_joint
from vtcav.models.sources.source import Source, package


def load(name: str, settings: LoadSettings) -> Source:
    """Load an image classifier of transformers from a folder or the local cache.

    An image-text model (CLIP, SigLIP) classifies by prompts, which are its class names.

    Args:
        name: A folder of `save_pretrained`, or the name of a repository that is in the cache.
        settings: The settings of loading. With other weights than the folder's, the network is
            built from its configuration.

    Raises:
        ModelError: For a network that is not on this machine or is no classifier. Nothing is
            downloaded.
        ExtraError: When transformers is not installed.
    """
    transformers = package("transformers", "hf")
    refuse_code(name)
    try:
        config = transformers.AutoConfig.from_pretrained(name, **LOCAL)
        joint = is_joint(config)
    except Exception as error:  # the parser of a foreign format, whatever the folder holds
        raise ModelError(_absent(name, error)) from error
    if joint:
        return zero_shot.load(name, settings)
    auto = transformers.AutoModelForImageClassification

    def build(count: int | None) -> nn.Module:
        if count is not None and count != config.num_labels:
            config.num_labels = count
        with _errors(name, config):
            module: nn.Module = auto.from_config(config, trust_remote_code=False)
        return module

    module = build_network(build, settings, lambda: _pretrained(auto, name, config))
    with _errors(name, config):
        names = [str(config.id2label[i]) for i in range(len(config.id2label))]
    preprocess = settings.preprocess or _preprocess(transformers, name, config)
    return Source(module, names, preprocess)


def _pretrained(auto: Any, name: str, config: Any) -> nn.Module:
    """Return the network with its weights; raise where some would be random."""
    refuse_oversized(name, auto, config)
    with _errors(name, config):
        module, info = auto.from_pretrained(name, **LOCAL, output_loading_info=True)
    if info["missing_keys"]:
        missing = ", ".join(sorted(info["missing_keys"])[:3])
        raise ModelError(
            f"hf:{name} has no weights for {missing}: expected a classifier, got a network that "
            "was saved without its last layer, which would be random. Use the fine-tuned one"
        )
    loaded: nn.Module = module
    return loaded


@contextmanager
def _errors(name: str, config: Any) -> Iterator[None]:
    """Turn the errors of transformers into those of vtcav."""
    try:
        yield
    except ModelError:
        raise
    except OSError as error:
        raise ModelError(_absent(name, error)) from error
    except ImportError as error:
        raise ModelError(
            f"transformers cannot import what hf:{name} needs: {error}. Do the versions of torch, "
            "torchvision and transformers fit each other?"
        ) from error
    except Exception as error:  # the parser of a foreign format, whatever the folder holds
        raise ModelError(
            f"hf:{name} is no image classifier of transformers (its kind is "
            f"{getattr(config, 'model_type', 'unknown')!r}): {error}"
        ) from error


def _absent(name: str, error: Exception) -> str:
    if is_folder(name):
        return f"cannot load hf:{name}: {text_of(error)}"
    return (
        f"hf:{name} is neither a folder nor in the local cache of Hugging Face, and vtcav "
        f"downloads nothing. Get it once with: hf download {name}"
    )


def _preprocess(transformers: Any, name: str, config: Any) -> Callable[[Image.Image], Tensor]:
    """Return the preprocessing beside the network, or a usual one with a warning."""
    with _errors(name, config):
        found = processor_of(transformers, name)
        if found is not None:
            found(Image.new("RGB", (320, 288)))  # what cannot be used is this file's fault
    if found is not None:
        return found
    size = getattr(config, "image_size", None) or 224
    warn(
        f"hf:{name} comes without {NEEDED}: pictures are resized to {size} "
        "and scaled to [-1, 1]; pass preprocess=vtcav.Preprocess(...) if it was trained "
        "otherwise"
    )
    return Preprocess(size, resize="stretch", mean=0.5, std=0.5)
