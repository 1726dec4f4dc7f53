"""The names of the ways to fill in a region."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

FillName: TypeAlias = Literal["convolution", "mean", "blur"]
"""Normalised convolution, the mean of what is outside, or the picture blurred (`fill`)."""

FILL_NAMES: tuple[FillName, ...] = get_args(FillName)
