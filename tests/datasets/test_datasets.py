"""Concepts from data sets as they are: folders, tables, libraries, boxes and masks."""

import hashlib
import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import vtcav
import vtcav.images.references
from tests.helpers.small import negatives, pictures, small_explainer
from tests.helpers.torchvision_ops import define_missing_operators
from vtcav import DatasetError, datasets
from vtcav.cli import main
from vtcav.datasets import Patches
from vtcav.datasets.patches import Box, PatchImage
from vtcav.images.references import ImageRef

SIDE = 80
SPOT = slice(20, 60), slice(10, 50)  # rows, columns


def photograph(seed=0, size=(SIDE, SIDE)):
    return pictures(1, seed, size=size)[0]


def spotted(seed=0):
    """Noise with a bright green spot at SPOT, and the spot's mask."""
    pixels = photograph(seed) // 4
    pixels[SPOT] = (10, 250, 10)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[SPOT] = 255
    return pixels, mask


@pytest.fixture
def tree(tmp_path):
    """striped: 7 images, dotted: 6, plain: 9, named like those of DTD."""
    root = tmp_path / "dtd" / "images"
    seed = 0
    for label, count in {"striped": 7, "dotted": 6, "plain": 9}.items():
        (root / label).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(photograph(seed := seed + 1)).save(
                root / label / f"{label}_{i:04d}.png"
            )
    return root


# ---------------------------------------------------------------- folders


def test_folders_give_what_fit_takes(tree):
    found = datasets.from_folders(tree)
    assert {name: len(refs) for name, refs in found.items()} == {
        "dotted": 6,
        "plain": 9,
        "striped": 7,
    }
    concepts = found.only(["striped", "dotted"])
    explainer = vtcav.VisualTCAV(small_explainer().model, ["3"])
    explainer.fit(concepts, found.rest(concepts), null_cavs=0, bootstraps=0)
    assert explainer.cavs.concepts[0].examples[0] == str(tree / "striped/striped_0000.png")
    assert len(explainer.cavs.concepts[0].negatives) == 9


def test_labels_are_chosen_renamed_merged_and_drawn(tree):
    found = datasets.from_folders(
        tree, {"pattern": ["striped", "dotted"], "none": "plain"}, limit=8
    )
    assert found.counts()["images"].tolist() == [8, 8]
    again = datasets.from_folders(tree, {"pattern": ["striped", "dotted"]}, limit=8)
    names = [ref.name for ref in found["pattern"]]
    assert names == [ref.name for ref in again["pattern"]]
    other = datasets.from_folders(tree, {"pattern": ["striped", "dotted"]}, limit=8, seed=1)
    assert names != [ref.name for ref in other["pattern"]]


def test_a_list_of_files_restricts_folders(tree):
    lists = tree.parent / "train1.txt"
    lists.write_text("striped/striped_0001.png\ndotted/dotted_0002.png\n")
    found = datasets.from_folders(tree, listed=lists)
    assert repr(found) == "ConceptImages(dotted: 1, striped: 1)"
    lists.write_text("striped/striped_9.png\n")
    with pytest.raises(DatasetError, match=r"1 of the 1 files .* first 'striped/striped_9.png'"):
        datasets.from_folders(tree, listed=lists)
    lists.write_text("loose.png\n")
    Image.new("RGB", (4, 4)).save(tree / "loose.png")
    with pytest.raises(DatasetError, match="expected paths LABEL/FILE"):
        datasets.from_folders(tree, listed=lists)


