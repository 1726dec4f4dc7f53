"""Scores of embeddings: how similar an image is to references."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from vtcav.errors import ModelError


class SimilarityScore:
    """The cosine of an image's embedding with that of each reference.

    Args:
        references: Embeddings [T, D] or [D], as the network gives them for reference images; name
            them by `class_names`.
        embedding: Takes the network's output to embeddings [N, D]; None for an output that is one.

    Raises:
        ModelError: For references that are no finite vectors above length 0.

    Example:
        >>> score = SimilarityScore(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        >>> score(torch.tensor([[3.0, 4.0]]))
        tensor([[0.6000, 0.8000]])
    """

    def __init__(
        self, references: Tensor, embedding: Callable[[Any], Tensor] | None = None
    ) -> None:
        vectors = torch.as_tensor(references).detach().float()
        vectors = vectors[None] if vectors.ndim == 1 else vectors
        if vectors.ndim != 2 or not vectors.isfinite().all() or (vectors.norm(dim=1) == 0).any():
            raise ModelError(
                "expected references to be finite vectors [T, D] above length 0, got a tensor of "
                f"shape {tuple(vectors.shape)}"
            )
        self.references = functional.normalize(vectors, dim=1).cpu()
        self.embedding = embedding

    def __repr__(self) -> str:
        digest = hashlib.sha256(self.references.numpy().tobytes()).hexdigest()[:16]
        return f"SimilarityScore({tuple(self.references.shape)} {digest})"

    def __call__(self, output: Any) -> Tensor:
        """Return the cosines [N, T]."""
        embeddings = output if self.embedding is None else self.embedding(output)
        if not isinstance(embeddings, Tensor) or embeddings.ndim != 2:
            raise ModelError(
                "expected the network to give embeddings [N, D], got "
                f"{getattr(embeddings, 'shape', type(embeddings).__name__)}; say which part of its "
                "output they are: embedding=lambda output: ..."
            )
        return functional.normalize(embeddings, dim=1) @ self.references.to(embeddings).T
