"""The photographs of an explorer in the order of how strongly they show a concept."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtcav.errors import ConceptError
from vtcav.explainer.discovery.patches import patch_box
from vtcav.explorer import limits
from vtcav.explorer.caches import RecentlyUsed
from vtcav.explorer.pictures import Box, Picture
from vtcav.explorer.schemas import ConceptSpec, Example
from vtcav.explorer.session import Session, Status
from vtcav.images.batches import check_same_shape, prepared
from vtcav.images.input_box import Shares, input_box
from vtcav.images.preprocess import Preprocess
from vtcav.images.references import Skipped, UnreadableError
from vtcav.method.concept_map import presence, raw_map
from vtcav.models.finite import check_finite

_BYTES = 512 << 20
Check = Callable[[], None]


@dataclass(frozen=True, eq=False)
class Seen:
    """A photograph's feature maps at a layer.

    Attributes:
        picture: The photograph.
        F: Its feature maps [C, h, w].
        inside: Where the network's input lies on it; None where the preprocessing is not vtcav's.
    """

    picture: Picture
    F: Tensor
    inside: Shares | None

    def around(self, cell: int) -> Example:
        """Return the patch around a place of the feature maps, or the whole photograph.

        Args:
            cell: The place, as a position in the flattened feature maps.
        """
        h, w = self.F.shape[1:]
        if self.inside is None or min(self.picture.size) < 2 * limits.PATCH_SIDE:
            return Example(picture=self.picture.key)
        box = _at_least(patch_box(cell, (h, w), self.picture.size, self.inside), self.picture.size)
        return Example(picture=self.picture.key, box=box)

    def inside_patch(self, example: Example) -> NDArray[np.float32]:
        """Return the mean of the feature maps [C] at the places of a patch of the photograph."""
        C, h, w = self.F.shape
        flat = self.F.reshape(C, h * w)
        if example.box is not None and self.inside is not None:
            left, top, right, bottom = self.inside
            wide, high = self.picture.size
            x = (left + (torch.arange(w) + 0.5) / w * (right - left)) * wide
            y = (top + (torch.arange(h) + 0.5) / h * (bottom - top)) * high
            l_, t, r, b = example.box
            # how far the middle of a cell is outside of the patch; at least the nearest counts
            dx = (l_ - x).clamp(min=0) + (x - r).clamp(min=0)
            dy = (t - y).clamp(min=0) + (y - b).clamp(min=0)
            away = (dx[None, :] + dy[:, None]).flatten()
            flat = flat[:, (away <= away.min()).to(flat.device)]
        found: NDArray[np.float32] = flat.mean(1).float().cpu().numpy()
        return found


@dataclass(frozen=True, eq=False)
class RankedPhotograph:
    """A photograph, and how strongly it shows a concept.

    Attributes:
        picture: Its key.
        presence: The contraharmonic mean of its concept map, from 0 to 1.
        M: The concept map [h, w].
        inside: Where the map lies on the photograph; None where that is unknown.
        peak: The patch around the highest response; the whole photograph for an empty map.
    """

    picture: str
    presence: float
    M: NDArray[np.float32]
    inside: Shares | None
    peak: Example


class PhotoOrder:
    """All photographs to choose from, with their feature maps as far as there is memory.

    Args:
        session: The session that has them.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._seen: RecentlyUsed[tuple[str, str], Seen] = RecentlyUsed(
            _BYTES, lambda seen: seen.F.nbytes
        )
        self.skipped: dict[str, Skipped] = {}

    def seen(
        self, layer: str, check: Check = lambda: None, keys: Container[str] | None = None
    ) -> Iterator[list[Seen]]:
        """Yield photographs with their feature maps, some at a time.

        Args:
            layer: The layer.
            check: Called before every pass; raises when they are no longer needed.
            keys: The keys of the photographs; None for all.
        """
        session = self._session
        listed = [p for p in session.pictures.listed() if keys is None or p.key in keys]
        size = session.settings.images
        missing = sum(self._seen.get((p.key, layer)) is None for p in listed)
        done = 0
        try:
            for first in range(0, len(listed), size):
                few = listed[first : first + size]
                known = {p.key: self._seen.get((p.key, layer)) for p in few}
                new = [p for p in few if known[p.key] is None and p.key not in self.skipped]
                if new:
                    if missing > size:
                        session.status = Status("passing photos through the network", done, missing)
                    passed = self._pass(new, layer, check)
                    known |= passed
                    done += len(new)
                yield [seen for seen in known.values() if seen is not None]
        finally:
            if missing > size:
                session.status = Status()

    def rank(
        self, concept: ConceptSpec | str, layer: str, check: Check = lambda: None
    ) -> list[RankedPhotograph]:
        """Return all photographs, those that show a concept most first.

        Args:
            concept: The concept, or the name of a learned one.
            layer: The layer whose maps are compared.
            check: Called between steps; raises when the order is no longer needed.

        Raises:
            ConceptError: For a concept without examples, or that the layer does not separate.
        """
        bank = self._session.bank(concept, [layer], judge=False, check=check)
        name = concept if isinstance(concept, str) else bank.names[0]
        k = bank.names.index(name)
        cavs = bank.layers[layer].part(range(k, k + 1))
        if not bool(cavs.separated[0]):
            raise ConceptError(
                f"layer {layer!r} does not separate {name!r} from its counter-examples, so its "
                "maps are empty and there is no order; choose another layer"
            )
        ranked: list[RankedPhotograph] = []
        for few in self.seen(layer, check):
            F = torch.stack([seen.F for seen in few])
            M = cavs.maps(F)[:, 0]
            # M is 1 at many places, R has one highest
            highest = raw_map(F, cavs.v.to(F)).flatten(1).argmax(1).tolist()
            values = presence(M, torch.tensor(True)).tolist()
            for seen, own, value, cell in zip(few, M.cpu(), values, highest, strict=True):
                whole = Example(picture=seen.picture.key)
                peak = seen.around(cell) if value > 0 else whole
                ranked.append(
                    RankedPhotograph(seen.picture.key, value, own.numpy(), seen.inside, peak)
                )
        return sorted(ranked, key=lambda each: -each.presence)

    def _pass(self, pictures: Sequence[Picture], layer: str, check: Check) -> dict[str, Seen]:
        """Pass photographs through the network, and keep their feature maps."""
        session, inputs, read = self._session, [], []
        preprocess = session.model.preprocess
        for picture in pictures:
            try:
                inputs.append(prepared(preprocess, picture.ref)[1])
                read.append(picture)
            except UnreadableError as error:
                self.skipped[picture.key] = Skipped(*error.args)
        if not read:
            return {}
        for picture, x in zip(read, inputs, strict=True):
            check_same_shape(x.shape, picture.name, inputs[0].shape, read[0].name)
        with session.lock.hold(urgent=False):
            check()
            maps = session.model.activations(torch.stack(inputs), [layer])
        check_finite([picture.name for picture in read], maps, None)
        found = {
            picture.key: Seen(
                picture,
                F.clone(),
                input_box(session.pictures.decoded(picture.key), preprocess)
                if isinstance(preprocess, Preprocess)
                else None,
            )
            for picture, F in zip(read, maps[layer], strict=True)
        }
        self._seen.put({(key, layer): seen for key, seen in found.items()})
        return found


def _at_least(box: Box, size: tuple[int, int]) -> Box:
    """Return a box that is not smaller than a patch may be, moved into the picture."""
    left, top, right, bottom = box
    side = limits.PATCH_SIDE
    wide, high = max(right - left, side), max(bottom - top, side)
    left, top = min(max(left, 0), size[0] - wide), min(max(top, 0), size[1] - high)
    return left, top, left + wide, top + high
