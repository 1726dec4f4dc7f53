"""Preprocessing: pictures become the tensors that a network expects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vtcav.errors import ImageError, text_of
from vtcav.images.decoding import VOI, WHITE, BandPicture, as_rgb, shallow
from vtcav.images.fitting.checks import (
    colour_of,
    number,
    per_channel,
    percentiles_of,
    ranges_of,
    shown_of,
    size_of,
)
from vtcav.images.fitting.geometry import Window, plan
from vtcav.images.fitting.outputs import described_type, fault_of
from vtcav.images.scaling import (
    Range,
    Scale,
    channels_of,
    eight_bits,
    in_bytes,
    luma,
    warn_of_darkness,
)
from vtcav.images.volumes import fitted, middle_slice, takes_volumes, volume_of
from vtcav.parameters import Flag, Whole, Words, check

if TYPE_CHECKING:
    from torch import Tensor


_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_FIRST_OPTION = 7  # the position of the window among the fields


@dataclass(frozen=True)
class Preprocess:
    """Resize, scale to 0..1 and normalise: a picture becomes a float32 tensor [C, H, W].

    The values are (value - mean) / std, where the values of a picture of 8 bits are divided by
    255. With `resize="crop"` they equal torchvision's `Resize`, `CenterCrop`, `ToTensor` and
    `Normalize` for a square size. A picture that has the right size already is not resampled.

    Of grey pictures and those in RGB each goes into a network of the other: grey is repeated
    three times, and RGB becomes its luma (ITU-R 601, as Pillow's "L"). For any other number of
    channels the file must hold as many: as samples of a pixel, as pages of a TIFF file, or as the
    channels of a NumPy array.

    With a size of three numbers a volume becomes a tensor [C, D, H, W]: every slice is fitted as a
    picture is, then the slices are resampled to D.

    Attributes:
        size: Height and width of the tensor, or one number for a square; None keeps the
            picture's own size. Three numbers, (slices, height, width), take volumes.
        resize: "crop" scales the picture until it covers `size / crop_pct` and takes the centre,
            "stretch" ignores the aspect ratio, "pad" fits the whole picture and fills the rest.
        interpolation: "nearest", "bilinear", "bicubic" or "lanczos", with antialiasing.
        mean: The value subtracted, one for all channels or one per channel, on the scale 0..1.
        std: The divisor, one for all channels or one per channel, on the scale 0..1.
        crop_pct: The part in (0, 1] of the resized picture's shorter side that a crop keeps.
        fill: The colour in 0..255 of the borders that "pad" adds, a number per channel (RGB).
        window: The values of a picture that become 0 and 1, such as (0, 4095) for 12 bits in a
            file of 16, or (-160, 240) for a range of Hounsfield units; or such a pair for each
            channel. Values between are mapped linearly, before everything else and without being
            rounded. None takes the window that a DICOM file states; 0 to 65535 for integers of
            more than 8 bits, 0 to 1 for floating point.
        channels: C, the number of channels that the network takes. None is 1 of volumes, and 3 of
            pictures in RGB or grey, which are rounded to 8 bits where no window is stated, and of
            the first page of a file of several. Given as a number, no value is rounded, and pages
            are channels where there are as many.
        percentiles: In place of a window, the percentiles of each channel that become 0 and 1,
            such as (1, 99), of every picture by itself.
        clip: Whether values outside of the window are moved to its ends.
        shown: The channel that figures show in grey, or the three that they show as red, green and
            blue, counted from 0. None takes the first three of 3 and 4, or else the first.

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
    fill: int | Sequence[int] = (0, 0, 0)
    window: Range | Sequence[Range] | None = None
    channels: int | None = None
    percentiles: Range | None = None
    clip: bool = True
    shown: int | Sequence[int] | None = None

    def __post_init__(self) -> None:
        check("resize", self.resize, Words("crop", "stretch", "pad"), error=ImageError)
        check("interpolation", self.interpolation, Words(*_FILTERS), error=ImageError)
        check("channels", self.channels, Whole(1), none="3, of RGB or grey", error=ImageError)
        check("clip", self.clip, Flag(), error=ImageError)
        if not 0 < number("crop_pct", self.crop_pct) <= 1:
            raise ImageError(f"expected crop_pct in (0, 1], got {self.crop_pct}")
        if self.crop_pct != 1 and (self.resize != "crop" or self.size is None):
            raise ImageError(
                f'crop_pct={self.crop_pct} needs a size and resize="crop", got size={self.size} '
                f'and resize="{self.resize}"; leave crop_pct at 1.0'
            )
        if self.window is not None and self.percentiles is not None:
            raise ImageError("expected a window or percentiles, got both")
        C = self.count
        mean, std = per_channel("mean", self.mean, C), per_channel("std", self.std, C)
        if max(map(abs, mean)) > 1:
            raise ImageError(
                f"expected a mean on the scale 0..1, got {self.mean}; divide mean and std by 255"
            )
        if min(std) <= 0:
            raise ImageError(f"expected a std above 0, got {self.std}")
        windows = ranges_of(self.window, C)
        # One form for each value, so that equal preprocessings compare and hash equal.
        one_form = {
            "size": None if self.size is None else size_of(self.size),
            "mean": mean,
            "std": std,
            "crop_pct": float(self.crop_pct),
            "fill": colour_of(self.fill, C),
            "window": windows[0] if len(set(windows)) == 1 else windows or None,
            "percentiles": None if self.percentiles is None else percentiles_of(self.percentiles),
            "shown": None if self.shown is None else shown_of(self.shown, C),
        }
        for name, value in one_form.items():
            object.__setattr__(self, name, value)

    def __call__(self, image: Image.Image) -> Tensor:
        """Turn one picture into a tensor.

        Args:
            image: A PIL image of any depth.

        Returns:
            A float32 tensor [C, H, W], of a volume [C, D, H, W], on the CPU.

        Raises:
            ImageError: This is no PIL image, its colours cannot be converted, it is too elongated
                to be resized, or its values are no match for the window or the channels.
        """
        import torch

        if not isinstance(image, Image.Image):
            raise ImageError(f"expected a PIL image, got {described_type(image)}")
        pixels = self._fitted_volume(image) if self.volumes else self._fitted(image)
        # The operations and their order are torchvision's, so that the rounding is too. NumPy
        # does them: several threads prepare pictures, and PyTorch would start its own in each.
        values = np.ascontiguousarray(np.moveaxis(pixels, -1, 0)).astype(np.float32)
        mean, std = (
            np.asarray(numbers, np.float32).reshape(-1, *(1,) * (values.ndim - 1))
            for numbers in (self.mean, self.std)
        )
        if pixels.dtype == np.uint8:
            values /= np.float32(255)
        values -= mean
        values /= std
        return torch.from_numpy(values)

    def rgb(self, image: Image.Image) -> Image.Image:
        """Return a picture in RGB as it is shown, through the window where there is one.

        Of a volume it is the slice in the middle.

        Raises:
            ImageError: As the call.

        Example:
            >>> preprocess = Preprocess(8, window=(100, 200))
            >>> preprocess.rgb(Image.new("L", (1, 1), 150)).getpixel((0, 0))
            (128, 128, 128)
        """
        if self.rounds:
            return image if type(image) is Image.Image and image.mode == "RGB" else as_rgb(image)
        if self.volumes:
            middle = middle_slice(volume_of(image), self._scale, self.count)
            return Image.fromarray(np.ascontiguousarray(self._colours(middle)))
        values = self._values(image)
        tones = values.astype(np.uint8) if values.dtype == np.uint8 else in_bytes(values)
        return Image.fromarray(np.ascontiguousarray(self._colours(tones)))

    @property
    def count(self) -> int:
        """C, the number of channels of the tensor."""
        if self.channels is None:
            return 1 if self.volumes else 3
        return int(self.channels)

    @property
    def volumes(self) -> bool:
        """Whether it takes volumes."""
        return isinstance(self.size, Sequence) and len(self.size) == 3

    @property
    def shown_as(self) -> str:
        """The channels that figures show, in words; empty where they show all of grey or RGB."""
        chosen = shown_of(self.shown, self.count)
        if chosen == tuple(range(self.count)):
            return ""
        if len(chosen) == 1:
            return f"channel {chosen[0]} of 0 to {self.count - 1}, in grey"
        listed = ", ".join(map(str, chosen))
        return f"channels {listed} of 0 to {self.count - 1}, as red, green and blue"

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
        """Return tensors [..., C, H, W] as RGB pictures, uint8 [..., H, W, 3]: the call undone.

        Of volumes [..., C, D, H, W] they are [..., D, H, W, 3].

        Example:
            >>> preprocess = Preprocess(8, mean=0.5, std=0.25)
            >>> preprocess.pixels(preprocess(Image.new("RGB", (8, 8), (7, 8, 9))))[0, 0].tolist()
            [7, 8, 9]
        """
        values = np.moveaxis(x.detach().float().cpu().numpy(), -4 if self.volumes else -3, -1)
        mean, std = (np.asarray(numbers, np.float32) for numbers in (self.mean, self.std))
        return self._colours(np.rint(((values * std + mean) * 255).clip(0, 255)).astype(np.uint8))

    def describe(self) -> dict[str, object]:
        """Return the settings as JSON data, for provenance; `Preprocess(**...)` restores them.

        The window and all after it are left out where they are at their defaults.

        Example:
            >>> Preprocess((2, 3)).describe()["size"]
            [2, 3]
        """
        defaults = {field.name: field.default for field in fields(self)[_FIRST_OPTION:]}
        return {
            name: _listed(value)
            for name, value in asdict(self).items()
            if name not in defaults or value != defaults[name]
        }

    @cached_property
    def _scale(self) -> Scale:
        return Scale(ranges_of(self.window, self.count), self.percentiles, self.clip)

    @property
    def ranges(self) -> tuple[Range, ...]:
        """The windows that are stated, or the percentiles."""
        return (*self._scale.windows, *filter(None, [self._scale.percentiles]))

    @property
    def rounds(self) -> bool:
        """Whether pictures become RGB of 8 bits before everything else."""
        return self.channels is None and not self._scale.stated and not self.volumes

    def _values(self, image: Image.Image) -> NDArray[np.uint8 | np.float32]:
        """Return a picture's values [H, W, C]: bytes, or on the scale 0..1."""
        values = channels_of(image, self.channels)
        if values.dtype == np.uint8 and not self._scale.stated:
            return values
        unit = self._scale.unit(values, {} if shallow(image) else image.info)
        return luma(unit) if unit.shape[2] == 3 and self.count == 1 else unit

    def _colours(self, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the shown channels of [..., H, W, C] as red, green and blue."""
        return values[..., [*(shown_of(self.shown, self.count) * 3)[:3]]]

    def _fitted(self, image: Image.Image) -> NDArray[np.uint8 | np.float32]:
        """Return the picture as the network sees it, before its values are normalised."""
        if self.rounds:
            return np.asarray(self._fit(self.rgb(image), cast("Sequence[int]", self.fill)))
        return self._fitted_values(self._values(image))

    def _fitted_volume(self, image: Image.Image) -> NDArray[np.float32]:
        """Return a volume as the network sees it, before its values are normalised."""
        shape = cast("tuple[int, int, int]", self.size)[0], self.count
        fit, resample = self._fitted_values, _FILTERS[self.interpolation]
        return fitted(volume_of(image), self._scale, shape, fit, resample)

    def _fitted_values(self, values: NDArray[Any]) -> NDArray[Any]:
        fill = cast("Sequence[int]", self.fill)
        whole = values.dtype == np.uint8
        bands = (np.ascontiguousarray(values[..., c]) for c in range(self.count))
        return np.stack(
            [
                np.asarray(self._fit(Image.fromarray(band), [fill[c] if whole else fill[c] / 255]))
                for c, band in enumerate(bands)
            ],
            axis=-1,
        )

    def _fit(self, image: Image.Image, fill: Sequence[float]) -> Image.Image:
        """Resize, crop and pad a picture."""
        resized, window = self._plan(image.width, image.height)
        if image.size != resized:
            image = image.resize(resized, _FILTERS[self.interpolation])
        left, top, right, bottom = window
        if window == (0, 0, *resized):
            return image
        if self.resize == "crop":
            return image.crop(window)
        colour = tuple(map(int, fill)) if image.mode == "RGB" else fill[0]
        padded = Image.new(image.mode, (right - left, bottom - top), colour)
        padded.paste(image, (-left, -top))
        return padded

    def _plan(self, width: int, height: int) -> tuple[tuple[int, int], Window]:
        """Return the size to resize to, and the window of the resized picture that is kept."""
        size = cast("tuple[int, ...] | None", self.size)
        in_plane = None if size is None else cast("tuple[int, int]", size[-2:])
        return plan(width, height, in_plane, self.resize, self.crop_pct)


def to_tensor(preprocess: Callable[[Image.Image], Tensor], image: Image.Image, name: str) -> Tensor:
    """Apply any preprocessing to one picture, or volume, and check what it returns.

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
    volume = takes_volumes(preprocess)
    if not (isinstance(preprocess, Preprocess) or volume or shallow(image)):
        return _deep_tensor(preprocess, image, name)
    try:
        if volume and not isinstance(preprocess, Preprocess):
            image = volume_of(image)
        elif not volume and (not isinstance(preprocess, Preprocess) or preprocess.rounds):
            image = eight_bits(image, name)
        output = (
            preprocess.named(name)(image) if hasattr(preprocess, "named") else preprocess(image)
        )
        if isinstance(preprocess, Preprocess) and not preprocess.rounds | bool(preprocess.ranges):
            _warn_of_darkness(image, name)
        fault = fault_of(output, volume=volume)
    except Exception as error:
        kind = "" if isinstance(error, ImageError) else f"{type(error).__name__}: "
        raise ImageError(f"the preprocessing failed on {name!r}: {kind}{text_of(error)}") from error
    if fault:
        raise ImageError(
            f"the preprocessing failed on {name!r}: expected a floating-point tensor "
            f"{'[C, D, H, W]' if volume else '[C, H, W]'}, got {fault}"
        )
    return output.detach()


def _warn_of_darkness(image: Image.Image, name: str) -> None:
    """Say where the values of a picture of 16 bits are small, and no window is stated."""
    deep = image.mode.startswith("I") and not {WHITE, VOI} & set(image.info)
    if deep or (isinstance(image, BandPicture) and image.holds != "pages"):
        values = image.values if isinstance(image, BandPicture) else np.asarray(image)
        if values.dtype.kind in "iu" and values.dtype != np.uint8:
            warn_of_darkness(name, int(values.max()))


def _deep_tensor(
    preprocess: Callable[[Image.Image], Tensor], image: Image.Image, name: str
) -> Tensor:
    """Apply a callable to a grey picture of more than 8 bits, or else to the same in RGB."""
    try:
        deep: Tensor | None = preprocess(image)
    except Exception:  # noqa: BLE001  (a callable for RGB may raise anything)
        deep = None
    if deep is None or fault_of(deep):
        return to_tensor(preprocess, eight_bits(image, name), name)
    with suppress(ImageError):  # where it has no RGB form, or the callable takes none
        if (shallow_ := to_tensor(preprocess, as_rgb(image), name)).shape != deep.shape:
            return shallow_
    return deep.detach()


def without_window(
    preprocess: Callable[[Image.Image], Tensor],
) -> Callable[[Image.Image], Tensor]:
    """Return a preprocessing for pictures of 8 bits, which passed its window or never had one."""
    if isinstance(preprocess, Preprocess) and preprocess.ranges:
        return replace(preprocess, window=None, percentiles=None)
    return preprocess


def _listed(value: object) -> object:
    """Return a value with lists for tuples."""
    return [_listed(item) for item in value] if isinstance(value, tuple) else value
