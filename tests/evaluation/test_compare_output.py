"""What a comparison looks like and leaves behind: figure, files, the command."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from tests.helpers.small import concepts, negatives, pictures, small_explainer
from vtcav.cli import main
from vtcav.cli.commands.compare import class_folders
from vtcav.errors import ExplanationError, ImageError, ModelError
from vtcav.evaluation.compare.compute import compare
from vtcav.evaluation.compare.figure import plot_comparison
from vtcav.evaluation.compare.methods import ERASURE, METHODS, UNITS
from vtcav.models.base import Model

IMAGES = {"cat": pictures(3, seed=5), "fox": pictures(2, seed=6)}


@pytest.fixture(scope="module")
def found():
    return compare(small_explainer(), IMAGES, runs=3, steps=4, progress=False)


@pytest.fixture(scope="module")
def masked():
    masks = {"cold": {name: np.ones((len(own), 16, 16)) for name, own in IMAGES.items()}}
    return compare(small_explainer(), IMAGES, masks=masks, runs=2, steps=2)


# -- the figure -------------------------------------------------------------------------------


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text)]


def test_a_panel_for_every_method_and_layer(found):
    figure = plot_comparison(found, found.methods, found.classes, Figure())
    panels = [axes.get_label() for axes in figure.axes]
    layered = [method for method in METHODS if method not in ERASURE]
    expected = [f"{method} {layer}" for layer in ("1", "3") for method in layered]
    assert [name for name in panels if name] == [
        *expected, *(f"{method} layers together" for method in ERASURE)
    ]  # fmt: skip
    told = " ".join(texts(figure)).replace("\n", " ")
    for part in ("Units differ", "Hollow mark", "TCAV's test is overconfident", "Vertical stroke"):
        assert part in told
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["cat", "fox"]


def test_means_stand_where_the_summary_says(found):
    figure = plot_comparison(found, found.methods, found.classes, Figure())
    axes = next(axes for axes in figure.axes if axes.get_label() == "saliency 3")
    drawn = sorted(
        float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() in ("o", "s")
    )
    means = found.summary().query("method == 'saliency' and layer == '3'")["mean"]
    assert drawn == pytest.approx(sorted(means))
    strokes = [line for line in axes.lines if line.get_color() == "black"]
    assert len(strokes) == 4


def test_input_maps_in_true_masks_have_a_row_of_their_own(masked):
    figure = plot_comparison(masked, masked.methods, masked.classes, Figure())
    panels = [axes.get_label() for axes in figure.axes]
    assert "saliency " in panels
    assert "grad_cam " not in panels
    assert "input (no layer)" in texts(figure)


def test_a_missing_value_says_so(found):
    lonely = compare(small_explainer(), {"cat": IMAGES["cat"]}, methods=["bottleneck"])
    figure = plot_comparison(lonely, lonely.methods, lonely.classes, Figure())
    assert "none" in texts(figure)


def test_plot_is_known_to_pyplot(found):
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    figure = found.plot()
    assert plt.fignum_exists(figure.number)
    plt.close("all")


# -- files ------------------------------------------------------------------------------------


def test_save(found, tmp_path):
    assert found.save(tmp_path / "out") == tmp_path / "out"
    files = {path.name for path in (tmp_path / "out").iterdir()}
    stems = ("comparison_values", "comparison_summary", "comparison_ranks")
    tables = {f"{stem}.{kind}" for stem in stems for kind in ("csv", "parquet")}
    assert files == tables | {"comparison.json", "comparison.png"}
    stored = pd.read_parquet(tmp_path / "out" / "comparison_values.parquet")
    pd.testing.assert_frame_equal(stored, found.table, check_like=True)
    manifest = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert set(manifest["files"]) == files - {"comparison.json"}
    assert manifest["units"] == {method: UNITS[method] for method in found.methods}
    provenance = manifest["provenance"]
    assert {"captum", "scikit-learn", "scipy", "torch"} <= set(provenance["versions"])
    settings = provenance["settings"]["compare"]
    assert settings["images"]["cat"] == ["array[0]", "array[1]", "array[2]"]
    assert settings["runs"] == 3
    assert settings["baseline"] == "black"


def test_a_save_that_fails_changes_nothing(found, tmp_path):
    found.save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "comparison.png").unlink()
    (tmp_path / "comparison.png").mkdir()
    with pytest.raises(ExplanationError, match="nothing was changed there"):
        found.save(tmp_path)
    assert (tmp_path / "comparison.json").read_bytes() == before["comparison.json"]


def test_tables_are_copies(found):
    table = found.table
    table["value"] = 0.0
    assert found.table["value"].abs().max() > 0


# -- the command ------------------------------------------------------------------------------


def write(folder, images):
    folder.mkdir(parents=True)
    for i, picture in enumerate(images):
        Image.fromarray(picture).save(folder / f"{i}.png")


@pytest.fixture
def place(tmp_path, monkeypatch):
    for name, images in IMAGES.items():
        write(tmp_path / "photos" / name, images)
    for name, images in concepts().items():
        write(tmp_path / "concepts" / name, images)
    write(tmp_path / "random", negatives())
    (tmp_path / "network.py").write_text(
        "from tests.helpers.small import small_model\n\ndef build():\n    return small_model()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


GIVEN = ["compare", "--images", "photos", "--model", "python:network:build", "--quiet"]
LEARN = ["--concepts", "concepts", "--negatives", "random", "--layers", "3"]


def run(*arguments):
    if code := main([*GIVEN, *arguments]):
        raise SystemExit(code)


def test_the_command_prints_a_table_for_each_class(place, capsys):
    run(*LEARN, "--methods", "tcav,grad_cam", "--runs", "2", "-o", "out")
    printed = capsys.readouterr().out
    for part in ("cat: class means", "fox: class means", "bright", "grad cam", "Compare orders"):
        assert part in printed
    assert (place / "out" / "comparison.json").is_file()


def test_the_command_prints_json(place, capsys):
    run(*LEARN, "--methods", "tcav", "--runs", "2", "--json")
    data = json.loads(capsys.readouterr().out)
    assert {row["class_name"] for row in data["summary"]} == {"cat", "fox"}
    assert data["output"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either --concepts DIR"),
        (["--concepts", "concepts"], "needs --negatives"),
        ([*LEARN, "--methods", "lime"], "expected methods among visual_tcav"),
        ([*LEARN, "--runs", "0"], "at least 1"),
    ],
)
def test_wrong_usage(place, capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_folders_are_named_like_classes(place):
    class Named:
        class_names = ("Egyptian cat", "black-and-tan coonhound", "crane", "crane")
        class_index = Model.class_index
        class_of_folder = Model.class_of_folder

    for name in ("egyptian_cat", "Black-and-tan coonhound", "3"):
        (place / "named" / name).mkdir(parents=True)
    found = class_folders(place / "named", Named())
    assert {index: folder.name for index, folder in found.items()} == {
        0: "egyptian_cat", 1: "Black-and-tan coonhound", 3: "3",
    }  # fmt: skip
    (place / "named" / "crane").mkdir()
    with pytest.raises(ModelError, match="stands for 2 classes"):
        class_folders(place / "named", Named())
    (place / "named" / "crane").rmdir()
    (place / "named" / "Egyptian cat").mkdir()
    with pytest.raises(ImageError, match="two folders are named like class 'Egyptian cat'"):
        class_folders(place / "named", Named())
    with pytest.raises(ImageError, match="found none; put the images"):
        class_folders(place / "random", Named())
    with pytest.raises(ImageError, match="does not exist"):
        class_folders(place / "nowhere", Named())


def test_the_command_is_light_to_import():
    code = (
        "import sys, vtcav.cli.commands.compare; print({'torch', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
