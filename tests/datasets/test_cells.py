"""Labels and images in cells: missing, numbered, in lists, bytes and pictures."""

import io
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from vtcav import DatasetError, SkippedImageWarning, datasets

PICTURE = Image.new("RGB", (8, 8), "red")
ROOT = "s3://bucket"


def png():
    data = io.BytesIO()
    PICTURE.save(data, format="PNG")
    return data.getvalue()


@pytest.mark.parametrize("dtype", [object, "string", "category"])
@pytest.mark.parametrize("empty", [None, float("nan"), pd.NA, ""])
def test_rows_without_a_label_are_left_out_and_counted(dtype, empty):
    labels = pd.Series(["cat", empty, "dog", empty], dtype=dtype)
    table = pd.DataFrame({"path": list("abcd"), "label": labels})
    with pytest.warns(SkippedImageWarning, match="2 of 4 rows of the table have no label"):
        found = datasets.from_table(table, root=ROOT)
    assert {name: len(refs) for name, refs in found.items()} == {"cat": 1, "dog": 1}
    with pytest.warns(SkippedImageWarning), pytest.raises(DatasetError, match="no label '<NA>'"):
        datasets.from_table(table, ["<NA>"], root=ROOT)
    boxes = table.assign(x=1, y=1, w=40, h=40)
    with pytest.warns(SkippedImageWarning, match="2 of 4"):
        assert list(datasets.from_boxes(boxes, root=ROOT)) == ["cat", "dog"]


def test_empty_rows_at_the_end_of_a_spreadsheet(tmp_path):
    PICTURE.save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("path,label\na.png,cat\n,\n,\n")
    assert repr(datasets.from_table(tmp_path / "t.csv")) == "ConceptImages(cat: 1)"
    again = pd.read_csv(tmp_path / "t.csv")
    assert repr(datasets.from_table(again, root=tmp_path)) == "ConceptImages(cat: 1)"


@pytest.mark.parametrize("kind", [pa.string_view(), pa.dictionary(pa.int8(), pa.string())])
def test_parquet_files_in_capitals_with_texts_of_every_kind(tmp_path, kind):
    PICTURE.save(tmp_path / "a.png")
    columns = {"path": pa.array(["a.png"]).cast(kind), "label": pa.array(["cat"]).cast(kind)}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "T.PARQUET")
    found = datasets.from_table(tmp_path / "T.PARQUET")
    assert found["cat"][0].load().size == (8, 8)


def test_cells_may_hold_bytes_pictures_and_lists_of_labels():
    cells = [png(), {"bytes": png(), "path": "a.png"}, PICTURE, np.zeros((8, 8, 3), np.uint8)]
    table = pd.DataFrame({"image": cells, "label": [["a", "b"], ["a"], "a", "b"]})
    found = datasets.from_table(table)
    assert {name: len(refs) for name, refs in found.items()} == {"a": 3, "b": 2}
    assert {ref.load().size for refs in found.values() for ref in refs} == {(8, 8)}
    table.at[2, "image"] = ["a.png"]
    with pytest.raises(DatasetError, match=r"no image in row 2: .* got list"):
        datasets.from_table(table)
    table.at[2, "image"] = None
    with pytest.raises(DatasetError, match=r"no image in row 2: .* got nothing"):
        datasets.from_table(table)
    labelled = pd.DataFrame({"image": ["a.png"], "label": [{"id": 3}]})
    with pytest.raises(DatasetError, match=r"label in row 0 .* got a mapping"):
        datasets.from_table(labelled, root=ROOT)


def test_measurements_are_no_labels():
    pairs = [(PICTURE, label) for label in (0.2, 0.9, 1.7)]
    with pytest.raises(DatasetError, match=r"label of item 0 .* got 0\.2; .* into classes"):
        datasets.from_torch(pairs, class_names=["a", "b"])
    whole = [(PICTURE, 0.0), (PICTURE, np.float32(1))]
    assert list(datasets.from_torch(whole, class_names=["a", "b"])) == ["a", "b"]


def test_items_without_a_label_and_items_that_are_mappings():
    items = [{"image": PICTURE, "label": 1}, {"image": PICTURE, "label": None}]
    with pytest.warns(SkippedImageWarning, match="1 of 2 rows of list"):
        found = datasets.from_torch(items, class_names=["a", "b"])
    assert found["b"][0].load().size == (8, 8)
    with pytest.raises(DatasetError, match=r"expected one of label, .* in item 0, .*'image', 'y'"):
        datasets.from_torch([{"image": PICTURE, "y": 1}])


class Folder(list):
    """Pairs with class names, as ImageFolder has them."""

    def __init__(self, classes, labels):
        super().__init__((PICTURE, label) for label in labels)
        self.classes = classes


def test_joined_data_sets_are_labelled_by_their_own_names():
    torch = pytest.importorskip("torch")
    parts = [Folder(["cat", "dog"], [0, 1, 1]), Folder(["dog", "cat"], [0, 0, 1])]
    joined = torch.utils.data.ConcatDataset(parts)
    assert repr(datasets.from_torch(joined)) == "ConceptImages(cat: 2, dog: 4)"
    part = torch.utils.data.Subset(joined, [0, 3])
    assert repr(datasets.from_torch(part)) == "ConceptImages(cat: 1, dog: 1)"
    with pytest.raises(DatasetError, match="number their classes differently"):
        datasets.from_torch(joined, class_names=["cat", "dog"])


def test_a_transform_of_a_hugging_face_data_set_is_set_aside():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hf = pytest.importorskip("datasets")
        features = hf.Features({"image": hf.Image(), "label": hf.ClassLabel(names=["a", "b"])})
        rows = hf.Dataset.from_dict({"image": [png(), png()], "label": [0, 1]}, features=features)
        changed = rows.with_transform(lambda batch: {"x": [1] * len(batch["image"])})
    found = datasets.from_huggingface(changed)
    assert found["b"][0].load().size == (8, 8)
    rows.set_transform(lambda batch: {"x": [1] * len(batch["image"])})
    assert list(datasets.from_huggingface(rows)) == ["a", "b"]
