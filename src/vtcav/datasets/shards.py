"""Shards of WebDataset: tar files of images and their labels."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtcav.datasets.cells import LabelReader
from vtcav.datasets.concept_images import ConceptImages, Wanted, group
from vtcav.errors import DatasetError, brief, why
from vtcav.files.paths import home_text, matching
from vtcav.images.decoding import reason_of
from vtcav.images.references import ImageRef, UnreadableError
from vtcav.parameters import as_list

_IMAGES = ["jpg", "jpeg", "png", "webp", "tif", "tiff", "bmp", "gif", "npy", "npz", "dcm"]
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class ShardImage(ImageRef):
    """An image in a tar file.

    Attributes:
        shard: The tar file.
        offset: Where its bytes begin.
        size: How many they are.
    """

    shard: Path
    offset: int
    size: int

    def fetch(self) -> ImageRef:
        """Return the image with its bytes.

        Raises:
            ImageError: When they cannot be read.
        """
        try:
            with self.shard.open("rb") as file:
                file.seek(self.offset)
                content = file.read(self.size)
        except OSError as error:
            raise UnreadableError(self.name, reason_of(error)) from error
        if len(content) < self.size:
            raise UnreadableError(self.name, "the shard ends before the image does")
        return ImageRef(self.name, content)


def from_webdataset(
    shards: str | Path | Iterable[str | Path],
    concepts: Wanted = None,
    *,
    label: str = "cls",
    key: str | None = None,
    classes: Sequence[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> ConceptImages:
    """List the images of WebDataset shards by label; the tar files are not unpacked.

    A sample is the files of one name up to its first dot, such as `000017.jpg` and `000017.cls`.

    Args:
        shards: Tar files: paths, a pattern (`train-*.tar`) or a range (`train-{000..012}.tar`).
        concepts: The labels wanted, or a mapping from new names to labels; None takes all.
        label: The suffix of the file that holds the label: a number or a text ("cls", "txt"), or
            JSON ("json").
        key: The key of the label in JSON.
        classes: The names of numbered labels.
        limit: At most this many images of each concept, drawn with `seed`.
        seed: Seeds the draw.

    Raises:
        DatasetError: When there is no shard, one cannot be read or is compressed, a label is
            missing in all samples, or is unknown.
    """
    several = [shards] if isinstance(shards, Path) else as_list("shards", shards, DatasetError)
    if not several:
        raise DatasetError("expected at least one shard, got none")
    files = _files(several)
    shown = f"{len(files)} shards, {str(files[0])!r} first"
    reader = LabelReader(shown, classes)
    pairs, samples = [], 0
    for file in files:
        for sample in _samples(file, label):
            if sample.image is None:
                continue
            samples += 1
            cell = None if sample.label is None else label_cell(sample.label, label, key)
            pairs += [(text, sample.image) for text in reader.read(samples - 1, cell)]
    if not samples:
        raise DatasetError(f"no images in {shown}; expected {', '.join(_IMAGES)}")
    reader.finish()
    return group(pairs, concepts, limit=limit, seed=seed, known=classes)


@dataclass
class _Sample:
    image: ShardImage | None = None
    label: bytes | None = None


def _samples(file: Path, label: str) -> Iterator[_Sample]:
    """Yield the samples of a shard, in order."""
    found: dict[str, _Sample] = {}
    try:
        with tarfile.open(file, "r:") as shard:
            for member in shard:
                if not member.isfile():
                    continue
                folder, _, base = member.name.rpartition("/")
                stem, _, suffix = base.partition(".")
                sample = found.setdefault(f"{folder}/{stem}", _Sample())
                if suffix.lower() == label.lower():
                    held = shard.extractfile(member)
                    sample.label = held.read() if held is not None else None
                elif suffix.lower().rpartition(".")[2] in _IMAGES and sample.image is None:
                    name = f"{file}/{member.name}"
                    sample.image = ShardImage(
                        name, shard=file, offset=member.offset_data, size=member.size
                    )
    except (OSError, tarfile.TarError) as error:
        raise DatasetError(
            f"cannot read the shard {str(file)!r}: {why(error)}; expected a tar file, "
            "not compressed"
        ) from error
    yield from found.values()


def label_cell(content: bytes, label: str, key: str | None) -> Any:
    """Return the label that a file holds.

    Args:
        content: Its bytes.
        label: Its suffix: JSON, or else a number or a text.
        key: The key in JSON.

    Example:
        >>> label_cell(b"3", "cls", None), label_cell(b'{"kind": "cat"}', "json", "kind")
        (3, 'cat')
    """
    text = content.decode("utf-8", "replace").strip()
    if label.lower().endswith("json"):
        try:
            value = json.loads(text)
        except ValueError:
            return None
        return value.get(key) if isinstance(value, dict) and key is not None else value
    return int(text) if text.lstrip("-").isdecimal() else text


def _files(shards: Sequence[str | Path]) -> list[Path]:
    """Return the files of paths, patterns and ranges."""
    files: list[Path] = []
    for shard in (home_text(str(shard)) for shard in shards):
        texts = [shard]
        if match := _RANGE.search(shard):
            low, high = match.groups()
            texts = [
                shard.replace(match[0], str(number).zfill(len(low)))
                for number in range(int(low), int(high) + 1)
            ]
        for text in texts:
            found = sorted(matching(text))
            if not found:
                raise DatasetError(f"no shard {brief(text)}; expected tar files on this machine")
            files += found
    return files
