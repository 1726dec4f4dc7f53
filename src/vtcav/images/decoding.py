"""Picture files and objects decoded into upright pictures, or the reason why they cannot be.

Pictures become RGB, except for grey ones of more than 8 bits, which keep their depth until the
preprocessing.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Callable, Sequence
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps, PngImagePlugin, TiffImagePlugin

from vtcav.errors import ImageError, check_system

# The errors by which Pillow's plugins say that a file is not theirs.
_NOT_MINE = (SyntaxError, IndexError, TypeError, struct.error)
# In the info of a picture: it had 16 bits a channel, of which the upper 8 are left; the value of
# white, where it is not 65535; large values are dark.
CUT, WHITE, INVERTED = "upper bits", "white", "inverted"
AXES_MOVED = "first axis"  # an array's channels were its first axis, and are its last now
VOI = "window"  # a function that takes its values to 0..1 as its file states
WINDOW = "say which values are black and white: vtcav.Preprocess(..., window=(low, high))"
_LIFT = "if you trust it, raise PIL.Image.MAX_IMAGE_PIXELS (None: no limit)"


class DeepPicture(Image.Image):
    """A grey picture of more than 8 bits (mode I;16, I or F) with the values of its file.

    Its `convert("RGB")` and `convert("L")` scale the values as `as_rgb` does. Pillow's own would
    cut them off at 255.
    """

    def convert(self, mode: str | None = None, *args: Any, **options: Any) -> Image.Image:
        """Convert to another mode."""
        if mode is None or mode.startswith(("I", "F")):
            return super().convert(mode, *args, **options)
        return as_rgb(self).convert(mode, *args, **options)

    def _new(self, im: Any) -> DeepPicture:
        """Keep the kind of picture when it is resized, cropped or turned."""
        return _deepened(super()._new(im))


def _deepened(image: Image.Image) -> DeepPicture:
    image.__class__ = DeepPicture
    return cast("DeepPicture", image)


class BandPicture(DeepPicture):
    """A picture with `values` [H, W, C] of any C, in the type of its file.

    Attributes:
        holds: What it is beside these as a PIL image. "values": nothing; `np.asarray` gives the
            values, and it cannot become RGB. "colours": a picture in RGB of 8 bits, of a file with
            more bits or with transparency. "pages": the first page of a file of several.

    Example:
        >>> picture = BandPicture.of(np.zeros((4, 6, 13), np.uint16))
        >>> picture.size, np.asarray(picture).shape, picture.crop((0, 0, 2, 2)).values.shape
        ((6, 4), (4, 6, 13), (2, 2, 13))
    """

    holds: Literal["values", "colours", "pages"]
    _read: Callable[[], NDArray[Any]]

    @classmethod
    def of(
        cls,
        values: NDArray[Any] | Callable[[], NDArray[Any]],
        base: Image.Image | None = None,
        holds: Literal["values", "colours", "pages"] = "values",
    ) -> BandPicture:
        """Return the picture of values, or of a function that reads them when they are needed."""
        if base is None:
            assert isinstance(values, np.ndarray)
            base = Image.new("F", values.shape[1::-1])
        picture = cast("BandPicture", base)
        picture.__class__ = cls
        picture.holds, picture._read = holds, values if callable(values) else lambda: values
        return picture

    @property
    def values(self) -> NDArray[Any]:
        """The values [H, W, C]."""
        values = self._read()
        self._read = lambda: values
        return values

    @property
    def in_bytes(self) -> bool:
        """Whether it is a picture in RGB of 8 bits with transparency or in CMYK."""
        return self.holds == "colours" and self.values.dtype == np.uint8

    @property
    def __array_interface__(self) -> dict[str, Any]:
        if self.holds != "values":
            return dict(super().__array_interface__)
        shape, kind = self.values.shape, self.values.dtype.str
        return {"version": 3, "shape": shape, "typestr": kind, "data": self.tobytes()}

    def tobytes(self, *args: Any, **options: Any) -> bytes:
        """Return the values as bytes; of a picture that is one without them, its pixels."""
        if self.holds != "values":
            return super().tobytes(*args, **options)
        return self.values.tobytes()

    def copy(self) -> Image.Image:
        """Copy the picture."""
        return BandPicture.of(self._read, super().copy(), self.holds)

    def crop(self, box: tuple[float, float, float, float] | None = None) -> Image.Image:
        """Return a part; what is beyond the edges is 0, as in Pillow."""
        made = super().crop(box)
        left, top, right, bottom = map(round, box or (0, 0, *self.size))

        def values() -> NDArray[Any]:
            high, wide, count = self.values.shape
            part = np.zeros((bottom - top, right - left, count), self.values.dtype)
            within = self.values[max(top, 0) : min(bottom, high), max(left, 0) : min(right, wide)]
            down, across = max(-top, 0), max(-left, 0)
            part[down : down + within.shape[0], across : across + within.shape[1]] = within
            return part

        return BandPicture.of(values, made, self.holds)

    def transpose(self, method: Image.Transpose) -> Image.Image:
        """Return the picture turned."""
        turn = _TURNS[method]
        return BandPicture.of(lambda: turn(self.values), super().transpose(method), self.holds)

    def convert(self, mode: str | None = None, *args: Any, **options: Any) -> Image.Image:
        """Convert to another mode, without the values."""
        if shallow(self):
            return Image.Image.convert(self, mode, *args, **options)
        return super().convert(mode, *args, **options)

    def _new(self, im: Any) -> Any:
        made = Image.Image._new(self, im)
        return made if shallow(made) else _deepened(made)

    def resize(self, *args: Any, **options: Any) -> Image.Image:
        """Resize the picture without its values."""
        if self.holds == "values":
            raise ImageError("a picture of many channels is resized by its `values`, an array")
        return super().resize(*args, **options)


_METHODS = Image.Transpose
_TURNS: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    _METHODS.FLIP_LEFT_RIGHT: lambda v: v[:, ::-1],
    _METHODS.FLIP_TOP_BOTTOM: lambda v: v[::-1],
    _METHODS.ROTATE_90: np.rot90,
    _METHODS.ROTATE_180: lambda v: v[::-1, ::-1],
    _METHODS.ROTATE_270: lambda v: np.rot90(v, 3),
    _METHODS.TRANSPOSE: lambda v: v.swapaxes(0, 1),
    _METHODS.TRANSVERSE: lambda v: v[::-1, ::-1].swapaxes(0, 1),
}


def shallow(image: Image.Image) -> bool:
    """Tell whether a picture has 8 bits per channel, so that no depth can be lost."""
    return not image.mode.startswith(("I", "F"))


def of_shades(shades: NDArray[np.uint8], image: Image.Image) -> Image.Image:
    """Return shades of grey [H, W] in RGB, as the picture that they are made of is to be shown."""
    if image.info.get(INVERTED):
        shades = 255 - shades
    if "transparency" in image.info:
        shades[np.asarray(image) == image.info["transparency"]] = 255
    return Image.fromarray(shades).convert("RGB")


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
    _check_pixels(image)
    check_flat(image)
    if isinstance(image, BandPicture) and image.holds == "values":
        raise ImageError(
            f"expected a picture in RGB or grey, got {described(image)}; say how many channels the "
            f"network takes: vtcav.Preprocess(..., channels={image.values.shape[2]})"
        )
    if VOI in image.info:
        unit = np.asarray(image.info[VOI](np.asarray(image, np.float64)))
        return of_shades(np.rint(unit.clip(0, 1) * 255).astype(np.uint8), image)
    if image.mode == "F":
        values = np.asarray(image)
        if not (values.min() >= 0 and values.max() <= 1):  # so that NaN fails
            raise ImageError(
                "a floating-point picture must hold values in 0..1, got "
                f"[{values.min():g}, {values.max():g}]; {WINDOW}"
            )
        return of_shades(np.rint(values * 255).astype(np.uint8), image)
    if image.mode.startswith("I"):
        return _sixteen_bits(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")
    picture = image.convert("RGBA")
    white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, picture).convert("RGB")


def check_flat(image: Image.Image) -> None:
    """Raise `ImageError` for a volume where a picture is needed."""
    if isinstance(image, BandPicture) and image.holds == "values" and image.values.ndim > 3:
        sides = " x ".join(map(str, reversed(image.values.shape[:-1])))
        raise ImageError(
            f"it is a volume of {sides}: list its slices with vtcav.datasets.slices; a network of "
            "volumes takes it whole, vtcav.Preprocess((slices, height, width), ...)"
        )


def reduced(image: Image.Image) -> Image.Image:
    """Return a picture of 8 bits per channel, which no window can be applied to if it had more."""
    if shallow(image):
        return image
    picture = as_rgb(image)
    picture.info[CUT] = True
    return picture


def _sixteen_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ImageError(
            f"an integer picture must hold values in 0..65535, got [{values.min()}, "
            f"{values.max()}]; {WINDOW}"
        )
    if white := image.info.get(WHITE):
        values = np.rint(values * (65535 / white))
    grey = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 65535 / 255 = 257
    return of_shades(grey, image)


def open_file(path: Path) -> BufferedReader:
    """Open a regular file for reading.

    Raises:
        ImageError: When it is a folder, a pipe or a device.
        OSError: When it cannot be opened.
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise ImageError("it is a folder, not a file")
    if not stat.S_ISREG(mode):  # opening a named pipe would wait for ever
        raise ImageError("it is not a regular file")
    return path.open("rb")