def test_wrong_labels_name_the_closest(tree):
    with pytest.raises(DatasetError, match=r"no label 'stripped'; did you mean 'striped'\?"):
        datasets.from_folders(tree, ["stripped"])
    (tree / "empty").mkdir()
    with pytest.raises(DatasetError, match="no images of label 'empty'"):
        datasets.from_folders(tree, ["empty"])
    assert "empty" not in datasets.from_folders(tree)
    with pytest.raises(DatasetError, match="does not exist"):
        datasets.from_folders(tree / "no")
    with pytest.raises(DatasetError, match="limit to be a whole number of at least 1"):
        datasets.from_folders(tree, limit=0)
    with pytest.raises(DatasetError, match="no concept 'x'"):
        datasets.from_folders(tree)["x"]
    with pytest.raises(DatasetError, match="no images are left"):
        datasets.from_folders(tree, ["striped"]).rest(["striped"])


# ---------------------------------------------------------------- tables


def table_of(tree):
    rows = [(str(p.relative_to(tree)), p.parent.name) for p in sorted(tree.rglob("*.png"))]
    return pd.DataFrame(rows, columns=["path", "label"])


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_tables_of_paths(tree, suffix):
    place = (tree / "labels").with_suffix(suffix)
    table = table_of(tree)
    if suffix == ".parquet":
        table.to_parquet(place)
    else:
        table.to_csv(place, index=False, sep="\t" if suffix == ".tsv" else ",")
    found = datasets.from_table(place)
    assert {name: len(refs) for name, refs in found.items()} == {
        "dotted": 6,
        "plain": 9,
        "striped": 7,
    }
    first = tree / "striped/striped_0000.png"
    assert found["striped"][0].digest() == hashlib.sha256(first.read_bytes()).hexdigest()
    assert found["striped"][0].load().size == (SIDE, SIDE)


def test_a_parquet_file_may_hold_the_bytes(tree, tmp_path):
    table = table_of(tree)
    table["photo"] = [{"bytes": (tree / p).read_bytes(), "path": p} for p in table["path"]]
    table.drop(columns="path").to_parquet(tmp_path / "bytes.parquet")
    found = datasets.from_table(tmp_path / "bytes.parquet", image="photo")
    assert len(found["dotted"]) == 6
    first = tree / "dotted/dotted_0000.png"
    assert found["dotted"][0].digest() == hashlib.sha256(first.read_bytes()).hexdigest()
    with pytest.raises(DatasetError, match="no column of images"):
        datasets.from_table(tmp_path / "bytes.parquet", image="label_")


def test_texts_stay_as_they_are_written_and_cells_may_hold_several(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("file,class\na.png,01;NA\na.png,\n")
    with pytest.warns(vtcav.SkippedImageWarning, match="1 of 2 rows"):
        found = datasets.from_table(tmp_path / "t.csv", separator=";")
    assert list(found) == ["01", "NA"]


def test_wrong_tables(tree, tmp_path):
    place = tmp_path / "t.csv"
    table_of(tree).to_csv(place, index=False)
    with pytest.raises(DatasetError, match=r"no column 'lable'; did you mean 'label'\?"):
        datasets.from_table(place, label="lable")
    with pytest.raises(DatasetError, match=r"none of the files of label .* say where .* root="):
        datasets.from_table(place)
    assert len(datasets.from_table(place, root=tree)) == 3
    place.write_text("a,b\n1,2\n")
    with pytest.raises(DatasetError, match=r"no column of labels: .* it has 'a', 'b'"):
        datasets.from_table(place)
    place.write_text("path,label\n")
    with pytest.raises(DatasetError, match="has no rows"):
        datasets.from_table(place)
    with pytest.raises(DatasetError, match="there is no table"):
        datasets.from_table(tmp_path / "no.csv")
    with pytest.raises(DatasetError, match=r"expected a \.csv, \.tsv or \.parquet"):
        datasets.from_table(tree / "striped/striped_0000.png")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DatasetError, match="cannot read the table"):
        datasets.from_table(tmp_path / "bad.parquet")


