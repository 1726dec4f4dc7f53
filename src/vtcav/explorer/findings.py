"""What discovery finds in the photographs of an explorer, as tiles that the user names or drops."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtcav.diagnostics.levels import LEVELS
from vtcav.errors import ConceptError, ExplanationError
from vtcav.explainer.discovery.discover import discover
from vtcav.explainer.discovery.nearest import Nearest, nearest
from vtcav.explainer.learning.example_passes import Pass
from vtcav.explainer.settings import DiscoverySettings
from vtcav.explorer.concept_sets import nothing_found
from vtcav.explorer.photographs import PhotoOrder, Seen
from vtcav.explorer.schemas import ConceptSpec, Example
from vtcav.explorer.session import Session, Status
from vtcav.method.concept_map import raw_map
from vtcav.method.discovery.feedback import together, with_feedback
from vtcav.method.discovery.stability import cosines
from vtcav.results.bank.cav_bank import CavBank
from vtcav.results.discovery.discovery import Discovery
from vtcav.results.discovery.found import FoundConcept

Check = Callable[[], None]
_RANKS = {level: i for i, level in enumerate(LEVELS)}


@dataclass(frozen=True, eq=False)
class Tile:
    """A found concept, as the page shows it.

    Attributes:
        key: Identifies it in requests.
        number: Its number among those of the layer, from 1.
        layer: The layer.
        v: Its direction [C].
        mean: The mean of the feature maps over all places of the photographs [C].
        examples: The patches that show it most, each of another photograph, the first one most.
        negatives: Photographs that show it least.
        level: fine, look or do not use.
        note: Why it is not fine.
        stability: The lower of the cosines with what other starts and halves of the photographs
            give.
        prevalence: The share of the photographs that show it.
    """

    key: str
    number: int
    layer: str
    v: NDArray[np.float32]
    mean: NDArray[np.float32]
    examples: tuple[Example, ...]
    negatives: tuple[Example, ...]
    level: str
    note: str
    stability: float
    prevalence: float


@dataclass(frozen=True, eq=False)
class FoundTiles:
    """What was found at a layer.

    Attributes:
        layer: The layer.
        photographs: The keys of the photographs that it was found in.
        tiles: The found concepts, in the order of their stability.
        skipped: Photographs that could not be read, with reasons.
    """

    layer: str
    photographs: tuple[str, ...]
    tiles: tuple[Tile, ...]
    skipped: tuple[str, ...]


class Findings:
    """The findings of a session, by layer; they stay when the page is loaded again.

    It gives the session the directions of concepts that are made of tiles.

    Args:
        session: The session.
        photographs: Its photographs.
    """

    def __init__(self, session: Session, photographs: PhotoOrder) -> None:
        self._session = session
        self._photographs = photographs
        self._found: dict[str, FoundTiles] = {}
        self._known: dict[str, Tile] = {}  # those of earlier findings too
        session.given = self.directions

    def kept(self) -> list[FoundTiles]:
        """Return all findings."""
        return list(self._found.values())

    def discover(self, layer: str, check: Check = lambda: None) -> FoundTiles:
        """Find concepts that nobody named in the photographs.

        Args:
            layer: The layer.
            check: Called before every pass; raises when they are no longer looked for.

        Raises:
            ExplanationError: For an unknown layer.
            ExtraError: Without scikit-learn.
            ImageError: For fewer than ten photographs that can be read.
            SupersededError: When `check` raises it.
        """
        session = self._session
        if layer not in session.names:
            raise ExplanationError(f"expected one of the layers {session.names}, got {layer!r}")
        pictures = session.pictures.listed()
        turns = _Turns(session, len(pictures), check)
        run = Pass(session.model, [layer], session.settings.images, turn=turns.turn)
        refs = [picture.ref for picture in pictures]
        try:
            settings = DiscoverySettings(seed=session.seed)
            found = discover(run, refs, settings, None, shown=False, check=check)
            check()
            keys = {picture.ref.digest(): picture.key for picture in pictures}
            tiles = self._tiles(found, keys, check)
        finally:
            session.status = Status()
        reasons = tuple(f"{skip.name}: {skip.reason}" for skip in found.skipped)
        finding = FoundTiles(layer, tuple(keys.values()), tuple(tiles), reasons)
        self._known |= {tile.key: tile for tile in tiles}
        self._found[layer] = finding
        return finding

    def directions(self, concept: ConceptSpec, check: Check = lambda: None) -> dict[str, Tensor]:
        """Return the directions [C] of a concept that was made of tiles, by layer.

        They are those of the tiles, turned towards the patches that were added as examples, and
        away from those that were added as counter-examples.

        Args:
            concept: The concept.
            check: Called before every pass; raises when they are no longer needed.

        Raises:
            ConceptError: For tiles that are not here any more.
            ImageError: For a picture that is not here any more.
        """
        by_layer: dict[str, list[Tile]] = {}
        for tile in self._tiles_of(concept):
            by_layer.setdefault(tile.layer, []).append(tile)
        found = {}
        for layer, tiles in by_layer.items():
            more = self._marked(concept.examples, [t.examples for t in tiles], layer, check)
            less = self._marked(concept.negatives, [t.negatives for t in tiles], layer, check)
            v = together([tile.v for tile in tiles]) if len(tiles) > 1 else tiles[0].v
            found[layer] = torch.from_numpy(with_feedback(v, tiles[0].mean, more, less))
        return found

    def agreement(self, concept: ConceptSpec, layer: str) -> list[tuple[int, float]]:
        """Return the tiles that a concept was made of, each with the cosine of the directions.

        Args:
            concept: The concept.
            layer: The layer; only what was found there compares.

        Raises:
            ConceptError: For tiles that are not here any more.
        """
        tiles = [tile for tile in self._tiles_of(concept) if tile.layer == layer]
        if not tiles:
            return []
        v = self.directions(concept)[layer].numpy()
        return [(tile.number, float(cosines(tile.v[None], v[None])[0, 0])) for tile in tiles]

    def nearest(
        self, layer: str, concepts: Sequence[ConceptSpec], check: Check = lambda: None
    ) -> dict[str, Nearest]:
        """Return the named concept that is the closest to each tile of a layer, by its key.

        A tile is not compared with a concept that was made of it. Concepts without examples or
        counter-examples are left out.

        Args:
            layer: The layer.
            concepts: The concepts of the page; learned ones count too.
            check: Called between steps; raises when the answer is no longer needed.

        Raises:
            ImageError: For a picture that is not here any more.
            SupersededError: When `check` raises it.
        """
        session, banks = self._session, list[tuple[tuple[str, ...], CavBank]]()
        if layer not in self._found:
            return {}
        for concept in concepts:
            with suppress(ConceptError):
                banks.append(
                    (concept.found, session.bank(concept, [layer], judge=False, check=check))
                )
        if session.learned:
            banks.append(((), session.bank(session.learned[0], [layer])))
        closest: dict[str, Nearest] = {}
        for tile in self._found[layer].tiles:
            others = [nearest(tile.v, bank, layer) for own, bank in banks if tile.key not in own]
            if others:
                closest[tile.key] = max(others, key=lambda each: each.cosine)
        return closest

    def _tiles_of(self, concept: ConceptSpec) -> list[Tile]:
        """Return the tiles that a concept was made of."""
        if any(key not in self._known for key in concept.found):
            nothing_found(concept, lambda: None)
        return [self._known[key] for key in concept.found]

    def _marked(
        self,
        examples: Sequence[Example],
        own: Sequence[Sequence[Example]],
        layer: str,
        check: Check,
    ) -> list[NDArray[np.float32]]:
        """Return the feature maps [C] at patches that were added to those of tiles."""
        added = [e for e in examples if not any(e in each for each in own)]
        wanted = {example.picture for example in added}
        passed = self._photographs.seen(layer, check, wanted) if added else []
        seen = {each.picture.key: each for few in passed for each in few}
        return [seen[e.picture].inside_patch(e) for e in added if e.picture in seen]

    def _tiles(self, found: Discovery, keys: Mapping[str, str], check: Check) -> list[Tile]:
        """Return found concepts as tiles, the most stable first."""
        [layer] = found.layers
        shown = {image.digest for i in range(len(found)) for image in found[i].examples}
        wanted = {keys[digest] for digest in shown}
        passed = self._photographs.seen(layer, check, wanted)
        seen = {each.picture.key: each for few in passed for each in few}
        everywhere = self._photographs.seen(layer, check, set(keys.values()))
        means = [each.F.mean((1, 2)) for few in everywhere for each in few]
        mean = torch.stack(means).mean(0).float().cpu().numpy()
        rows = found.concepts.sort_values(
            ["level", "stability"],
            key=lambda column: column.map(_RANKS) if column.name == "level" else -column,
            kind="stable",
        )
        own = secrets.token_hex(4)
        return [
            Tile(
                key=f"{own}-{row['concept']}",
                number=number,
                layer=layer,
                v=found[row["concept"]].v,
                mean=mean,
                examples=_patches(found[row["concept"]], keys, seen),
                negatives=tuple(
                    Example(picture=keys[image.digest]) for image in found[row["concept"]].negatives
                ),
                level=row["level"],
                note=row["note"],
                stability=row["stability"],
                prevalence=row["prevalence"],
            )
            for number, row in enumerate(rows.to_dict("records"), 1)
        ]


def _patches(
    found: FoundConcept, keys: Mapping[str, str], seen: Mapping[str, Seen]
) -> tuple[Example, ...]:
    """Return the patch of each photograph that stands for a concept where it responds most."""
    v = torch.from_numpy(found.v.copy())[None]
    there = [seen[keys[image.digest]] for image in found.examples if keys[image.digest] in seen]
    return tuple(
        each.around(int(raw_map(each.F[None], v.to(each.F))[0, 0].argmax())) for each in there
    )


class _Turns:
    """Takes turns at the network with the page's other requests, and says how far it is."""

    def __init__(self, session: Session, images: int, check: Check) -> None:
        self._session = session
        self._images = images
        self._check = check
        self._taken = 0

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold the network for one pass."""
        self._check()
        size = self._session.settings.images
        done = self._taken * size
        if done < self._images:
            status = Status("passing photos through the network", done, self._images)
        else:
            status = Status("looking for what repeats in the photos")
        self._session.status = status
        with self._session.lock.hold(urgent=False):
            self._check()
            yield
        self._taken += 1
