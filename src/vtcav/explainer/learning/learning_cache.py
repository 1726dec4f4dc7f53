"""What of the passes over example images is kept, and everything that it depends on.

Of a set of images (`look`): which could be read and their small grey prints. Of a set at a layer
(`gap`): the pooled activations. Of a set, a layer and some directions (`raw`): the contraharmonic
means of the raw maps, and where the maps lie. So one more concept, or one more layer, leaves the
rest as it is. No picture and no feature map is kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vtcav.files.cache import Cache
from vtcav.files.hashing import text_hash
from vtcav.images.concepts import ImageSet
from vtcav.images.facts import Fact, fact_of
from vtcav.images.preprocess import Preprocess, probe_picture, to_tensor
from vtcav.models.base import Model

if TYPE_CHECKING:
    from vtcav.images.references import ImageRef

__all__ = ["LearnedCache", "preprocess_key"]


def preprocess_key(preprocess: object) -> str:
    """Return what a preprocessing depends on; empty where nobody can know.

    That of a `Preprocess` is its settings. Another callable may say it itself, by an attribute
    `cache_key`: a text that changes whenever what it does changes.

    Example:
        >>> preprocess_key(Preprocess(224))[:29]
        'vtcav.Preprocess {"crop_pct":'
        >>> preprocess_key(lambda image: image)
        ''
    """
    kind = type(preprocess)
    if isinstance(preprocess, Preprocess) and kind.__module__.startswith("vtcav."):
        settings = json.dumps(preprocess.describe(), sort_keys=True)
        return f"vtcav.{kind.__qualname__} {settings}"
    said = getattr(preprocess, "cache_key", "")
    return f"{kind.__qualname__} {said}" if isinstance(said, str) and said else ""


class LearnedCache:
    """The cache as the passes over example images see it.

    Args:
        cache: Where entries are.
        model: The network. Its weights are in every key, and so is what it makes of a test
            picture at each layer, to the last bit: code, precision, threads and processors that
            change a number show there.
        layers: The layers that are learned at.
        batch_size: Images per pass; the last bits depend on it.
        versions: Of the packages that numbers depend on.
    """

    def __init__(
        self,
        cache: Cache,
        model: Model,
        layers: Sequence[str],
        batch_size: int,
        versions: Mapping[str, str],
    ) -> None:
        self._cache = cache
        # a patch release of Python changes no number
        known = {name: version for name, version in versions.items() if name != "python"}
        self._images: dict[str, Any] = {
            "preprocess": preprocess_key(model.preprocess),
            "versions": known,
        }
        self._network = {
            "fingerprint": model.fingerprint,
            "device": _device(model.device),
            "batch_size": batch_size,
        }
        x = to_tensor(model.preprocess, probe_picture(), "a test picture")
        maps = model.activations(x[None].expand(2, -1, -1, -1), layers)
        self._behaves = {layer: _hash(F) for layer, F in maps.items()}
        self._images["behaves"] = _hash(x)
        self._taken: dict[str, dict[str, list[int]]] = {}

    @property
    def taken(self) -> dict[str, dict[str, list[int]]]:
        """Of each set of images and kind of entry: how many came from the cache, of how many."""
        return {
            role: {kind: [*n] for kind, n in kinds.items()} for role, kinds in self._taken.items()
        }

    def facts(self, refs: Sequence[ImageRef]) -> list[Fact]:
        """Return what the images are now; none where one cannot be opened."""
        facts = [fact_of(ref) for ref in refs]
        return facts if all(fact.digest for fact in facts) else []

    def unchanged(self, refs: Sequence[ImageRef], facts: Sequence[Fact]) -> bool:
        """Whether the images are still what they were before they were looked at."""
        return bool(facts) and all(
            fact_of(ref, fact).digest == fact.digest for ref, fact in zip(refs, facts, strict=True)
        )

    def look(self, images: ImageSet, facts: Sequence[Fact]) -> dict[str, Tensor] | None:
        """Return `used` [n], positions of the readable images, and `prints` [n, 16, 16]."""
        return self._get(images.role, "look", self._set(facts)) if facts else None

    def gap(self, images: ImageSet, facts: Sequence[Fact], layer: str) -> dict[str, Tensor] | None:
        """Return `gap` [n, C], pooled activations, and `sums` [C], their sums."""
        return self._get(images.role, "gap", self._at(facts, layer)) if facts else None

    def raw(
        self, images: ImageSet, facts: Sequence[Fact], layer: str, V: Tensor
    ) -> dict[str, Tensor] | None:
        """Return `values` [n, j] of directions V [j, C], and perhaps `place` [h, w]."""
        if not facts:
            return None
        return self._get(images.role, "raw", self._at(facts, layer) | {"V": _hash(V)})

    def keep_look(self, facts: Sequence[Fact], tensors: Mapping[str, Tensor]) -> None:
        """Keep what `look` returns."""
        self._cache.put("look", self._set(facts), tensors)

    def keep_gap(self, facts: Sequence[Fact], layer: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep what `gap` returns."""
        self._cache.put("gap", self._at(facts, layer), tensors)

    def keep_raw(
        self, facts: Sequence[Fact], layer: str, V: Tensor, tensors: Mapping[str, Tensor]
    ) -> None:
        """Keep what `raw` returns."""
        self._cache.put("raw", self._at(facts, layer) | {"V": _hash(V)}, tensors)

    def end(self) -> None:
        """Remove what is too much."""
        self._cache.trim()

    def _set(self, facts: Sequence[Fact]) -> dict[str, Any]:
        digests = " ".join(fact.digest for fact in facts)
        return self._images | {"images": text_hash(digests)}

    def _at(self, facts: Sequence[Fact], layer: str) -> dict[str, Any]:
        here = {"layer": layer, "layer_behaves": self._behaves[layer]}
        return self._set(facts) | self._network | here

    def _get(self, role: str, kind: str, key: Mapping[str, Any]) -> dict[str, Tensor] | None:
        found = self._cache.get(kind, key)
        count = self._taken.setdefault(role, {}).setdefault(kind, [0, 0])
        count[0] += found is not None
        count[1] += 1
        return found


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _hash(tensor: Tensor) -> str:
    """Return the SHA-256 of a tensor's shape and values."""
    array = tensor.detach().cpu().contiguous()
    text = f"{list(array.shape)} {array.dtype}".encode()
    return hashlib.sha256(text + array.numpy().tobytes()).hexdigest()
