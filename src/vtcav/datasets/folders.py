"""Folders with one folder of images per label, and lists of files in them."""

from __future__ import annotations

from pathlib import Path

from vtcav.datasets.concept_images import ConceptImages, Wanted, group, wanted_labels
from vtcav.errors import ConceptError, DatasetError, why
from vtcav.files.paths import expanded, given_path, is_file, usable
from vtcav.images.concepts import concept_folders
from vtcav.images.file_names import hidden
from vtcav.images.listing import collect, is_remote
from vtcav.images.references import ImageRef
from vtcav.parameters import Text, check


def from_folders(
    root: str | Path,
    concepts: Wanted = None,
    *,
    listed: str | Path | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> ConceptImages:
    """List a folder, here or behind a URI, that holds one folder of images per label.

    This is the layout of torchvision's ImageFolder and of `images/` in the Describable Textures
    Dataset.

    Args:
        root: The folder or URI.
        concepts: The labels wanted, or a mapping from new names to labels; None takes all.
        listed: A text file with an image path relative to `root` in each line, such as
            `labels/train1.txt` of the Describable Textures Dataset; only these are taken.
        limit: At most this many images of each concept, drawn with `seed`.
        seed: Seeds the draw.

    Raises:
        DatasetError: For an unknown label, a label without images, or a listed file that does not
            exist.

    Example:
        >>> import tempfile
        >>> from vtcav import datasets, textures
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = textures.write(folder, ["dotted", "striped"], 3, size=32)
        ...     datasets.from_folders(folder, limit=2)
        ConceptImages(dotted: 2, striped: 2)
    """
    check("root", root, Text("a folder or URI"), error=DatasetError)
    try:
        folders = concept_folders(root)
    except ConceptError as error:
        raise DatasetError(str(error)) from error
    if listed is not None:
        pairs = _listed(expanded(root), given_path("listed", listed, DatasetError))
        known = dict.fromkeys(folders) | {label: None for label, _ in pairs}
        return group(pairs, concepts, limit=limit, seed=seed, known=known)
    labels = wanted_labels(concepts, list(folders))
    used = dict.fromkeys(label for parts in labels.values() for label in parts)
    found = []
    for label in used:
        folder = folders[label]
        if is_remote(folder) or _has_files(Path(folder)):
            found += [(label, ref) for ref in collect(folder)]
    return group(found, concepts, limit=limit, seed=seed, known=used)


def _has_files(folder: Path) -> bool:
    return any(
        is_file(path) and not any(map(hidden, path.relative_to(folder).parts))
        for path in folder.rglob("*")
    )


def _listed(root: Path, file: Path) -> list[tuple[str, ImageRef]]:
    """Return the images that a text file lists, labelled by their folders."""
    try:
        lines = usable(file).read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"cannot read the list {str(file)!r}: {why(error)}") from error
    paths = [line.strip() for line in lines if line.strip()]
    missing = [path for path in paths if not is_file(root / path)]
    if missing:
        raise DatasetError(
            f"{len(missing)} of the {len(paths)} files that {str(file)!r} lists are not in "
            f"{str(root)!r}, first {missing[0]!r}; expected paths relative to that folder"
        )
    other = [p for p in paths if len(Path(p).parts) < 2 or ".." in Path(p).parts]
    if other := other + [path for path in paths if Path(path).is_absolute()]:
        raise DatasetError(
            f"expected paths LABEL/FILE in {str(file)!r}, got {other[0]!r}, which does not begin "
            "with the folder of a label"
        )
    return [(Path(path).parts[0], ImageRef(str(root / path), root / path)) for path in paths]
