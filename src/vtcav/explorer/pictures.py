"""The explorer's pictures: loaded at the start, uploaded, and patches cut out of them.

Uploads are kept in memory as they came and decoded when needed. Nothing is written to disk.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Literal, TypeAlias

from PIL import Image

from vtcav.errors import ImageError
from vtcav.explorer import limits
from vtcav.explorer.caches import RecentlyUsed
from vtcav.images.decoding import BandPicture, reason_of, shallow
from vtcav.images.input_box import viewed
from vtcav.images.opening import stated
from vtcav.images.references import ImageRef, Skipped, UnreadableError

Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels of the upright picture."""

Origin: TypeAlias = Literal["sample", "upload", "concept"]
"""Samples are offered from the start; others are uploaded, or examples of the first concepts."""

_DECODED_BYTES = 384 << 20


@dataclass(frozen=True, eq=False)
class PictureRef(ImageRef):
    """A reference that computes the digest of its picture once.

    Attributes:
        whole: The picture that a patch was cut out of; None for a whole picture.
        ready: Whether `source` is what `load` returns. A picture that is decoded a second time
            would lose what its file says about its values, such as a window.
    """

    whole: PictureRef | None = field(default=None, repr=False)
    ready: bool = field(default=False, repr=False)

    @classmethod
    def of(cls, ref: ImageRef) -> PictureRef:
        """Return a reference to the same picture, held in memory unless it is a file."""
        here = ref.fetch()
        if here.source is None:
            return cls(ref.name, here.load(), ready=True)
        return cls(ref.name, here.source)

    def load(self) -> Image.Image:
        """Decode the picture, or copy it where that is done already."""
        if self.ready and isinstance(self.source, Image.Image):
            return self.source.copy()
        return ImageRef.load(self)

    @cached_property
    def _digest(self) -> str:
        return ImageRef.digest(self)

    def digest(self) -> str:
        """The sha256 of the content."""
        return self._digest

    def origin(self) -> str:
        """The digest of the photo that a patch was cut out of; empty for a whole one."""
        return "" if self.whole is None else self.whole.digest()


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture and its key.

    Attributes:
        key: Identifies the picture in requests.
        ref: The picture.
        name: The name that the page shows.
        origin: Where it comes from.
        size: Width and height in pixels.
    """

    key: str
    ref: PictureRef
    name: str
    origin: Origin
    size: tuple[int, int]


class Pictures:
    """All pictures that requests can name, and the patches cut out of them.

    Args:
        preprocess: The network's preprocessing, which says what a picture must be.
    """

    def __init__(self, preprocess: object = None) -> None:
        self.preprocess = preprocess
        self._lock = threading.RLock()
        # a picture of 49 megapixels takes a gigabyte while it is decoded
        self._decoding = threading.RLock()
        # always in one thread, because what is freed stays with the thread that took it
        self._decoder = ThreadPoolExecutor(1, thread_name_prefix="decoding")
        self._all: dict[str, Picture] = {}
        self._decoded: RecentlyUsed[str, Image.Image] = RecentlyUsed(_DECODED_BYTES, _bytes)
        self._patches: RecentlyUsed[tuple[str, Box], PictureRef] = RecentlyUsed(
            limits.PATCH_BYTES, lambda ref: _bytes(ref.source)
        )

    def add(self, ref: ImageRef, name: str, origin: Origin) -> Picture:
        """Add a picture from a trusted source.

        Raises:
            ImageError: When it cannot be read.
        """
        own = PictureRef.of(ref)
        size = self._fitting(own).size
        return self._kept(Picture(secrets.token_hex(8), own, clean_name(name), origin, size))

    def _fitting(self, ref: ImageRef) -> Image.Image:
        """Decode a picture that the network can take.

        Raises:
            UnreadableError: When it cannot be read, or has other channels or values than it must.
        """
        picture = ref.load()
        try:
            viewed(self.preprocess, picture)
        except ImageError as error:
            raise UnreadableError(ref.name, str(error)) from error
        return picture

    def add_all(self, refs: Sequence[ImageRef]) -> list[Skipped]:
        """Add pictures to choose from, and return those that were left out, with reasons."""
        skipped = []
        for ref in refs[: limits.PICTURES]:
            try:
                self.add(ref, ref.name, "sample")
            except UnreadableError as error:
                skipped.append(Skipped(*error.args))
        if more := len(refs) - limits.PICTURES:
            why = f"the explorer shows the first {limits.PICTURES}"
            skipped += [Skipped(f"{more} more photos", why)] * (more > 0)
        return skipped

    def upload(self, data: bytes, name: str) -> Picture:
        """Check the bytes of an uploaded file and keep them.

        Raises:
            ImageError: When they are not a picture of an accepted format, or too large.
        """
        with self._decoding:  # so that limits hold for uploads that come at once
            return self._decoder.submit(self._uploaded, data, name).result()

    def _uploaded(self, data: bytes, name: str) -> Picture:
        uploads = [picture.ref.source for picture in self.listed("upload")]
        held = [source for source in uploads if isinstance(source, bytes)]
        if len(held) >= limits.PICTURES:
            raise ImageError(f"{len(held)} pictures are held already; remove some first")
        if sum(map(len, held)) + len(data) > limits.PICTURE_BYTES:
            raise ImageError(
                f"the pictures would be larger than {limits.PICTURE_BYTES >> 20} MB together; "
                "remove some first"
            )
        name = clean_name(name)
        _check(data)
        ref = PictureRef(name, data)
        decoded = self._fitting(ref)
        picture = Picture(secrets.token_hex(8), ref, name, "upload", decoded.size)
        self._decoded.put({picture.key: decoded})
        return self._kept(picture)

    def remove(self, key: str) -> list[PictureRef]:
        """Forget an uploaded picture and its patches, and return the references to them.

        Raises:
            ImageError: For an unknown picture, or one that was not uploaded.
        """
        picture = self.get(key)
        if picture.origin != "upload":
            raise ImageError(f"{picture.name!r} was not uploaded here, so it stays")
        with self._lock:
            self._all.pop(key, None)
        self._decoded.forget(lambda known: known == key)
        return [picture.ref, *self._patches.forget(lambda patch: patch[0] == key)]

    def get(self, key: str) -> Picture:
        """Return a picture by its key.

        Raises:
            ImageError: For an unknown key.
        """
        try:
            return self._all[key]
        except KeyError:
            raise ImageError("that picture is not here any more; add it again") from None

    def listed(self, *origins: Origin) -> list[Picture]:
        """Return the pictures of some origins; by default those to choose from."""
        with self._lock:
            all_of_them = list(self._all.values())
        return [p for p in all_of_them if p.origin in (origins or ("sample", "upload"))]

    def decoded(self, key: str) -> Image.Image:
        """Return a picture, upright and at its full depth.

        Raises:
            ImageError: For an unknown key, or a picture that cannot be read.
        """
        picture = self.get(key)
        with self._decoding:
            decoded = self._decoded.get(key)
            if decoded is None:
                decoded = self._decoder.submit(picture.ref.load).result()
                self._decoded.put({key: decoded})
        return decoded

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until no other request works on whole pictures."""
        with self._decoding:
            yield

    def ref(self, key: str, box: Sequence[int] | None = None) -> PictureRef:
        """Return a reference to a picture, or to a patch of it, to learn concepts from.

        Raises:
            ImageError: For an unknown key, or a patch that is too small or not inside the picture.
        """
        picture = self.get(key)
        if box is None:
            return picture.ref
        patch = _inside(picture, box)
        ref = self._patches.get((key, patch))
        if ref is None:
            piece = self.decoded(key).crop(patch)
            name = f"{picture.name} [{', '.join(map(str, patch))}]"
            ref = PictureRef(name, piece, whole=picture.ref, ready=True)
            self._patches.put({(key, patch): ref})
        return ref

    # -- inside -------------------------------------------------------------------------------

    def _kept(self, picture: Picture) -> Picture:
        with self._lock:
            self._all[picture.key] = picture
        return picture


