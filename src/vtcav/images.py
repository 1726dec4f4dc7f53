"""Folders, files, arrays and PIL images become RGB pictures; what was left out is named.

`collect` lists the pictures of a source without opening them, `read` decodes one, and
`ImageStream` decodes many ahead of the work that consumes them. A picture that cannot be read is
an error or a `Skipped` with its reason; it never just disappears.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import stat
import struct
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from vtcav.errors import ImageError

__all__ = [
    "ImageRef",
    "ImageSource",
    "ImageStream",
    "Skipped",
    "SkippedImageWarning",
    "as_rgb",
    "collect",
    "read",
]

T = TypeVar("T")

ImageSource: TypeAlias = (
    str
    | os.PathLike[str]
    | Image.Image
    | NDArray[np.uint8]
    | Iterable[str | os.PathLike[str] | Image.Image | NDArray[np.uint8]]
)
"""What the API takes for images: a folder, a file, a PIL image, a uint8 array or many of these.

Arrays are [H, W, 3], [H, W, 1] or [H, W] for one picture, [N, H, W, 3] or [N, H, W, 1] for many.
"""

_ACCEPTED = (
    "a folder, an image file, a PIL image, a uint8 array [H, W, 3] or [N, H, W, 3], "
    "or a list of these"
)
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# How Pillow's plugins say that a file is not theirs.
_NOT_MINE = (SyntaxError, IndexError, TypeError, struct.error)
_LIFT = "if you trust it, raise PIL.Image.MAX_IMAGE_PIXELS (None: no limit)"
_NAMED = 5  # skipped pictures that a warning names
# Two entries of a list may be one lazily opened picture, whose loading is not thread safe.
_SHARED = threading.Lock()


class SkippedImageWarning(UserWarning):
    """Some images could not be read and are left out; the message names them."""


class _UnreadableError(ImageError):
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


@dataclass(frozen=True, eq=False)
class ImageRef:
    """One picture that is listed and not opened yet.

    Attributes:
        name: The path as given, or "array[3]", "image[3]" for a picture in memory.
        source: The file, or the picture itself, which is not copied.
    """

    name: str
    source: Path | Image.Image | NDArray[np.uint8] = field(repr=False)

    def load(self) -> Image.Image:
        """Decode the picture; see `read`."""
        return read(self)

    def digest(self) -> str:
        """The sha256 of the content: 64 hexadecimal digits.

        Of the file's bytes, or of the size and the RGB pixels for a picture in memory.

        Raises:
            ImageError: The file cannot be opened, or the picture in memory has no RGB form.

        Example:
            >>> ImageRef("array[0]", np.zeros((2, 2, 3), np.uint8)).digest()[:8]
            '93bb0640'
        """
        if not isinstance(self.source, Path):
            image = read(self)
            pixels = f"{image.width}x{image.height}:".encode() + image.tobytes()
            return hashlib.sha256(pixels).hexdigest()
        try:
            with _open_file(self.source) as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except (OSError, ImageError) as error:
            raise _UnreadableError(self.name, _reason(error)) from error


# --- listing ----------------------------------------------------------------------------------


def collect(source: ImageSource, *, limit: int | None = None, seed: int = 0) -> list[ImageRef]:
    """List the pictures of a source without opening them.

    A folder is read with all its subfolders, in the sorted order of the relative POSIX paths,
    which is the same on every system. Files and folders whose name starts with a dot, and
    `__MACOSX`, are left out. Links to folders are followed, each real folder once. Every other
    file is listed whatever its extension, so that one that is no picture is named when it is
    opened. Lists keep their order; a folder or a stack of pictures in a list stands for its
    pictures.

    Args:
        source: A folder, a file, a PIL image, a uint8 array ([H, W, 3], [H, W, 1] or [H, W] for
            one picture, [N, H, W, 3] or [N, H, W, 1] for many), or an iterable of these.
        limit: At most this many, drawn without replacement and kept in order; None for all.
        seed: Seeds the draw.

    Returns:
        At least one reference.

    Raises:
        ImageError: A path does not exist, nothing was found, a folder cannot be listed, or the
            source is of a kind, type or shape that is not accepted.

    Example:
        >>> stack = np.zeros((10, 8, 8, 3), np.uint8)
        >>> [ref.name for ref in collect(stack, limit=3, seed=1)]
        ['array[3]', 'array[4]', 'array[7]']
    """
    if limit is not None and limit < 1:
        raise ImageError(f"expected a limit of at least 1 image, got {limit}; None takes all")
    refs = _refs(source)
    if limit is None or limit >= len(refs):
        return refs
    drawn = np.random.default_rng(seed).choice(len(refs), size=limit, replace=False)
    return [refs[index] for index in sorted(drawn.tolist())]


def _refs(source: object) -> list[ImageRef]:
    """The references of a whole source."""
    many = isinstance(source, np.ndarray) and source.ndim == 1 and source.dtype.kind in "UO"
    if not many and (single := _refs_of_one(source, 0, stack="array")) is not None:
        return single
    if not isinstance(source, Iterable) or isinstance(source, Mapping | set | frozenset | bytes):
        raise ImageError(f"expected {_ACCEPTED}, got {_kind(source)}")
    refs: list[ImageRef] = []
    for index, item in enumerate(source):
        found = _refs_of_one(item, index, stack=f"array[{index}]")
        if found is None:
            raise ImageError(f"expected {_ACCEPTED}, got {_kind(item)} at position {index}")
        refs += found
    if not refs:
        raise ImageError(f"no images: the {type(source).__name__} is empty; expected {_ACCEPTED}")
    return refs


def _refs_of_one(item: object, index: int, stack: str) -> list[ImageRef] | None:
    """The references of a path, picture or array; None for anything else."""
    if isinstance(item, Image.Image):
        return [ImageRef(f"image[{index}]", item)]
    if isinstance(item, np.ndarray):
        return _refs_of_array(item, index, stack)
    if isinstance(item, os.PathLike):
        item = os.fspath(item)
    return _refs_of_path(item) if isinstance(item, str) else None


def _refs_of_array(array: NDArray[np.uint8], index: int, stack: str) -> list[ImageRef]:
    shape = list(array.shape)
    if array.dtype != np.uint8:
        raise ImageError(f"expected uint8 in 0..255, got {_values(array)}")
    if array.ndim == 2 or (array.ndim == 3 and shape[2] in (1, 3)):
        return [ImageRef(f"array[{index}]", array)]
    if array.ndim == 4 and shape[3] in (1, 3):
        if not shape[0]:
            raise ImageError(f"no images: the array {shape} is empty")
        return [ImageRef(f"{stack}[{i}]", picture) for i, picture in enumerate(array)]
    advice = "put the channels last, without alpha"
    if array.ndim in (3, 4) and shape[-3] in (1, 3):
        advice = "move the channels last: np.moveaxis(array, -3, -1)"
    elif array.ndim == 3 and shape[2] > 4:
        advice = "give grey pictures a channel: array[..., None]"
    elif array.ndim >= 3 and shape[-1] == 4:
        advice = "drop the alpha channel (array[..., :3]) or pass PIL images, which keep it"
    raise ImageError(f"expected an array [H, W, 3] or [N, H, W, 3], got {shape}; {advice}")


def _values(array: NDArray[np.generic]) -> str:
    """The type and the range of an array that is not uint8, and what to do with it."""
    if array.dtype.kind not in "fiub" or not array.size:
        return f"{array.dtype}; pass the pixels as uint8"
    low, high = float(array.min()), float(array.max())
    advice = "multiply by 255 and cast" if high <= 1 else "scale to 0..255 and cast"
    return f"{array.dtype} in [{low:g}, {high:g}]; {advice} with .astype(np.uint8)"


def _refs_of_path(text: str) -> list[ImageRef]:
    if not text:
        raise ImageError("expected the path of a folder or an image file, got an empty path")
    path = Path(text)
    try:
        if path.is_dir():
            return [ImageRef(_printable(str(file)), file) for file in _files(path)]
        if path.exists():
            return [ImageRef(_printable(text), path)]
    except OSError as error:
        raise ImageError(f"cannot look up {text!r}: {_reason(error)}") from error
    raise ImageError(f"{text!r} does not exist{_suggestion(path)}")


def _files(root: Path) -> list[Path]:
    """Every visible file below a folder, in the order of the relative POSIX paths."""
    files: list[Path] = []
    folders: list[Path] = [root]
    links: list[Path] = []
    visited: set[Path] = set()
    while folders or links:
        # Links come last, so that a folder that is also linked keeps its own name.
        folder = folders.pop() if folders else links.pop()
        if (real := folder.resolve()) in visited:
            continue
        visited.add(real)
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            raise ImageError(f"cannot list the folder {str(folder)!r}: {_reason(error)}") from error
        for entry in found:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            path = folder / entry.name
            if not _is_folder(entry):
                files.append(path)
            else:
                (links if entry.is_symlink() else folders).append(path)
    if not files:
        raise ImageError(
            f"no images in {str(root)!r}: the folder holds no files (hidden ones aside)"
        )
    return sorted(files, key=lambda path: path.relative_to(root).as_posix())


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or no right to look: reading it will name the reason
        return False


def _suggestion(path: Path) -> str:
    """The existing name that is closest to the first part of a path that does not exist."""
    while not path.parent.is_dir() and path.parent != path:
        path = path.parent
    try:
        siblings = [sibling.name for sibling in path.parent.iterdir()]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, siblings, n=1)
    return f"; did you mean {str(path.with_name(close[0]))!r}?" if close else ""


def _printable(path: str) -> str:
    """A path that can be written as UTF-8, also where its bytes on disk are not."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def _kind(value: object) -> str:
    """What a value is, for an error, with advice where a user can be expected to have it."""
    name = type(value).__name__
    if type(value).__module__.split(".")[0] == "torch":
        return (
            f"a torch {name}; pass the pictures as they were before preprocessing, or for values "
            "in 0..1: (x * 255).round().byte().movedim(-3, -1).cpu().numpy()"
        )
    advice = {"set": "; its order is not fixed, make it a list", "dict": "; pass one of its values"}
    return f"an object of type {name}{advice.get(name, '')}"


