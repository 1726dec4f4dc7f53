"""Preprocessing: RGB pictures become the tensors that a network expects."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vtcav.errors import ImageError
from vtcav.images.decoding import as_rgb, eight_bits, shallow, windowed
from vtcav.parameters import Whole, Words, check

if TYPE_CHECKING:
    from torch import Tensor


_Window: TypeAlias = tuple[int, int, int, int]  # left, top, right, bottom
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_LARGEST = 2**27  # pixels of a resized picture before its crop; a strip of 1 x 2048 reaches it


@dataclass(frozen=True)
class Preprocess:
    """Resize, scale to 0..1 and normalise: a picture becomes a float32 tensor [3, H, W].

    The values are (rgb / 255 - mean) / std, where `rgb` comes from the window if there is
    one. With `resize="crop"` they equal torchvision's `Resize`, `CenterCrop`, `ToTensor` and
    `Normalize` for a square size. A picture that has the right size already is not resampled.

    Attributes:
        size: Height and width of the tensor, or one number for a square; None keeps the
            picture's own size.
        resize: "crop" scales the picture until it covers `size / crop_pct` and takes the centre,
            "stretch" ignores the aspect ratio, "pad" fits the whole picture and fills the rest.
        interpolation: "nearest", "bilinear", "bicubic" or "lanczos", with antialiasing.
        mean: The value subtracted, one for all channels or one per channel (RGB), on the scale
            0..1.
        std: The divisor, one for all channels or one per channel, on the scale 0..1.
        crop_pct: The part in (0, 1] of the resized picture's shorter side that a crop keeps.
        fill: The RGB colour in 0..255 of the borders that "pad" adds.
        window: The values of a picture that become 0 and 255, such as (0, 4095) for 12 bits in a
            file of 16, or (-160, 240) for a range of Hounsfield units; others are mapped linearly
            between and clipped. It comes before everything else and at the depth of the file.
            None takes 0 to 65535 for integers of more than 8 bits, 0 to 1 for floating point.

    Raises:
        ImageError: A value is out of the range given above.

    Example:
        >>> preprocess = Preprocess(224, mean=0.5, std=0.5, crop_pct=0.875)
        >>> preprocess(Image.new("RGB", (640, 480), "white")).shape
        torch.Size([3, 224, 224])
    """

    size: int | Sequence[int] | None
    resize: Literal["crop", "stretch", "pad"] = "crop"
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    mean: float | Sequence[float] = 0.0
    std: float | Sequence[float] = 1.0
    crop_pct: float = 1.0
    fill: Sequence[int] = (0, 0, 0)
    window: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check("resize", self.resize, Words("crop", "stretch", "pad"), error=ImageError)
        check("interpolation", self.interpolation, Words(*_FILTERS), error=ImageError)
        if not 0 < _number("crop_pct", self.crop_pct) <= 1:
            raise ImageError(f"expected crop_pct in (0, 1], got {self.crop_pct}")
        if self.crop_pct != 1 and (self.resize != "crop" or self.size is None):
            raise ImageError(
                f'crop_pct={self.crop_pct} needs a size and resize="crop", got size={self.size} '
                f'and resize="{self.resize}"; leave crop_pct at 1.0'
            )
        mean, std = _triple("mean", self.mean), _triple("std", self.std)
        if max(map(abs, mean)) > 1:
            raise ImageError(
                f"expected a mean on the scale 0..1, got {self.mean}; divide mean and std by 255"
            )
        if min(std) <= 0:
            raise ImageError(f"expected a std above 0, got {self.std}")
        # One form for each value, so that equal preprocessings compare and hash equal.
        object.__setattr__(self, "size", None if self.size is None else _size(self.size))
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "std", std)
        object.__setattr__(self, "crop_pct", float(self.crop_pct))
        object.__setattr__(self, "fill", _colour(self.fill))
        object.__setattr__(self, "window", None if self.window is None else _range(self.window))

    def __call__(self, image: Image.Image) -> Tensor:
        """Turn one picture into a tensor.

        Args:
            image: A PIL image of any depth.

        Returns:
            A float32 tensor [3, H, W] on the CPU.

        Raises:
            ImageError: This is no PIL image, its colours cannot be converted, it is too elongated
                to be resized, or its values are no match for the window.
        """
        import torch

        if not isinstance(image, Image.Image):
            raise ImageError(f"expected a PIL image, got {_describe(image)}")
        pixels = np.asarray(self._fit(self.rgb(image)))
        # The operations and their order are torchvision's, so that the rounding is too. NumPy
        # does them: several threads prepare pictures, and PyTorch would start its own in each.
        values = np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32)
        mean, std = (
            np.asarray(numbers, np.float32).reshape(3, 1, 1) for numbers in (self.mean, self.std)
        )
        values /= np.float32(255)
        values -= mean
        values /= std
        return torch.from_numpy(values)

    def rgb(self, image: Image.Image) -> Image.Image:
        """Return a picture in RGB, through the window where there is one.

        Raises:
            ImageError: As the call.

        Example:
            >>> preprocess = Preprocess(8, window=(100, 200))
            >>> preprocess.rgb(Image.new("L", (1, 1), 150)).getpixel((0, 0))
            (128, 128, 128)
        """
        if self.window is not None:
            return windowed(image, *self.window)
        return image if image.mode == "RGB" else as_rgb(image)

    def box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return where in the original picture the tensor's edges lie.

        Args:
            width: The original picture's width in pixels.
            height: The original picture's height in pixels.

        Returns:
            Left, top, right and bottom in pixels of the original picture, from its upper left
            corner. With "pad" the box reaches beyond the picture.

        Raises:
            ImageError: The width or the height is below 1, or the picture is too elongated.

        Example:
            >>> Preprocess(100, resize="pad").box(400, 200)
            (0.0, -100.0, 400.0, 300.0)
        """
        (wide, high), (left, top, right, bottom) = self._plan(width, height)
        return (
            left * width / wide,
            top * height / high,
            right * width / wide,
            bottom * height / high,
        )

    def pixels(self, x: Tensor) -> NDArray[np.uint8]:
        """Return tensors [..., 3, H, W] as RGB pictures, uint8 [..., H, W, 3]: the call undone.

        Example:
            >>> preprocess = Preprocess(8, mean=0.5, std=0.25)
            >>> preprocess.pixels(preprocess(Image.new("RGB", (8, 8), (7, 8, 9))))[0, 0].tolist()
            [7, 8, 9]
        """
        values = np.moveaxis(x.detach().float().cpu().numpy(), -3, -1)
        mean, std = (np.asarray(numbers, np.float32) for numbers in (self.mean, self.std))
        rgb: NDArray[np.uint8] = np.rint(((values * std + mean) * 255).clip(0, 255)).astype(
            np.uint8
        )
        return rgb

    def describe(self) -> dict[str, object]:
        """Return the settings as JSON data, for provenance; `Preprocess(**...)` restores them.

        A window that is None is left out.

        Example:
            >>> Preprocess((2, 3)).describe()["size"]
            [2, 3]
        """
        settings = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        if self.window is None:
            del settings["window"]
        return settings

    def _fit(self, image: Image.Image) -> Image.Image:
        """Return the picture as the network sees it, before its values are scaled."""
        resized, window = self._plan(image.width, image.height)
        if image.size != resized:
            image = image.resize(resized, _FILTERS[self.interpolation])
        left, top, right, bottom = window
        if window == (0, 0, *resized):
            return image
        if self.resize == "crop":
            return image.crop(window)
        padded = Image.new("RGB", (right - left, bottom - top), tuple(self.fill))
        padded.paste(image, (-left, -top))
        return padded

    def _plan(self, width: int, height: int) -> tuple[tuple[int, int], _Window]:
        """Return the size to resize to, and the window of the resized picture that is kept."""
        if width < 1 or height < 1:
            raise ImageError(f"expected a picture of at least 1 x 1 pixel, got {width} x {height}")
        if self.size is None:
            return (width, height), (0, 0, width, height)
        high, wide = cast("tuple[int, int]", self.size)
        resized = wide, high
        left = top = 0
        if self.resize == "crop":
            resized = self._cover(width, height, wide, high)
            # torchvision rounds the corner half to even, as Python does.
            left, top = round((resized[0] - wide) / 2), round((resized[1] - high) / 2)
        elif self.resize == "pad":
            if width * high >= height * wide:  # the width is what limits it
                resized = wide, max(1, round(height * wide / width))
            else:
                resized = max(1, round(width * high / height)), high
            left, top = -((wide - resized[0]) // 2), -((high - resized[1]) // 2)
        return resized, (left, top, left + wide, top + high)

    def _cover(self, width: int, height: int, wide: int, high: int) -> tuple[int, int]:
        """Return the size of the resized picture that a crop of `wide` x `high` is taken from."""
        # Without the millionth, 224 / (224 / 232) could be a hair below the 232 that it means.
        cover_wide = math.floor(wide / self.crop_pct + 1e-6)
        cover_high = math.floor(high / self.crop_pct + 1e-6)
        # torchvision rounds the longer side down.
        if width * cover_high >= height * cover_wide:
            resized = int(cover_high * width / height), cover_high
        else:
            resized = cover_wide, int(cover_wide * height / width)
        if resized[0] * resized[1] > _LARGEST:
            raise ImageError(
                f"a picture of {width} x {height} is too elongated for a crop of {wide} x {high}: "
                f"it would be resized to {resized[0]} x {resized[1]}; crop it before, or use "
                'resize="pad" or "stretch"'
            )
        return resized


def to_tensor(preprocess: Callable[[Image.Image], Tensor], image: Image.Image, name: str) -> Tensor:
    """Apply any preprocessing to one picture and check what it returns.

    Args:
        preprocess: A `Preprocess` or any callable from a PIL image to a tensor. A callable gets a
            grey picture of more than 8 bits as it is (mode I;16, I or F), unless it fails on it or
            then returns another shape than for RGB.
        image: The picture, upright.
        name: The picture's name, for the error.

    Returns:
        The preprocessing's floating-point tensor [C, H, W], detached.

    Raises:
        ImageError: Naming the picture, when the preprocessing failed or did not return a
            floating-point tensor [C, H, W] of finite values.

    Example:
        >>> to_tensor(Preprocess(8), Image.new("RGB", (9, 9)), "black.png").shape
        torch.Size([3, 8, 8])
    """
    if not isinstance(preprocess, Preprocess) and not shallow(image):
        return _deep_tensor(preprocess, image, name)
    try:
        if not (isinstance(preprocess, Preprocess) and preprocess.window):
            image = eight_bits(image, name)
        output = preprocess(image)
        fault = _fault(output)
    except Exception as error:
        kind = "" if isinstance(error, ImageError) else f"{type(error).__name__}: "
        raise ImageError(f"the preprocessing failed on {name!r}: {kind}{error}") from error
    if fault:
        raise ImageError(
            f"the preprocessing failed on {name!r}: expected a floating-point tensor [C, H, W], "
            f"got {fault}"
        )
    return output.detach()


def _deep_tensor(
    preprocess: Callable[[Image.Image], Tensor], image: Image.Image, name: str
) -> Tensor:
    """Apply a callable to a grey picture of more than 8 bits, or else to the same in RGB."""
    try:
        deep: Tensor | None = preprocess(image)
    except Exception:  # noqa: BLE001  (a callable for RGB may raise anything)
        deep = None
    if deep is None or _fault(deep):
        return to_tensor(preprocess, eight_bits(image, name), name)
    with suppress(ImageError):  # where it has no RGB form, or the callable takes none
        if (shallow_ := to_tensor(preprocess, as_rgb(image), name)).shape != deep.shape:
            return shallow_
    return deep.detach()


def without_window(
    preprocess: Callable[[Image.Image], Tensor],
) -> Callable[[Image.Image], Tensor]:
    """Return a preprocessing for pictures in RGB, which passed its window or never had one."""
    if isinstance(preprocess, Preprocess) and preprocess.window is not None:
        return replace(preprocess, window=None)
    return preprocess


def viewed(preprocess: object, image: Image.Image) -> Image.Image:
    """Return a picture in RGB as it is shown beside results.

    Args:
        preprocess: A `Preprocess`, whose window counts; another callable, for which pictures of
            more than 8 bits are stretched from their own minimum to their maximum.
        image: The picture, upright.

    Raises:
        ImageError: As `Preprocess.rgb`.
    """
    if isinstance(preprocess, Preprocess):
        return preprocess.rgb(image)
    if shallow(image):
        return as_rgb(image)
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    return windowed(image, low, high if high > low else low + 1)


def _fault(output: object) -> str:
    """Return what is wrong with a preprocessing's output and what to do; empty if nothing is."""
    import torch

    if not isinstance(output, torch.Tensor):
        if "pixel_values" in dir(output) or (isinstance(output, dict) and "pixel_values" in output):
            return f'{_describe(output)}; return its ["pixel_values"][0] as a tensor'
        return f"{_describe(output)}; convert it to a torch tensor"
    came, shape = _describe(output), output.shape
    if output.ndim == 4 and shape[0] == 1:
        return f"{came}; drop the batch dimension: return x[0]"
    if output.ndim != 3 or 0 in shape:
        return f"{came}; return one tensor with a channel, a height and a width"
    if shape[0] > 4 and shape[2] in (1, 3):
        return f"{came}; put the channels first: return x.permute(2, 0, 1)"
    if not output.is_floating_point():
        return f"{came}; convert it: return x.float() / 255, then normalise"
    if not output.isfinite().all():
        return f"{came} with values that are not finite; does it divide by zero?"
    return ""


def _describe(value: object) -> str:
    """Return the type of a value, with shape and dtype where it has them."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    name = f"{type(value).__module__}.{type(value).__name__}".removeprefix("builtins.")
    return name if shape is None else f"{name} of shape {list(shape)} and {dtype}"


def _number(field: str, value: object) -> float:
    try:
        number = float(cast("float", value))
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, str | bool) or not math.isfinite(number):
        raise ImageError(f"expected {field} to be a finite number, got {value!r}")
    return number


def _triple(field: str, value: object) -> tuple[float, float, float]:
    """Return three numbers from one for all channels, or from three."""
    if not hasattr(value, "__len__") or isinstance(value, str):
        return (_number(field, value),) * 3
    numbers = [_number(field, number) for number in cast("Sequence[object]", value)]
    if len(numbers) == 1:
        numbers *= 3
    if len(numbers) != 3:
        raise ImageError(f"expected {field} to be 1 or 3 numbers, got {len(numbers)}: {value!r}")
    return numbers[0], numbers[1], numbers[2]


def _whole_numbers(value: object, count: int, least: int) -> tuple[int, ...] | None:
    """Return so many whole numbers of at least `least`, or None for something else."""
    try:
        numbers = tuple(Whole(least).accept(item) for item in cast("Iterable[object]", value))
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count else None


def _range(value: object) -> tuple[float, float]:
    pair = list(cast("Sequence[object]", value)) if hasattr(value, "__len__") else []
    if len(pair) != 2 or isinstance(value, str):
        raise ImageError(f"expected window to be two numbers, (low, high), got {value!r}")
    low, high = (_number("window", end) for end in pair)
    if low >= high:
        raise ImageError(f"expected window to be (low, high) with low < high, got {value!r}")
    return low, high


def _size(value: object) -> tuple[int, ...]:
    pair = _whole_numbers(value if hasattr(value, "__len__") else (value, value), 2, 1)
    if pair is None:
        raise ImageError(
            "expected size to be a whole number of pixels above 0, (height, width) or None, "
            f"got {value!r}"
        )
    return pair


def _colour(value: object) -> tuple[int, ...]:
    colour = _whole_numbers(value, 3, 0)
    if colour is None or max(colour) > 255:
        raise ImageError(f"expected fill to be 3 whole numbers in 0..255, got {value!r}")
    return colour