def clean_name(name: str) -> str:
    r"""Return the last part of a file's name, short and printable.

    Example:
        >>> clean_name("../../etc/pass\nwd.png")
        'pass?wd.png'
    """
    last = name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    shown = "".join(letter if letter.isprintable() else "?" for letter in last).strip()
    return shown[-limits.NAME_LETTERS :] or "picture"


def _check(data: bytes) -> None:
    """Refuse what is not a picture or is too large, before decoding any of it."""
    if len(data) > limits.FILE_BYTES:
        raise ImageError(
            f"it has {len(data) / 2**20:.0f} MB, more than the {limits.FILE_BYTES >> 20} MB "
            "allowed; save it smaller"
        )
    try:
        kind, shape = stated(data)
    except Exception as error:
        raise ImageError(reason_of(error)) from error
    if kind not in limits.FORMATS:
        raise ImageError(f"it is a {kind} file; expected one of {', '.join(limits.FORMATS)}")
    # of an array the channels may come first or last; they are fewer than the pixels of a side
    high, wide = shape[:2] if kind not in ("NPY", "NPZ") else _sides(shape)
    if wide * high > limits.PIXELS or max(wide, high) > limits.SIDE:
        raise ImageError(
            f"it has {wide} x {high} pixels; at most {limits.PIXELS // 10**6} million are allowed, "
            f"and {limits.SIDE} on a side. Save it smaller"
        )
    if (values := prod(shape)) > limits.VALUES:
        raise ImageError(
            f"it has {values // 10**6} million values; at most {limits.VALUES // 10**6} million "
            "are allowed. Save it smaller"
        )


def _sides(shape: Sequence[int]) -> Sequence[int]:
    """Return height and width of an array: its two longest axes, in their order."""
    longest = sorted(range(len(shape)), key=lambda axis: -shape[axis])[:2]
    return [shape[axis] for axis in sorted(longest)]


def _inside(picture: Picture, box: Sequence[int]) -> Box:
    left, top, right, bottom = (int(edge) for edge in box)
    wide, high = picture.size
    if not (0 <= left < right <= wide and 0 <= top < bottom <= high):
        raise ImageError(
            f"the patch {left}, {top}, {right}, {bottom} is not inside {picture.name!r}, "
            f"which has {wide} x {high} pixels"
        )
    if min(right - left, bottom - top) < limits.PATCH_SIDE:
        raise ImageError(
            f"the patch has {right - left} x {bottom - top} pixels; cut out at least "
            f"{limits.PATCH_SIDE} x {limits.PATCH_SIDE}"
        )
    return left, top, right, bottom


def _bytes(picture: object) -> int:
    if not isinstance(picture, Image.Image):
        return 0
    own = (3 if shallow(picture) else 4) * picture.width * picture.height
    return own + (picture.values.nbytes if isinstance(picture, BandPicture) else 0)
