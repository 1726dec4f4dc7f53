"""Copies of images: exact ones by their digest, near ones by their perceptual hash.

A near copy is a picture that was saved again, resized, made brighter or darker, or cropped by up to
about a tenth. The perceptual hash is the picture in 16 x 16 greys. Hashes are compared without
their smooth light (a surface of second degree), because two skies, or two drawings under one lamp,
are not copies.

Letters: N images of S sets in one row, hashes P [N, 16, 16], signatures Z [N, 256] of length 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations_with_replacement
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vtcav.results.image_set import HASH_SIDE, ImageSetRecord

NEAR = 0.92
"""Signatures that correlate this much are near copies.

Among 167 photographs of different things no pair reaches 0.72, among 400 drawings of one texture
0.86 (stripes: 0.91). Of copies of photographs saved again, resized, blurred or made darker or
flatter all are above it, of those made brighter by 40 % 95 in 100, of those cropped by 4, 8 and
12 % at random places 81, 50 and 32 in 100.
"""

PLAIN = 3.0
"""Contrast (robust standard deviation, 0 to 255) that a hash must have without its smooth light.

Below it, the rest is rounding and noise, and any two plain pictures may look alike.
"""

_AGREE = 0.35
"""Correlation that a copy reaches in each of 16 parts.

Two photographs with the same ruler are alike in the parts that the ruler covers, and stay below it
in others. Of copies of photographs that are alike as a whole 97 to 100 in 100 reach it, 95 when
cropped, and 90 when made so bright that whites are cut off. No pair of different photographs of
9,000 reached both, with the same ruler, sticker or watermark on them or not. It was set on drawings
and kept for photographs: 84 photographs were used to explore it and 115 others to confirm it.
Between 0.15 and 0.45 little changes.
"""

_PARTS = 4
_CROPS = 0.04, 0.08, 0.12
_BLOCK, _PAIRS = 256, 1 << 13
_BEYOND = 6.0
"""Standard deviations by which copies are more alike than different pictures of the same two sets.

