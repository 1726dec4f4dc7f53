"""Images on their way into the network: decoded and preprocessed ahead, in batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from vtcav.errors import ImageError
from vtcav.images.preprocess import to_tensor
from vtcav.images.progress import Progress
from vtcav.images.references import ImageRef, Skipped, UnreadableError, read, report_skipped

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Batch", "Batches", "ImageStream"]

T = TypeVar("T")


@dataclass(frozen=True)
class Batch:
    """Some images.

    Attributes:
        refs: Where the images came from [N].
        pictures: The images as they came, upright and RGB [N].
        x: The network's input [N, 3, H, W].
        digests: Of the images' content [N], where they were asked for.
    """

    refs: tuple[ImageRef, ...]
    pictures: tuple[Image.Image, ...]
    x: Tensor
    digests: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The images' names [N]."""
        return tuple(ref.name for ref in self.refs)


class _Arrival(NamedTuple):
    """An image that is decoded and preprocessed."""

    ref: ImageRef
    picture: Image.Image
    x: Tensor
    digest: str


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
        digests: Whether to take the digests of the images' content, in the decoding threads.
    """

    def __init__(
        self,
        refs: Sequence[ImageRef],
        preprocess: Callable[[Image.Image], Tensor],
        batch_size: int,
        *,
        strict: bool = False,
        progress: Progress | None = None,
        digests: bool = False,
    ) -> None:
        self._batch_size = batch_size
        self._progress = progress
        self._shape: tuple[int, ...] | None = None
        self._first = ""
        self._digests = digests

        def arrive(ref: ImageRef, image: Image.Image) -> _Arrival:
            x = to_tensor(preprocess, image, ref.name)
            return _Arrival(ref, image, x, ref.digest() if digests else "")

        self._stream: ImageStream[_Arrival] = ImageStream(
            refs,
            arrive,
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
        waiting: list[_Arrival] = []
        seen = 0
        for ref, arrival in self._stream:
            self._check_shape(ref.name, arrival.x)
            waiting.append(arrival)
            if len(waiting) == self._batch_size:
                yield self._batch(waiting)
                waiting = []
            seen = self._tell(seen)
        if waiting:
            yield self._batch(waiting)
        self._tell(seen)

    def _batch(self, arrivals: Sequence[_Arrival]) -> Batch:
        refs, pictures, tensors, digests = zip(*arrivals, strict=True)
        return Batch(refs, pictures, torch.stack(tensors), digests if self._digests else ())

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


class ImageStream(Generic[T]):
    """Decodes pictures in threads, ahead of the loop that consumes them, and keeps their order.

    At most `ahead` decoded pictures wait. Leaving the loop early ends the threads. Iterating
    again starts over.

    Attributes:
        used: The names of the pictures handed out so far, in order.
        skipped: The pictures that could not be read so far, in order.

    Args:
        refs: What `collect` returns.
        convert: What to make of each picture, in the decoding thread; an `ImageError` of it
            counts as an unreadable picture.
        strict: Whether the first unreadable picture ends the loop with an error.
        workers: How many threads decode.
        ahead: How many pictures are decoded ahead of the loop.

    Raises:
        ImageError: While iterating: a picture is unreadable and `strict` is set, or, at the end,
            not one picture was readable. On construction: `workers` or `ahead` is below 1.

    Warns:
        SkippedImageWarning: Once, at the end of the loop, when pictures were skipped.

    Example:
        >>> import numpy as np
        >>> from vtcav.images.references import collect
        >>> refs = collect(np.zeros((3, 4, 5, 3), np.uint8))
        >>> stream = ImageStream(refs, lambda ref, image: image.size)
        >>> [size for ref, size in stream]
        [(5, 4), (5, 4), (5, 4)]
        >>> stream.used, stream.skipped
        (['array[0]', 'array[1]', 'array[2]'], [])
    """

    def __init__(
        self,
        refs: Iterable[ImageRef],
        convert: Callable[[ImageRef, Image.Image], T],
        *,
        strict: bool = False,
        workers: int = 4,
        ahead: int = 8,
    ) -> None:
        if workers < 1 or ahead < 1:
            raise ImageError(
                f"expected at least 1 for workers and ahead, got workers={workers}, ahead={ahead}"
            )
        self.used: list[str] = []
        self.skipped: list[Skipped] = []
        self._refs = list(refs)
        self._convert = convert
        self._strict = strict
        self._workers = workers
        self._ahead = ahead

    def __len__(self) -> int:
        """How many pictures are listed, readable or not."""
        return len(self._refs)

    def __iter__(self) -> Iterator[tuple[ImageRef, T]]:
        """Yield what `convert` makes of every readable picture, with its reference, in order."""
        self.used, self.skipped = [], []
        waiting: deque[tuple[ImageRef, Future[T]]] = deque()
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="vtcav-images")
        try:
            for ref in self._refs:
                waiting.append((ref, pool.submit(self._prepare, ref)))
                if len(waiting) >= self._ahead:
                    yield from self._next(waiting)
            while waiting:
                yield from self._next(waiting)
        finally:
            pool.shutdown(cancel_futures=True)
        report_skipped(len(self), len(self.used), self.skipped)

    def _prepare(self, ref: ImageRef) -> T:
        """Decode and convert one picture."""
        image = read(ref)
        try:
            return self._convert(ref, image)
        except ImageError as error:
            raise UnreadableError(ref.name, str(error)) from error

    def _next(self, waiting: deque[tuple[ImageRef, Future[T]]]) -> Iterator[tuple[ImageRef, T]]:
        """Hand out the oldest picture, or note why it cannot be."""
        ref, future = waiting.popleft()
        try:
            image = future.result()
        except UnreadableError as error:
            if self._strict:
                raise
            self.skipped.append(Skipped(*error.args))
            return
        self.used.append(ref.name)
        yield ref, image
