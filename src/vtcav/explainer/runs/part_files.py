"""The files of the parts of a run.

```
part-00000.parquet            rows
effects-00000.parquet
part-00000.json               the rest of the part, with the hashes of its tables; written last
rows-00000-ab12cd34.parquet   rows of neighbouring parts, named by their hash
effects-00000-12ab34cd.parquet
merged-00000.json             the rest of these parts; written last, then their own files go
```
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet
from pydantic import Field

from vtcav.errors import ExplanationError, why
from vtcav.explainer.runs.part import Part, table_of
from vtcav.files.atomic import atomic_path
from vtcav.files.hashing import file_hash, json_hash
from vtcav.files.json_text import parsed
from vtcav.files.schema import Saved, checked
from vtcav.images.facts import Fact
from vtcav.images.references import Skipped

_Sizes: TypeAlias = tuple[()] | tuple[int, int, int] | tuple[int, int, int, int]
"""The sizes of an input, of a picture or a volume; empty where no image could be read."""


class PartRecord(Saved):
    """What is known of a part beside its tables: the attributes of `Part`.

    Attributes:
        sums: The sums of each layer, as text.
        facts: Size, time and digest of each image.
    """

    used: Annotated[int, Field(ge=0)]
    skipped: tuple[Skipped, ...]
    sums: Mapping[str, str]
    shape: _Sizes
    first: str
    facts: tuple[tuple[int, int, str], ...]

    @classmethod
    def of(cls, part: Part) -> PartRecord:
        """Return the record of a part."""
        return cls(
            used=part.used,
            skipped=part.skipped,
            sums={layer: _encoded(values) for layer, values in part.sums.items()},
            shape=cast("_Sizes", part.shape),
            first=part.first,
            facts=tuple((fact.size, fact.mtime_ns, fact.digest) for fact in part.facts),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON data."""
        names = "used", "sums", "first", "shape", "facts"
        known = {name: getattr(self, name) for name in names}
        return known | {"skipped": [asdict(skip) for skip in self.skipped]}

    def read_sums(self) -> dict[str, NDArray[np.float64]]:
        """Return the sums of each layer.

        Raises:
            ValueError: When they are not finite, or more at one layer than at another.
        """
        sums = {layer: _decoded(text) for layer, text in self.sums.items()}
        if len({len(values) for values in sums.values()}) > 1:
            raise ValueError("its sums do not fit each other")
        return sums

    def part(self, tables: Mapping[str, pa.Table]) -> Part:
        """Return the part with its tables.

        Raises:
            ValueError: As for `read_sums`.
        """
        return Part(
            **tables,
            used=self.used,
            skipped=self.skipped,
            sums=self.read_sums(),
            shape=self.shape,
            first=self.first,
            facts=tuple(Fact(*fact) for fact in self.facts),
        )


class MergedParts(Saved):
    """Parts that have their files together.

    Attributes:
        parts: The records of the parts by number, in order.
        lengths: How many rows each part has in each table, in the same order.
        hashes: The hash of each table's file.
    """

    parts: Mapping[int, PartRecord]
    lengths: Mapping[str, tuple[int, ...]]
    hashes: Mapping[str, str]


class _Alone(PartRecord):
    run: str
    rows: str
    effects: str


class _Together(MergedParts):
    run: str


_R = TypeVar("_R", _Alone, _Together)


