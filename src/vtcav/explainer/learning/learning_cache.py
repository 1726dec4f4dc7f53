"""The cache of the passes over example images, and the key of every entry.

These are the kinds of entries:

- "look", for a set of images: `used` [n], positions of the readable images, and `prints`
  [n, 16, 16], their perceptual hashes;
- "logits", for a set: mean and standard deviation of the network's logits over it, each [T];
  "scored", those of up to a dozen of its images [m, T];
- "gap", for a set and a layer: `gap` [n, C], the pooled activations;
- "raw", for a set, a layer and the directions of J CAVs: `values` [n, J], the contraharmonic means
  of the raw maps, and `place` [h, w], the location of the first CAV's; "response" holds the
  same of place filters, with the highest responses;
- "places", for examples, a layer and the directions that refinement begins with: place filters of
  a concept; "drawn", for the set that plays the concept: those of J draws;
- "candidates", for examples, a layer and a concept's place filters: activations at some locations
  [n, t, C]; "background", for negatives, a layer and the names of all layers: the same at locations
  drawn at random;
- "zeros", for examples and a layer: scores at zero feature maps and of some examples.

So one more concept, or one more layer, leaves the other entries valid. No picture and no feature
map is kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vtcav.errors import warn
from vtcav.explainer.learning.entry_forms import misfit
from vtcav.files.cache import Cache, CacheWarning
from vtcav.files.hashing import digest, text_hash
from vtcav.images.concepts import ImageSet
from vtcav.images.facts import Fact, fact_of
from vtcav.images.preprocess import Preprocess
from vtcav.images.references import ImageRef
from vtcav.images.signature import probe_picture, tensor_of_rgb
from vtcav.models.base import Model
from vtcav.results.provenance import versions

_OF_LOGITS = {"logits", "scored", "zeros"}
"""Kinds of entries that depend on the whole network."""


def preprocess_key(preprocess: object) -> str:
    """Return what a preprocessing depends on; empty if it cannot be known.

    A `Preprocess` depends on its settings. Another callable can have an attribute `cache_key`: a
    text that changes whenever its behaviour changes.

    Example:
        >>> preprocess_key(Preprocess(224))[:29]
        'vtcav.Preprocess {"crop_pct":'
        >>> preprocess_key(lambda image: image)
        ''
    """
    kind = type(preprocess)
    if hasattr(preprocess, "named"):  # a second input goes by names, which are in no key
        return ""
    if isinstance(preprocess, Preprocess) and kind.__module__.startswith("vtcav."):
        settings = json.dumps(preprocess.describe(), sort_keys=True)
        unrounded = " unrounded" if preprocess.ranges and preprocess.channels is None else ""
        return f"vtcav.{kind.__qualname__} {settings}{unrounded}"
    key = getattr(preprocess, "cache_key", "")
    return f"{kind.__qualname__} {key}" if isinstance(key, str) and key else ""


def learning_cache(
    cache: Cache | None, model: Model, layers: Sequence[str], batch_size: int
) -> LearningCache | None:
    """Return the entries of a network; None without a cache, or with an unknown preprocessing.

    Warns:
        CacheWarning: For an unknown preprocessing, if the cache was asked for.
    """
    if cache is None:
        return None
    if preprocess_key(model.preprocess):
        return LearningCache(cache, model, layers, batch_size)
    if cache.asked:
        warn(
            f"nothing is cached: it is unknown what the preprocessing {model.preprocess!r} depends "
            "on; use a vtcav.Preprocess, or give it an attribute cache_key, a text that changes "
            "whenever its behaviour changes",
            CacheWarning,
        )
    return None


class LearningCache:
    """The entries of the cache that belong to one network.

    Args:
        cache: The cache.
        model: The network. Its weights are in every key, and so are its feature maps of a test
            picture at each layer, to the last bit: code, precision, threads and processors that
            change a number change these.
        layers: The layers that are learned at.
        batch_size: Images per pass; the last bits depend on it.

    Attributes:
        taken: For each set of images and kind of entry, how many entries came from the cache and
            how many were needed.
    """

    def __init__(self, cache: Cache, model: Model, layers: Sequence[str], batch_size: int) -> None:
        self.cache = cache
        self.taken: dict[str, dict[str, list[int]]] = {}
        x = tensor_of_rgb(model.preprocess, probe_picture(), "a test picture")
        maps, z = model.activations_and_logits(x.expand(2, *x.shape), layers)
        self._images: dict[str, Any] = {
            "preprocess": preprocess_key(model.preprocess),
            # a patch release of Python changes no number
            "versions": {name: v for name, v in versions().items() if name != "python"},
            "behaves": _hash(x),
        }
        network = {
            "fingerprint": model.fingerprint,
            "device": _device(model.device),
            "runtime": model.runtime,
            "batch_size": batch_size,
        }
        self._network = {**network, "logits_behave": _hash(z)}
        self._sizes = {"outputs": z.shape[1], "T": len(model.class_names)}
        self._dtypes = {layer: F.dtype for layer, F in maps.items()}
        self._shapes = {layer: F.shape[1:] for layer, F in maps.items()}
        self._layers = {
            layer: {**network, "layer": layer, "layer_behaves": _hash(F)}
            for layer, F in maps.items()
        }

    def entries(self, images: ImageSet) -> SetEntries | None:
        """Return the entries of a set of images; None if an image cannot be opened."""
        facts = {ref: fact_of(ref) for ref in images.refs}
        return SetEntries(self, images, facts) if all(f.digest for f in facts.values()) else None

    def sizes(self, layer: str | None) -> dict[str, int]:
        """Return the sizes of the network that entries depend on, by their names."""
        sizes = dict(self._sizes)
        if layer is not None:
            C, *sides = self._shapes[layer]
            sizes |= {"C": C, **dict(zip("dhw"[-len(sides) :], sides, strict=True))}
        return sizes

    def dtype(self, layer: str | None) -> torch.dtype | None:
        """Return the kind of numbers of a layer's maps."""
        return None if layer is None else self._dtypes[layer]

    def key(self, kind: str, digests: str, layer: str | None, V: Tensor | None) -> dict[str, Any]:
        """Return the key of an entry: everything that it depends on."""
        key = self._images | {"images": text_hash(digests)}
        key |= self._network if kind in _OF_LOGITS else {}
        key |= {} if layer is None else self._layers[layer]
        return key if V is None else key | {"V": _hash(V)}


