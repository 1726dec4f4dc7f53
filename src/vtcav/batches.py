"""Images on their way into the network: decoded and preprocessed ahead, in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vtcav.errors import ImageError
from vtcav.images import ImageRef, ImageStream, Skipped
from vtcav.preprocess import to_tensor
from vtcav.progress import Progress

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Batch", "Batches"]


@dataclass(frozen=True)
class Batch:
    """Some images.

    Attributes:
        refs: Where the images came from [N].
        pictures: The images as they came, upright and RGB [N].
        x: The network's input [N, 3, H, W].
    """

    refs: tuple[ImageRef, ...]
    pictures: tuple[Image.Image, ...]
    x: Tensor

    @property
    def names(self) -> tuple[str, ...]:
        """The images' names [N]."""
        return tuple(ref.name for ref in self.refs)


class Batches:
    """All readable images of a list, batch by batch, in order.

    Attributes:
        used: Names of the images handed out so far.
        skipped: The images that could not be read or preprocessed so far, with reasons.

    Args:
        refs: The images.
        preprocess: From a picture to the network's input.
        batch_size: Images per batch.
        strict: Whether the first unreadable image is an error.
        progress: Told of every image.
    """

    def __init__(
        self,
        refs: Sequence[ImageRef],
        preprocess: Callable[[Image.Image], Tensor],
        batch_size: int,
        *,
        strict: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self._batch_size = batch_size
        self._progress = progress
        self._shape: tuple[int, ...] | None = None
        self._first = ""
        self._stream: ImageStream[tuple[Image.Image, Tensor]] = ImageStream(
            refs,
            lambda ref, image: (image, to_tensor(preprocess, image, ref.name)),
            strict=strict,
            ahead=2 * batch_size,
        )

    @property
    def used(self) -> list[str]:
        """Names of the images handed out so far."""
        return self._stream.used

    @property
    def skipped(self) -> list[Skipped]:
        """The images left out so far."""
        return self._stream.skipped

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches."""
        waiting: list[tuple[ImageRef, Image.Image, Tensor]] = []
        seen = 0
        for ref, (picture, x) in self._stream:
            self._check_shape(ref.name, x)
            waiting.append((ref, picture, x))
            if len(waiting) == self._batch_size:
                yield _batch(waiting)
                waiting = []
            seen = self._tell(seen)
        if waiting:
            yield _batch(waiting)
        self._tell(seen)

    def _tell(self, seen: int) -> int:
        """Report the images that passed since the last report."""
        now = len(self.used) + len(self.skipped)
        if self._progress is not None:
            self._progress.advance(now - seen)
        return now

    def _check_shape(self, name: str, x: Tensor) -> None:
        if self._shape is None:
            self._shape, self._first = tuple(x.shape), name
        elif tuple(x.shape) != self._shape:
            raise ImageError(
                f"expected inputs of one shape, got {tuple(x.shape)} for {name!r} after "
                f"{self._shape} for {self._first!r}; give the model a preprocess with a size, "
                "for example vtcav.Preprocess(224)"
            )


def _batch(items: list[tuple[ImageRef, Image.Image, Tensor]]) -> Batch:
    refs, pictures, tensors = zip(*items, strict=True)
    return Batch(refs, pictures, torch.stack(tensors))