class PartFiles:
    """Reads and writes the files of parts.

    Args:
        path: The folder.
        identity: The hash of what the numbers depend on.
        columns: The columns of the tables "rows" and "effects", with their types.
    """

    def __init__(
        self, path: Path, identity: str, columns: Mapping[str, Mapping[str, type[Any]]]
    ) -> None:
        self.path = path
        self.columns = columns
        self._identity = identity

    def exists(self, number: int) -> bool:
        """Whether a part has files of its own."""
        return self._record(number).exists()

    def remove(self, number: int) -> None:
        """Remove a part, whose tables are overwritten when it is computed again."""
        with usable(self.path):
            self._record(number).unlink(missing_ok=True)

    def save(self, number: int, part: Part) -> None:
        """Write a part, all or nothing: it counts once its record is written.

        Raises:
            ExplanationError: When it cannot be written.
        """
        record = {"run": self._identity, **PartRecord.of(part).to_dict()}
        with usable(self.path):
            for name, file in self.tables(number).items():
                with atomic_path(file) as partial:
                    parquet.write_table(getattr(part, name), partial, compression="zstd")
                    record[name] = file_hash(partial)
            _write_record(self._record(number), record)

    def checked(self, number: int) -> PartRecord:
        """Return the record of a part, whose files are checked.

        Raises:
            ValueError: When a file is damaged or of another run, or has other columns.
        """
        record = _read_record(self._record(number), _Alone, self._identity)
        for name, file in self.tables(number).items():
            if file_hash(file) != getattr(record, name):
                raise ValueError(f"its {name} are damaged")
            self._check_columns(name, parquet.read_schema(file))
        _check_rows(self.tables(number)["rows"], [record.used])
        record.read_sums()
        return record

    def load(self, number: int) -> Part:
        """Read a part.

        Raises:
            ValueError: As for `checked`.
        """
        record = self.checked(number)
        return record.part(
            {
                name: parquet.read_table(file, memory_map=False)
                for name, file in self.tables(number).items()
            }
        )

    def tables(self, number: int) -> dict[str, Path]:
        """Return the files of a part's tables."""
        return {
            "rows": self.path / f"part-{number:05d}.parquet",
            "effects": self.path / f"effects-{number:05d}.parquet",
        }

    def merged_exist(self, group: int) -> bool:
        """Whether parts of a group were merged."""
        return self._group_record(group).exists()

    def remove_group(self, group: int) -> None:
        """Remove merged parts."""
        with usable(self.path):
            self._group_record(group).unlink(missing_ok=True)

    def merge(self, group: int, numbers: Sequence[int]) -> Mapping[str, str]:
        """Put the files of neighbouring parts together, at any moment all or nothing.

        Args:
            group: The number of the group.
            numbers: The numbers of its parts. Those with files of their own replace what was merged
                earlier.

        Returns:
            The hash of each table's file.

        Raises:
            ExplanationError: When they cannot be written.
        """
        known = dict(self.load_group(group)) if self.merged_exist(group) else {}
        parts = {n: self.load(n) if self.exists(n) else known[n] for n in numbers}
        hashes, lengths = {}, {}
        with usable(self.path):
            for name in self.columns:
                tables = [getattr(part, name) for part in parts.values()]
                lengths[name] = tuple(map(len, tables))
                with atomic_path(self.path / f"{name}-{group:05d}-new.parquet") as partial:
                    whole = pa.concat_tables(tables).unify_dictionaries()
                    parquet.write_table(whole, partial, compression="zstd")
                    hashes[name] = file_hash(partial)
                (self.path / f"{name}-{group:05d}-new.parquet").replace(
                    self.path / _table_name(name, group, hashes[name])
                )
            records = {n: PartRecord.of(part) for n, part in parts.items()}
            record = {
                "run": self._identity,
                "parts": {str(n): each.to_dict() for n, each in records.items()},
                "lengths": lengths,
                "hashes": hashes,
            }
            _write_record(self._group_record(group), record)
            self._tidy(group, numbers, hashes)
        return hashes

    def _tidy(self, group: int, numbers: Sequence[int], hashes: Mapping[str, str]) -> None:
        """Remove the files that merged parts had before; each part's record first."""
        for number in numbers:
            self._record(number).unlink(missing_ok=True)
            for file in self.tables(number).values():
                file.unlink(missing_ok=True)
        current = set(self.group_tables(group, hashes).values())
        for name in self.columns:
            for file in self.path.glob(f"{name}-{group:05d}-*.parquet"):
                if file not in current:
                    file.unlink(missing_ok=True)

    def checked_group(self, group: int) -> MergedParts:
        """Return the record of merged parts, whose files are checked.

        Raises:
            ValueError: When a file is damaged or of another run, or has other columns.
        """
        found = _read_record(self._group_record(group), _Together, self._identity)
        for name, file in self.group_tables(group, found.hashes).items():
            if file_hash(file) != found.hashes[name]:
                raise ValueError(f"its {name} are damaged")
            self._check_columns(name, parquet.read_schema(file))
            lengths = found.lengths[name]
            if len(lengths) != len(found.parts) or sum(lengths) != _length(file):
                raise ValueError(f"its {name} have another length")
        used = [part.used for part in found.parts.values()]
        table = self.group_tables(group, found.hashes)["rows"]
        if list(found.lengths["rows"]) != _check_rows(table, used):
            raise ValueError("its parts have other lengths")
        for part in found.parts.values():
            part.read_sums()
        return found

    def load_group(self, group: int) -> Iterator[tuple[int, Part]]:
        """Yield merged parts with their numbers, in order.

        Raises:
            ValueError: As for `checked_group`.
        """
        merged = self.checked_group(group)
        tables = {
            name: parquet.read_table(file, memory_map=False)
            for name, file in self.group_tables(group, merged.hashes).items()
        }
        starts = dict.fromkeys(tables, 0)
        for i, (number, record) in enumerate(merged.parts.items()):
            own = {}
            for name, table in tables.items():
                length = merged.lengths[name][i]
                own[name] = table.slice(starts[name], length)
                starts[name] += length
            yield number, record.part(own)

    def group_tables(self, group: int, hashes: Mapping[str, str]) -> dict[str, Path]:
        """Return the files of merged parts by the hashes of these."""
        return {name: self.path / _table_name(name, group, hashes[name]) for name in self.columns}

    def _check_columns(self, name: str, schema: pa.Schema) -> None:
        if not schema.equals(table_of((), self.columns[name]).schema):
            raise ValueError(f"its {name} have other columns")

    def _record(self, number: int) -> Path:
        return self.path / f"part-{number:05d}.json"

    def _group_record(self, group: int) -> Path:
        return self.path / f"merged-{group:05d}.json"


