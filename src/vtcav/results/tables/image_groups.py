"""Groups of very many images, in twelve bytes an image: hashes of names, not the names."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Self, TypeAlias
from weakref import WeakMethod

import numpy as np
from numpy.typing import NDArray

from vtcav.results.effect_tables import GROUP

if TYPE_CHECKING:
    import pandas as pd

Images: TypeAlias = "WeakMethod[Callable[[], Iterator[pd.DataFrame]]]"


class ImageGroups(Mapping[str, str]):
    """The group of each image by its name.

    Args:
        pairs: Names and groups.

    Example:
        >>> groups = ImageGroups([("a.png", "p1"), ("b.png", "p2")])
        >>> groups["b.png"], len(groups)
        ('p2', 2)
    """

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        keys, codes, known = array("Q"), array("i"), dict[str, int]()
        for name, group in pairs:
            keys.append(_hash(name))
            codes.append(known.setdefault(group, len(known)))
        first: NDArray[np.intp]
        self._keys, first = np.unique(np.array(keys, np.uint64), return_index=True)
        self._codes = np.array(codes, np.int32)[first]
        self._groups: tuple[str, ...] = tuple(known)
        self._images: Images | None = None

    @classmethod
    def named(cls, groups: Mapping[str, str], images: Images) -> Self:
        """Return groups, and where to read the names of all images, which are not kept.

        Args:
            groups: The groups.
            images: The method that yields tables of the images.
        """
        found = copy(groups) if isinstance(groups, cls) else cls(groups.items())
        found._images = images
        return found

    def __getitem__(self, name: str) -> str:
        key = np.uint64(_hash(name))
        place = int(np.searchsorted(self._keys, key))
        if place == len(self._keys) or self._keys[place] != key:
            raise KeyError(name)
        code = int(self._codes[place])
        return self._groups[code]

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        tables = None if self._images is None else self._images()
        names = (str(name) for table in (tables() if tables else ()) for name in table["image"])
        return iter(dict.fromkeys(name for name in names if name in self))

    def __repr__(self) -> str:
        return f"ImageGroups({len(self)} images, {len(self._groups)} groups)"

    def of(self, names: pd.Series[Any]) -> pd.Series[Any]:
        """Return the group of each of some images; missing for one that is not known."""
        return names.map({name: self.get(name) for name in names.unique()})


def with_groups(table: pd.DataFrame, groups: Mapping[str, str]) -> pd.DataFrame:
    """Return a table of images with a column of their groups, where there are any."""
    if not groups or not isinstance(groups, ImageGroups):
        return table
    return table.assign(**{GROUP: groups.of(table["image"])})


def _hash(name: str) -> int:
    """Return eight bytes of a hash; of a million names two are alike once in 37 million times."""
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")
