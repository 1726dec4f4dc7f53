"""Images by label from data sets as they are: folders, tables, libraries, boxes and masks.

Every function lists images and opens none of them, except that masks are looked at to find what to
cut out. It returns `ConceptImages`, a mapping from labels to references, which `fit` takes for its
concepts; one of its values serves as negatives or as the images of a class.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vtcav.datasets.boxes import from_boxes
    from vtcav.datasets.broden import from_broden
    from vtcav.datasets.coco import from_coco
    from vtcav.datasets.concept_images import ConceptImages
    from vtcav.datasets.folders import from_folders
    from vtcav.datasets.huggingface import from_huggingface
    from vtcav.datasets.masks import from_masks
    from vtcav.datasets.patches import Patches
    from vtcav.datasets.tables import from_table
    from vtcav.datasets.torch_datasets import from_torch

__all__ = [
    "ConceptImages",
    "Patches",
    "from_boxes",
    "from_broden",
    "from_coco",
    "from_folders",
    "from_huggingface",
    "from_masks",
    "from_table",
    "from_torch",
]

_HOMES = {
    "ConceptImages": "concept_images",
    "Patches": "patches",
    "from_boxes": "boxes",
    "from_broden": "broden",
    "from_coco": "coco",
    "from_folders": "folders",
    "from_huggingface": "huggingface",
    "from_masks": "masks",
    "from_table": "tables",
    "from_torch": "torch_datasets",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"vtcav.datasets.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'vtcav.datasets' has no attribute {name!r}")
