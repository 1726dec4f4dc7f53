"""Tables of images: CSV, Parquet, COCO and boxes, with other cells, columns and structure."""

import csv
import io

import pandas as pd
from PIL import Image

from tests.fuzz.mutators import (
    json_bytes,
    mutated_bytes,
    mutated_json,
    mutated_table,
    table_bytes,
)
from tests.fuzz.trial import Kind, Trial
from tests.helpers.small import pictures
from vtcav.datasets import from_boxes, from_coco, from_table

_COCO = {
    "images": [{"id": i, "file_name": f"{i}.png", "width": 24, "height": 20} for i in range(3)],
    "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "nan"}],
    "annotations": [
        {"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 1, 12, 12], "iscrowd": 0,
         "segmentation": [[1, 1, 12, 1, 12, 12, 1, 12]]},
        {"id": 2, "image_id": 1, "category_id": 2, "bbox": [0, 0, 10.5, 9], "segmentation": []},
        {"id": 3, "image_id": 2, "category_id": 1, "bbox": [2, 2, 10, 10],
         "segmentation": {"counts": [20, 60, 400], "size": [20, 24]}},
    ],
}  # fmt: skip


class Tables(Kind):
    """Listed by label, and every image read."""

    name = "table"

    def __init__(self, folder):
        super().__init__(folder)
        for i, pixels in enumerate(pictures(3, size=(20, 24))):
            Image.fromarray(pixels).save(folder / f"{i}.png")
        self.rows = pd.DataFrame({
            "path": [f"{i}.png" for i in range(3)],
            "label": ["dog", "cat", "dog"],
            "left": [0, 1, 2], "top": [0, 1, 2], "right": [12, 13, 20], "bottom": [12, 13, 18],
        })  # fmt: skip

    def trial(self, random):
        kind = random.choice(("csv", "parquet", "json", "boxes"))
        path = self.folder / f"some.{'csv' if kind == 'boxes' else kind}"
        damaged = random.random() < 0.3
        if kind == "json":
            data = json_bytes(_COCO if damaged else mutated_json(random, _COCO))
            use = lambda: _read(from_coco(path, self.folder))  # noqa: E731
        else:
            table = self.rows if damaged else mutated_table(random, self.rows)
            data = table_bytes(table) if kind == "parquet" else _csv(random, table)
            read = from_boxes if kind == "boxes" else from_table
            use = lambda: _read(read(path))  # noqa: E731
        path.write_bytes(mutated_bytes(random, data) if damaged else data)
        names = path.name, ".png", "cannot read", "row", "column", "label", "categor", "concept"
        return Trial(f"{kind}{', bytes' * damaged}", use, names)


def _csv(random, table):
    text = io.StringIO()
    quoting = random.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    separator = random.choice((",", ";", "\t"))
    table.to_csv(text, index=False, sep=separator, quoting=quoting, lineterminator="\n")
    return text.getvalue().encode(
        random.choice(("utf-8", "utf-8-sig", "utf-16", "latin-1")), "replace"
    )


def _read(concepts):
    count = 0
    for refs in concepts.values():
        for ref in refs:
            count += ref.load() is not None
    assert count
