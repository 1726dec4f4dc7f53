"""Pictures of which a preprocessing's centre crop leaves out much."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from vtcav.errors import warn
from vtcav.images.decoding import identify, open_file, orientation
from vtcav.images.preprocess import Preprocess
from vtcav.images.references import ImageRef

MUCH = 0.4
"""The share from which on it is said. A square crop of 3:2 loses a third, one of 16:9 44 %."""
_LOOKED_AT = 5  # pictures of a set
_WARNED: set[tuple[Preprocess, int]] = set()  # preprocessings, and tenths that are left out


def warn_of_cropping(sets: Iterable[Sequence[ImageRef]], preprocess: object) -> None:
    """Say where the centre crop of a preprocessing leaves out much of the pictures.

    Of every set a few pictures are looked at, and only at their sizes; those of pictures that are
    no files of their own are not known. What `crop_pct` takes of every picture, as the usual
    resize to 256 and crop to 224 does, is no reason to say so.

    Args:
        sets: Sets of pictures.
        preprocess: A `Preprocess`, whose geometry is known, or another callable.

    Warns:
        UserWarning: Once for a preprocessing and a share.
    """
    if not isinstance(preprocess, Preprocess) or preprocess.volumes or preprocess.resize != "crop":
        return
    worst = _Kept(1.0, 0.0, "", (0, 0))
    for refs in sets:
        looked_at = refs[:: max(1, len(refs) // _LOOKED_AT)][:_LOOKED_AT]
        found = sorted(filter(None, (_kept(preprocess, ref) for ref in looked_at)))
        worst = min([worst, *found[len(found) // 2 :][:1]])
    by_shape, left_out, name, (width, height) = worst
    key = preprocess, round(10 * left_out)
    if by_shape > 1 - MUCH or key in _WARNED:
        return
    _WARNED.add(key)
    warn(
        f"the centre crop of the preprocessing leaves out {100 * left_out:.0f} % of a picture such "
        f"as {name!r} ({width} x {height} pixels), which the network does not see; crop pictures "
        'to what matters before, or give vtcav.Preprocess(..., resize="pad") or "stretch" where '
        "the network takes it"
    )


class _Kept(NamedTuple):
    """What is kept of a picture.

    Attributes:
        by_shape: The share that its shape leaves.
        left_out: The share that is left out, for its shape and by `crop_pct`.
        name: Its name.
        size: Its width and height.
    """

    by_shape: float
    left_out: float
    name: str
    size: tuple[int, int]


def _kept(preprocess: Preprocess, ref: ImageRef) -> _Kept | None:
    """Return what is kept of a picture; None where its size is not known, or none that can be."""
    with suppress(Exception):  # whoever reads the picture says what is wrong with it
        if size := _size(ref):
            left, top, right, bottom = preprocess.box(*size)
            kept = (right - left) * (bottom - top) / (size[0] * size[1])
            return _Kept(kept / preprocess.crop_pct**2, 1 - kept, ref.name, size)
    return None


def _size(ref: ImageRef) -> tuple[int, int] | None:
    """Return a picture's width and height, undecoded; None where they are not known."""
    source = ref.source
    if isinstance(source, Path | bytes):
        with open_file(source) if isinstance(source, Path) else BytesIO(source) as file:
            return _upright(identify(file))
    if isinstance(source, Image.Image):
        return _upright(source)
    return None if source is None else (source.shape[1], source.shape[0])


def _upright(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    return (height, width) if orientation(image) > 4 else (width, height)
