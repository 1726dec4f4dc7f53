"""Picture files and objects decoded into upright RGB pictures, or the reason why they cannot be."""

from __future__ import annotations

import stat
import struct
from io import BufferedReader, BytesIO
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps

from vtcav.errors import ImageError

__all__ = ["as_rgb", "identify", "open_file", "orientation", "reason_of", "upright_rgb"]

# The errors by which Pillow's plugins say that a file is not theirs.
_NOT_MINE = (SyntaxError, IndexError, TypeError, struct.error)
_LIFT = "if you trust it, raise PIL.Image.MAX_IMAGE_PIXELS (None: no limit)"


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


def upright_rgb(image: Image.Image) -> Image.Image:
    """Decode an opened picture into an independent RGB image with its EXIF orientation applied.

    Raises:
        ImageError: When it has too many pixels, or values out of range.
    """
    _check_size(image)
    image.load()
    _check_size(image)  # an icon shows its real size only now
    turned = orientation(image)
    picture = as_rgb(image)
    # An orientation or a profile that is still attached would be applied a second time.
    picture.info.clear()
    if turned != 1:
        picture.getexif()[ExifTags.Base.Orientation] = turned
        ImageOps.exif_transpose(picture, in_place=True)
    return picture


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, from 1 to 8; 1 (upright) where EXIF is absent or damaged.

    The sides of a picture of orientation 5 and above change places when it is put upright.
    """
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (*_NOT_MINE, OSError, ValueError, KeyError):
        return 1
    return value if value in range(1, 9) else 1


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
