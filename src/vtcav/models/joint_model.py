"""`JointModel`: an image-text model as two encoders into one space."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torch import Tensor

from vtcav.errors import ModelError


class JointModel:
    """An image-text model, such as CLIP: pictures and texts in one space.

    `load_joint_model` loads those of transformers. Others are wrapped, as one of open_clip:
    `JointModel(model.encode_image, lambda texts: model.encode_text(tokenizer(texts)), preprocess)`.

    Args:
        image_encoder: Takes inputs [n, 3, H, W], returns embeddings [n, D] of any length; of a
            network in evaluation mode.
        text_encoder: Takes a list of k texts, returns embeddings [k, D].
        preprocess: Turns a picture into an input, as the model was trained with.
        described: The model in words, for the provenance.
        device: Where inputs are put.

    Example:
        >>> import torch, vtcav
        >>> model = vtcav.JointModel(
        ...     lambda x: x.mean((2, 3)),  # red, green and blue
        ...     lambda texts: torch.tensor([[1.0 * (c in text) for c in "rgb"] for text in texts]),
        ...     vtcav.Preprocess(8, mean=0.0, std=1.0), "colours by their letters")
        >>> model.embed_texts(["r", "gb"]).round(decimals=2).tolist()
        [[1.0, 0.0, 0.0], [0.0, 0.71, 0.71]]
    """

    def __init__(
        self,
        image_encoder: Callable[[Tensor], Tensor],
        text_encoder: Callable[[list[str]], Tensor],
        preprocess: Callable[[Image.Image], Tensor],
        described: str = "an image-text model",
        device: str | torch.device = "cpu",
    ) -> None:
        self.preprocess = preprocess
        self.described = described
        self._encoders = image_encoder, text_encoder
        self._device = torch.device(device)

    def __repr__(self) -> str:
        return f"JointModel({self.described})"

    def embed_images(self, x: Tensor) -> Tensor:
        """Return the embeddings of inputs [n, 3, H, W], of their own length [n, D], on the CPU.

        Raises:
            ModelError: When they are no finite vectors.
        """
        with torch.no_grad():
            return _checked(self._encoders[0](x.to(self._device)), len(x), "images")

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Return the embeddings of k texts, each of length 1 [k, D], on the CPU.

        Raises:
            ModelError: When they are no finite vectors.
        """
        with torch.no_grad():
            return unit(_checked(self._encoders[1](list(texts)), len(texts), "texts"))


def unit(embeddings: Tensor) -> Tensor:
    """Return embeddings [n, D] divided by their lengths."""
    lengths: Tensor = embeddings.norm(dim=1, keepdim=True)
    return embeddings / lengths.clamp(min=torch.finfo(embeddings.dtype).tiny)


def _checked(embeddings: Tensor, count: int, what: str) -> Tensor:
    """Return embeddings in double precision on the CPU."""
    if not isinstance(embeddings, Tensor) or embeddings.ndim != 2 or len(embeddings) != count:
        came = (
            list(embeddings.shape) if isinstance(embeddings, Tensor) else type(embeddings).__name__
        )
        raise ModelError(
            f"expected the image-text model to return embeddings [{count}, D] of {count} {what}, "
            f"got {came}"
        )
    values = embeddings.detach().cpu().double()
    if not values.isfinite().all():
        raise ModelError(
            f"the image-text model returns NaN or infinite values for {what}; see whether its "
            "weights were loaded, and run it in float32"
        )
    return values