def identify(file: BufferedReader | BytesIO) -> Image.Image:
    """Open a picture without decoding it.

    `Image.open` would warn of a large picture before its size can be looked at, and a warning
    cannot be caught in one thread without hiding it in others.
    """
    Image.init()
    prefix = file.read(16)
    if not prefix:
        raise ImageError("the file is empty")
    advice = "if it is a picture, its header is damaged or it must be converted, for example to PNG"
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


def upright(image: Image.Image) -> Image.Image:
    """Decode an opened picture into an independent one with its EXIF orientation applied.

    Returns:
        An image of mode RGB; a `DeepPicture` of a grey one of more than 8 bits.

    Raises:
        ImageError: When it has too many pixels or none.
    """
    if isinstance(image, BandPicture):
        return image.copy()
    tiles = list(getattr(image, "tile", []))  # how the file holds the values; loading forgets it
    cut = ";16" in str(tiles)
    _check_size(image)
    low_bytes = _low_bytes(image) if cut else None
    image.load()
    _check_size(image)  # an icon shows its real size only now
    turned = orientation(image)
    if shallow(image) and not signed(image):
        picture = as_rgb(image)
        # An orientation or a profile that is still attached would be applied a second time.
        picture.info.clear()
        picture.info |= {CUT: True} if cut else {}
        if low_bytes is not None:
            values = np.asarray(image).astype(np.uint16) * 256 + low_bytes
            picture = BandPicture.of(values, picture, "colours")
        elif image.mode in ("LA", "RGBA", "RGBX", "CMYK") and not cut:
            picture = BandPicture.of(np.array(image), picture, "colours")
    else:
        picture = deep(image, tiles)
    return put_upright(picture, turned)


