"""The pictures that the explorer knows: given at the start, uploaded, and patches cut out of them.

Uploads are kept in memory as they came and decoded when needed. Nothing is written.
"""

from __future__ import annotations

import hashlib
import io
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from PIL import Image

from vtcav.errors import ImageError
from vtcav.explorer import limits
from vtcav.images.decoding import identify, reason_of, upright_rgb
from vtcav.images.references import ImageRef, UnreadableError, read

__all__ = ["Box", "KnownRef", "Origin", "Picture", "Pictures", "clean_name"]

Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels of the upright picture."""

Origin: TypeAlias = Literal["sample", "upload", "given"]
"""A sample comes with vtcav, an upload from the page, what is given is from a concept's folder."""

_DECODED_BYTES = 384 << 20

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class KnownRef(ImageRef):
    """A reference that computes the digest of its picture once.

    Attributes:
        encoded: The bytes of a file that is not on disk; they are read instead of the source.
        whole: Of a patch, the picture that it was cut out of.
    """

    encoded: bytes | None = field(default=None, repr=False)
    whole: KnownRef | None = field(default=None, repr=False)

    def load(self) -> Image.Image:
        """Decode the picture."""
        if self.encoded is None:
            return super().load()
        try:
            return upright_rgb(identify(io.BytesIO(self.encoded)))
        except Exception as error:
            # Decoders meet damaged files with exceptions of every kind; all are this picture's.
            raise UnreadableError(self.name, reason_of(error)) from error

    def status(self) -> tuple[int, int]:
        """Return size and time of the file; -1 where the picture is no file of its own."""
        return (-1, -1) if self.encoded is not None else super().status()

    @cached_property
    def _known(self) -> str:
        if self.encoded is not None:
            return hashlib.sha256(self.encoded).hexdigest()
        return ImageRef.digest(self)

    def digest(self) -> str:
        """The sha256 of the content."""
        return self._known

    def origin(self) -> str:
        """The digest of the photo that a patch was cut out of; empty for a whole one."""
        return "" if self.whole is None else self.whole.digest()


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture that is known.

    Attributes:
        key: What requests call it.
        ref: The picture.
        name: How the page calls it.
        origin: Where it comes from.
        size: Width and height in pixels.
    """

    key: str
    ref: KnownRef
    name: str
    origin: Origin
    size: tuple[int, int]


class Pictures:
    """All pictures that requests can speak of, and the patches cut out of them."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._all: dict[str, Picture] = {}
        self._decoded: OrderedDict[str, Image.Image] = OrderedDict()
        self._patches: OrderedDict[tuple[str, Box], KnownRef] = OrderedDict()

    def add(self, ref: ImageRef, name: str, origin: Origin) -> Picture:
        """Add a picture that is trusted.

        Raises:
            ImageError: When it cannot be read.
        """
        picture = read(ref)
        known = KnownRef(ref.name, ref.source)
        return self._kept(Picture(_key(), known, clean_name(name), origin, picture.size))

    def upload(self, data: bytes, name: str) -> Picture:
        """Check the bytes of an uploaded file and keep them.

        Raises:
            ImageError: When they are no picture of a kind that is taken, or too large.
        """
        with self._lock:
            held = [p.ref.encoded or b"" for p in self._all.values() if p.origin == "upload"]
            if len(held) >= limits.PICTURES:
                raise ImageError(f"{len(held)} pictures are held already; remove some first")
            if sum(map(len, held)) + len(data) > limits.PICTURE_BYTES:
                raise ImageError(
                    f"the pictures would be larger than {limits.PICTURE_BYTES >> 20} MB together; "
                    "remove some first"
                )
        name = clean_name(name)
        _check(data)
        ref = KnownRef(name, Path(name), encoded=data)
        decoded = read(ref)
        picture = Picture(_key(), ref, name, "upload", decoded.size)
        self._keep_decoded(picture.key, decoded)
        return self._kept(picture)

    def remove(self, key: str) -> list[KnownRef]:
        """Forget a picture that was uploaded, and its patches; return what it and they were.

        Raises:
            ImageError: For one that is not known, or not uploaded.
        """
        picture = self.get(key)
        if picture.origin != "upload":
            raise ImageError(f"{picture.name!r} was not uploaded here, so it stays")
        with self._lock:
            self._all.pop(key, None)
            self._decoded.pop(key, None)
            cut = [patch for patch in self._patches if patch[0] == key]
            return [picture.ref, *(self._patches.pop(patch) for patch in cut)]

    def get(self, key: str) -> Picture:
        """Return a picture by its key.

        Raises:
            ImageError: For one that is not known.
        """
        try:
            return self._all[key]
        except KeyError:
            raise ImageError("that picture is not here any more; add it again") from None

    def listed(self) -> list[Picture]:
        """Return what is to be offered to look at: samples and uploads."""
        with self._lock:
            return [p for p in self._all.values() if p.origin != "given"]

    def given(self) -> list[Picture]:
        """Return the pictures of concepts that were there at the start."""
        with self._lock:
            return [p for p in self._all.values() if p.origin == "given"]

    def decoded(self, key: str) -> Image.Image:
        """Return a picture, upright and in RGB.

        Raises:
            ImageError: For one that is not known or cannot be read.
        """
        picture = self.get(key)
        with self._lock:
            if key in self._decoded:
                self._decoded.move_to_end(key)
                return self._decoded[key]
        found = read(picture.ref)
        self._keep_decoded(key, found)
        return found

    def ref(self, key: str, box: Sequence[int] | None = None) -> KnownRef:
        """Return a picture, or a patch of it, as what concepts are learned from.

        Raises:
            ImageError: For a picture that is not known, or a patch that is not inside it or
                too small.
        """
        picture = self.get(key)
        if box is None:
            return picture.ref
        patch = _inside(picture, box)
        with self._lock:
            if (key, patch) in self._patches:
                self._patches.move_to_end((key, patch))
                return self._patches[key, patch]
        piece = self.decoded(key).crop(patch)
        ref = KnownRef(f"{picture.name} [{', '.join(map(str, patch))}]", piece, whole=picture.ref)
        with self._lock:
            self._patches[key, patch] = ref
            _shrink(self._patches, limits.PATCH_BYTES, lambda r: _bytes(r.source))
        return ref

    # -- inside -------------------------------------------------------------------------------

    def _kept(self, picture: Picture) -> Picture:
        with self._lock:
            self._all[picture.key] = picture
        return picture

    def _keep_decoded(self, key: str, picture: Image.Image) -> None:
        with self._lock:
            self._decoded[key] = picture
            _shrink(self._decoded, _DECODED_BYTES, _bytes)


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
    """Refuse what is no picture or too large, before anything of it is decoded."""
    if len(data) > limits.FILE_BYTES:
        raise ImageError(
            f"it has {len(data) / 2**20:.0f} MB, more than the {limits.FILE_BYTES >> 20} MB that "
            "are taken; save it smaller"
        )
    try:
        opened = identify(io.BytesIO(data))
    except Exception as error:
        raise ImageError(reason_of(error)) from error
    if opened.format not in limits.FORMATS:
        raise ImageError(
            f"it is a {opened.format} file; expected one of {', '.join(limits.FORMATS)}"
        )
    wide, high = opened.size
    if wide * high > limits.PIXELS or max(wide, high) > limits.SIDE:
        raise ImageError(
            f"it has {wide} x {high} pixels; at most {limits.PIXELS // 10**6} million are taken, "
            f"and {limits.SIDE} on a side. Save it smaller"
        )


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


def _key() -> str:
    return secrets.token_hex(8)


def _bytes(picture: object) -> int:
    return 3 * picture.width * picture.height if isinstance(picture, Image.Image) else 0


def _shrink(kept: OrderedDict[Any, T], budget: int, size: Callable[[T], int]) -> None:
    """Drop the oldest, but for the newest, until the rest is within the budget."""
    total = sum(map(size, kept.values()))
    while total > budget and len(kept) > 1:
        total -= size(kept.popitem(last=False)[1])