# --- decoding ---------------------------------------------------------------------------------


def read(ref: ImageRef) -> Image.Image:
    """Decode one picture into an independent, upright RGB image without metadata.

    The EXIF orientation is applied (an EXIF block that cannot be parsed counts as upright). Of
    an animation or a file of many pages, the first is taken; of a picture in memory, the frame
    that it stands at. Colours are converted as `as_rgb` says. Truncated files are refused unless
    Pillow was told otherwise. EPS, whose decoding runs another program, is not read.

    Args:
        ref: One of the references that `collect` returns.

    Returns:
        A PIL image of mode RGB.

    Raises:
        ImageError: Naming the picture and the reason; a file with more pixels than
            `PIL.Image.MAX_IMAGE_PIXELS` is refused before it is decoded.

    Example:
        >>> grey = Image.new("L", (4, 2), 128)
        >>> image = read(collect(grey)[0])
        >>> image.mode, image.size, image.getpixel((0, 0))
        ('RGB', (4, 2), (128, 128, 128))
    """
    source = ref.source
    try:
        if isinstance(source, Path):
            with _open_file(source) as file:
                return _upright_rgb(_identify(file))
        if isinstance(source, Image.Image):
            with _SHARED:
                return _upright_rgb(source)
        if not source.size:
            raise ImageError(f"the picture has no pixels: its shape is {list(source.shape)}")
        pixels = source[..., 0] if source.ndim == 3 and source.shape[2] == 1 else source
        # fromarray may share the array's memory, which its owner is free to change.
        return Image.fromarray(np.array(pixels, order="C")).convert("RGB")
    except Exception as error:
        # Decoders meet damaged files with exceptions of every kind; all of them are this picture's.
        raise _UnreadableError(ref.name, _reason(error)) from error


