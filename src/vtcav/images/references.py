"""References to pictures: listed, not opened; one that cannot be read is named with the reason."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from vtcav.errors import SUBJECT, ImageError, warn
from vtcav.images.decoding import BandPicture, open_file, reason_of, shallow, upright
from vtcav.images.opening import decoded
from vtcav.images.scaling import eight_bits

_NAMED = 5  # pictures that a warning names
# Two entries of a list may be one lazily opened picture, whose loading is not thread safe.
_SHARED = threading.Lock()


class SkippedImageWarning(UserWarning):
    """Some images could not be read and are left out; the message names them."""


class UnreadableError(ImageError):
    """One picture cannot be read: its arguments are the picture's name and the reason."""

    def __str__(self) -> str:
        name, reason = self.args
        return f"cannot read {name!r}: {reason}"


@dataclass(frozen=True)
class Skipped:
    """A picture that was left out.

    Attributes:
        name: The path as given, or "array[3]", "image[3]" for a picture in memory.
        reason: Why it could not be read, and what to do where that is known.
    """

    name: str
    reason: str


@dataclass(frozen=True, eq=False, slots=True)
class ImageRef:
    """A picture that is listed and not opened yet. There may be millions, so it has slots.

    Subclasses read pictures from elsewhere: object stores, data sets, parts of other pictures.

    Attributes:
        name: The path as given, or "array[3]", "image[3]" for a picture in memory.
        source: The file; or the picture itself, which is not copied: a PIL image, an array, or the
            bytes of a file. None in subclasses that get the picture from elsewhere.
    """

    name: str
    source: Path | Image.Image | NDArray[np.uint8] | bytes | None = field(default=None, repr=False)

    @property
    def path(self) -> Path | None:
        """The file on this machine that holds the picture; None where there is none."""
        return self.source if isinstance(self.source, Path) else None

    def fetch(self) -> ImageRef:
        """Return the picture with its bytes here, so that `load` and `digest` do not fetch twice.

        Raises:
            ImageError: When the bytes cannot be fetched.
        """
        return self

    def load(self) -> Image.Image:
        """Decode the picture at its full depth: RGB as `read`, or a `DeepPicture`.

        Raises:
            ImageError: Naming the picture and the reason.
        """
        if (here := self.fetch()) is not self:
            return here.load()
        token = SUBJECT.set(self.name)
        try:
            return self._decoded()
        except Exception as error:
            # Decoders meet damaged files with exceptions of every kind; all are this picture's.
            raise UnreadableError(self.name, reason_of(error)) from error
        finally:
            SUBJECT.reset(token)

    def _decoded(self) -> Image.Image:
        source = self.source
        if isinstance(source, Path | bytes):
            return decoded(source)
        if isinstance(source, Image.Image):
            with _SHARED:
                return upright(source)
        if source is None or not source.size:
            shape = [] if source is None else list(source.shape)
            raise ImageError(f"the picture has no pixels: its shape is {shape}")
        pixels = source[..., 0] if source.ndim == 3 and source.shape[2] == 1 else source
        # fromarray may share the array's memory, which its owner is free to change.
        return Image.fromarray(np.array(pixels, order="C")).convert("RGB")

    def status(self) -> tuple[int, int]:
        """Return size and time (ns) of the file; -1 where the picture is no file of its own.

        Raises:
            OSError: When it cannot be looked up.
        """
        if self.path is None:
            return -1, -1
        status = self.path.stat()
        return status.st_size, status.st_mtime_ns

    @property
    def photograph(self) -> ImageRef:
        """The picture that this one was cut out of; itself where it is whole."""
        return self

    def origin(self) -> str:
        """Return the digest of the photograph that it was cut out of; empty where it is whole.

        Raises:
            ImageError: When that photograph cannot be read.
        """
        return "" if self.photograph is self else self.photograph.digest()

    def digest(self) -> str:
        """Return the SHA-256 of the content: 64 hexadecimal digits.

        Of a file's bytes, or of the size and the pixels of a picture in memory.

        Raises:
            ImageError: The file cannot be opened, or the picture in memory cannot be decoded.

        Example:
            >>> ImageRef("array[0]", np.zeros((2, 2, 3), np.uint8)).digest()[:8]
            '93bb0640'
        """
        if (here := self.fetch()) is not self:
            return here.digest()
        if isinstance(self.source, bytes):
            return hashlib.sha256(self.source).hexdigest()
        if self.path is None:
            return pixel_digest(self.load())
        try:
            with open_file(self.path) as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except (OSError, ImageError) as error:
            raise UnreadableError(self.name, reason_of(error)) from error