def put_upright(picture: Image.Image, turned: int) -> Image.Image:
    """Return an independent picture of an EXIF orientation upright."""
    if turned != 1:
        picture.getexif()[ExifTags.Base.Orientation] = turned
        picture = ImageOps.exif_transpose(picture)
    return picture


def _low_bytes(image: Image.Image) -> NDArray[np.uint8] | None:
    """Return the lower 8 bits of a PNG file's 16, which Pillow leaves out; None for other files.

    Of values with the upper byte first Pillow takes the lower one if told that it comes last.
    """
    if image.mode not in ("RGB", "RGBA") or not isinstance(image, PngImagePlugin.PngImageFile):
        return None
    assert image.fp is not None  # it was not loaded yet
    start = image.fp.tell()
    image.fp.seek(0)
    again = PngImagePlugin.PngImageFile(BytesIO(image.fp.read()))
    image.fp.seek(start)
    again.tile = [tile._replace(args=f"{image.mode};16L") for tile in again.tile]
    again.load()
    return np.array(again)


def signed(image: Image.Image) -> bool:
    """Tell whether the 8 bits of a TIFF file are signed, which Pillow does not heed."""
    kind = getattr(image, "tag_v2", {}).get(TiffImagePlugin.SAMPLEFORMAT, 1)
    return image.mode == "L" and 2 in np.ravel(kind)