def as_rgb(image: Image.Image) -> Image.Image:
    """Convert a picture of any mode to RGB by fixed rules, never by its own maximum.

    Transparency is composited on white. 16 bits of grey scale from 0..65535 to 0..255 (files with
    16 bits per colour channel keep the upper 8), floating point from 0..1 to 0..255. CMYK, YCbCr,
    LAB and HSV are converted by Pillow; embedded colour profiles are not applied.

    Args:
        image: A PIL image; it is not changed.

    Returns:
        An independent image of mode RGB.

    Raises:
        ImageError: Values lie outside of the range of their kind, or there are no pixels.

    Example:
        >>> as_rgb(Image.new("RGBA", (1, 1), (0, 0, 0, 0))).getpixel((0, 0))
        (255, 255, 255)
    """
    if not image.width or not image.height:
        raise ImageError(f"the picture has no pixels: it is {image.width} x {image.height}")
    if image.mode == "F":
        values = np.asarray(image)
        if not (values.min() >= 0 and values.max() <= 1):  # so that NaN fails
            raise ImageError(
                "a floating-point picture must hold values in 0..1, got "
                f"[{values.min():g}, {values.max():g}]; save it with 8 or 16 bits instead"
            )
        return Image.fromarray(np.rint(values * 255).astype(np.uint8)).convert("RGB")
    if image.mode.startswith("I"):
        return _sixteen_bits(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")
    picture = image.convert("RGBA")
    white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, picture).convert("RGB")