Of pictures that all look alike, as X-rays of one view, many pairs exceed `NEAR`. Fisher's z of
their correlations is nearly normal: in eight sets of drawn bodies, sections, cells and faces, each
of 11,175 pairs, the largest lies 3.5 to 4.5 standard deviations above the median.
"""

_CLOSEST = 0.98
"""Signatures that correlate this much are copies, also in a set of nothing but copies."""

_SAMPLE = 64
_UPPER = 0.7, 0.9  # quantiles that copies leave as they are, if each image has one, in small sets


@dataclass(frozen=True, eq=False)
class Copies:
    """Images with their copies.

    Attributes:
        sets: The sets of images searched, S of them.
        similarity: For each image the highest similarity to another image of each set
            [N, S]; 1 for an exact copy, NaN where none can be compared.
        partner: Row number of that image [N, S]; -1 where there is none.
        exact: Whether it has the same content [N, S].
        earlier: Whether a copy of the image stands earlier in its own set [N].
        alike: Whether a picture of each set is alike on the whole, a copy or not: some parts may
            differ, as between a photograph with a thing and the same without it [N, S].
        plain: Whether the hash is too plain to find near copies by [N].
        thresholds: Similarity from which images of two sets count as copies [S, S].
    """

    sets: tuple[ImageSetRecord, ...]
    similarity: NDArray[np.float32] = field(repr=False)
    partner: NDArray[np.int64] = field(repr=False)
    exact: NDArray[np.bool_] = field(repr=False)
    earlier: NDArray[np.bool_] = field(repr=False)
    alike: NDArray[np.bool_] = field(repr=False)
    plain: NDArray[np.bool_] = field(repr=False)
    thresholds: NDArray[np.float32] = field(repr=False)

    def rows(self, s: int) -> slice:
        """Return the rows of set `s` among all images."""
        start = sum(map(len, self.sets[:s]))
        return slice(start, start + len(self.sets[s]))

    @property
    def close(self) -> NDArray[np.bool_]:
        """Whether each image has a copy in each set [N, S]."""
        own = np.repeat(self.thresholds, list(map(len, self.sets)), axis=0)
        close: NDArray[np.bool_] = self.similarity >= own
        return self.exact | close

    def found(self, a: int, b: int) -> NDArray[np.bool_]:
        """Tell whether each image of set `a` has a copy in set `b`, other than itself [n]."""
        return self.close[self.rows(a), b]

    def table(self) -> pd.DataFrame:
        """Return a row for every image and set in which it has a copy, with the closest one.

        Columns: set, image, other_set, other_image, kind (exact or near), similarity. A pair
        within one set is one row.
        """
        names = [(images.role, name) for images in self.sets for name in images.names]
        pairs: dict[tuple[int, int], tuple[object, ...]] = {}
        for b, i in np.argwhere(self.close.T):
            p, q = sorted((int(i), int(self.partner[i, b])))
            kind = "exact" if self.exact[i, b] else "near"
            pairs.setdefault((p, q), (*names[p], *names[q], kind, self.similarity[i, b]))
        columns = ["set", "image", "other_set", "other_image", "kind", "similarity"]
        rows = [pairs[key] for key in sorted(pairs)]
        return pd.DataFrame(rows, columns=columns).astype({"similarity": "float64"})


def find_copies(sets: Sequence[ImageSetRecord]) -> Copies:
    """Search sets of images for copies, within each and between all.

    Time grows with the square of the number of images (some seconds for 5,000), memory with the
    number.

    Args:
        sets: The sets of images.
    """
    sets = tuple(sets)
    hashes = np.concatenate([images.perceptual_hashes for images in sets])
    P = hashes.reshape(len(hashes), -1).astype(np.float32)
    Z, V, plain = _signatures(P)
    owner = np.repeat(np.arange(len(sets)), [len(images) for images in sets])
    thresholds = _thresholds(Z, V, plain, owner, len(sets))
    similarity = np.full((len(Z), len(sets)), np.nan, np.float32)
    partner = np.full(similarity.shape, -1, np.int64)
    earlier, alike = np.zeros(len(Z), bool), np.zeros(similarity.shape, bool)
    for a in range(0, len(Z), _BLOCK):
        rows = slice(a, a + _BLOCK)
        for b in range(a, len(Z), _BLOCK):
            columns = slice(b, b + _BLOCK)
            R = _similarities(Z, V, rows, columns)
            R[plain[rows]] = np.nan
            R[:, plain[columns]] = np.nan
            if a == b:
                np.fill_diagonal(R, np.nan)
            least = thresholds[owner[rows, None], owner[None, columns]]
            i, j = np.nonzero(least <= R)
            alike[a + i, owner[b + j]] = alike[b + j, owner[a + i]] = True
            parted = ~_agree_everywhere(P, Z, V, a + i, b + j)
            R[i[parted], j[parted]] = least[i[parted], j[parted]] - 1e-3
            _keep_best(similarity, partner, R, a, b, owner[columns])
            if a != b:
                _keep_best(similarity, partner, R.T, b, a, owner[rows])
            same = owner[rows, None] == owner[None, columns]
            copy = same & (least <= R)
            if a == b:
                copy = np.triu(copy)
            earlier[columns] |= copy.any(0)
    exact = _exact(sets, owner, similarity, partner, earlier)
    return Copies(sets, similarity, partner, exact, earlier, alike, plain, thresholds)


def _keep_best(
    similarity: NDArray[np.float32],
    partner: NDArray[np.int64],
    R: NDArray[np.float32],
    row: int,
    column: int,
    owner: NDArray[np.int64],
) -> None:
    """Record the best similarities of a block, by the set that its columns belong to."""
    lines = np.arange(len(R))
    for s in np.unique(owner):
        mine = np.flatnonzero(owner == s)
        part = np.where(np.isnan(R[:, mine]), -2, R[:, mine])
        best = part.argmax(1)
        value = part[lines, best]
        known = similarity[row : row + len(R), s]
        better = value > np.where(np.isnan(known), -2, known)
        known[better] = value[better]
        partner[row : row + len(R), s][better] = column + mine[best[better]]


def _exact(
    sets: Sequence[ImageSetRecord],
    owner: NDArray[np.int64],
    similarity: NDArray[np.float32],
    partner: NDArray[np.int64],
    earlier: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Find equal digests, which are the closest copies whatever the hashes."""
    exact = np.zeros(similarity.shape, bool)
    digests = [digest for images in sets for digest in images.digests]
    positions: Any = pd.Series(digests).groupby(digests).indices  # its stubs are too wide
    for equal in positions.values():
        for i in equal if len(equal) > 1 else ():
            others = equal[equal != i]
            found, first = np.unique(owner[others], return_index=True)  # the first of each set
            exact[i, found], similarity[i, found], partner[i, found] = True, 1, others[first]
            earlier[i] |= (owner[others[others < i]] == owner[i]).any()
    return exact


