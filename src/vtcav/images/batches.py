"""Images on their way into the network: decoded and preprocessed ahead, in batches."""

from __future__ import annotations

import functools
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import torch
from torch import Tensor

from vtcav.errors import ImageError
from vtcav.images.fitting.blank import warn_of_blank
from vtcav.images.input_box import viewed
from vtcav.images.preprocess import to_tensor
from vtcav.images.progress import Progress
from vtcav.images.references import ImageRef, Skipped, UnreadableError, report_skipped
from vtcav.parameters import Flag, Whole, check

if TYPE_CHECKING:
    from PIL import Image


T = TypeVar("T")
U = TypeVar("U")

_THREADS = 4


@dataclass(frozen=True)
class Batch:
    """Some images.

    Attributes:
        refs: References to the images [N].
        pictures: The images, upright and RGB [N].
        x: The network's input [N, 3, H, W].
        digests: Digests of the images' content [N], where they were asked for.
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

    Images are decoded and preprocessed in threads, ahead of the loop that consumes them. At most
    two batches of them wait. Leaving the loop early ends the threads; iterating again starts over.

    Attributes:
        used: Names of the images handed out so far.
        skipped: The images that could not be read or preprocessed so far, with reasons.

    Args:
        refs: The images.
        preprocess: Turns a picture into the network's input.
        batch_size: Images per batch.
        strict: Whether the first unreadable image is an error.
        progress: A progress bar, which counts every image.
        digests: Whether to take the digests of the images' content, in the decoding threads.

    Raises:
        ImageError: While iterating: an image is unreadable and `strict` is set, inputs are of
            different shapes, or, at the end, not one image was readable.

    Warns:
        SkippedImageWarning: Once, at the end of the loop, when images were skipped.

    Example:
        >>> import numpy as np
        >>> from vtcav.images.listing import collect
        >>> from vtcav.images.preprocess import Preprocess
        >>> refs = collect(np.zeros((3, 4, 5, 3), np.uint8))
        >>> batches = Batches(refs, Preprocess(4), 2)
        >>> [tuple(batch.x.shape) for batch in batches]
        [(2, 3, 4, 4), (1, 3, 4, 4)]
        >>> batches.used, batches.skipped
        (['array[0]', 'array[1]', 'array[2]'], [])
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
        check("batch_size", batch_size, Whole(1))
        check("strict", strict, Flag())
        self.used: list[str] = []
        self.skipped: list[Skipped] = []
        self._refs = refs
        self._preprocess = preprocess
        self._batch_size = batch_size
        self._strict = strict
        self._progress = progress
        self._digests = digests

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches."""
        self.used, self.skipped = [], []
        waiting: list[_Arrival] = []
        first: _Arrival | None = None
        with closing(computed_ahead(self._prepare, self._refs, 2 * self._batch_size)) as arrivals:
            for arrival in arrivals:
                if isinstance(arrival, UnreadableError):
                    self._skip(arrival)
                else:
                    first = first or arrival
                    check_same_shape(
                        arrival.x.shape, arrival.ref.name, first.x.shape, first.ref.name
                    )
                    self.used.append(arrival.ref.name)
                    waiting.append(arrival)
                if len(waiting) == self._batch_size:
                    yield self._batch(waiting)
                    waiting = []
                if self._progress is not None:
                    self._progress.advance()
        if waiting:
            yield self._batch(waiting)
        report_skipped(len(self._refs), len(self.used), self.skipped)

    def _prepare(self, ref: ImageRef) -> _Arrival | UnreadableError:
        """Decode and preprocess one image; return what is wrong with an unreadable one."""
        try:
            here = ref.fetch()
            picture, x = prepared(self._preprocess, here)
            return _Arrival(ref, picture, x, here.digest() if self._digests else "")
        except UnreadableError as error:
            return error

    def _skip(self, error: UnreadableError) -> None:
        if self._strict:
            raise error
        self.skipped.append(Skipped(*error.args))

    def _batch(self, arrivals: Sequence[_Arrival]) -> Batch:
        refs, pictures, tensors, digests = zip(*arrivals, strict=True)
        return Batch(refs, pictures, torch.stack(tensors), digests if self._digests else ())


def prepared(
    preprocess: Callable[[Image.Image], Tensor], ref: ImageRef
) -> tuple[Image.Image, Tensor]:
    """Read a picture; return it in RGB, as it is shown, and as the network's input.

    Raises:
        UnreadableError: When it cannot be read or preprocessed.

    Warns:
        UserWarning: When there is nothing to see in it.
    """
    try:
        picture = ref.load()
        x = to_tensor(preprocess, picture, ref.name)
        if ref.photograph is ref:  # of a part, as of a patch, nothing is expected
            warn_of_blank(ref.name, picture, x)
        return viewed(preprocess, picture), x
    except UnreadableError:
        raise
    except ImageError as error:
        raise UnreadableError(ref.name, str(error)) from error


def check_same_shape(shape: Sequence[int], name: str, known: Sequence[int], first: str) -> None:
    """Refuse an input of the network whose shape differs from that of an earlier one.

    Args:
        shape: The input's shape.
        name: The name of its image.
        known: The shape of the earlier input.
        first: The name of the earlier input's image.

    Raises:
        ImageError: Naming both images and shapes.
    """
    if tuple(shape) != tuple(known):
        raise ImageError(
            f"expected inputs of one shape, got {tuple(shape)} for {name!r} after {tuple(known)} "
            f"for {first!r}; give the model a preprocess with a size, for example "
            "vtcav.Preprocess(224)"
        )


def computed_ahead(function: Callable[[T], U], items: Iterable[T], ahead: int) -> Generator[U]:
    """Apply a function to items in threads, ahead of the loop that consumes the results.

    The threads are those of the process and stay for the next loop: starting some for every loop
    took longer than small sets of images do. When the loop ends, nothing of it runs any more.

    Args:
        function: The function. Its error ends the loop where its result would have come.
        items: The items.
        ahead: The most results that may wait.

    Yields:
        The results in the order of the items.
    """
    waiting: deque[Future[U]] = deque()
    pool = _pool(os.getpid())
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        wait([future for future in waiting if not future.cancel()])


@functools.cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Return the threads of a process. A forked one has not inherited those of its parent."""
    return ThreadPoolExecutor(_THREADS, thread_name_prefix=f"vtcav-images-{process}")
