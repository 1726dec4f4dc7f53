"""Labels and images in cells: missing, numbered, in lists, bytes and pictures."""

import io
import json
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from packaging.version import Version
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


@pytest.mark.parametrize("name", ["t.parquet", "T.PARQUET"])
@pytest.mark.parametrize("kind", [pa.string_view(), pa.dictionary(pa.int8(), pa.string())])
def test_parquet_files_with_texts_of_every_kind(tmp_path, kind, name):
    if kind == pa.string_view() and Version(pa.__version__) < Version("21"):
        pytest.skip("the first pyarrow that writes views is 21; older ones read them")
    PICTURE.save(tmp_path / "a.png")
    columns = {"path": pa.array(["a.png"]).cast(kind), "label": pa.array(["cat"]).cast(kind)}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / name)
    found = datasets.from_table(tmp_path / name)
    assert found["cat"][0].load().size == (8, 8)


def test_parquet_files_of_hugging_face_in_capitals(tmp_path):
    columns = {"image": [{"bytes": png(), "path": None}] * 2, "label": ["cat", "dog"]}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "HF.PARQUET")
    found = datasets.from_table(tmp_path / "HF.PARQUET")
    assert found["dog"][0].load().size == (8, 8)


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


@pytest.mark.parametrize(
    "content",
    [
        b"path;label\na.png;cat\nb.png;dog\n",
        b"\xef\xbb\xbfpath;label;;\r\na.png;cat;;\r\nb.png;dog;;\r\n;;;\r\n",
        b"sep=;\npath;label\na.png;cat\nb.png;dog\n",
        b"path,label\na.png,cat,\nb.png,dog,\n",
        b"path,label,\na.png,cat,\nb.png,dog\n",
        b"path, label \na.png, cat\nb.png, dog\n",
        b"path\tlabel\na.png\tcat\nb.png\tdog\n",
        "path\tlabel\r\na.png\tcat\r\nb.png\tdog\r\n".encode("utf-16"),
        b'\n\n"path","label"\n"a.png","cat"\n\n"b.png","dog"\n',
    ],
)
def test_files_as_spreadsheets_write_them(tmp_path, content):
    for name in ("a.png", "b.png"):
        PICTURE.save(tmp_path / name)
    (tmp_path / "t.csv").write_bytes(content)
    assert repr(datasets.from_table(tmp_path / "t.csv")) == "ConceptImages(cat: 1, dog: 1)"


