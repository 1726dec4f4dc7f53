"""Projections as modules: what a corrected network does to the output of its layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vtcav.errors import CavError
from vtcav.explainer.settings import When
from vtcav.method.concept_map import PRESENT, response
from vtcav.method.erasure.place_filter import PlaceFilters
from vtcav.method.positions import broadcast
from vtcav.method.projection import beyond, joint_patterns, projected
from vtcav.models.inspection.layout import CHANNELS_LAST, Layout


class Direction(NamedTuple):
    """Filters and patterns of K concepts, as a file has them.

    Attributes:
        w: Filters [K, C].
        offset: Their mean responses to negatives [K].
        P: Joint patterns [K, C].
        low: The response above which a location is corrected [K].
        level: The response above which an image shows the concept [K].
    """

    w: Tensor
    offset: Tensor
    P: Tensor
    low: Tensor
    level: Tensor

    @classmethod
    def of(cls, places: PlaceFilters) -> Direction:
        """Return the directions of place filters, which have patterns."""
        assert places.pattern is not None
        P = joint_patterns(places.w, places.pattern).to(places.w.dtype)
        level = places.low + PRESENT * (places.high - places.low)
        return cls(places.w, places.offset, P, places.low, level)


class Projection(nn.Module):
    """Takes K concepts out of feature maps, once.

    Args:
        direction: Their filters and patterns.
    """

    def __init__(self, direction: Direction) -> None:
        super().__init__()
        for name, tensor in direction._asdict().items():
            self.register_buffer(name, tensor.detach().clone())

    @property
    def direction(self) -> Direction:
        """The filters and patterns."""
        return Direction(**dict(self.named_buffers()))

    def response(self, F: Tensor) -> Tensor:
        """Return the responses r [N, K, h, w]."""
        own = self.direction
        return response(F, own.w.to(F), own.offset.to(F))

    def shows(self, F: Tensor) -> Tensor:
        """Return which images show a concept: their map exceeds 0.5 somewhere [N]."""
        return beyond(self.response(F), self.direction.level.to(F)).flatten(1).any(1)

    def forward(self, F: Tensor, everywhere: bool) -> Tensor:
        """Return the maps without the concepts.

        Args:
            F: Feature maps [N, C, h, w].
            everywhere: Whether at all locations, or where a filter responds more than to negatives.
        """
        own, r = self.direction, self.response(F)
        found = projected(F, r, own.P.to(F))
        return found if everywhere else torch.where(beyond(r, own.low.to(F)), found, F)


class ConceptRemoval(nn.Module):
    """Takes concepts out of a layer's output, in any layout.

    Args:
        directions: The filters and patterns of each round, which follow on each other.
        when: "always" corrects every image at every location, "present" images that show a concept
            where it is.
        layout: How the layer's output holds its maps.

    Attributes:
        active: Whether it does anything.
    """

    def __init__(self, directions: Sequence[Direction], when: When, layout: Layout) -> None:
        super().__init__()
        self.rounds = nn.ModuleList(map(Projection, directions))
        self.when, self.layout, self.active = when, layout, True

    @property
    def directions(self) -> list[Direction]:
        """The filters and patterns of each round."""
        return [each.direction for each in self.rounds if isinstance(each, Projection)]

    def extra_repr(self) -> str:
        """Return what the module's repr says of it."""
        return f"when={self.when!r}"

    def forward(self, F: Tensor) -> Tensor:
        """Return feature maps [N, C, h, w] without the concepts.

        With "present", maps of images that do not show them are the same to the last bit.
        """
        everywhere = self.when == "always"
        left = _single(F)
        if F.shape[1] != (C := self.directions[0].w.shape[1]):
            raise CavError(
                f"the correction is of feature maps of {C} channels, and the layer's have "
                f"{F.shape[1]}; it was made for another layer, or is damaged"
            )
        for each in self.rounds:
            left = each(left, everywhere)
        left = left.to(F)
        if not everywhere:
            left = torch.where(broadcast(self.shows(F), F), left, F)
        # the same order in memory, or the next layer might round otherwise
        return torch.empty_like(F).copy_(left)

    def shows(self, F: Tensor) -> Tensor:
        """Return which images show a concept [N]."""
        [first, *_] = self.rounds
        assert isinstance(first, Projection)
        return first.shows(_single(F))

    def corrected(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        """Return the output of a layer without the concepts; a forward hook."""
        if not self.active:
            return None
        layout, tensor = self.layout, self.layout.tensor(output)
        if layout.order == "tokens":  # each for itself, so that their grid does not matter
            F = tensor[:, layout.prefix :].transpose(1, 2)[..., None]
        else:
            F = tensor.movedim(-1, 1) if layout.order in CHANNELS_LAST else tensor
        return layout.from_maps(self(F), output, layout.prefix_of(output))

    @contextmanager
    def switched_off(self) -> Iterator[None]:
        """Do nothing inside the block."""
        before, self.active = self.active, False
        try:
            yield
        finally:
            self.active = before


def _single(F: Tensor) -> Tensor:
    """Return maps in single precision or better: half has too few digits for differences."""
    return F.float() if F.dtype in (torch.float16, torch.bfloat16) else F