# -- signatures -------------------------------------------------------------------------------


def _signatures(
    P: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """Return Z [N, 256], the same of slight crops [W, N, 256], and which hashes are plain [N]."""
    Z, spread = _standardised(P)
    V = np.stack([_standardised(P @ crop.T)[0] for crop in _crops()])
    return Z, V, spread < PLAIN


def _standardised(P: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return hashes without their smooth light, of length 1, and their contrast before [N].

    Outliers are clipped, so that a bright mark on many pictures does not make them copies of each
    other.
    """
    Q = _light()
    # a mark as bright as on an X-ray would pull the surface of light towards it
    rest, _ = _cut(P - np.median(P, axis=1, keepdims=True), 3.0)
    for _ in range(2):
        rest, greys = _cut(rest - (rest @ Q) @ Q.T, 1.5)
    Z = (rest - (rest @ Q) @ Q.T).astype(np.float32)
    Z /= np.maximum(np.linalg.norm(Z, axis=1), 1e-6)[:, None]
    return Z, greys


def _cut(
    rest: NDArray[np.floating[Any]], most: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Clip values at a number of robust standard deviations; return these too [N]."""
    greys = (1.4826 * np.median(np.abs(rest), axis=1)).astype(np.float32)
    ends = most * np.maximum(greys, 1e-6)[:, None]
    return np.clip(rest, -ends, ends).astype(np.float32), greys


@cache
def _light() -> NDArray[np.float32]:
    """Return an orthonormal basis of the surfaces of second degree [256, 6]."""
    y, x = np.mgrid[0:HASH_SIDE, 0:HASH_SIDE] / (HASH_SIDE / 2) - 1
    powers = [x**i * y**j for i in range(3) for j in range(3 - i)]
    Q, _ = np.linalg.qr(np.stack([power.ravel() for power in powers], 1))
    return Q.astype(np.float32)


@cache
def _crops() -> tuple[NDArray[np.float32], ...]:
    """Return the maps [256, 256] from a hash to those of slight crops of its picture."""
    maps = []
    for lost in _CROPS:
        corners = [(x, y) for x in (0.0, lost) for y in (0.0, lost)]
        for left, top in [*corners, (lost / 2, lost / 2)]:
            down, across = _resampling(top, 1 - lost), _resampling(left, 1 - lost)
            maps.append(np.kron(down, across).astype(np.float32))
    return tuple(maps)


def _resampling(start: float, length: float, fine: int = 8) -> NDArray[np.float64]:
    """Return the map [16, 16] from a line of 16 cells to 16 cells over a part of its length."""
    count = HASH_SIDE * fine
    at = (start + length * (np.arange(count) + 0.5) / count) * HASH_SIDE - 0.5
    at = at.clip(0, HASH_SIDE - 1)
    cell = np.floor(at).astype(int).clip(0, HASH_SIDE - 2)
    weights = np.zeros((count, HASH_SIDE))
    weights[np.arange(count), cell] = 1 - (at - cell)
    weights[np.arange(count), cell + 1] = at - cell
    averaged: NDArray[np.float64] = weights.reshape(HASH_SIDE, fine, HASH_SIDE).mean(1)
    return averaged


def _similarities(
    Z: NDArray[np.float32], V: NDArray[np.float32], rows: slice, columns: slice
) -> NDArray[np.float32]:
    """Return the similarity of some images to others, the highest over crops of either."""
    R = Z[rows] @ Z[columns].T
    for cropped in V:
        np.maximum(R, cropped[rows] @ Z[columns].T, out=R)
        np.maximum(R, Z[rows] @ cropped[columns].T, out=R)
    return R


def _agree_everywhere(
    P: NDArray[np.float32],
    Z: NDArray[np.float32],
    V: NDArray[np.float32],
    i: NDArray[np.int64],
    j: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Tell whether every part of picture i agrees with picture j, cropped as fits best [n]."""
    agree = np.zeros(len(i), bool)
    for k in range(0, len(i), _PAIRS):
        p, q = i[k : k + _PAIRS], j[k : k + _PAIRS]
        best, worst = (Z[p] * Z[q]).sum(1), _worst_part(P[p], P[q])
        for crop, cropped in zip(_crops(), V, strict=True):
            for one, other in ((p, q), (q, p)):
                value = (cropped[one] * Z[other]).sum(1)
                if (better := value > best).any():
                    best[better] = value[better]
                    worst[better] = _worst_part(P[one[better]] @ crop.T, P[other[better]])
        agree[k : k + _PAIRS] = worst >= _AGREE
    return agree


def _worst_part(P: NDArray[np.float32], Q: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the lowest correlation of a part of two hashes, of those that are not plain [n]."""
    a, b = _in_parts(P), _in_parts(Q)
    spreads = a.std(2), b.std(2)
    r = (a * b).mean(2) / np.maximum(spreads[0] * spreads[1], 1e-6)
    lowest: NDArray[np.float32] = np.where(np.maximum(*spreads) < PLAIN, 1, r).min(1)
    return lowest


def _in_parts(P: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the cells of hashes by part, with mean 0 [N, 16, 16]."""
    side = HASH_SIDE // _PARTS
    parts = P.reshape(-1, _PARTS, side, _PARTS, side).swapaxes(2, 3)
    parts = parts.reshape(len(P), _PARTS**2, side**2)
    centred: NDArray[np.float32] = parts - parts.mean(2, keepdims=True)
    return centred


def _thresholds(
    Z: NDArray[np.float32],
    V: NDArray[np.float32],
    plain: NDArray[np.bool_],
    owner: NDArray[np.intp],
    sets: int,
) -> NDArray[np.float32]:
    """Return the similarity from which images of two sets are copies, given how alike these are."""
    some = []
    for s in range(sets):
        own = np.flatnonzero((owner == s) & ~plain)
        few = np.linspace(0, len(own) - 1, min(len(own), _SAMPLE)).round().astype(int)
        some.append(own[few])
    found = np.full((sets, sets), NEAR, np.float32)
    for a, b in combinations_with_replacement(range(sets), 2):
        R = _between(Z, V, some[a], some[b])
        values = R[np.triu_indices(len(R), 1)] if a == b else R.ravel()
        found[a, b] = found[b, a] = _threshold(values, min(R.shape))
    return found


def _between(
    Z: NDArray[np.float32], V: NDArray[np.float32], p: NDArray[np.intp], q: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Return the similarities of some images to others."""
    both = np.concatenate([p, q])
    rows, columns = slice(0, len(p)), slice(len(p), None)
    return _similarities(Z[both], V[:, both], rows, columns)


def _threshold(similarities: NDArray[np.float32], images: int) -> float:
    """Return the similarity that pairs of different pictures do not reach, which most of these are.

    Args:
        similarities: Of all pairs.
        images: How many images the smaller set has, of which each may have a copy.
    """
    if len(similarities) < 3:
        return NEAR
    z = np.arctanh(similarities.clip(-_CLOSEST, _CLOSEST))
    level = float(np.clip(1 - 2 / images, *_UPPER))
    middle, upper = np.quantile(z, [0.5, level])
    spread = (upper - middle) / NormalDist().inv_cdf(level)
    return min(_CLOSEST, max(NEAR, float(np.tanh(middle + _BEYOND * spread))))
