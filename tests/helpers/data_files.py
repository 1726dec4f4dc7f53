"""Small files that docs/data.md speaks of: a table, photographs with masks, boxes, COCO's form."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from PIL import Image

from tests.helpers.medical import dicom, volume


def write_data_files():
    """Write them into the current folder, beside concepts/ and random/."""
    paths = [*Path("concepts").glob("*/*.png"), *Path("random").glob("*.jpg")]
    rows = [(str(path), path.parent.name) for path in sorted(paths)]
    pd.DataFrame(rows, columns=["path", "label"]).to_csv("labels.csv", index=False)
    for folder in ("photos", "masks"):
        Path(folder).mkdir()
    mask = np.zeros((64, 64), np.uint8)
    mask[10:50, 20:60] = 255
    for i in range(6):
        Image.open(f"random/{i}.jpg").save(f"photos/{i}.png")
        Image.fromarray(mask).save(f"masks/{i}.png")
    names = [f"{i}.png" for i in range(6)]
    box = {"left": 20, "top": 10, "right": 60, "bottom": 50}
    table = pd.DataFrame({"image": [f"photos/{name}" for name in names], "label": "spot"})
    table.assign(**box).to_csv("boxes.csv", index=False)
    annotation = {"category_id": 1, "bbox": [20, 10, 40, 40], "iscrowd": 0}
    content = {
        "images": [
            {"id": i, "file_name": name, "width": 64, "height": 64} for i, name in enumerate(names)
        ],
        "categories": [{"id": 1, "name": "spot"}],
        "annotations": [annotation | {"id": i, "image_id": i} for i in range(6)],
    }
    Path("instances.json").write_text(json.dumps(content))
    _write_tiles()
    _write_scans()


def _write_scans():
    """A series of DICOM slices, films, and a volume."""
    random = np.random.default_rng(0)
    place = {"WindowCenter": 0, "WindowWidth": 2000, "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    for name in ("nodules", "films", "ct"):
        Path("chest", name).mkdir(parents=True)
        for i in range(6):
            values = random.integers(-900, 0, (32, 32)).astype(np.int16)
            values[10:20, 10:20] += np.int16(900 * (name == "nodules"))
            own = {"ImagePositionPatient": [0, 0, i], "SeriesInstanceUID": f"1.2.{len(name)}"}
            dicom(f"chest/{name}/{i}.dcm", values, **place, **own)
    for name, bright in (("nodules", 1200), ("others", 0)):
        Path("scans", name).mkdir(parents=True)
        for i in range(6):
            values = random.integers(-900, 0, (24, 24, 12)).astype(np.int16)
            values[6:12, 8:14, 3:7] += np.int16(bright)
            volume(f"scans/{name}/{i}.nii.gz", values)
    volume("scan.nii.gz", random.integers(-900, 900, (16, 16, 16)).astype(np.int16))


def _write_tiles():
    """Tiles of 13 bands, of which some have a clearing."""
    random = np.random.default_rng(0)
    for name, bright in (("clearing", 3000), ("random", 0)):
        Path("tiles", name).mkdir(parents=True)
        for i in range(6):
            values = random.integers(500, 1500, (40, 40, 13)).astype(np.uint16)
            values[10:25, 10:30, 3:6] += np.uint16(bright)
            options = {"photometric": "minisblack", "planarconfig": "contig"}
            tifffile.imwrite(f"tiles/{name}/{i}.tif", values, **options)