class SetEntries:
    """The entries of one set of images.

    Attributes:
        images: The set.
        digests: Digests of the images.
    """

    def __init__(
        self, cache: LearningCache, images: ImageSet, facts: Mapping[ImageRef, Fact]
    ) -> None:
        self.images = images
        self.digests = {ref: fact.digest for ref, fact in facts.items()}
        self._cache, self._facts = cache, facts
        self._all = " ".join(facts[ref].digest for ref in images.refs)

    def unchanged(self) -> bool:
        """Whether the images are still the same as before the pass."""
        return all(fact_of(ref, fact).digest == fact.digest for ref, fact in self._facts.items())

    def get(
        self,
        kind: str,
        layer: str | None = None,
        V: Tensor | None = None,
        sizes: Mapping[str, int] = {},
    ) -> dict[str, Tensor] | None:
        """Return the tensors of an entry, or None.

        Args:
            kind: The kind of entry.
            layer: The layer, where it belongs to one.
            V: The directions that it depends on.
            sizes: Sizes of its tensors, by their names in `entry_forms`.
        """
        whole = self._cache.sizes(layer) | dict(sizes)
        found = self._cache.cache.get(
            kind,
            self._cache.key(kind, self._all, layer, V),
            lambda tensors: misfit(kind, tensors, whole, self._cache.dtype(layer)),
        )
        count = self._cache.taken.setdefault(self.images.role, {}).setdefault(kind, [0, 0])
        count[0] += found is not None
        count[1] += 1
        return found

    def keep(
        self,
        kind: str,
        tensors: Mapping[str, Tensor],
        layer: str | None = None,
        V: Tensor | None = None,
    ) -> None:
        """Keep the tensors of an entry; see `get`."""
        self._cache.cache.put(kind, self._cache.key(kind, self._all, layer, V), tensors)


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _hash(tensor: Tensor) -> str:
    return digest({"": tensor.cpu()})
