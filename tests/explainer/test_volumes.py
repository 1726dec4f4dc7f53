"""Networks of volumes: the method over three axes, against the paper read literally."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import vtcav
from tests.helpers import literal, oracle
from tests.helpers.medical import check_no_patient, dicom
from tests.helpers.volumes import PREPROCESS, SHAPE, cube_net, cubes, pictures
from vtcav import ImageError, ModelError, Preprocess
from vtcav.diagnostics.result import Diagnostics
from vtcav.evaluation import insertion_deletion, localise_folder
from vtcav.evaluation.compare.compute import compare
from vtcav.explorer.session import Session
from vtcav.images import picture_of
from vtcav.images.volumes import strongest_slice
from vtcav.models.inspection.layout import Evidence, Layout, find_layout
from vtcav.report import write_report

LAYERS = ["1", "4"]


@pytest.fixture(scope="module")
def model():
    return vtcav.Classifier(cube_net(), ["cube", "noise", "rest"], PREPROCESS)


@pytest.fixture(scope="module")
def examples():
    return pictures(cubes(9, 1)[0]), pictures(cubes(11, 2, cube=False)[0])


@pytest.fixture(scope="module")
def explainer(model, examples):
    concept, negatives = examples
    own = vtcav.VisualTCAV(model, layers=LAYERS, features=True)
    return own.fit({"bright": concept}, negatives, null_cavs=60, bootstraps=20)


@pytest.fixture(scope="module")
def shown():
    [values], [start] = cubes(1, 7)
    return picture_of(values), start


@pytest.fixture(scope="module")
def local(explainer, shown):
    return explainer.explain(shown[0], classes=["cube", "noise"])


def test_layers_have_three_axes(model):
    found = {layer.name: layer for layer in model.layers()}
    assert found["4"].shape == (8, 6, 8, 10)
    assert found["4"].layout == "NCDHW"
    assert found["4"].recommended


@pytest.mark.parametrize("layer", LAYERS)
def test_attributions_are_those_of_the_paper_read_literally(model, examples, shown, layer):
    concept, negatives = examples
    own = vtcav.VisualTCAV(model, layers=[layer], steps=50, fill=None)
    own.fit({"bright": concept}, negatives, null_cavs=0, bootstraps=0)
    found = own.explain(shown[0], classes=["cube", "noise", "rest"])
    net = cube_net()
    expected = literal.attributions(net, layer, PREPROCESS, concept, negatives, shown[0], [0, 1, 2])
    np.testing.assert_allclose(found.attributions["attribution"], expected, atol=1e-5)
    # places are alike: the oracle for pictures reads a volume's as one row of a picture
    flat = [
        [literal.outputs(net, layer, PREPROCESS(p)[None])[0][0].flatten(1)[:, None].double().numpy()
         for p in each]
        for each in (concept[:3], negatives[:3], [shown[0]])
    ]  # fmt: skip
    few = vtcav.VisualTCAV(model, layers=[layer], fill=None)
    few.fit({"b": concept[:3]}, negatives[:3], min_examples=3, null_cavs=0, bootstraps=0)
    cav = oracle.learn(flat[0], flat[1])
    M = oracle.concept_map(oracle.raw_map(flat[2][0], cav.v), cav.e_pos, cav.e_neg)
    ours = few.explain(shown[0], classes=1).concept_map(layer, "b")
    np.testing.assert_allclose(ours.ravel(), M.ravel(), atol=1e-5)


def test_adaptive_steps_reach_their_error_through_max_pooling(model, explainer, shown, local):
    fine = vtcav.VisualTCAV(model, layers=LAYERS, steps=2000, fill=None, cavs=explainer.cavs)
    expected = fine.explain(shown[0], classes=["cube", "noise"]).attributions["attribution"]
    table = local.attributions
    assert table["error"].max() < 0.01
    np.testing.assert_allclose(table["attribution"], expected, atol=1e-3, rtol=0.01)


def test_the_map_lies_on_the_cube(local, shown):
    M = local.concept_map("4", "bright")
    assert M.shape == (6, 8, 10)
    inside = np.zeros(SHAPE, bool)
    inside[tuple(slice(s, s + 5) for s in shown[1])] = True
    cells = inside.reshape(6, 2, 8, 2, 10, 2).any((1, 3, 5))
    assert M[cells].mean() > 4 * M[~cells].mean()
    assert np.unravel_index(M.argmax(), M.shape) in {tuple(c) for c in np.argwhere(cells)}
    assert shown[1][0] - 1 <= 2 * strongest_slice(M) <= shown[1][0] + 5
    assert local.picture.shape == (*SHAPE, 3)


def test_erasing_the_region_takes_the_score_away(local, shown):
    effects = local.effects.set_index(["layer", "class_name"])
    row = effects.loc[("layers together", "cube")]
    assert row["drop"] > 3 * abs(row["placebo_mean"])
    assert row["share"] > 0.5
    assert row["p_value"] < 0.05
    assert effects.loc[("4", "cube")]["drop"] > 0
    region = local.region("bright")
    assert region.shape == SHAPE
    inside = region[tuple(slice(s, s + 5) for s in shown[1])]
    assert inside.mean() > 0.6
    assert region.mean() < 0.15
    erased = local.erased("bright")
    k = strongest_slice(region)
    assert erased.slice == f"slice {k} of 0 to 11"
    assert (erased.region == region[k]).all()
    assert erased.before.shape == (16, 20, 3)


def test_a_class_has_its_tables(explainer):
    images = pictures(cubes(4, 5)[0])
    found = explainer.explain_class("cube", images)
    assert len(found.attributions) == 4 * 2
    assert found.summary()["mean"].iloc[0] > 0.1
    assert found.class_effects()["share"].iloc[0] > 0.3
    assert found.erased[0].slice.endswith("of 0 to 11")
    ranking = explainer.rank([*images, *pictures(cubes(3, 6, cube=False)[0])], "bright")
    assert set(ranking.table["image"][:4]) == {f"image[{i}]" for i in range(4)}
    assert ranking.shown[0].picture.shape == (16, 20, 3)
    assert ranking.shown[0].concept_map.ndim == 2


def test_results_are_saved_and_read(local, explainer, tmp_path):
    folder = local.save(tmp_path / "out")
    again = vtcav.LocalExplanation.load(folder)
    assert (again.concept_map("1", "bright") == local.concept_map("1", "bright")).all()
    assert (again.region("bright") == local.region("bright")).all()
    assert (again.erased("bright").after == local.erased("bright").after).all()
    explainer.cavs.save(tmp_path / "cavs.safetensors")
    bank = vtcav.CavBank.load(tmp_path / "cavs.safetensors")
    assert bank.layers["4"].location_pos.shape == (1, 6, 8, 10)
    diagnostics = explainer.diagnostics(resamples=20)
    # slices in the middle of scans look alike, which makes no copies of them
    assert not diagnostics.table["meaning"].str.contains("cop(?:y|ies) of others").any()
    assert diagnostics.place("4", "bright").shape == (6, 8, 10)
    folder = diagnostics.save(tmp_path / "diagnostics")
    assert (Diagnostics.load(folder).place("4", "bright") == diagnostics.place("4", "bright")).all()


def test_runs_and_the_cache_hold_volumes(model, examples, explainer, tmp_path):
    concept, negatives = examples
    images = pictures(cubes(3, 5)[0])
    first = explainer.explain_class("cube", images, run=tmp_path / "run")
    again = explainer.explain_class("cube", images, run=tmp_path / "run")
    assert again.attributions.equals(first.attributions)
    banks = []
    for _ in range(2):
        own = vtcav.VisualTCAV(model, ["4"], cache=tmp_path / "cache")
        banks.append(own.fit({"bright": concept}, negatives, null_cavs=20, bootstraps=5).cavs)
    taken = banks[1].from_cache["concept 'bright'"]
    assert all(found == asked for found, asked in taken.values())
    assert torch.equal(banks[0].layers["4"].location_pos, banks[1].layers["4"].location_pos)


def test_a_second_input_travels_with_a_volume(examples):
    class Aged(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = cube_net()

        def forward(self, volumes, age):
            return self.body(volumes) + age[:, :1]

    given = {f"image[{i}]": [float(i)] for i in range(11)}
    model = vtcav.Classifier(Aged().eval(), ["a", "b", "c"], PREPROCESS, second=given)
    concept, negatives = examples
    own = vtcav.VisualTCAV(model, ["network.body.4"]).fit({"b": concept}, negatives, null_cavs=0)
    local = own.explain(concept[0], classes=["a"])
    assert local.attributions["attribution"].item() > 0.5
    assert local.picture.shape == (*SHAPE, 3)


def test_one_slice_is_a_picture(examples):
    """A network over pictures and the same over volumes of one slice give the same numbers."""
    torch.manual_seed(0)
    flat = torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(6, 8, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(), torch.nn.Linear(8, 2),
    ).eval()  # fmt: skip
    deep = torch.nn.Sequential(
        torch.nn.Conv3d(1, 6, (1, 3, 3), padding=(0, 1, 1)), torch.nn.ReLU(),
        torch.nn.MaxPool3d((1, 2, 2)), torch.nn.Conv3d(6, 8, (1, 3, 3)), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool3d(1), torch.nn.Flatten(), torch.nn.Linear(8, 2),
    ).eval()  # fmt: skip
    state = {k: v.unsqueeze(2) if v.ndim == 4 else v for k, v in flat.state_dict().items()}
    deep.load_state_dict(state)
    arrays = [values[0] for values in cubes(14, 3)[0]]
    window = {"window": (0, 1000), "channels": 1}
    tables = []
    for net, preprocess, images in (
        (flat, Preprocess(SHAPE[1:], **window), [Image.fromarray(a) for a in arrays]),
        (deep, Preprocess((1, *SHAPE[1:]), **window),
         [picture_of(a[None, ..., None]) for a in arrays]),
    ):  # fmt: skip
        own = vtcav.VisualTCAV(vtcav.Classifier(net, preprocess=preprocess), ["4"])
        own.fit({"c": images[:6]}, images[6:], null_cavs=20, bootstraps=20)
        found = own.explain(images[0], classes=[0, 1])
        tables.append(found.attributions[["attribution", "p_value", "cav_low"]])
    np.testing.assert_allclose(tables[0], tables[1], atol=1e-6)


@pytest.mark.parametrize(
    ("given", "first"), [((12, 16, 20), False), ((16, 12, 20), False), ((8, 16, 20, 2), False),
                         ((2, 8, 16, 20), True)],
)  # fmt: skip
def test_values_reach_the_network_as_they_are(tmp_path, given, first):
    values = np.random.default_rng(0).integers(0, 4000, given).astype(np.uint16)
    np.savez(tmp_path / "x.npz", image=values)
    channels_first = values if first else np.moveaxis(values.reshape(*given[:3], -1), -1, 0)
    count, *size = channels_first.shape
    preprocess = Preprocess(size, channels=count, window=(0, 4000))
    x = preprocess(vtcav.images.collect(tmp_path / "x.npz")[0].load())
    np.testing.assert_allclose(x.numpy(), channels_first / 4000, atol=1e-7)


def test_slices_are_resampled_and_fitted():
    ramp = np.broadcast_to(np.arange(8.0)[:, None, None], (8, 6, 6)).astype(np.float32)
    x = Preprocess((4, 3, 3), window=(0, 8))(picture_of(ramp[..., None]))
    assert x.shape == (1, 4, 3, 3)
    assert (x[0, :, 1, 1].diff() > 0.2).all()
    assert abs(float(x.mean()) - 3.5 / 8) < 0.01
    percentiles = Preprocess((8, 6, 6), percentiles=(0, 100))(picture_of(ramp[..., None]))
    assert float(percentiles.max()) == 1.0
    assert float(percentiles[0, 1, 0, 0]) == pytest.approx(1 / 7)
    assert Preprocess(**json.loads(json.dumps(Preprocess((4, 3, 3)).describe()))).volumes


def test_what_is_no_volume_is_refused_by_name(model, explainer, shown, tmp_path):
    with pytest.raises(ImageError, match=r"expected a volume, got RGB \(8 x 8\): a NIfTI file"):
        explainer.explain(Image.new("RGB", (8, 8)))
    with pytest.raises(ImageError, match=r"expected 1 channel, got 2 channels \(4 x 4 x 4"):
        PREPROCESS(picture_of(np.zeros((4, 4, 4, 2), np.uint8)))
    with pytest.raises(ImageError, match="it is a volume of 20 x 16 x 12: list its slices"):
        Preprocess(8, channels=1)(picture_of(shown[0].values.transpose(2, 0, 1)[..., None]))
    with pytest.raises(ModelError, match=r"takes volumes: .*\(slices, height, width\), channels=1"):
        vtcav.Classifier(cube_net(), preprocess=Preprocess(16, channels=1))
    with pytest.raises(ModelError, match="takes pictures: give the height and width alone"):
        vtcav.Classifier(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)), preprocess=PREPROCESS)
    for serve in (
        lambda: explainer.discover([shown[0]] * 12),
        lambda: explainer.erase(shown[0], (0, 0, 4, 4)),
        lambda: localise_folder(explainer, [shown[0]], tmp_path),
        lambda: insertion_deletion(explainer, [shown[0]], "cube"),
        lambda: compare(explainer, {"cube": [shown[0]]}),
        lambda: Session(model),
    ):
        with pytest.raises(ImageError, match="takes pictures, and this network takes volumes"):
            serve()


def test_inpainting_by_opencv_is_for_pictures(model, explainer, shown):
    pytest.importorskip("cv2")
    own = vtcav.VisualTCAV(model, LAYERS, cavs=explainer.cavs, fill="telea", placebos=0)
    with pytest.raises(vtcav.ExplanationError, match='for volumes expected "convolution"'):
        own.explain(shown[0])


def test_a_callable_gets_the_volume(explainer, shown, local, examples):
    def preprocess(picture):
        return torch.from_numpy(picture.values[..., 0].astype(np.float32) / 1000)[None]

    model = vtcav.Classifier(cube_net(), ["cube", "noise", "rest"], preprocess)
    concept, negatives = examples
    own = vtcav.VisualTCAV(model, LAYERS, fill=None)
    own.fit({"bright": concept}, negatives, null_cavs=60, bootstraps=20)
    found = own.explain(shown[0], classes=["cube", "noise"])
    columns = ["attribution", "p_value"]
    np.testing.assert_allclose(found.attributions[columns], local.attributions[columns], atol=1e-6)
    assert found.picture.shape == (*SHAPE, 3)


def test_maps_are_saved_as_nifti_where_the_scan_lies(explainer, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    [values], [start] = cubes(1, 8)
    # stored as left, posterior, superior: rows and columns as pictures have them
    affine = np.array([[-2.0, 0, 0, 40], [0, -2, 0, 30], [0, 0, 3, -20], [0, 0, 0, 1]])
    scan = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0).astype(np.int16), affine), scan)
    local = explainer.explain(scan, classes=["cube"])
    same = explainer.explain(picture_of(values), classes=["cube"])
    columns = ["attribution", "p_value"]
    assert local.attributions[columns].equals(same.attributions[columns])
    local.save(tmp_path / "out")
    saved = nibabel.load(tmp_path / "out" / "local_map_4_bright.nii.gz")
    M = local.concept_map("4", "bright")
    assert sorted(saved.shape) == sorted(M.shape)
    highest = np.unravel_index(np.asarray(saved.dataobj).argmax(), saved.shape)
    there = nibabel.affines.apply_affine(saved.affine, highest)
    middle = nibabel.affines.apply_affine(affine, [s + 2 for s in start[::-1]])
    assert (np.abs(there - middle) <= [8, 8, 12]).all()
    # the cells together cover the scan
    for image in (saved, nibabel.load(scan)):
        ends = np.array([[-0.5] * 3, np.array(image.shape) - 0.5])
        corners = nibabel.affines.apply_affine(image.affine, ends)
        np.testing.assert_allclose(corners.min(0), [1, -1, -21.5])
        np.testing.assert_allclose(corners.max(0), [41, 31, 14.5])
    again = vtcav.LocalExplanation.load(tmp_path / "out")
    np.testing.assert_allclose(again.affine, local.affine)


def series(folder, values, positions):
    folder.mkdir()
    for k, z in enumerate(positions):
        dicom(
            folder / f"{k}.dcm", values[k % len(values)], SeriesInstanceUID="1.2.840.9",
            InstanceNumber=99 - k, ImagePositionPatient=[-5, -7, z], PixelSpacing=[2, 2],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        )  # fmt: skip
    return folder


def test_a_dicom_series_is_a_volume(explainer, tmp_path):
    pytest.importorskip("pydicom")
    [values], _ = cubes(1, 9)
    [ref] = vtcav.datasets.volumes(series(tmp_path / "ct", values, [-3.0 * k for k in range(12)]))
    assert ref.name.startswith("series-")
    volume = ref.load()
    assert (volume.values[..., 0] == values[::-1]).all()
    # the lowest slice is first; DICOM's x and y are to the left and posterior
    np.testing.assert_allclose(volume.affine @ [0, 0, 0, 1], [5, 7, -33, 1])
    np.testing.assert_allclose(volume.affine @ [11, 1, 2, 1], [1, 5, 0, 1])
    local = explainer.explain(ref, classes=["cube"])
    same = explainer.explain(picture_of(values[::-1]), classes=["cube"])
    assert local.attributions["attribution"].equals(same.attributions["attribution"])
    local.save(tmp_path / "out")
    write_report(tmp_path / "out")
    check_no_patient((tmp_path / "out").iterdir())
    [frames] = vtcav.datasets.volumes(dicom(tmp_path / "frames.dcm", values))
    assert (frames.load().values[..., 0] == values).all()
    assert ref.digest() != frames.digest()


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ([0, 3, 6, 12, 15], "do not lie evenly: they are 3 to 6 mm apart. Is one missing"),
        ([0, 0, 3, 3, 6, 6], "do not lie evenly: they are 0 to 3 mm"),
        ([0], "a single slice"),
    ],
)
def test_a_series_with_a_gap_is_named(tmp_path, positions, message):
    pytest.importorskip("pydicom")
    scan = series(tmp_path / "ct", cubes(1, 9)[0][0], positions)
    with pytest.raises(ImageError, match=rf"series-.*{message}"):
        vtcav.datasets.volumes(scan)[0].load()


@pytest.mark.parametrize(
    ("shape", "widths", "expected"),
    [
        ((1, 64, 4, 16, 16), (), "NCDHW"),  # slices kept where height and width shrink
        ((1, 4, 16, 16, 96), (), "NDHWC"),
        ((1, 4, 2, 2, 768), (768,), "NDHWC"),
        ((1, 16, 16, 16, 16), (), "NCDHW"),
        ((1, 129, 48), (), "tokens(1+8x4x4)"),
        ((1, 3, 7, 7), (), "None"),
    ],
)
def test_layouts_of_volumes(shape, widths, expected):
    seen = Evidence(image=(8, 64, 64), grids=[(8, 4, 4)], widths=widths)
    layout = find_layout(shape, seen)
    assert str(layout) == expected
    if layout is not None:
        output = torch.randn(2, *shape[1:])
        F = layout.to_maps(output, (8, 64, 64))
        assert F.ndim == 5
        prefix = layout.prefix_of(output)
        assert torch.equal(layout.from_maps(F, output, prefix), output)
        assert Layout.parse(expected, (8, 64, 64)) == layout


def test_channels_last_give_the_same_numbers(model, explainer, shown, examples, local):
    class Last(torch.nn.Module):
        def forward(self, x):
            return x.movedim(1, -1)

    class First(torch.nn.Module):
        def forward(self, x):
            return x.movedim(-1, 1)

    *before, last_relu = list(cube_net())[:5]
    net = torch.nn.Sequential(*before, Last(), last_relu, First(), *list(cube_net())[5:])
    turned = vtcav.Classifier(net.eval(), ["cube", "noise", "rest"], PREPROCESS)
    found = {layer.name: layer.layout for layer in turned.layers()}
    assert found["5"] == "NDHWC"
    concept, negatives = examples
    own = vtcav.VisualTCAV(turned, ["5"], fill=None)
    own.fit({"bright": concept}, negatives, null_cavs=60, bootstraps=20)
    table = own.explain(shown[0], classes=["cube", "noise"]).attributions
    expected = local.attributions[local.attributions["layer"] == "4"]
    columns = ["attribution", "p_value"]
    np.testing.assert_allclose(table[columns], expected[columns], atol=1e-6)
