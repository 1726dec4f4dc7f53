"""`vtcav concepts`: write a folder of concepts from a data set, with patches cut out.

Write one folder of images per concept, for --concepts, from one folder per label, Broden, Hugging
Face's save_to_disk, images with --masks, a table (.csv, .tsv, .parquet) of paths and labels or
boxes, or COCO's .json with --images.

Examples:
  vtcav concepts dtd/images -o concepts --labels striped,dotted --rest 200
  vtcav concepts instances.json --images photos -o concepts --labels zebra --pad 0.2
  vtcav concepts photos --masks masks --concept spot -o concepts --outside grey
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcav.cli.commands.localise import mask_value
from vtcav.cli.options import Arguments, Parser, UsageError, names, positive
from vtcav.explainer.settings import FitSettings
from vtcav.files.paths import expanded, is_file, is_folder, is_there

if TYPE_CHECKING:
    from vtcav.datasets import ConceptImages


def add_options(command: Parser) -> None:
    """Add the options."""
    command.add_argument("source", metavar="SOURCE", help="a folder or a file, see above")
    command.add_output("the folder to write to", required=True)
    command.option("--labels", "labels: a,b (default: all)", names)
    command.option("--limit", "at most this many images of each", positive)
    rest = "also write N images of the other labels, for --negatives, to OUTPUT-rest/rest"
    command.option("--rest", rest, positive, metavar="N")
    command.option("--images", "the folder that image paths are relative to")
    command.option("--image-column", "the column of images in a table")
    command.option("--label-column", "the column of labels in a table")
    command.option("--masks", "a folder of masks named like the images", expanded)
    command.option("--concept", "the concept of the masks (with --masks)")
    command.option("--value", "its values in the masks; see vtcav localise", mask_value)
    command.option("--split", "the split of a data set in the layout of Broden")
    _add_patches(command)
    command.add_settings(FitSettings, "seed")
    command.add_shared(quiet="print nothing")


def _add_patches(command: Parser) -> None:
    patches = command.add_argument_group("patches, from boxes and masks")
    margin = "margin on each side, as a share of the longer side"
    command.option("--pad", margin, float, default=0.1, group=patches)
    keep = "keep boxes as they are, not made square"
    patches.add_argument("--no-square", dest="square", action="store_false", help=keep)
    outside, treatments = "treatment of pixels outside the box or mask", ("keep", "grey", "blur")
    command.option("--outside", outside, choices=treatments, default="keep", group=patches)
    command.option("--min-size", "shortest side of a box", positive, default=32, group=patches)
    command.option("--per-image", "at most this many per picture", positive, group=patches)


def run(arguments: Arguments) -> None:
    """Carry out the command."""
    from vtcav.cli.terminal import print_frame
    from vtcav.datasets import ConceptImages
    from vtcav.errors import DatasetError

    rest_folder = arguments.output.with_name(f"{arguments.output.name}-rest")
    if arguments.rest is not None:
        if arguments.labels is None:
            raise UsageError("--rest needs --labels: it takes images with other labels")
        if is_there(rest_folder / "rest"):
            raise DatasetError(f"{str(rest_folder / 'rest')!r} exists already; remove it")
    found = _listed(arguments)
    chosen = found.only(arguments.labels, limit=arguments.limit, seed=arguments.seed)
    counts, negatives = chosen.counts(), None
    lines = [f"Written to {arguments.output.resolve()}"]
    rest = None
    if arguments.rest is not None:
        rest = found.rest(arguments.labels, limit=arguments.rest, seed=arguments.seed)
    folders = chosen.save(arguments.output)
    if rest is not None:
        negatives = str(ConceptImages({"rest": rest}).save(rest_folder)["rest"].resolve())
        lines.append(f"Negatives ({len(rest)}) written to {negatives}")
    if not arguments.json and not arguments.quiet:
        print_frame("Concepts", counts, "concept, images, why: left out")
    paths = {name: str(path.resolve()) for name, path in folders.items()}
    data = {"concepts": paths, "counts": counts, "negatives": negatives}
    arguments.answer(data, *([] if arguments.quiet else lines))


def _listed(arguments: Arguments) -> ConceptImages:
    """List the images of the source; of all labels if the rest is drawn from the others."""
    from vtcav import datasets

    source, limit = expanded(arguments.source), arguments.limit
    labels = None if arguments.rest is not None else arguments.labels
    columns = {"image": arguments.image_column, "label": arguments.label_column}
    rules = {field.name: getattr(arguments, field.name) for field in fields(datasets.Patches)}
    cut = {"patches": datasets.Patches(**rules), "seed": arguments.seed}
    if arguments.masks is not None:
        if arguments.concept is None:
            raise UsageError("--masks needs --concept NAME: what the masks show")
        if arguments.labels is not None or arguments.rest is not None:
            raise UsageError("--masks cannot be combined with --labels or --rest")
        values = {arguments.concept: arguments.value}
        return datasets.from_masks(source, arguments.masks, values, limit=limit, **cut)
    if source.suffix == ".json":
        return datasets.from_coco(source, arguments.images or source.parent, labels, **cut)
    if is_file(source / "index.csv"):
        limit = None if labels is None else limit
        return datasets.from_broden(source, labels, split=arguments.split, limit=limit, **cut)
    if is_file(source / "dataset_info.json") or is_file(source / "dataset_dict.json"):
        named: dict[str, Any] = {name: column or name for name, column in columns.items()}
        return datasets.from_huggingface(_saved(source, arguments.split), labels, **named)
    if is_folder(source):
        return datasets.from_folders(source, labels)
    if not is_there(source):
        raise UsageError(f"there is no folder or file {arguments.source!r}")
    if _has_boxes(source):
        return datasets.from_boxes(source, labels, root=arguments.images, **columns, **cut)
    return datasets.from_table(source, labels, root=arguments.images, **columns)


def _saved(source: Path, split: str | None) -> Any:
    """Return a data set that was saved with Hugging Face's package."""
    from vtcav.errors import DatasetError, ExtraError, why

    try:
        from datasets import load_from_disk
    except ImportError as error:
        raise ExtraError(
            f"{str(source)!r} needs the package 'datasets': pip install 'vtcav[datasets]'"
        ) from error
    try:
        found = load_from_disk(str(source))
        return found if split is None else found[split]
    except (OSError, ValueError, KeyError) as error:
        raise DatasetError(f"cannot read the data set {str(source)!r}: {why(error)}") from error


def _has_boxes(source: Path) -> bool:
    from vtcav.datasets.boxes import CORNERS, SIZES
    from vtcav.datasets.tables import read_table

    known = {str(name).casefold() for name in read_table(source)[0].columns}
    return any(known.issuperset(four) for four in (*CORNERS, *SIZES))
