"""Images by label from data sets: folders, tables, libraries, boxes and masks.

Every function lists images and opens none of them, except that masks are read to find what to cut
out. It returns `ConceptImages`, a mapping from labels to references, which `fit` takes for its
concepts; one of its values serves as negatives or as the images of a class.
"""

from vtcav.datasets.arrays import from_arrays
from vtcav.datasets.boxes import from_boxes
from vtcav.datasets.broden import from_broden
from vtcav.datasets.coco import from_coco
from vtcav.datasets.concept_images import ConceptImages
from vtcav.datasets.databases import from_lmdb
from vtcav.datasets.folders import from_folders
from vtcav.datasets.huggingface import from_huggingface
from vtcav.datasets.masks import from_masks
from vtcav.datasets.patches import Patches
from vtcav.datasets.shards import from_webdataset
from vtcav.datasets.slices import slices
from vtcav.datasets.tables import from_table
from vtcav.datasets.torch_datasets import from_torch
from vtcav.datasets.volumes import volumes

__all__ = [
    "ConceptImages",
    "Patches",
    "from_arrays",
    "from_boxes",
    "from_broden",
    "from_coco",
    "from_folders",
    "from_huggingface",
    "from_lmdb",
    "from_masks",
    "from_table",
    "from_torch",
    "from_webdataset",
    "slices",
    "volumes",
]