def read(ref: ImageRef) -> Image.Image:
    """Decode one picture into an independent, upright RGB image without metadata.

    The EXIF orientation is applied (an EXIF block that cannot be parsed counts as upright). Of
    an animation or a file of many pages, the first is taken; of a picture in memory, the frame
    that it stands at. Colours are converted as `decoding.as_rgb` says. Truncated files are
    refused unless Pillow was told otherwise. EPS, whose decoding runs another program, is not
    read.

    Args:
        ref: One of the references that `vtcav.images.listing.collect` returns.

    Returns:
        A PIL image of mode RGB.

    Raises:
        ImageError: Naming the picture and the reason; a file with more pixels than
            `PIL.Image.MAX_IMAGE_PIXELS` is refused before it is decoded.

    Example:
        >>> grey = Image.new("L", (4, 2), 128)
        >>> image = read(ImageRef("grey", grey))
        >>> image.mode, image.size, image.getpixel((0, 0))
        ('RGB', (4, 2), (128, 128, 128))
    """
    try:
        return eight_bits(ref.load(), ref.name)
    except UnreadableError:
        raise
    except ImageError as error:
        raise UnreadableError(ref.name, str(error)) from error


def write_picture(picture: Image.Image, folder: Path, stem: str, *, source: str = "") -> Path:
    """Write a picture without loss: as PNG, TIFF or, of other channels, as a NumPy array.

    Args:
        picture: A picture from `ImageRef.load`.
        folder: The folder.
        stem: The file's name without its suffix.
        source: The picture's name, which a PNG file keeps.

    Returns:
        The file.
    """
    if isinstance(picture, BandPicture) and picture.holds != "pages" and not picture.in_bytes:
        with (file := folder / f"{stem}.npy").open("wb") as opened:
            np.save(opened, picture.values)
    elif shallow(picture) or picture.mode == "I;16":
        note = PngImagePlugin.PngInfo()
        if source:
            note.add_itxt("Source", source)
        picture.save(file := folder / f"{stem}.png", pnginfo=note)
    else:
        picture.save(file := folder / f"{stem}.tif")
    return file


def report_skipped(listed: int, used: int, skipped: Sequence[Skipped]) -> None:
    """Name the pictures that were left out.

    Args:
        listed: The number of pictures.
        used: The number of those that could be read.
        skipped: The others.

    Raises:
        ImageError: When none could be read.

    Warns:
        SkippedImageWarning: When pictures were left out.
    """
    if not skipped:
        return
    if not used:
        raise ImageError(f"none of the {listed} images can be read: {with_reasons(skipped)}")
    verb = "is" if len(skipped) == 1 else "are"
    warn(
        f"{len(skipped)} of {listed} images {verb} left out: {with_reasons(skipped)}",
        SkippedImageWarning,
    )


def with_reasons(skipped: Sequence[Skipped]) -> str:
    """Name at most five skipped pictures, each reason once, and count the others.

    Example:
        >>> empty = [Skipped(f"{i}.png", "the file is empty") for i in range(9)]
        >>> with_reasons(empty[:1]), with_reasons(empty[:2])
        ("'0.png' (the file is empty)", "'0.png' and '1.png' (the file is empty)")
        >>> with_reasons([*empty, Skipped("a.pdf", "no picture")])
        "'0.png', '1.png', '2.png', '3.png', '4.png' and 4 more (the file is empty); and 1 more"
    """
    by_reason: dict[str, list[str]] = {}
    for skip in skipped:
        by_reason.setdefault(skip.reason, []).append(repr(skip.name))
    parts, room, rest = [], _NAMED, 0
    for reason, names in by_reason.items():
        if not room:
            rest += len(names)
            continue
        more = [f"{len(names) - room} more"] * (len(names) > room)
        parts.append(f"{_listed([*names[:room], *more])} ({reason})")
        room = max(0, room - len(names))
    return "; ".join([*parts, *[f"and {rest} more"] * (rest > 0)])


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def pixel_digest(image: Image.Image) -> str:
    """Return the SHA-256 of a picture's size and pixels."""
    kind = "" if shallow(image) else image.mode
    pixels = f"{image.width}x{image.height}{kind}:".encode() + image.tobytes()
    digest = hashlib.sha256(pixels)
    if isinstance(image, BandPicture):
        digest.update(f"{image.values.shape}{image.values.dtype.str}".encode())
        digest.update(image.values.tobytes())
    return digest.hexdigest()
