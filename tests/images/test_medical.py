"""DICOM and NIfTI: values as pydicom and nibabel give them, windows, slices, no patients."""

import gzip
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import vtcav
from tests.helpers.medical import NAME, check_no_patient, contents, dicom, volume
from tests.helpers.small import small_net
from vtcav import ImageError, Preprocess, datasets
from vtcav.images.batches import prepared
from vtcav.images.decoding import BandPicture
from vtcav.images.listing import collect
from vtcav.report import write_report

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("nibabel")
pixels = pytest.importorskip("pydicom.pixels")

FILES = sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm"))


def pipeline(data):
    """What pydicom makes of a file without a window: colours, or modality values."""
    values = pixels.pixel_array(data)
    if data.PhotometricInterpretation == "PALETTE COLOR":
        return pixels.apply_color_lut(values, data)[..., :3]
    return pixels.apply_modality_lut(values, data) if values.ndim == 2 else values


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_files_read_as_by_pydicom_or_are_named(file):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = pydicom.dcmread(file, force=True)
            expected = pipeline(data)
    except Exception:  # noqa: BLE001  (that of a damaged file may be any)
        expected = None
    ref = collect(file)[0]
    if expected is None or int(data.get("NumberOfFrames") or 1) > 1:
        reason = "cannot be decoded|without pixels|no decoder|holds .* slices|no transfer syntax"
        with pytest.raises(ImageError, match=rf"{file.name}.*({reason})"):
            ref.load()
        return
    if expected.ndim == 3 and expected.dtype.itemsize > 2:
        with pytest.raises(ImageError, match="colours of 8 or 16 bits"):
            ref.load()
        return
    picture = ref.load()
    found = picture.values if isinstance(picture, BandPicture) else np.asarray(picture)
    assert found.shape == expected.shape
    assert (found == expected.astype(np.float64)).all()


HU = np.arange(-1000, 1000, 5, dtype=np.int16).reshape(20, 20)


def seen(path, **options):
    return prepared(Preprocess(None, channels=1, **options), collect(path)[0])[1][0].numpy()


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("inverted", [False, True])
def test_the_window_of_the_file_is_that_of_pydicom(tmp_path, function, inverted):
    elements = {
        "WindowCenter": [40, 300], "WindowWidth": [400, 2000], "VOILUTFunction": function,
        "RescaleSlope": 2, "RescaleIntercept": -100,
        "PhotometricInterpretation": "MONOCHROME1" if inverted else "MONOCHROME2",
    }  # fmt: skip
    path = dicom(tmp_path / "ct.dcm", HU, **elements)
    data = pydicom.dcmread(path)
    made = pixels.apply_windowing(pixels.apply_modality_lut(HU, data), data).astype(float)
    low, high = (-32768 * 2 - 100, 32767 * 2 - 100)  # of 16 bits, rescaled
    expected = (made - low) / (high - low)
    np.testing.assert_allclose(seen(path), 1 - expected if inverted else expected, atol=2e-5)
    own = ((HU * 2.0 - 100 + 160) / 400).clip(0, 1)
    found = seen(path, window=(-160, 240))
    np.testing.assert_allclose(found, 1 - own if inverted else own, atol=1e-6)
    assert (np.asarray(collect(path)[0].load()) == HU * 2 - 100).all()
    grey = np.asarray(prepared(Preprocess(None), collect(path)[0])[0])[..., 0]
    np.testing.assert_allclose(grey / 255, seen(path), atol=0.51 / 255)