def _sixteen_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ImageError(
            f"an integer picture must hold values in 0..65535, got [{values.min()}, "
            f"{values.max()}]; save it with 8 or 16 bits instead"
        )
    grey = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 65535 / 255 = 257
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 255
    return Image.fromarray(grey).convert("RGB")


def _open_file(path: Path) -> BufferedReader:
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise ImageError("it is a folder, not a file")
    if not stat.S_ISREG(mode):  # opening a named pipe would wait for ever
        raise ImageError("it is not a regular file")
    return path.open("rb")


def _identify(file: BufferedReader) -> Image.Image:
    """Open a picture without decoding it.

    `Image.open` would warn of a large picture before its size can be looked at, and a warning
    cannot be caught in one thread without hiding it in others.
    """
    Image.init()
    prefix = file.read(16)
    if not prefix:
        raise ImageError("the file is empty")
    advice = "if it is a picture, its header is damaged or it must be converted, to PNG for one"
    for kind in [kind for kind in Image.ID if kind != "EPS"]:
        factory, accept = Image.OPEN[kind]
        try:
            answer = accept(prefix) if accept else True
            if answer and not isinstance(answer, str):
                file.seek(0)
                return factory(file, "")
        except _NOT_MINE:
            continue
        if answer:  # the format is known, and this build of Pillow lacks it
            advice = str(answer)
    raise ImageError(f"it is not a picture in a format that Pillow can read; {advice}")


def _upright_rgb(image: Image.Image) -> Image.Image:
    _check_size(image)
    image.load()
    _check_size(image)  # an icon shows its real size only now
    try:
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION_TAG, 1))
    except (*_NOT_MINE, OSError, ValueError, KeyError):
        turn = None
    picture = as_rgb(image)
    if turn is not None:
        picture = picture.transpose(turn)
    # An orientation or a profile that is still attached would be applied a second time.
    picture.info.clear()
    return picture


def _check_size(image: Image.Image) -> None:
    limit, pixels = Image.MAX_IMAGE_PIXELS, image.width * image.height
    if limit is not None and pixels > limit and isinstance(image, ImageFile.ImageFile):
        raise ImageError(
            f"it has {image.width} x {image.height} = {pixels} pixels, more than the limit of "
            f"{limit} that guards against decompression bombs; {_LIFT}"
        )


def _reason(error: Exception) -> str:
    """Why a picture cannot be read, as the end of a sentence."""
    if isinstance(error, ImageError):
        return str(error)
    if isinstance(error, Image.DecompressionBombError):
        return f"{error} {_LIFT}"
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return f"it cannot be decoded: {str(error) or type(error).__name__}"


# --- many -------------------------------------------------------------------------------------


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
        self._report()

    def _prepare(self, ref: ImageRef) -> T:
        """Decode and convert one picture."""
        image = read(ref)
        try:
            return self._convert(ref, image)
        except ImageError as error:
            raise _UnreadableError(ref.name, str(error)) from error

    def _next(self, waiting: deque[tuple[ImageRef, Future[T]]]) -> Iterator[tuple[ImageRef, T]]:
        """Hand out the oldest picture, or note why it cannot be."""
        ref, future = waiting.popleft()
        try:
            image = future.result()
        except _UnreadableError as error:
            if self._strict:
                raise
            self.skipped.append(Skipped(*error.args))
            return
        self.used.append(ref.name)
        yield ref, image

    def _report(self) -> None:
        if not self.skipped:
            return
        named = "; ".join(f"{skip.name!r} ({skip.reason})" for skip in self.skipped[:_NAMED])
        more = len(self.skipped) - _NAMED
        named += f"; and {more} more" if more > 0 else ""
        if not self.used:
            raise ImageError(f"none of the {len(self)} images can be read: {named}")
        warnings.warn(
            f"{len(self.skipped)} of {len(self)} images are left out: {named}",
            SkippedImageWarning,
            stacklevel=3,
        )