def test_a_single_missing_file_is_left_out_by_name(tree, tmp_path):
    table = table_of(tree)
    gone = table.loc[table["label"] == "striped", "path"].iloc[0]
    (tree / gone).unlink()
    found = datasets.from_table(table, root=tree)
    explainer = vtcav.VisualTCAV(small_explainer().model, ["3"])
    with pytest.warns(vtcav.SkippedImageWarning, match=Path(gone).name):
        explainer.fit(found.only(["striped"]), negatives(), null_cavs=0, bootstraps=0)
    assert explainer.cavs.concepts[0].skipped_examples[0].name.endswith(gone)


# ---------------------------------------------------------------- torchvision


@pytest.fixture(scope="module")
def torchvision_datasets():
    pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        define_missing_operators()
        return pytest.importorskip("torchvision.datasets")


def test_torchvision_folders_and_dtd(torchvision_datasets, tree):
    import torch

    whole = torchvision_datasets.ImageFolder(tree, transform=lambda image: torch.zeros(3))
    found = datasets.from_torch(whole)
    assert {k: len(v) for k, v in found.items()} == {"dotted": 6, "plain": 9, "striped": 7}
    assert isinstance(found["plain"][0].source, Path)
    part = torch.utils.data.Subset(whole, [0, 1, 21])
    assert repr(datasets.from_torch(part)) == "ConceptImages(dotted: 2, striped: 1)"
    labels = tree.parent / "labels"
    labels.mkdir()
    (labels / "train1.txt").write_text("striped/striped_0003.png\ndotted/dotted_0000.png\n")
    inside = tree.parent / "dtd/dtd"
    inside.mkdir(parents=True)
    labels.rename(inside / "labels")
    tree.rename(inside / "images")
    dtd = torchvision_datasets.DTD(tree.parent, split="train", partition=1)
    found = datasets.from_torch(dtd, ["striped"])
    assert [Path(ref.name).name for ref in found["striped"]] == ["striped_0003.png"]


def test_torchvision_items_without_files(torchvision_datasets):
    import torch

    fake = torchvision_datasets.FakeData(size=6, image_size=(3, 8, 8), num_classes=2)
    found = datasets.from_torch(fake)
    ref = next(iter(found.values()))[0]
    assert ref.load().size == (8, 8)
    assert ref.digest() == ref.digest() != ""
    with_tensors = [(torch.zeros(3, 8, 8), 0)]
    ref = datasets.from_torch(with_tensors, class_names=["a"])["a"][0]
    with pytest.raises(
        vtcav.ImageError, match=r"got Tensor \[3, 8, 8\] .*; make the data set without"
    ):
        ref.load()
    with pytest.raises(DatasetError, match="label 3, and there are names for 0 to 0"):
        datasets.from_torch([(photograph(), 3)], class_names=["a"])
    with pytest.raises(DatasetError, match="pair of image and label"):
        datasets.from_torch([photograph()])
    with pytest.raises(DatasetError, match="got generator"):
        datasets.from_torch(i for i in range(3))


# ---------------------------------------------------------------- Hugging Face


@pytest.fixture(scope="module")
def hf():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("datasets")


@pytest.fixture
def hf_rows(hf, tree):
    paths = sorted(str(path) for path in tree.rglob("*.png"))
    features = hf.Features(
        {"image": hf.Image(), "label": hf.ClassLabel(names=["dotted", "plain", "striped"])}
    )
    labels = [Path(path).parent.name for path in paths]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return hf.Dataset.from_dict({"image": paths, "label": labels}, features=features)


def test_hugging_face_rows_are_read_when_needed(hf, hf_rows, tree, tmp_path):
    found = datasets.from_huggingface(hf_rows, ["striped", "dotted"], limit=5)
    assert {k: len(v) for k, v in found.items()} == {"striped": 5, "dotted": 5}
    whole = datasets.from_huggingface(hf_rows)
    first = tree / "striped/striped_0000.png"
    assert whole["striped"][0].digest() == hashlib.sha256(first.read_bytes()).hexdigest()
    # saved with its bytes, which say the same
    hf_rows.save_to_disk(tmp_path / "saved")
    saved = datasets.from_huggingface(hf.load_from_disk(tmp_path / "saved"))
    assert saved["striped"][0].digest() == whole["striped"][0].digest()
    assert saved["striped"][0].load().size == (SIDE, SIDE)