def test_a_table_of_values_is_looked_up(tmp_path):
    item = pydicom.dataset.Dataset()
    item.LUTDescriptor = [256, 0, 8]
    table = np.array([(i * i) // 255 for i in range(256)], np.uint16)
    item.LUTData = table.tobytes()
    values = np.arange(256, dtype=np.uint16).reshape(16, 16)
    path = dicom(tmp_path / "x.dcm", values, VOILUTSequence=[item])
    expected = pixels.apply_voi_lut(values, pydicom.dcmread(path)) / 255
    np.testing.assert_allclose(seen(path), expected, atol=1e-6)


def test_no_window_is_guessed(tmp_path):
    path = dicom(tmp_path / "ct.dcm", HU)
    with pytest.raises(ImageError, match=r"states no window, and its values lie in \[-1000, 995\]"):
        seen(path)
    assert seen(path, percentiles=(0, 100)).max() == 1
    eight = dicom(tmp_path / "us.dcm", np.arange(256, dtype=np.uint8).reshape(16, 16))
    assert (seen(eight) * 255).round().astype(int).ravel().tolist() == list(range(256))


def test_frames_say_their_own_window(tmp_path):
    frames = np.stack([np.full((4, 4), v, np.int16) for v in (10, 20)])
    shared, own = pydicom.dataset.Dataset(), [pydicom.dataset.Dataset() for _ in range(2)]
    item = pydicom.dataset.Dataset()
    item.RescaleSlope, item.RescaleIntercept, item.RescaleType = 1, -5, "HU"
    shared.PixelValueTransformationSequence = [item]
    for i, group in enumerate(own):
        window = pydicom.dataset.Dataset()
        window.WindowCenter, window.WindowWidth = 10, 20 + 20 * i
        group.FrameVOILUTSequence = [window]
    path = dicom(
        tmp_path / "x.dcm", frames, SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=own,
    )  # fmt: skip
    first, second = datasets.slices(path)
    found = [
        prepared(Preprocess(None, channels=1), ref)[1].unique().tolist() for ref in (first, second)
    ]
    assert found == [[pytest.approx((5 - 9.5) / 19 + 0.5)], [pytest.approx((15 - 9.5) / 39 + 0.5)]]
    assert first.digest() != second.digest()


def series(folder, count=6):
    folder.mkdir()
    for i in range(count):
        values = HU + i
        dicom(
            folder / f"{(i * 5) % count}.dcm", values, SeriesInstanceUID="1.2.840.1",
            InstanceNumber=count - i, ImagePositionPatient=[0, 0, 3 * i],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0], WindowCenter=0, WindowWidth=2000,
        )  # fmt: skip
    return folder


def test_slices_of_a_series_are_in_the_order_of_their_positions(tmp_path):
    folder = series(tmp_path / "ct")
    (folder / "short.dcm").write_bytes((folder / "0.dcm").read_bytes()[:300])
    (folder / "notes.txt").write_text(NAME)
    with pytest.warns(vtcav.SkippedImageWarning, match="2 of 8 images are left out") as caught:
        found = datasets.slices(folder)
    assert NAME not in str(caught[0].message)
    assert [np.asarray(ref.load())[0, 0] for ref in found] == [-1000 + i for i in range(6)]
    assert found[2].name.endswith("[slice 2]")
    assert found[2].name.startswith("series-")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert [ref.name[-9:] for ref in datasets.slices(folder, every=3)] == [
            "[slice 0]",
            "[slice 3]",
        ]
        assert datasets.slices(folder, hashed=False)[0].name.endswith("0.dcm")


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_volumes_are_cut_as_films_are_hung(tmp_path, name):
    values = np.random.default_rng(0).integers(-1000, 1000, (5, 6, 7)).astype(np.int16)
    path = volume(tmp_path / name, values)
    canonical = values[::-1, ::-1, ::-1]
    found = datasets.slices(path)
    assert len(found) == 7
    assert found[3].name.endswith("[axial 3]")
    axial = np.asarray(found[3].load())
    assert (axial == canonical[::-1, ::-1, 3].T).all()
    coronal = np.asarray(datasets.slices(path, axis="coronal")[2].load())
    assert (coronal == canonical[::-1, 2, ::-1].T).all()
    sagittal = np.asarray(datasets.slices(path, axis="sagittal")[1].load())
    assert (sagittal == canonical[1, ::-1, ::-1].T).all()
    with pytest.raises(ImageError, match="volume of 5 x 6 x 7: list its slices"):
        prepared(Preprocess(None, channels=1), collect(path)[0])
    x = prepared(Preprocess(None, channels=1, window=(-1000, 1000)), found[3])[1]
    np.testing.assert_allclose(x[0], (axial + 1000) / 2000, atol=1e-6)


def test_damaged_and_hostile_files_are_named_without_what_they_say(tmp_path):
    whole = dicom(tmp_path / "x.dcm", HU).read_bytes()
    made = volume(tmp_path / "x.nii", np.zeros((4, 4, 4), np.int16)).read_bytes()
    hostile = {
        "short.dcm": whole[:-50], "header.dcm": whole[:400], "none.dcm": b"",
        "frames.dcm": dicom(tmp_path / "z.dcm", HU, NumberOfFrames=2_000_000_000).read_bytes(),
        "minus.dcm": dicom(tmp_path / "z.dcm", HU, NumberOfFrames=-1).read_bytes(),
        "mixed.nii.gz": gzip.compress(made)[:12] + b"\xff" * 40,
        "text.dcm": NAME.encode() * 9, "huge.dcm": dicom(
            tmp_path / "y.dcm", HU[:1, :1], Rows=65000, Columns=65000
        ).read_bytes(),
        "short.nii": made[:380], "packed.nii.gz": gzip.compress(made)[:60],
        "huge.nii": made[:40] + np.array([3, 32767, 32767, 32767], "<i2").tobytes() + made[48:],
    }  # fmt: skip
    for name, content in hostile.items():
        (tmp_path / name).write_bytes(content)
        for open_it in (
            lambda file: collect(file)[0].load(),
            lambda file: datasets.slices(file, hashed=False)[0].load(),
        ):
            with pytest.raises(ImageError, match=name) as caught:
                open_it(tmp_path / name)
            assert "Zweibr" not in str(caught.value)
            assert "4711" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_a_damaged_place_among_slices(tmp_path):
    whole = dicom(tmp_path / "x.dcm", HU, NumberOfFrames=3).read_bytes()
    (tmp_path / "x.dcm").write_bytes(whole.replace(b"IS\x02\x003 ", b"IS\x02\x003x"))
    with pytest.raises(ImageError, match=r"place among slices is damaged"):
        datasets.slices(tmp_path / "x.dcm", hashed=False)


def test_no_patient_is_in_anything_that_is_written(tmp_path):
    concept, negatives = series(tmp_path / "a"), tmp_path / "b"
    negatives.mkdir()
    for i in range(6):
        dicom(
            negatives / f"{i}.dcm", HU[::-1] // 2 - i, WindowCenter=0, WindowWidth=2000,
            SeriesInstanceUID="1.2.840.2", InstanceNumber=i,
        )  # fmt: skip
    model = vtcav.Classifier(small_net(), ["a", "b", "c"], Preprocess(16), device="cpu")
    cache = vtcav.Cache(tmp_path / "cache")
    explainer = vtcav.VisualTCAV(model, ["1"], cache=cache, fill=None)
    one, other = datasets.slices(concept), datasets.slices(negatives)
    explainer.fit({"lung": one}, other, null_cavs=0, min_examples=2)
    local = explainer.explain(one[0])
    assert local.image.startswith("series-")
    out = tmp_path / "out"
    local.save(out / "local")
    found = explainer.explain_class("a", one[:2])
    found.save(out / "class")
    diagnostics = explainer.diagnostics(resamples=20)
    diagnostics.save(out / "diagnostics")
    page = write_report(out).read_text()
    explainer.cavs.save(out / "cavs.safetensors")
    datasets.ConceptImages({"lung": one}).save(out / "written")
    written = [p for p in [*out.rglob("*"), *cache.folder.rglob("*")] if p.is_file()]
    assert len(written) > 15
    check_no_patient(written)
    assert local.image in page
    assert page.count("data:image/") > 3
    assert torch.isfinite(torch.tensor(local.attributions["attribution"].to_numpy())).all()


def test_a_patient_is_found_wherever_one_is(tmp_path):
    """The search itself: raw, in archives, tables, and in what a page embeds."""
    import base64
    import zlib

    import pandas as pd

    (tmp_path / "a.json").write_text(json.dumps({"x": NAME}))
    np.savez_compressed(tmp_path / "b.npz", x=np.array([NAME * 3]))
    pd.DataFrame({"x": [NAME]}).to_parquet(tmp_path / "c.parquet")
    (tmp_path / "d.nii.gz").write_bytes(gzip.compress(NAME.encode()))
    packed = base64.b64encode(zlib.compress(NAME.encode() * 9)).decode()
    (tmp_path / "e.html").write_text(f"<p>{packed}</p>")
    assert len(list(contents(tmp_path / "e.html"))) == 3
    for file in tmp_path.iterdir():
        with pytest.raises(AssertionError, match="Hieronymus"):
            check_no_patient([file])


@pytest.mark.parametrize("tag", [b"\x20\0\x37\0DS", b"\x20\0\x32\0DS", b"\x28\0\x08\0IS"])
def test_elements_of_an_unknown_kind_are_a_fault_of_their_file(tag, tmp_path):
    place = {"ImagePositionPatient": [0, 0, 2], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    for i in range(3):
        dicom(tmp_path / f"{i}.dcm", np.zeros((8, 8), np.int16), NumberOfFrames=1, **place)
    damaged = tmp_path / "1.dcm"
    damaged.write_bytes(damaged.read_bytes().replace(tag, tag[:4] + b"ES"))
    for read in (datasets.volumes, datasets.slices):
        with pytest.warns(vtcav.SkippedImageWarning, match=r"1\.dcm"):
            assert read(tmp_path, hashed=False)
