"""Picture files and objects decoded into upright pictures, or the reason why they cannot be.

Pictures become RGB, except for grey ones of more than 8 bits, which keep their depth until the
preprocessing.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Sequence
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps, TiffImagePlugin

from vtcav.errors import ImageError, warn

# The errors by which Pillow's plugins say that a file is not theirs.
_NOT_MINE = (SyntaxError, IndexError, TypeError, struct.error)
# In the info of a picture: it had 16 bits a channel, of which the upper 8 are left; the value of
# white, where it is not 65535; large values are dark.
_CUT, _WHITE, _INVERTED = "upper bits", "white", "inverted"
_WINDOW = "say which values are black and white: vtcav.Preprocess(..., window=(low, high))"
_DARK = 2**14  # values below fill a quarter of 16 bits at most
_WARNED: set[Path] = set()  # folders of dark files of 16 bits
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


def shallow(image: Image.Image) -> bool:
    """Tell whether a picture has 8 bits per channel, so that no depth can be lost."""
    return not image.mode.startswith(("I", "F"))


def windowed(image: Image.Image, low: float, high: float) -> Image.Image:
    """Map values linearly from `low` to `high` to 0..255, and convert to RGB.

    Args:
        image: A PIL image of any depth; it is not changed.
        low: The value that becomes 0, as all below.
        high: The value that becomes 255, as all above.

    Raises:
        ImageError: Values are not finite, the window is of deeper pictures, or bits were lost
            before.

    Example:
        >>> grey = Image.fromarray(np.array([[0, 1000, 4095, 5000]], np.uint16))
        >>> np.asarray(windowed(grey, 0, 4095))[0, :, 0].tolist()
        [0, 62, 255, 255]
    """
    deep = not shallow(image)
    advice = "leave such pictures out, or make all of one depth"
    if _CUT in image.info:
        raise ImageError(
            f"of its 16 bits only the upper 8 are left, so the window ({low:g}, {high:g}) cannot "
            "be applied: grey pictures alone are read at full depth, and patches alone that keep "
            "their surroundings (outside='keep')"
        )
    if not deep and high > 255:
        raise ImageError(
            f"it has 8 bits, and the window ({low:g}, {high:g}) is of deeper pictures; {advice}"
        )
    values = np.asarray(image if deep else as_rgb(image)).astype(np.float64)
    if not np.isfinite(values).all():
        raise ImageError(f"it holds values that are not finite; {advice}")
    shades = np.rint(((values - low) / (high - low)).clip(0, 1) * 255).astype(np.uint8)
    return _of_shades(shades, image) if deep else Image.fromarray(shades)


def _of_shades(shades: NDArray[np.uint8], image: Image.Image) -> Image.Image:
    """Return shades of grey [H, W] in RGB, as the picture that they are made of is to be shown."""
    if image.info.get(_INVERTED):
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
    if image.mode == "F":
        values = np.asarray(image)
        if not (values.min() >= 0 and values.max() <= 1):  # so that NaN fails
            raise ImageError(
                "a floating-point picture must hold values in 0..1, got "
                f"[{values.min():g}, {values.max():g}]; {_WINDOW}"
            )
        return _of_shades(np.rint(values * 255).astype(np.uint8), image)
    if image.mode.startswith("I"):
        return _sixteen_bits(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")
    picture = image.convert("RGBA")
    white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, picture).convert("RGB")


def eight_bits(image: Image.Image, name: str) -> Image.Image:
    """Convert a picture of more than 8 bits as `as_rgb` does; say where few grey levels are left.

    Args:
        image: A picture; one of 8 bits is returned as it is.
        name: Its name, for the warning.

    Raises:
        ImageError: As `as_rgb`.

    Warns:
        UserWarning: Once a folder, where 16 bits hold values of 14 or fewer.
    """
    cut = _CUT in image.info
    if shallow(image) and not cut:
        return image
    picture = as_rgb(image)
    picture.info.clear()
    if image.mode == "F":
        return picture
    largest = int(np.asarray(image).max()) * (256 if cut else 1) + 255 * cut
    if _WHITE in image.info:
        return picture
    folder = Path(name).parent
    if 0 < largest < _DARK and folder not in _WARNED:
        _WARNED.add(folder)
        most = 2 ** largest.bit_length() - 1
        cure = f"say which value is white, for example vtcav.Preprocess(..., window=(0, {most}))"
        warn(
            f"{name!r} has 16 bits and no value above {largest}: as 65535 is white, "
            f"{largest // 257 + 1} of 256 grey levels are left; "
            f"{'save it in grey, or with 8 bits a channel' if cut else cure}. "
            "Further files in this folder are not reported"
        )
    return picture


def reduced(image: Image.Image) -> Image.Image:
    """Return a picture of 8 bits per channel, which no window can be applied to if it had more."""
    if shallow(image):
        return image
    picture = as_rgb(image)
    picture.info[_CUT] = True
    return picture


def _sixteen_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ImageError(
            f"an integer picture must hold values in 0..65535, got [{values.min()}, "
            f"{values.max()}]; {_WINDOW}"
        )
    if white := image.info.get(_WHITE):
        values = np.rint(values * (65535 / white))
    grey = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 65535 / 255 = 257
    return _of_shades(grey, image)


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
    tiles = list(getattr(image, "tile", []))  # how the file holds the values; loading forgets it
    cut = ";16" in str(tiles)
    _check_size(image)
    image.load()
    _check_size(image)  # an icon shows its real size only now
    turned = orientation(image)
    if shallow(image) and not _signed(image):
        picture = as_rgb(image)
        # An orientation or a profile that is still attached would be applied a second time.
        picture.info.clear()
        picture.info |= {_CUT: True} if cut else {}
    else:
        picture = _deep(image, tiles)
    if turned != 1:
        picture.getexif()[ExifTags.Base.Orientation] = turned
        ImageOps.exif_transpose(picture, in_place=True)
    return picture


def _signed(image: Image.Image) -> bool:
    """Tell whether the 8 bits of a TIFF file are signed, which Pillow does not heed."""
    kind = getattr(image, "tag_v2", {}).get(TiffImagePlugin.SAMPLEFORMAT, 1)
    return image.mode == "L" and 2 in np.ravel(kind)


def _deep(image: Image.Image, tiles: Sequence[Any]) -> DeepPicture:
    """Return an independent copy of a grey picture, with the values of its file.

    Raises:
        ImageError: When it has no pixels, or Pillow reads large values as negative ones.
    """
    _check_pixels(image)
    values, tags = np.array(image), getattr(image, "tag_v2", {})
    info: dict[str | tuple[int, int], Any] = {}
    info |= {"transparency": image.info["transparency"]} if "transparency" in image.info else {}
    if _signed(image):
        values = values.view(np.int8).astype(np.int32)
    elif image.mode.startswith("I;16"):
        values = values.astype(np.uint16)
    elif image.mode == "I" and "I;32N" in str(tiles) and values.min() < 0:
        raise ImageError("it holds values above 2147483647, which Pillow cannot read")
    elif image.format == "PPM" and str(tiles[0][0]).startswith("ppm"):  # scaled to 65535 by Pillow
        white = info[_WHITE] = tiles[0][3][1]
        values = np.rint(values * (white / 65535)).astype(np.int32)
    if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0:  # heeded for 8 bits alone
        info[_INVERTED] = True
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
    """Return why a picture cannot be read, as the end of a sentence."""
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