def test_hugging_face_iterables_are_drawn_fairly(hf_rows):
    stream = hf_rows.to_iterable_dataset()
    found = datasets.from_huggingface(stream, limit=3, seed=1)
    assert {k: len(v) for k, v in found.items()} == {"dotted": 3, "plain": 3, "striped": 3}
    again = datasets.from_huggingface(hf_rows.to_iterable_dataset(), limit=3, seed=1)
    digests = [ref.digest() for ref in found["plain"]]
    assert digests == [ref.digest() for ref in again["plain"]]
    assert [ref.load().size for ref in found["plain"]] == [(SIDE, SIDE)] * 3
    few = datasets.from_huggingface(hf_rows.to_iterable_dataset(), rows=6)
    assert list(few) == ["dotted"]


def test_wrong_hugging_face_columns(hf, hf_rows):
    with pytest.raises(DatasetError, match="no column 'img'; "):
        datasets.from_huggingface(hf_rows, image="img")
    with pytest.raises(DatasetError, match=r"no column 'labels'; did you mean 'label'\?"):
        datasets.from_huggingface(hf_rows.to_iterable_dataset(), label="labels")
    with pytest.raises(DatasetError, match=r"choose a split, such as dataset\['train'\]"):
        datasets.from_huggingface(hf.DatasetDict({"train": hf_rows}))


# ---------------------------------------------------------------- patches


def test_a_patch_is_named_after_its_place_and_cut_there():
    pixels, _ = spotted()
    picture = ImageRef("a.png", pixels)
    box = Box(10, 20, 50, 60)
    exact = PatchImage.of(picture, box, Patches(pad=0, square=False))
    assert exact.name == "a.png[10,20,50,60]"
    assert (np.asarray(exact.load()) == (10, 250, 10)).all()
    assert exact.origin() == picture.digest() != exact.digest()
    padded = PatchImage.of(picture, box, Patches(pad=0.25))
    assert padded.load().size == (60, 60)
    assert (np.asarray(padded.load())[10:50, 10:50] == (10, 250, 10)).all()


@pytest.mark.parametrize(("outside", "expected"), [("grey", 128), ("keep", None)])
def test_pixels_outside_the_mask(outside, expected):
    pixels, mask = spotted()
    cut = Patches(pad=0.1, outside=outside)
    found = datasets.from_masks([pixels], [mask], "spot", patches=cut)
    patch = np.asarray(found["spot"][0].load())
    assert (patch[4:44, 4:44] == (10, 250, 10)).all()
    edge = patch[:4]
    assert (edge == expected).all() if expected else (edge == pixels[16:20, 6:54]).all()


def test_blur_takes_the_detail_away():
    pixels, mask = spotted()
    keep, blur = (
        np.asarray(
            datasets.from_masks([pixels], [mask], "s", patches=Patches(0.4, outside=o))["s"][
                0
            ].load()
        ).astype(float)
        for o in ("keep", "blur")
    )
    assert (keep[16:56, 10:50] == blur[16:56, 10:50]).all()
    assert np.abs(np.diff(blur[:8], axis=1)).mean() < np.abs(np.diff(keep[:8], axis=1)).mean() / 4


