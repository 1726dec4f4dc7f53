"""The names of the ways to fill in a region; apart, because commands need them without PyTorch."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal, TypeAlias, get_args

from vtcav.errors import ExtraError

FillName: TypeAlias = Literal["convolution", "mean", "blur", "telea", "navier-stokes"]
"""Normalised convolution, the mean of what is outside, the picture blurred (`fill`), or one of
OpenCV's two ways of inpainting (`inpainting`)."""

FILL_NAMES: tuple[FillName, ...] = get_args(FillName)
INPAINTING: tuple[FillName, ...] = ("telea", "navier-stokes")
"""The fills that need OpenCV."""
PLAIN: tuple[FillName, ...] = tuple(name for name in FILL_NAMES if name not in INPAINTING)


def check_installed(fill: str) -> None:
    """Check that a way to fill can be used.

    Raises:
        ExtraError: When it needs OpenCV, and OpenCV is not installed.
    """
    if fill in INPAINTING and find_spec("cv2") is None:
        raise ExtraError(
            f"fill={fill!r} needs OpenCV: pip install 'vtcav[inpainting]', or take "
            f"{', '.join(map(repr, PLAIN))} or a callable"
        )