def test_files_with_a_value_too_many_or_in_another_encoding_are_refused(tmp_path):
    (tmp_path / "t.csv").write_text("path,label\na.png,cat\nb,c.png,dog\n")
    with pytest.raises(DatasetError, match=r"row 1 of .* has 3 values for 2 columns"):
        datasets.from_table(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_bytes("path,label\na.png,K\xe4se\n".encode("cp1252"))
    with pytest.raises(DatasetError, match="save it as UTF-8"):
        datasets.from_table(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("path,label,label\na.png,cat,x\n")
    with pytest.raises(DatasetError, match="two columns named 'label'"):
        datasets.from_table(tmp_path / "t.csv")


def test_a_table_made_on_windows(tmp_path):
    (tmp_path / "in").mkdir()
    PICTURE.save(tmp_path / "in" / "a.png")
    (tmp_path / "t.csv").write_text("path,label\nin\\a.png,cat\n")
    assert datasets.from_table(tmp_path / "t.csv")["cat"][0].load().size == (8, 8)


@pytest.mark.parametrize("empty", ["nan", "NaN", "<NA>", "NaT", "#N/A", " ", ""])
def test_missing_values_written_as_text_are_no_label(tmp_path, empty):
    PICTURE.save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text(f"path,label,x\na.png,cat,1\na.png,{empty},2\n")
    with pytest.warns(SkippedImageWarning, match="1 of 2 rows"):
        assert list(datasets.from_table(tmp_path / "t.csv")) == ["cat"]


@pytest.mark.parametrize("empty", [None, "", float("nan")])
def test_a_row_without_label_needs_no_image(empty):
    table = pd.DataFrame({"path": ["a", empty, "b"], "label": ["cat", None, "dog"], "x": 1})
    with pytest.warns(SkippedImageWarning, match="1 of 3 rows"):
        assert list(datasets.from_table(table, root=ROOT)) == ["cat", "dog"]
    boxes = table.assign(y=[1, None, 1], w=40, h=40)
    with pytest.warns(SkippedImageWarning, match="1 of 3 rows"):
        assert list(datasets.from_boxes(boxes, root=ROOT)) == ["cat", "dog"]
    table.loc[1, "label"] = "fox"
    with pytest.raises(DatasetError, match="row 1"):
        datasets.from_table(table, root=ROOT)


def test_numbers_with_gaps_stay_whole(tmp_path):
    columns = {"image": [png(), png(), png()], "label": [1, None, 2]}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.warns(SkippedImageWarning):
        assert list(datasets.from_table(tmp_path / "t.parquet")) == ["1", "2"]


def test_tables_of_other_kinds():
    arrow = pa.table({"path": ["a", "b"], "label": ["cat", "dog"]})
    assert list(datasets.from_table(arrow, root=ROOT)) == ["cat", "dog"]
    for other in ([{"path": "a", "label": "cat"}], {"path": ["a"], "label": ["cat"]}, 3):
        with pytest.raises(DatasetError, match="expected the path of a table or a DataFrame"):
            datasets.from_table(other)
    numbered = pd.DataFrame({0: ["a", "b"], 1: ["cat", "dog"]})
    assert list(datasets.from_table(numbered, root=ROOT, image="0", label=1)) == ["cat", "dog"]
    doubled = pd.DataFrame([["a", "cat", "x"]], columns=["path", "label", "label"])
    with pytest.raises(DatasetError, match="two columns named 'label'"):
        datasets.from_table(doubled, root=ROOT)
    views = pd.DataFrame({"path": ["a", "b"], "label": ["cat", None]})
    views = views.astype(pd.ArrowDtype(pa.string_view()))
    with pytest.warns(SkippedImageWarning):
        assert list(datasets.from_table(views, root=ROOT)) == ["cat"]


def test_vectors_of_zeros_and_ones_are_not_the_labels_0_and_1():
    torch = pytest.importorskip("torch")
    vectors = [[0, 1], [1, 0], [1, 0]]
    table = pd.DataFrame({"path": list("abc"), "label": [np.array(v) for v in vectors]})
    with pytest.raises(DatasetError, match="labels of the table are vectors of 2 zeros and ones"):
        datasets.from_table(table, root=ROOT)
    rows = [{"image": PICTURE, "label": vector} for vector in vectors]
    with pytest.raises(DatasetError, match="are vectors of 2"):
        datasets.from_huggingface(iter(rows))
    for label in ([0, 1], torch.tensor([0.0, 1.0])):
        with pytest.raises(DatasetError, match=r"vector\.argmax"):
            datasets.from_torch([(PICTURE, label)], class_names=["a", "b"])


def test_labels_of_torch_that_are_missing():
    torch = pytest.importorskip("torch")
    missing = (-1, None, float("nan"), torch.tensor(float("nan")), torch.tensor([-1]))
    pairs = [(PICTURE, label) for label in (*missing, 1, torch.tensor([1]), np.array(1))]
    with pytest.warns(SkippedImageWarning, match="5 of 8 rows"):
        found = datasets.from_torch(pairs, class_names=["a", "b"])
    assert repr(found) == "ConceptImages(b: 3)"


def test_a_streamed_row_without_label_needs_no_image():
    rows = [{"image": None, "label": None}, {"image": PICTURE, "label": "a"}]
    with pytest.warns(SkippedImageWarning, match="1 of 2 rows"):
        assert list(datasets.from_huggingface(iter(rows))) == ["a"]


def test_class_names_in_every_form():
    made = Folder(["a", "b"], [0, 1])
    made.classes = {"b": 1, "a": 0}
    assert list(datasets.from_torch(made)) == ["a", "b"]
    made.classes = np.array(["a", "b"])
    assert list(datasets.from_torch(made)) == ["a", "b"]
    made.classes, made.class_to_idx = ["a", "b"], {"a": 1, "b": 0}
    assert {name: refs[0].index for name, refs in datasets.from_torch(made).items()} == {
        "b": 0, "a": 1
    }  # fmt: skip
    made.class_to_idx = {"n01": 0, "n02": 1}  # classes were given readable names since
    assert list(datasets.from_torch(made)) == ["a", "b"]
    twice = Folder(["crane", "crane"], [0, 1])  # two classes of ImageNet
    assert list(datasets.from_torch(twice)) == ["crane", "crane [2]"]
    with pytest.raises(DatasetError, match="no class name '0'"):
        datasets.from_torch([(PICTURE, "0")], class_names=["a", "b"])


def test_wrappers_that_label_otherwise_are_refused():
    class Own:
        def __init__(self, dataset, indices):
            self.dataset, self.indices = dataset, indices

        def __len__(self):
            return len(self.indices)

        def __getitem__(self, i):
            image, label = self.dataset[self.indices[i]]
            return image.rotate(90), self.relabel(label)

    kept = Own(Folder(["a", "b"], [0, 1]), [1])
    kept.relabel = lambda label: label
    assert list(datasets.from_torch(kept)) == ["b"]
    kept.relabel = lambda label: 1 - label
    with pytest.raises(DatasetError, match=r"item 0 of Own has the label 'a', .* inside it 'b'"):
        datasets.from_torch(kept)


def test_annotations_of_files_that_were_joined(tmp_path):
    images = [{"id": 1, "file_name": "in\\a.png"}]
    (tmp_path / "in").mkdir()
    PICTURE.resize((40, 40)).save(tmp_path / "in" / "a.png")
    kinds = [{"id": 1, "name": "eye"}, {"id": 2, "name": "eye"}]
    found = [{"id": i, "image_id": 1, "category_id": i, "bbox": [i, 1, 33, 33]} for i in (1, 2)]

    def read(**changed):
        data = {"images": images, "categories": kinds, "annotations": found} | changed
        (tmp_path / "c.json").write_text(json.dumps(data), "utf-8-sig")
        return datasets.from_coco(tmp_path / "c.json", tmp_path)

    both = read()
    assert list(both) == ["eye", "eye [2]"]
    assert both["eye"][0].load().size == (40, 40)
    with pytest.raises(DatasetError, match="two images have the id 1"):
        read(images=[*images, {"id": 1, "file_name": "b.png"}])
    with pytest.raises(DatasetError, match="two categories have the id 1"):
        read(categories=[*kinds, {"id": 1, "name": "nose"}])
    with pytest.raises(DatasetError, match="the category 3 has no name"):
        read(categories=[*kinds, {"id": 3, "name": None}])


@pytest.mark.parametrize("path", ["a.png", "../in/a.png", "{folder}/in/a.png"])
def test_a_list_of_files_names_folders_of_labels(tmp_path, path):
    (tmp_path / "in").mkdir()
    for file in (tmp_path / "a.png", tmp_path / "in" / "a.png"):
        PICTURE.save(file)
    (tmp_path / "list.txt").write_text(path.format(folder=tmp_path))
    root = tmp_path / "in" if path.startswith("..") else tmp_path
    (root / "in").mkdir(exist_ok=True)
    with pytest.raises(DatasetError, match="does not begin with the folder of a label"):
        datasets.from_folders(root, listed=tmp_path / "list.txt")


def test_two_columns_of_a_box_have_one_name():
    table = pd.DataFrame([["a.png", "eye", 5, 5, 40, 40, 40]])
    table.columns = ["path", "label", "x", "y", "w", "h", "h"]
    with pytest.raises(DatasetError, match="two columns named 'h'"):
        datasets.from_boxes(table, root=ROOT)