def test_windows_stay_in_the_picture():
    cut = Patches(pad=0.5)
    assert cut.window(Box(0, 0, 10, 10), (100, 30)) == (0, 0, 20, 20)
    assert cut.window(Box(90, 20, 100, 30), (100, 30)) == (80, 10, 100, 30)
    assert cut.window(Box(0, 0, 100, 30), (100, 30)) == (0, 0, 100, 30)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pad": -1}, "pad"),
        ({"pad": float("nan")}, "pad"),
        ({"outside": "black"}, "'keep', 'grey' or 'blur'"),
        ({"min_size": 0}, "min_size"),
        ({"per_image": 0}, "per_image"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(DatasetError, match=message):
        Patches(**options)


# ---------------------------------------------------------------- masks


def test_connected_parts_small_ones_left_out(tmp_path):
    pixels, mask = spotted()
    mask[70:75, 70:75] = 255  # a speck
    mask[0:15, 60:80] = 255
    (tmp_path / "photos").mkdir()
    (tmp_path / "masks").mkdir()
    Image.fromarray(pixels).save(tmp_path / "photos/a.jpg")
    Image.fromarray(mask).save(tmp_path / "masks/a.png")
    places = tmp_path / "photos", tmp_path / "masks"
    found = datasets.from_masks(*places, "spot", patches=Patches(min_size=10))
    assert len(found["spot"]) == 2
    assert found.left_out == {"spot": {"smaller than 10 pixels": 1}}
    largest = datasets.from_masks(*places, "spot", patches=Patches(min_size=4, per_image=1))
    assert largest["spot"][0].name.endswith("[10,20,50,60]")
    whole = datasets.from_masks(*places, "spot", pieces="whole")
    assert whole["spot"][0].name.endswith("[10,0,80,75]")
    with pytest.raises(DatasetError, match="no images of concept 'spot': 3 smaller than 70 pixels"):
        datasets.from_masks(*places, "spot", patches=Patches(min_size=70))


def test_masks_of_labels_and_a_wrong_size():
    pixels, mask = spotted()
    labels = mask // 255 * 2
    found = datasets.from_masks([pixels], [labels], {"spot": 2, "ground": 0})
    assert set(found) == {"spot", "ground"}
    with pytest.raises(DatasetError, match=r"has 40 x 80 pixels, its image 80 x 80"):
        datasets.from_masks([pixels], [mask[:, :40]], "spot")
    with pytest.raises(DatasetError, match="one mask for each of 1 images"):
        datasets.from_masks([pixels], [mask, mask], "spot")


def test_few_masks_are_opened_for_a_limit(tmp_path):
    for folder in ("photos", "masks"):
        (tmp_path / folder).mkdir()
    for i in range(12):
        pixels, mask = spotted(i)
        Image.fromarray(pixels).save(tmp_path / f"photos/{i}.png")
        Image.fromarray(mask).save(tmp_path / f"masks/{i}.png")
    draw = {"limit": 3, "seed": 4}
    found = datasets.from_masks(tmp_path / "photos", tmp_path / "masks", "spot", **draw)
    used = {Path(ref.picture.name).stem for ref in found["spot"]}
    for path in (tmp_path / "masks").iterdir():
        if path.stem not in used:
            path.write_bytes(b"damaged")
    again = datasets.from_masks(tmp_path / "photos", tmp_path / "masks", "spot", **draw)
    assert [r.name for r in again["spot"]] == [r.name for r in found["spot"]]
    with pytest.raises(DatasetError, match="not a picture"):
        datasets.from_masks(tmp_path / "photos", tmp_path / "masks", "spot")


# ---------------------------------------------------------------- boxes and COCO


@pytest.mark.parametrize(
    "columns",
    [("left", "top", "right", "bottom"), ("xmin", "ymin", "xmax", "ymax"), ("x", "y", "w", "h")],
)
def test_tables_of_boxes(tmp_path, columns):
    Image.fromarray(spotted()[0]).save(tmp_path / "a.png")
    four = (10, 20, 40, 40) if columns[3] == "h" else (10, 20, 50, 60)
    rows = {"image": ["a.png"], "label": ["spot"]} | {
        c: [n] for c, n in zip(columns, four, strict=True)
    }
    pd.DataFrame(rows).to_csv(tmp_path / "boxes.csv", index=False)
    found = datasets.from_boxes(tmp_path / "boxes.csv", patches=Patches(0))
    assert (np.asarray(found["spot"][0].load()) == (10, 250, 10)).all()


def test_wrong_boxes(tmp_path):
    Image.fromarray(spotted()[0]).save(tmp_path / "a.png")
    frame = pd.DataFrame(
        {"path": ["a.png"], "label": ["s"], "x": [60], "y": [0], "w": [40], "h": [40]}
    )
    patch = datasets.from_boxes(frame, root=tmp_path)["s"][0]
    with pytest.raises(vtcav.ImageError, match=r"lies outside of the picture, which has 80 x 80"):
        patch.load()
    with pytest.raises(DatasetError, match=r"got \('wide', 0, 40, 40\) in row 0"):
        datasets.from_boxes(frame.astype({"x": object}).assign(x=["wide"]), root=tmp_path)
    with pytest.raises(DatasetError, match="left < right"):
        datasets.from_boxes(frame.assign(w=-1), root=tmp_path)
    with pytest.raises(DatasetError, match="no columns of boxes"):
        datasets.from_boxes(frame.drop(columns="w"), root=tmp_path)


@pytest.fixture
def coco(tmp_path):
    pixels, _ = spotted()
    (tmp_path / "photos").mkdir()
    Image.fromarray(pixels).save(tmp_path / "photos/a.png")
    ring = [10, 20, 49, 20, 49, 59, 10, 59]
    runs = np.zeros((SIDE, SIDE), int)
    runs[SPOT] = 1
    flat = runs.T.ravel()
    starts = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *starts, flat.size]).tolist()
    note = {"image_id": 7, "category_id": 3, "bbox": [10, 20, 40, 40], "iscrowd": 0}
    data = {
        "images": [{"id": 7, "file_name": "a.png", "width": SIDE, "height": SIDE}],
        "categories": [{"id": 3, "name": "spot"}, {"id": 4, "name": "stripe"}],
        "annotations": [
            note | {"id": 1, "segmentation": [ring]},
            note | {"id": 2, "bbox": [0, 0, 10, 10]},
            note | {"id": 3, "iscrowd": 1},
            note
            | {"id": 4, "bbox": [10, 20, 40, 39]}
            | {"segmentation": {"counts": counts, "size": [SIDE, SIDE]}},
        ],
    }
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(data))
    return path, data