def deep(image: Image.Image, tiles: Sequence[Any]) -> DeepPicture:
    """Return an independent copy of a grey picture, with the values of its file.

    Raises:
        ImageError: When it has no pixels, or Pillow reads large values as negative ones.
    """
    _check_pixels(image)
    values, tags = np.array(image), getattr(image, "tag_v2", {})
    info: dict[str | tuple[int, int], Any] = {}
    info |= {"transparency": image.info["transparency"]} if "transparency" in image.info else {}
    if signed(image):
        values = values.view(np.int8).astype(np.int32)
    elif image.mode.startswith("I;16"):
        values = values.astype(np.uint16)
    elif image.mode == "I" and "I;32N" in str(tiles) and values.min() < 0:
        raise ImageError("it holds values above 2147483647, which Pillow cannot read")
    elif image.format == "PPM" and str(tiles[0][0]).startswith("ppm"):  # scaled to 65535 by Pillow
        white = info[WHITE] = tiles[0][3][1]
        values = np.rint(values * (white / 65535)).astype(np.int32)
    if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0:  # heeded for 8 bits alone
        info[INVERTED] = True
    deep = Image.fromarray(values)
    deep.info = info
    return _deepened(deep)


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, from 1 to 8; 1 (upright) where EXIF is absent or damaged.

    The sides of a picture of orientation 5 and above change places when it is put upright.
    """
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (*_NOT_MINE, OSError, ValueError, KeyError):
        return 1
    return value if value in range(1, 9) else 1


def described(image: Image.Image) -> str:
    """Return the number of channels, the size and the type of a picture's values, in words."""
    if isinstance(image, BandPicture):
        *sides, count = image.values.shape
        size = " x ".join(map(str, reversed(sides)))
        return f"{count} channel{'s' * (count > 1)} ({size}, {image.values.dtype})"
    count, size = len(image.getbands()), f"{image.width} x {image.height}"
    return f"{'RGB' if image.mode == 'RGB' else f'{count} channel' + 's' * (count > 1)} ({size})"


def _check_pixels(image: Image.Image) -> None:
    if not image.width or not image.height:
        raise ImageError(f"the picture has no pixels: it is {image.width} x {image.height}")


def _check_size(image: Image.Image) -> None:
    limit, pixels = Image.MAX_IMAGE_PIXELS, image.width * image.height
    if limit is not None and pixels > limit and isinstance(image, ImageFile.ImageFile):
        raise ImageError(
            f"it has {image.width} x {image.height} = {pixels} pixels, more than the limit of "
            f"{limit} that guards against decompression bombs; {_LIFT}"
        )


def reason_of(error: Exception) -> str:
    """Return why a picture cannot be read, as the end of a sentence.

    Raises:
        SystemLimitError: As `check_system`.
    """
    check_system(error)
    if isinstance(error, ImageError):
        return str(error)
    if isinstance(error, Image.DecompressionBombError):
        return f"{error} {_LIFT}"
    if "MAX_TEXT" in str(error):
        return (
            f"its metadata are larger than Pillow reads ({error}); save it without metadata or, if "
            "you trust it, raise PIL.PngImagePlugin.MAX_TEXT_CHUNK and MAX_TEXT_MEMORY"
        )
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return f"it cannot be decoded: {str(error) or type(error).__name__}"
