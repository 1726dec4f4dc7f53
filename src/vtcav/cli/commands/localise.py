r"""`vtcav localise`: measure concept maps against masks.

Measure how well concept maps agree with masks of where the concepts are.

Example:
  vtcav localise --images zebras --masks zebra_masks --concept striped \
      --model demo --concepts concepts --negatives random -o out
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcav.cli.options import IMAGES_HELP, Arguments, Parser, names, numbers
from vtcav.cli.terminal import print_frame
from vtcav.files.paths import expanded, is_folder

if TYPE_CHECKING:
    from vtcav.evaluation.localisation.result import FolderLocalisation
    from vtcav.images.masks import MaskValue


def add_options(command: Parser) -> None:
    """Add the options."""
    command.option("--images", f"images: {IMAGES_HELP}", required=True)
    command.option(
        "--masks",
        "a folder of masks named like the images (png, bmp, npy); or one folder per concept",
        expanded,
        required=True,
    )
    command.option(
        "--concept",
        "the concept of the masks; of several, comma-separated, each is compared with them",
        names,
    )
    command.option(
        "--value",
        "the concept's values in a mask: comma-separated labels, nonzero, or a colour "
        "#rrggbb (default: masks of 0 and one other value)",
        mask_value,
    )
    at = "whether masks are of the pictures or of the network's input"
    command.option("--at", at, choices=("picture", "input"), default="picture")
    command.add_explainer("tables and figure")


def mask_value(text: str) -> MaskValue:
    """Return the values that mark the concept in a mask."""
    if text == "nonzero" or text.startswith("#"):
        return text
    return numbers(text, ", nonzero or a colour #rrggbb")


def run(arguments: Arguments) -> None:
    """Carry out the command."""
    from vtcav.evaluation.localisation.compute import localise_folder
    from vtcav.models.memory import IMAGES

    model = arguments.load_checked(arguments.images)
    # concept maps need neither integrals nor tests
    explainer = arguments.prepared(model, null_cavs=0, bootstraps=0)
    found = localise_folder(
        explainer,
        arguments.images,
        _masks(arguments.masks, arguments.concept or explainer.cavs.names),
        arguments.concept,
        **arguments.chosen("value", "at", "limit", "seed", "strict"),
        batch_size=arguments.batch_size or IMAGES,
    )
    data = {
        "means": found.means(),
        "summary": found.summary(),
        "skipped": [{"image": s.name, "reason": s.reason} for s in found.skipped],
    }
    arguments.present(found, data, _print)


def _print(found: FolderLocalisation) -> None:
    """Print the means over the images."""
    images = found.table["image"].nunique()
    print_frame(
        f"Concept maps against masks: means over {images} images, {len(found.skipped)} left out",
        found.means(),
        "layer, concept, pointing_game: pointing, energy_inside: energy, soft_iou: Soft-IoU, "
        "balanced_mse: balanced MSE, cell_auc: AUC, area: mask's area, note",
    )


def _masks(folder: Path, concepts: Any) -> Any:
    """Return the folder of masks, or its folders by concept where it has one for each."""
    own = {name: folder / name for name in concepts}
    return own if all(is_folder(path) for path in own.values()) else folder