def test_coco(coco, tmp_path):
    path, _ = coco
    found = datasets.from_coco(path, tmp_path / "photos", patches=Patches(0.2, outside="grey"))
    assert list(found) == ["spot"]
    assert found.left_out == {"spot": {"smaller than 32 pixels": 1}}
    polygon, runs = (np.asarray(ref.load()) for ref in found["spot"])
    assert polygon.shape == (56, 56, 3)
    assert (polygon[8:48, 8:48] == (10, 250, 10)).all()
    assert (polygon[:8] == 128).all()
    assert (np.asarray(runs)[:8] == 128).all()


def test_wrong_coco(coco, tmp_path):
    path, data = coco
    photos = tmp_path / "photos"
    with pytest.raises(DatasetError, match=r"no category 'spots'; did you mean 'spot'\?"):
        datasets.from_coco(path, photos, ["spots"])
    with pytest.raises(DatasetError, match="no images of category 'stripe'"):
        datasets.from_coco(path, photos, ["stripe"])
    with pytest.raises(DatasetError, match="none of the files of label 'spot' is there"):
        datasets.from_coco(path, tmp_path)
    data["annotations"][0]["bbox"] = [60, 20, 40, 40]
    path.write_text(json.dumps(data))
    with pytest.raises(DatasetError, match=r"annotation 1 of .* lies outside of the picture"):
        datasets.from_coco(path, photos)
    data["annotations"] = [{"image_id": 1}]
    path.write_text(json.dumps(data))
    with pytest.raises(DatasetError, match="not of COCO's form: KeyError"):
        datasets.from_coco(path, photos)
    path.write_text("[]")
    with pytest.raises(DatasetError, match="expected the lists images, annotations, categories"):
        datasets.from_coco(path, photos)