def _table_name(name: str, group: int, digest: str) -> str:
    return f"{name}-{group:05d}-{digest[:8]}.parquet"


def _length(file: Path) -> int:
    return int(parquet.read_metadata(file).num_rows)


def _check_rows(file: Path, used: Sequence[int]) -> list[int]:
    """Check that a table has the same rows for every image, and return how many each part has.

    Args:
        file: The table, image by image.
        used: How many images of each part there are.

    Raises:
        ValueError: When rows are missing, too many or in another order.
    """
    names = [
        name for name in ("image", "layer", "concept") if name in parquet.read_schema(file).names
    ]
    table = parquet.read_table(file, columns=names, memory_map=False).unify_dictionaries()
    images = sum(used)
    if len(table) % images if images else len(table):
        raise ValueError("its rows are not as many for every image")
    each = len(table) // images if images else 0
    for name in names if each else ():
        codes = np.concatenate([part.indices.to_numpy() for part in table[name].chunks])
        of_image = codes.reshape(images, each)
        same = of_image[:, :1] if name == "image" else of_image[:1]
        if (of_image != same).any():
            raise ValueError("its rows are in another order")
    if images and not each:
        raise ValueError("it has no rows")
    return [count * each for count in used]


def _write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record with a hash of itself."""
    with atomic_path(path) as partial:
        text = json.dumps({**record, "sha256": json_hash(record)})
        partial.write_text(text, encoding="utf-8")


def _read_record(path: Path, schema: type[_R], identity: str) -> _R:
    """Return a record.

    Raises:
        ValueError: When it is damaged, or was written by another run.
    """
    record = parsed(path.read_text(encoding="utf-8"))
    if not isinstance(record, dict) or record.pop("sha256", None) != json_hash(record):
        raise ValueError("its record is damaged")
    found = checked(schema, record)
    if found.run != identity:
        raise ValueError("it belongs to a run with other settings")
    return found


@contextmanager
def usable(path: Path) -> Iterator[None]:
    """Turn errors of the file system into advice.

    Raises:
        ExplanationError: In place of an `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise ExplanationError(
            f"cannot use the run folder {str(path)!r}: {why(error)}. Finished parts are kept: "
            "solve the problem and repeat the call, or choose another folder"
        ) from error


def _encoded(values: NDArray[np.float64]) -> str:
    return base64.b64encode(values.astype("<f8").tobytes()).decode()


def _decoded(text: str) -> NDArray[np.float64]:
    values = np.frombuffer(base64.b64decode(text, validate=True), "<f8").astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("its sums are not finite")
    return values