def test_annotations_of_another_size_are_named(coco, tmp_path):
    path, _ = coco
    Image.new("RGB", (160, 160)).save(tmp_path / "photos/a.png")
    ref = datasets.from_coco(path, tmp_path / "photos")["spot"][0]
    with pytest.raises(vtcav.ImageError, match=r"of a picture of 80 x 80 pixels, it has 160 x 160"):
        ref.load()


# ---------------------------------------------------------------- Broden


@pytest.fixture
def broden(tmp_path):
    root = tmp_path / "broden"
    (root / "images").mkdir(parents=True)
    for i in range(4):
        pixels, mask = spotted(i)
        Image.fromarray(pixels).save(root / f"images/{i}.png")
        code = np.zeros((SIDE // 2, SIDE // 2, 3), np.uint8)
        inside = mask[::2, ::2] > 0
        code[inside] = (300 % 256, 300 // 256, 0)
        Image.fromarray(code).save(root / f"images/{i}_part.png")
    (root / "label.csv").write_text("number,name,category\n300,spot,part(4)\n5,grid,texture(4)\n")
    lines = [
        f"{i}.png,train,{SIDE},{SIDE},40,40,{i}_part.png,{'5' if i < 2 else ''}" for i in range(4)
    ]
    (root / "index.csv").write_text(
        "\n".join(["image,split,ih,iw,sh,sw,part,texture", *lines]) + "\n"
    )
    return root


def test_broden(broden):
    found = datasets.from_broden(broden, patches=Patches(0))
    assert repr(found) == "ConceptImages(spot: 4, grid: 2)"
    assert (np.asarray(found["spot"][0].load()) == (10, 250, 10)).all()
    assert type(found["grid"][0]) is ImageRef
    assert len(datasets.from_broden(broden, ["spot"], limit=2)["spot"]) == 2
    assert list(datasets.from_broden(broden, category="texture")) == ["grid"]


def test_wrong_broden(broden):
    with pytest.raises(DatasetError, match=r"no label 'sport'; did you mean 'spot'\?"):
        datasets.from_broden(broden, ["sport"])
    with pytest.raises(DatasetError, match=r"no category 'parts'; did you mean 'part'\?"):
        datasets.from_broden(broden, category="parts")
    with pytest.raises(DatasetError, match="no split 'val'"):
        datasets.from_broden(broden, split="val")
    (broden / "images/2_part.png").unlink()
    with pytest.raises(DatasetError, match=r"cannot read the mask .*2_part.png'"):
        datasets.from_broden(broden)
    (broden / "label.csv").unlink()
    with pytest.raises(DatasetError, match="there is no table"):
        datasets.from_broden(broden)


# ---------------------------------------------------------------- what is made of them


def test_a_photograph_that_a_patch_was_cut_from_is_told(tmp_path):
    photos, masks = zip(*map(spotted, range(6)), strict=True)
    found = datasets.from_masks(list(photos), list(masks), "spot")
    explainer = vtcav.VisualTCAV(small_explainer().model, ["3"])
    explainer.fit(found, negatives(), null_cavs=0, bootstraps=0)
    explainer.cavs.save(tmp_path / "cavs.safetensors")
    bank = vtcav.CavBank.load(tmp_path / "cavs.safetensors")
    again = vtcav.VisualTCAV(explainer.model, cavs=bank)
    note = again.explain(photos[0]).attributions["note"].iloc[0]
    assert "the image, or a part of it, is among those" in note
    assert "among those" not in again.explain(spotted(99)[0]).attributions["note"].iloc[0]


def test_the_tree_is_what_the_command_line_takes(tree, tmp_path):
    found = datasets.from_folders(tree, ["striped"])
    folders = found.save(tmp_path / "concepts")
    files = sorted(folders["striped"].iterdir())
    assert files[0].name == "0000_striped_0000.png"
    assert files[0].read_bytes() == (tree / "striped/striped_0000.png").read_bytes()
    rows = pd.read_csv(tmp_path / "concepts.sources.csv")
    assert rows["source"].tolist() == [ref.name for ref in found["striped"]]
    assert rows["source_sha256"][0] == found["striped"][0].digest()
    with pytest.raises(DatasetError, match="exists already"):
        found.save(tmp_path / "concepts")
    datasets.from_folders(tree, ["dotted"]).save(tmp_path / "concepts")
    assert len(pd.read_csv(tmp_path / "concepts.sources.csv")) == 13


def test_a_tree_is_written_whole_or_not_at_all(tree, tmp_path):
    (tree / "striped/striped_0006.png").write_bytes(b"damaged")
    with pytest.raises(DatasetError, match=r"striped_0006.*nothing was left"):
        datasets.from_folders(tree, ["dotted", "striped"]).save(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "out.sources.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DatasetError, match="is another table; move it"):
        datasets.from_folders(tree, ["dotted"]).save(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "out.sources.csv").read_text() == "a,b\n1,2\n"
    with pytest.raises(DatasetError, match=r"no folder can be named '\.\./x' on every system"):
        datasets.from_folders(tree, {"../x": "dotted"}).save(tmp_path / "out")


def test_the_command(tree, coco, tmp_path, capsys):
    out = tmp_path / "concepts"
    argv = ["concepts", str(tree), "-o", str(out), "--labels", "striped,dotted"]
    assert main([*argv, "--limit", "5", "--rest", "6", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert len(list((out / "striped").iterdir())) == 5
    assert len(list(Path(said["negatives"]).iterdir())) == 6
    # nothing else lies there, so that the folder serves as it is
    assert len(vtcav.images.collect(out.with_name("concepts-rest"))) == 6
    assert main(argv) == 1
    assert "exists already" in capsys.readouterr().err
    photos = str(tmp_path / "photos")
    argv = ["concepts", str(coco[0]), "--images", photos, "-o", str(tmp_path / "b")]
    assert main([*argv, "--outside", "blur"]) == 0
    said = capsys.readouterr().out
    assert "spot" in said
    assert "1 smaller than 32 pixels" in said
    assert main(["concepts", str(tmp_path / "no"), "-o", str(out)]) == 2
    assert main(["concepts", photos, "--masks", photos, "-o", str(out)]) == 2


@pytest.mark.parametrize("kind", ["broden", "masks", "boxes", "table"])
def test_the_command_knows_other_sources(broden, tree, tmp_path, kind, capsys):
    source = {"broden": broden, "masks": tmp_path / "p"}.get(kind, tmp_path / "t.csv")
    extra = []
    if kind == "masks":
        for name in ("p", "m"):
            (tmp_path / name).mkdir()
        pixels, mask = spotted()
        Image.fromarray(pixels).save(tmp_path / "p/a.png")
        Image.fromarray(mask).save(tmp_path / "m/a.png")
        extra = ["--masks", str(tmp_path / "m"), "--concept", "spot"]
    elif kind == "boxes":
        table_of(tree).assign(x=0, y=0, w=40, h=40).to_csv(source, index=False)
        extra = ["--images", str(tree), "--labels", "striped"]
    elif kind == "table":
        table_of(tree).to_csv(source, index=False)
        extra = ["--images", str(tree), "--labels", "striped"]
    assert main(["concepts", str(source), "-o", str(tmp_path / "out"), *extra]) == 0
    name = "spot" if kind in ("broden", "masks") else "striped"
    files = list((tmp_path / "out" / name).iterdir())
    assert len(files) == {"broden": 4, "masks": 1}.get(kind, 7)
    assert "Written to" in capsys.readouterr().out
