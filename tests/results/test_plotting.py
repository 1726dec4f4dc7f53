"""Figures: where the map lands, what the colours mean, which numbers and names are shown."""

import dataclasses
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

import vtcav
from vtcav.errors import ExplanationError
from vtcav.images.references import Skipped
from vtcav.results.explanation import GlobalExplanation, LocalExplanation
from vtcav.results.figures.footnotes import ns_means
from vtcav.results.figures.global_explanation import plot_global
from vtcav.results.figures.lettering import (
    labels,
    row_labels,
    shorten,
    text_width,
    wrap,
    wrap_apart,
)
from vtcav.results.figures.local.figure import plot_local
from vtcav.results.figures.overlay import Overlay
from vtcav.results.figures.page import nice_limit, save_figure
from vtcav.results.provenance import Provenance
from vtcav.results.rows import Row
from vtcav.results.tables.class_summary import BOOTSTRAP, NULL
from vtcav.results.words import number

NOTE = "not separated: e+ <= e-, so the map and the attribution are 0"
FLAT = "the image does not raise this class"
FLAG = "not separated\n(e+ <= e-)"
NAN = float("nan")
EVIDENCE = (NAN, NAN, 0.01, 2.0, 0.03, 0.05)  # cav_low, cav_high, null_mean, effect, p, q
PROVENANCE = Provenance({}, {}, (), (), {})
LONG = (
    "a class whose name somebody wrote as a whole sentence, with a subject and a verb",
    "$x^2$ costs $5 & <script>alert(1)</script> \\frac{ _a_\nsecond line of the name",
    "lung_adenocarcinoma_stage_IIIB_poorly_differentiated_variant_number_12",
)


def make_local(
    layers=("features.0", "features.1", "features.2"),
    concepts=("striped", "dotted", "chequered", "zigzagged", "meshed", "scaly"),
    names=("zebra", "gazelle", "ibex"),
    *,
    size=(400, 300),
    preprocess=None,
    picture=None,
    maps=None,
    lost=(),
    notes=(),
    error=0.004,
    image="photos/zebra.jpg",
    evidence=EVIDENCE,
):
    """A local explanation with made-up numbers; `lost` are (layer, concept) not separated."""
    rng = np.random.default_rng(0)
    width, height = size
    box = (preprocess or vtcav.Preprocess(224, crop_pct=0.875)).box(width, height)
    if picture is None:
        picture = rng.integers(0, 255, (height, width, 3)).astype(np.uint8)
    made, rows = {}, []
    for layer in layers:
        made[layer] = rng.random((len(concepts), 7, 7)).astype(np.float32)
        for concept in concepts:
            separated = (layer, concept) not in lost
            for index, name in enumerate(names):
                parts = ([] if separated else [NOTE]) + [FLAT] * ((layer, index) in notes)
                value = float(rng.gamma(1, 0.08)) if separated else 0.0
                raised = (layer, index) not in notes
                about = value, error, 51, separated, 0.9, raised, 0.6, *evidence, "; ".join(parts)
                rows.append(Row(image, layer, concept, 10 * index, name, *about))
    chances = np.sort(rng.dirichlet(np.ones(len(names) + 2)))[::-1]
    predictions = pd.DataFrame(
        {
            "class_index": [10 * i for i in range(len(chances))],
            "class_name": [*names, "another", "one more"],
            "probability": chances,
        }
    )
    return LocalExplanation(
        image=image,
        layers=tuple(layers),
        concepts=tuple(concepts),
        picture=picture,
        box=(box[0] / width, box[1] / height, box[2] / width, box[3] / height),
        thumbnails={c: rng.integers(0, 255, (6, 96, 96, 3)).astype(np.uint8) for c in concepts},
        provenance=PROVENANCE,
        _rows=pd.DataFrame(rows, columns=Row._fields),
        _predictions=predictions,
        _maps=maps or made,
    )


def make_global(
    n=12,
    layers=("features.0", "features.1", "features.2"),
    concepts=("striped", "dotted", "chequered"),
    *,
    name="zebra",
    lost=(),
    skipped=0,
    otherwise=(),
    notes=False,
    spread=0.03,
):
    """A global explanation with made-up numbers; `otherwise` are images predicted otherwise."""
    rng = np.random.default_rng(0)
    centres = rng.gamma(1, 0.1, (len(layers), len(concepts)))
    rows = []
    for j in range(n):
        best = "gazelle" if j in otherwise else name
        for i, layer in enumerate(layers):
            for k, concept in enumerate(concepts):
                separated = (layer, concept) not in lost
                value = np.clip(rng.normal(centres[i, k], spread), 0, 1) if separated else 0.0
                note = "" if separated else NOTE
                note = FLAT if notes and separated and j == 0 else note
                raised = note != FLAT
                about = layer, concept, 340, name, value, 0.001, 51, separated, 0.9, raised, 0.6
                rows.append((*Row(f"{j}.jpg", *about, *EVIDENCE, note), 0.9, best))
    return GlobalExplanation(
        class_index=340,
        class_name=name,
        layers=tuple(layers),
        concepts=tuple(concepts),
        skipped=tuple(Skipped(f"{i}.png", "broken") for i in range(skipped)),
        thumbnails={c: rng.integers(0, 255, (6, 96, 96, 3)).astype(np.uint8) for c in concepts},
        provenance=PROVENANCE,
        _rows=pd.DataFrame(rows, columns=[*Row._fields, "probability", "predicted_class"]),
        _resampled=pd.DataFrame([], columns=["layer", "concept", "kind", "draw", "mean"]),
    )


def draw(explanation, **options):
    """The figure as `save_figure` draws it."""
    plot = plot_local if isinstance(explanation, LocalExplanation) else plot_global
    figure = Figure(dpi=150)
    FigureCanvasAgg(figure)
    return plot(explanation, figure, **options)


def pixels(figure):
    """The rendered figure, float [height, width, 3] in 0..1."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3] / 255


def axes_of(figure, label):
    return next(axes for axes in figure.axes if axes.get_label() == label)


def within(axes, image):
    """The pixels of axes."""
    box = axes.get_window_extent()
    height = len(image)
    rows = slice(round(height - box.y1), round(height - box.y0))
    return image[rows, round(box.x0) : round(box.x1)]


def written(artist):
    """What is written in a figure or axes."""
    return [t.get_text() for t in artist.findobj(Text) if t.get_visible() and t.get_text().strip()]


def named(figure, gid):
    """The texts of a group."""
    return [text.get_text() for text in figure.findobj(Text) if text.get_gid() == gid]


def bars_of(figure, gid):
    return [bar for bar in figure.findobj(Rectangle) if bar.get_gid() == gid]


def all_text(figure):
    return " ".join(written(figure))


# -- where the map lands ----------------------------------------------------------------------

GEOMETRIES = {
    "crop, landscape": ((400, 300), vtcav.Preprocess(224, crop_pct=0.875)),
    "crop, portrait": ((240, 480), vtcav.Preprocess(224)),
    "crop, not square": ((500, 300), vtcav.Preprocess((224, 112), crop_pct=0.8)),
    "pad, landscape": ((600, 300), vtcav.Preprocess(224, resize="pad")),
    "pad, portrait": ((300, 500), vtcav.Preprocess(224, resize="pad")),
    "stretch": ((500, 300), vtcav.Preprocess(224, resize="stretch")),
}


@pytest.mark.parametrize(("size", "preprocess"), GEOMETRIES.values(), ids=GEOMETRIES)
def test_hot_cell_lies_where_the_network_saw_it(size, preprocess):
    width, height = size
    cells = {"upper right": (0, 4), "middle": (1, 2), "lower left": (2, 0)}
    M = np.zeros((3, 3, 5), np.float32)
    for k, cell in enumerate(cells.values()):
        M[k][cell] = 1
    black = np.zeros((height, width, 3), np.uint8)
    local = make_local(["a"], cells, size=size, preprocess=preprocess, picture=black, maps={"a": M})
    figure = draw(local)
    image = pixels(figure)
    left, top, right, bottom = preprocess.box(width, height)
    # Shown is the picture and the padding around it, or only what the network saw.
    (x0, x1), (y1, y0) = (
        np.multiply(ends(), side)
        for ends, side in (
            (axes_of(figure, "map a middle").get_xlim, width),
            (axes_of(figure, "map a middle").get_ylim, height),
        )
    )
    whole = min(left, 0), max(right, width), min(top, 0), max(bottom, height)
    assert (x0, x1, y0, y1) in (pytest.approx(whole), pytest.approx((left, right, top, bottom)))
    for name, (row, column) in cells.items():
        view = within(axes_of(figure, f"map a {name}"), image)
        hot = (view[..., 0] > 0.6) & (view[..., 0] - view[..., 2] > 0.1)
        y, x = (np.flatnonzero(hot.any(axis)) for axis in (1, 0))
        shown_x = x0 + np.array([x[0], x[-1] + 1]) / view.shape[1] * (x1 - x0)
        shown_y = y0 + np.array([y[0], y[-1] + 1]) / view.shape[0] * (y1 - y0)
        # The dashed frame hides up to two pixels of a cell at the edge.
        slack = 3 * (x1 - x0) / view.shape[1]
        expected_x = left + np.array([column, column + 1]) / 5 * (right - left)
        expected_y = top + np.array([row, row + 1]) / 3 * (bottom - top)
        np.testing.assert_allclose(shown_x, expected_x, atol=slack)
        np.testing.assert_allclose(shown_y, expected_y, atol=slack)
        assert hot[y[0] : y[-1] + 1, x[0] : x[-1] + 1].mean() > 0.95


@pytest.mark.parametrize(("size", "preprocess"), GEOMETRIES.values(), ids=GEOMETRIES)
def test_pictures_are_not_distorted_and_lie_alike(size, preprocess):
    figure = draw(make_local(["a"], ["c"], size=size, preprocess=preprocess))
    picture, overlay = axes_of(figure, "picture"), axes_of(figure, "map a c")
    for axes in (picture, overlay):
        box = axes.get_window_extent()
        across = size[0] * (axes.get_xlim()[1] - axes.get_xlim()[0])
        down = size[1] * (axes.get_ylim()[0] - axes.get_ylim()[1])
        assert box.width / box.height == pytest.approx(across / down, rel=1e-3)
    left, top, right, bottom = preprocess.box(*size)
    seen = (right - left) * (bottom - top) / size[0] / size[1]
    if seen < 0.5:  # a map shows only what the network saw
        assert overlay.get_xlim() == pytest.approx((left / size[0], right / size[0]))
        assert overlay.get_ylim() == pytest.approx((bottom / size[1], top / size[1]))
    else:
        assert picture.get_xlim() == overlay.get_xlim()
        assert picture.get_ylim() == overlay.get_ylim()


def test_picture_is_upright():
    picture = np.zeros((300, 400, 3), np.uint8)
    picture[:60, :80] = 0, 255, 0
    figure = draw(make_local(["a"], ["c"], picture=picture, preprocess=vtcav.Preprocess(None)))
    image = pixels(figure)
    view = within(axes_of(figure, "picture"), image)
    green = view[..., 1] - view[..., 0] > 0.5
    assert green[: len(green) // 6, : green.shape[1] // 6].all()
    assert not green[len(green) // 4 :].any()
    # The same corner is the bright one in the grey under the map.
    grey = within(axes_of(figure, "map a c"), pixels(draw(make_local(
        ["a"], ["c"], picture=picture, preprocess=vtcav.Preprocess(None),
        maps={"a": np.zeros((1, 7, 7), np.float32)},
    ))))  # fmt: skip
    assert grey[10, 10].mean() > grey[-10, -10].mean() + 0.05


def test_dashed_frame_only_where_the_network_saw_another_part():
    cropped = draw(make_local(["a"], ["c"]))
    whole = draw(make_local(["a"], ["c"], preprocess=vtcav.Preprocess(224, resize="stretch")))
    assert "dashed" in all_text(cropped)
    assert "dashed" not in all_text(whole)
    assert len(axes_of(cropped, "picture").patches) == 2
    assert not axes_of(whole, "picture").patches


def test_long_pictures_show_the_input_at_a_readable_size():
    for size in ((1000, 180), (180, 1000)):
        width, height = Overlay(np.zeros((size[1], size[0], 3), np.uint8), (0, 0, 1, 1)).size(1.9)
        assert width / height == pytest.approx(size[0] / size[1], rel=0.01)
        figure = draw(make_local(["a"], ["c"], size=size))
        box = axes_of(figure, "map a c").get_window_extent()
        assert min(box.width, box.height) > 0.6 * figure.dpi


# -- the colour scale -------------------------------------------------------------------------


@pytest.mark.parametrize("smooth", [False, True])
def test_colour_of_a_value_is_the_one_on_the_colour_bar(smooth):
    values = [0.0, 0.1, 0.3, 0.5, 1.0]
    names = [str(value) for value in values]
    maps = {"a": np.array(values, np.float32)[:, None, None] * np.ones((4, 4), np.float32)}
    picture = np.full((300, 400, 3), 128, np.uint8)
    figure = draw(make_local(["a"], names, picture=picture, maps=maps), smooth=smooth)
    image = pixels(figure)
    scale = within(axes_of(figure, "scale"), image)
    for value, name in zip(values, names, strict=True):
        view = within(axes_of(figure, f"map a {name}"), image)
        on_scale = scale[len(scale) // 2, round(value * (scale.shape[1] - 3)) + 1]
        np.testing.assert_allclose(view[len(view) // 2, view.shape[1] // 2], on_scale, atol=0.02)


def test_no_map_is_stretched_to_its_maximum():
    maps = {
        "a": np.full((2, 4, 4), 0.1, np.float32),
        "b": np.linspace(0, 1, 32, dtype=np.float32).reshape(2, 4, 4),
    }
    figure = draw(make_local(["a", "b"], ["c", "d"], maps=maps))
    shown = [image for axes in figure.axes for image in axes.images if image.get_array().ndim == 2]
    assert len(shown) == 5  # four maps and the colour bar
    assert {image.get_clim() for image in shown} == {(0, 1)}
    assert "largest M: 0.100" in written(figure)


def lightness(rgb):
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    Y = linear @ [0.2126, 0.7152, 0.0722]
    return 116 * np.cbrt(Y) - 16


@pytest.mark.parametrize("grey", [0, 64, 128, 192, 255])
def test_lightness_grows_with_the_map_over_every_grey(grey):
    axes = Figure().add_subplot()
    overlay = Overlay(np.full((8, 8, 3), grey, np.uint8), (0, 0, 1, 1))
    overlay.show_map(axes, np.linspace(0, 1, 256, dtype=np.float32)[None], smooth=False)
    under, over = axes.images
    below = np.asarray(under.get_array())[0, 0] / 255
    colours = over.to_rgba(over.get_array())[0]
    mixed = colours[:, 3:] * colours[:, :3] + (1 - colours[:, 3:]) * below
    L = lightness(mixed)
    assert (np.diff(L) > -0.02).all()  # less than anyone sees
    assert L[-1] - L[0] > 50


def test_smooth_is_off_by_default_and_says_what_it_does():
    maps = {"a": np.eye(4, dtype=np.float32)[None]}
    picture = np.full((300, 300, 3), 128, np.uint8)
    local = make_local(
        ["a"], ["c"], size=(300, 300), picture=picture, maps=maps,
        preprocess=vtcav.Preprocess(None),
    )  # fmt: skip
    seen = {}
    for smooth in (False, True):
        figure = draw(local, **({"smooth": True} if smooth else {}))
        view = within(axes_of(figure, "map a c"), pixels(figure))
        seen[smooth] = len(np.unique((view[10:-10, 10:-10] * 255).round().reshape(-1, 3), axis=0))
        assert ("smoothed" in all_text(figure)) == smooth
        assert ("without smoothing" in all_text(figure)) != smooth
    assert seen[False] < 20 < seen[True]


# -- numbers and flags ------------------------------------------------------------------------


def test_local_shows_every_number_of_the_table():
    local = make_local(concepts=["c", "d"], lost={("features.1", "d")}, notes={("features.2", 1)})
    figure = draw(local)
    for (layer, concept), rows in local.attributions.groupby(["layer", "concept"]):
        shown = named(figure, f"number {layer} {concept}")
        assert [text.split(" [")[0] for text in shown] == [number(a) for a in rows["attribution"]]
    shown = named(figure, "predictions")
    top = local.predictions.head(3)
    assert shown[0::2] == top["class_name"].tolist()
    assert shown[1::2] == [f"{p:.3f}" for p in top["probability"]]


def test_bars_are_as_long_as_their_numbers_say():
    local = make_local(concepts=["c", "d"])
    figure = draw(local)
    limit = nice_limit((local.attributions["attribution"] + 0.004).max())
    assert f"attribution (0 to {limit:g})" in written(figure)
    for (layer, concept), rows in local.attributions.groupby(["layer", "concept"]):
        tracks = bars_of(figure, f"track {layer} {concept}")
        bars = bars_of(figure, f"bar {layer} {concept}")
        shares = [b.get_width() / t.get_width() for b, t in zip(bars, tracks, strict=True)]
        np.testing.assert_allclose(shares, rows["attribution"] / limit, rtol=1e-6)


def test_bars_numbers_and_names_of_a_class_stand_on_one_line():
    figure = draw(make_local(["a", "b"], ["c"]))

    def heights(gid):
        return [t.get_position()[1] for t in figure.findobj(Text) if t.get_gid() == gid]

    def middles(gid):
        return [bar.get_y() + bar.get_height() / 2 for bar in bars_of(figure, gid)]

    for layer in ("a", "b"):
        assert heights(f"number {layer} c") == pytest.approx(heights("classes"))
        assert middles(f"bar {layer} c") == pytest.approx(middles("classes"))
        assert middles(f"track {layer} c") == pytest.approx(middles("classes"))
    # A letter's ground line lies less than a tenth of an inch below its bar's middle.
    np.testing.assert_allclose(heights("classes"), middles("classes"), atol=0.1)


def test_ten_classes_are_listed_and_look_different():
    names = tuple(f"class {i}" for i in range(10))
    figure = draw(make_local(["a"], ["c"], names))
    assert named(figure, "predictions")[0::2] == list(names)
    assert named(figure, "classes") == list(names)
    marks = bars_of(figure, "classes")
    assert len({(mark.get_facecolor(), mark.get_hatch()) for mark in marks}) == 10
    bars = bars_of(figure, "bar a c")
    assert [b.get_facecolor() for b in bars] == [m.get_facecolor() for m in marks]


def test_explained_class_is_listed_even_when_improbable():
    local = make_local(["a"], ["c"], ["x", "y", "z", "w", "least"])
    table = local._rows[local._rows["class_name"] == "least"]
    figure = draw(LocalExplanation(**{**vars(local), "_rows": table}))
    assert named(figure, "predictions")[0::2] == ["x", "y", "z", "least"]


def test_local_flags_what_is_not_separated():
    figure = draw(make_local(["a", "b"], ["c", "d"], lost={("a", "c"), ("b", "d")}))
    for layer, concept in (("a", "c"), ("b", "d")):
        axes = axes_of(figure, f"map {layer} {concept}")
        assert written(axes) == [FLAG]
        assert any(patch.get_hatch() for patch in axes.patches)
        assert all(image.get_array().ndim == 3 for image in axes.images)  # no map of zeros
        assert named(figure, f"number {layer} {concept}") == ["0 [a]"] * 3
    assert written(figure).count(FLAG) == 2
    assert f"[a] {NOTE}" in written(figure)
    assert FLAG not in written(draw(make_local(["a"], ["c"])))


def test_notes_are_footnotes_of_their_numbers():
    figure = draw(make_local(["a", "b"], ["c"], lost={("a", "c")}, notes={("a", 1), ("b", 1)}))
    assert [text[1:] for text in named(figure, "number a c")] == [" [a]", " [a,b]", " [a]"]
    marks = [text.partition(" ")[2] for text in named(figure, "number b c")]
    assert marks == ["", "[b]", ""]
    assert {f"[a] {NOTE}", f"[b] {FLAT}"} <= set(written(figure))


def test_error_is_shown_where_there_is_one():
    without = draw(make_local(["a"], ["c"], error=float("nan")))
    assert "error" not in all_text(without)
    assert not [line for line in without.findobj(Line2D) if line.get_marker() == "|"]
    local = make_local(["a"], ["c"], error=0.02)
    estimated = draw(local)
    assert "error: at most 0.020" in all_text(estimated)
    whiskers = [line for line in estimated.findobj(Line2D) if line.get_marker() == "|"]
    bars = bars_of(estimated, "bar a c")
    for whisker, bar, value in zip(whiskers, bars, local.attributions["attribution"], strict=True):
        end = bar.get_x() + bar.get_width()
        assert whisker.get_xdata()[1] - end == pytest.approx(0.02 * bar.get_width() / value)
        assert whisker.get_xdata()[0] >= bar.get_x()


def footnotes(figure):
    """All that is written, without line breaks."""
    return " ".join(all_text(figure).split())


def test_interval_over_examples_takes_the_place_of_the_error():
    local = make_local(["a"], ["c"], error=0.02, evidence=(0.05, 0.4, 0.01, 2.0, 0.03, 0.05))
    figure = draw(local)
    whiskers = [line for line in figure.findobj(Line2D) if line.get_marker() == "|"]
    track = bars_of(figure, "track a c")[0]
    assert "Whiskers: 95 % interval for other examples and negatives" in footnotes(figure)
    assert "whiskers show it" not in footnotes(figure)
    limit = nice_limit(max(0.4, local.attributions["attribution"].max()))
    for whisker in whiskers:
        shares = (np.array(whisker.get_xdata()) - track.get_x()) / track.get_width()
        np.testing.assert_allclose(shares * limit, [0.05, 0.4], rtol=1e-5)


@pytest.mark.parametrize(("q", "marked"), [(0.05, False), (0.051, True), (NAN, False)])
def test_what_is_not_significant_is_marked(q, marked):
    evidence = (NAN, NAN, 0.01, 2.0, 0.03, q)
    figure = draw(make_local(["a"], ["c"], evidence=evidence))
    numbers = [t.get_text() for t in figure.findobj(Text) if t.get_gid() == "number a c"]
    assert numbers
    assert all((" ns" in text) == marked for text in numbers)
    assert ("ns: not significant" in footnotes(figure)) == (q == q)


def test_footnote_on_significance_speaks_from_p():
    for p, q, meaning in (
        ([24 / 501], [0.048], "No value here."),
        ([1 / 501, 0.4, NAN], [0.06, 0.4, NAN], "1 value: 0 of 500 random directions get as much, "
         "not significant after correcting for 2 values."),
        ([24 / 501, 51 / 501, 0.4], [0.2, 0.2, 0.4], "2 values: 50 to 199 of 500 random"),
    ):  # fmt: skip
        table = pd.DataFrame({"p_value": p, "q_value": q})
        (footnote,) = ns_means(table, 500)
        assert meaning in footnote
        assert "often" not in footnote
    assert ns_means(pd.DataFrame({"p_value": [NAN], "q_value": [NAN]}), 500) == []


def test_intervals_of_a_class():
    def summarised(values):
        glob = make_global(layers=["a"], concepts=["c"])
        draws = [("a", "c", kind, j, v) for kind in (NULL, BOOTSTRAP) for j, v in values]
        columns = ["layer", "concept", "kind", "draw", "mean"]
        return dataclasses.replace(glob, _resampled=pd.DataFrame(draws, columns=columns))

    high = draw(summarised([(j, 0.9 + j / 100) for j in range(5)]))
    assert re.search(r"0\.\d+ ns", all_text(high))
    assert "Broad bar: 95 % interval of the mean for other examples" in footnotes(high)
    low = draw(summarised([(j, j / 1e6) for j in range(50)]))
    assert not re.search(r"0\.\d+ ns", all_text(low))


# -- one class, many images -------------------------------------------------------------------


def points(axes):
    """The places of the images' points and whether they are filled, row by row."""
    found = [c for c in axes.collections if isinstance(c, PathCollection)]
    return [(c.get_offsets().data, len(c.get_facecolor()) > 0) for c in found]


def test_global_shows_every_image_and_the_summary():
    glob = make_global(otherwise={3, 7})
    figure = draw(glob)
    shown = written(figure)
    summary = glob.summary().set_index(["layer", "concept"])
    values = glob.attributions.set_index(["layer", "concept"])
    for layer in glob.layers:
        axes = axes_of(figure, f"panel {layer}")
        found = points(axes)
        order = sorted(glob.concepts, key=lambda c: -summary.loc[(glob.layers[-1], c), "mean"])
        for k, concept in enumerate(order):
            rows = values.loc[layer, concept]
            right = (rows["predicted_class"] == "zebra").to_numpy()
            for (places, filled), chosen in zip(
                found[2 * k : 2 * k + 2], (right, ~right), strict=True
            ):
                np.testing.assert_allclose(places[:, 0], rows["attribution"][chosen])
                assert (abs(places[:, 1] - k) <= 0.3).all()
                assert filled == (chosen is right)
            row = summary.loc[layer, concept]
            lines = [line for line in axes.lines if (np.asarray(line.get_ydata()) == k).all()]
            bar, mean = lines[0], lines[-1]
            ends = max(row["ci_low"], 0), row["ci_high"]
            np.testing.assert_allclose(bar.get_xdata(), ends)
            np.testing.assert_allclose(mean.get_xdata(), row["mean"])
            assert number(row["mean"]) in shown
            assert f"[{number(row['ci_low'])}, {number(row['ci_high'])}]" in shown
    assert "image predicted otherwise" in shown
    assert "95 % t interval of the mean over n = 12 images" in all_text(figure)


def test_panels_share_their_scale_and_an_image_its_height():
    figure = draw(make_global())
    panels = [axes for axes in figure.axes if axes.get_label().startswith("panel")]
    assert len({axes.get_xlim() for axes in panels}) == 1
    assert len({axes.get_ylim() for axes in panels}) == 1
    heights = [points(axes)[0][0][:, 1] for axes in panels]
    assert all((h == heights[0]).all() for h in heights)


def test_global_flags_what_is_not_separated():
    figure = draw(make_global(lost={("features.1", "dotted")}))
    for layer in ("features.0", "features.1", "features.2"):
        axes = axes_of(figure, f"panel {layer}")
        flagged = layer == "features.1"
        assert ("not separated (e+ <= e-)" in written(axes)) == flagged
        assert any(patch.get_hatch() for patch in axes.patches) == flagged
        assert len(points(axes)) == (4 if flagged else 6)
    assert {"0 [a]", f"[a] {NOTE}"} <= set(written(figure))


def test_one_image_has_no_interval():
    figure = draw(make_global(n=1))
    assert "n = 1 image" in all_text(figure)
    assert "no interval" in all_text(figure)
    assert "t interval" not in all_text(figure)
    for axes in figure.axes:
        if axes.get_label().startswith("panel"):
            assert all(
                len(line.get_xdata()) == 1 for line in axes.lines if line.get_marker() == "D"
            )
            assert not any(line.get_marker() in "|<>" for line in axes.lines)


def test_intervals_that_leave_the_axis_end_in_arrowheads():
    glob = make_global(n=2, spread=0.2)
    summary = glob.summary()
    assert (summary["ci_low"] < 0).any()
    assert (summary["ci_high"] > 1).any()
    figure = draw(glob)
    panels = [axes for axes in figure.axes if axes.get_label().startswith("panel")]
    ends = [line.get_marker() for axes in panels for line in axes.lines]
    assert ends.count("<") == (summary["ci_low"] < 0).sum()
    assert ends.count(">") == (summary["ci_high"] > 1).sum()
    assert "Arrowhead" in all_text(figure)
    assert "Arrowhead" not in all_text(draw(make_global(n=200, spread=0.001)))


def test_skipped_images_are_counted():
    assert "2 images skipped" in all_text(draw(make_global(skipped=2)))
    assert "skipped" not in all_text(draw(make_global()))


# -- readable ---------------------------------------------------------------------------------

TWENTY = tuple(f"concept number {i}" for i in range(20))
READABLE = {
    "three layers, six concepts": lambda: make_local(lost={("features.1", "dotted")}),
    "one of each": lambda: make_local(["a"], ["c"], ["x"]),
    "one layer, portrait": lambda: make_local(["a"], ["c"], size=(300, 500)),
    "narrow, not separated": lambda: make_local(
        ["a", "b"], ["c"], size=(180, 1000), lost={("a", "c")}
    ),
    "panorama": lambda: make_local(["a"], ["c", "d"], size=(1000, 180)),
    "padded": lambda: make_local(["a"], ["c"], preprocess=vtcav.Preprocess(224, resize="pad")),
    "twenty concepts": lambda: make_local(["a", "b"], TWENTY),
    "six layers, ten classes": lambda: make_local(
        [f"layer{i}.block" for i in range(6)], ["c"], [f"class {i}" for i in range(10)]
    ),
    "many notes": lambda: make_local(
        ["a", "b"], ["c", "d"], lost={("a", "c")}, notes={("a", 0), ("b", 1), ("b", 2)}
    ),
    "long names": lambda: make_local(
        ["backbone.features.encoder.stages.3.blocks.12.mlp.fc2_$a$", "b"], LONG, LONG, image=LONG[1]
    ),
    "class of many images": lambda: make_global(n=500, skipped=3, otherwise={1, 2}),
    "class, one of each": lambda: make_global(1, ["a"], ["c"]),
    "class, one layer": lambda: make_global(layers=["a"], otherwise={1}, notes=True),
    "class, twenty concepts": lambda: make_global(3, [f"layer {i}" for i in range(4)], TWENTY),
    "class, long names": lambda: make_global(
        layers=["backbone.features.encoder.stages.3.blocks.12.mlp.fc2_$a$", "b"],
        concepts=LONG, name=LONG[0], lost={("b", LONG[1])},
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=READABLE.values(), ids=READABLE)
def drawn(request):
    figure = draw(request.param())
    figure.draw_without_rendering()
    return figure


def test_no_text_overlaps_or_leaves_the_page(drawn):
    texts = [t for t in drawn.findobj(Text) if t.get_visible() and t.get_text().strip()]
    boxes = np.array([t.get_window_extent().extents for t in texts])
    width, height = drawn.bbox.width, drawn.bbox.height
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2] <= width).all()
    assert (boxes[:, 3] <= height).all()
    # Lines are set close: what lies above an x, or below it, is empty.
    shrunk = boxes + np.array([0, 2, 0, -2])
    low, high = shrunk[:, :2], shrunk[:, 2:]
    clear = (high[:, None] <= low[None]) | (low[:, None] >= high[None])
    i, j = np.nonzero(~clear.any(axis=2))
    assert [
        (texts[a].get_text(), texts[b].get_text()) for a, b in zip(i, j, strict=True) if a < b
    ] == []


def test_no_text_lies_on_a_picture(drawn):
    pictures = [axes for axes in drawn.axes if axes.images]
    inside = {id(text) for axes in pictures for text in axes.findobj(Text)}
    frames = np.array([axes.get_window_extent().extents for axes in pictures])
    for text in drawn.findobj(Text):
        if text.get_visible() and text.get_text().strip() and id(text) not in inside:
            box = np.add(text.get_window_extent().extents, (0, 2, 0, -2))
            clear = (frames[:, :2] >= box[2:]) | (frames[:, 2:] <= box[:2])
            assert clear.any(axis=1).all(), text.get_text()


SIX = tuple(f"features.denseblock.{i}" for i in range(6))


def test_twenty_concepts_at_six_layers_for_three_classes_are_one_page():
    local = make_local(SIX, TWENTY)
    figure = draw(local)
    wide, high = figure.get_size_inches()
    assert high <= 297 / 210 * wide
    assert wide < 10
    assert min(t.get_fontsize() for t in figure.findobj(Text) if t.get_text()) >= 7
    assert {axes.get_label() for axes in figure.axes} >= {
        f"map {layer} {concept}" for layer in SIX for concept in TWENTY
    }
    rows = local.attributions.set_index(["layer", "concept"])["attribution"]
    for concept in TWENTY:  # without a layer to read first, the deepest
        shown = named(figure, f"number {SIX[-1]} {concept}")
        assert shown == [number(value) for value in rows[SIX[-1], concept]]
    assert "Shown:" not in all_text(figure)


def test_what_a_page_leaves_out_is_said():
    figure = draw(make_local([f"layer {i}" for i in range(8)], ["c"], ["x"]))
    assert "Shown: 6 of 8 layers. The tables have all; plot(concepts=" in all_text(figure)
    assert sum(axes.get_label().startswith("map") for axes in figure.axes) == 6
    concepts = [f"concept {i}" for i in range(43)]
    figure = draw(make_local(["a"], concepts, [f"class {i}" for i in range(5)]))
    assert "Shown: 20 of 43 concepts and 3 of 5 classes." in all_text(figure)
    assert sum(axes.get_label().startswith("map") for axes in figure.axes) == 20


def test_plot_draws_what_is_asked_for():
    import matplotlib.pyplot as plt

    local = make_local(SIX, TWENTY)
    figure = local.plot(layers=SIX[3], concepts=TWENTY[7:5:-1], classes=["ibex", 0])
    maps = {axes.get_label() for axes in figure.axes if axes.get_label().startswith("map")}
    assert maps == {f"map {SIX[3]} {concept}" for concept in TWENTY[6:8]}
    assert named(figure, "classes") == ["zebra", "ibex"] * 2
    # q-values are those of the whole table
    one = make_local(["a", "b"], ["c"], ["x"], evidence=(NAN, NAN, 0.01, 2.0, 0.03, 0.06))
    assert "after correcting for 2 values" in footnotes(one.plot(layers=["b"]))
    glob = make_global(layers=SIX, concepts=TWENTY)
    figure = glob.plot(layers=SIX[:1], concepts=["concept number 3"])
    assert [axes.get_label() for axes in figure.axes if "panel" in axes.get_label()] == [
        f"panel {SIX[0]}"
    ]
    plt.close("all")
    for plot, options, message in (
        (local.plot, {"layers": ["x"]}, "no layer 'x' to draw; it has 'features.denseblock.0'"),
        (local.plot, {"concepts": []}, "no concept '' to draw"),
        (local.plot, {"classes": 1}, "no class 1 to draw; it has 0, 'zebra'"),
        (glob.plot, {"concepts": "x"}, "no concept 'x' to draw"),
    ):
        with pytest.raises(vtcav.ExplanationError, match=message):
            plot(**options)


def test_bars_that_are_not_significant_are_outlined():
    for q, filled in ((0.05, True), (0.051, False)):
        figure = draw(make_local(["a"], ["c"], evidence=(NAN, NAN, 0.01, 2.0, 0.03, q)))
        marks = [mark.get_facecolor() for mark in bars_of(figure, "classes")]
        bars = [bar.get_facecolor() for bar in bars_of(figure, "bar a c")]
        assert bars == (marks if filled else [(1, 1, 1, 1)] * 3)
        assert ("Outlined bar" in footnotes(figure)) != filled
        assert "Dashed: the mean of random directions" in footnotes(figure)


def test_a_class_with_many_concepts_is_one_page():
    glob = make_global(3, SIX, TWENTY)
    draws = [
        (layer, concept, NULL, j, j / 1000)
        for layer in SIX
        for concept in TWENTY
        for j in range(101)
    ]
    columns = ["layer", "concept", "kind", "draw", "mean"]
    figure = draw(dataclasses.replace(glob, _resampled=pd.DataFrame(draws, columns=columns)))
    wide, high = figure.get_size_inches()
    assert high < 11
    assert wide < 16
    for layer in SIX:
        axes = axes_of(figure, f"panel {layer}")
        grey = [p for p in axes.patches if isinstance(p, Rectangle)]
        ends = {(round(p.get_x(), 6), round(p.get_x() + p.get_width(), 6)) for p in grey}
        assert len(grey) == 20
        assert ends == {(0.005, 0.095)}  # the 5th and the 95th percentile
    assert "Grey: the middle 90 % of what random directions get" in footnotes(figure)


def test_names_are_never_read_as_mathematics():
    local = make_local(["$a_b$"], ["$\\frac{$"], ["$x$ & _y_"], image="$\\bad{.png")
    figure = draw(local)
    assert {"$a_b$", "$\\frac{$", "$x$ & _y_", "Concepts in “bad{.png”"} <= set(written(figure))
    assert not any(text.get_parse_math() for text in figure.findobj(Text) if text.get_text())
    figure.canvas.draw()
    glob = make_global(layers=["$a_b$"], concepts=["$\\frac{$"], name="$x$")
    title = "Concepts for the class “$x$”"
    assert {"$a_b$", "$\\frac{$", title} <= set(written(draw(glob)))


def test_names_are_one_line_and_shortened_in_the_middle():
    figure = draw(make_local(["a"], ["c"], LONG))
    for shown, name in zip(named(figure, "classes"), LONG, strict=True):
        start, end = shown.split("…")
        plain = " ".join(name.split())
        assert plain.startswith(start)
        assert plain.endswith(end)


def test_letters_without_a_font_are_marked(recwarn):
    local = make_local(["a"], ["c\x07"], ["\U00013000 one", "\u0416"])
    figure = draw(local)
    figure.canvas.draw()
    assert {"□ one", "\u0416", "c"} <= set(written(figure))
    assert not recwarn.list


def test_lettering_helpers():
    names = [f"lung_adenocarcinoma_stage_{k}_of_the_left_lobe" for k in range(12)]
    short = labels([*names, "cat"], range(13), 1.5)
    assert len(set(short)) == 13
    assert short[12] == "cat"
    assert all(text_width(text) <= 1.5 for text in short)
    for width in (0.5, 1.0, 2.0):
        for most in (1, 2, 5):
            lines = wrap(" ".join(LONG), width, most=most)
            assert len(lines) <= most
            assert all(text_width(line) <= width for line in lines)
    assert " ".join(wrap(LONG[0], 1.0)).replace("  ", " ") == LONG[0]
    assert shorten("short", 2) == "short"
    assert [number(x) for x in (1, 0.0004, -0.0004, -0.25)] == [
        "1.000",
        "<0.001",
        ">-0.001",
        "-0.250",
    ]


def test_names_that_look_alike_are_told_apart():
    layers = [f"encoder.layer.{k}.attention.output.dense" for k in range(12)]
    tailed = [f"{name}_of_the_left_lobe_seen_from_above" for name in ("ruler", "hair", "ink")]
    alike = ["x" * 40 + letter + "y" * 40 for letter in "abc"]
    for names in (layers, tailed, alike, ["cat", "dog", "cat"]):
        for width, most in ((0.6, 1), (0.9, 2), (2.0, 1)):
            lines = wrap_apart(names, width, most=most)
            assert len(set(map(tuple, lines))) == len(set(names))
            assert all(len(line) <= most for line in lines)
            assert all(text_width(text) <= width for line in lines for text in line)
    rows = [("“", name, "” in ", layer) for name in tailed for layer in layers]
    labels_ = row_labels(rows, 2.5)
    assert len(set(labels_)) == len(rows)
    assert max(map(text_width, labels_)) <= 2.5
    assert row_labels([("a ", "b")], 9) == ["a b"]


@pytest.mark.parametrize("value", [1e-8, 0.001, 0.0501, 0.1, 0.3, 0.6, 0.7, 0.99, 1.0])
def test_nice_limit_is_little_above(value):
    assert value <= nice_limit(value) + 1e-12 <= 1.7 * value


# -- files and state --------------------------------------------------------------------------

HOSTILE = {
    "font.size": 30,
    "text.usetex": True,
    "text.color": "red",
    "axes.facecolor": "green",
    "figure.facecolor": "blue",
    "figure.constrained_layout.use": True,
    "savefig.bbox": "tight",
    "savefig.dpi": 30,
    "savefig.transparent": True,
    "image.cmap": "jet",
    "image.origin": "lower",
    "axes.prop_cycle": matplotlib.cycler(color=["red"]),
    "hatch.color": "red",
    "lines.marker": "s",
}


@pytest.mark.parametrize("make", [make_local, make_global])
def test_files_are_the_same_whatever_the_user_has_set(tmp_path, make):
    import matplotlib.pyplot as plt

    explanation = make(["a"], ["c"]) if make is make_local else make(layers=["a"])
    plot = plot_local if make is make_local else plot_global

    def save(name):
        save_figure(lambda figure: plot(explanation, figure), tmp_path / name)
        return (tmp_path / name).read_bytes()

    plain = save("plain.png")
    assert plain == save("again.png")
    figures = plt.get_fignums()
    with matplotlib.rc_context(HOSTILE):
        before = dict(matplotlib.rcParams)
        assert plain == save("hostile.png")
        assert dict(matplotlib.rcParams) == before
    assert plt.get_fignums() == figures
    with Image.open(tmp_path / "plain.png") as image:
        assert image.format == "PNG"
        assert "Software" not in image.info
        assert image.info["dpi"] == pytest.approx((150, 150), abs=0.1)


def test_threads_leave_the_style_alone(tmp_path):
    explanation = make_global(layers=["a"])
    before = dict(matplotlib.rcParams)

    def save(k):
        save_figure(lambda figure: plot_global(explanation, figure), tmp_path / f"{k}.png")
        return (tmp_path / f"{k}.png").read_bytes()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(save, range(4)))) == 1
    assert dict(matplotlib.rcParams) == before


def test_user_style_is_restored_after_a_failure(tmp_path):
    def fail(figure):
        raise RuntimeError("on purpose")

    before = dict(matplotlib.rcParams)
    with pytest.raises(RuntimeError, match="on purpose"):
        save_figure(fail, tmp_path / "x.png")
    assert dict(matplotlib.rcParams) == before
    with pytest.raises(OSError, match="no folder"):
        save_figure(lambda figure: figure, tmp_path / "no folder" / "x.png")


def test_hundreds_of_concepts_still_make_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr("vtcav.results.figures.page.MAX_PIXELS", 400)
    save_figure(lambda figure: plot_local(make_local(["a"], ["c"]), figure), tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as image:
        assert max(image.size) <= 400


def test_plot_is_for_pyplot():
    import matplotlib.pyplot as plt

    with matplotlib.rc_context(
        {"figure.constrained_layout.use": True, "figure.facecolor": "black"}
    ):
        figure = make_local(["a"], ["c"]).plot(smooth=True)
    try:
        assert figure.number in plt.get_fignums()
        assert figure.get_facecolor() == (1, 1, 1, 1)
        assert "smoothed" in all_text(figure)
        # Drawing again on the same figure replaces what is there.
        count = len(figure.axes)
        plot_local(make_local(["a"], ["c"]), figure)
        assert len(figure.axes) == count
        assert "smoothed" not in all_text(figure)
    finally:
        plt.close(figure)


def test_neither_vtcav_nor_saving_loads_pyplot(tmp_path):
    code = (
        "import sys, vtcav; assert 'matplotlib' not in sys.modules\n"
        "from vtcav.results.figures.page import save_figure\n"
        f"save_figure(lambda figure: figure, {str(tmp_path / 'x.png')!r})\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# -- with a network ---------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[False, True], ids=["classes", "binary"])
def explainer(request):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 5, stride=4),
        torch.nn.ReLU(),
        torch.nn.Conv2d(6, 8, 3),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 1 if request.param else 4),
    )
    names = ["no", "yes"] if request.param else ["a", "b", "c", "d"]
    model = vtcav.Classifier(net, names, vtcav.Preprocess(64), binary=request.param)
    noise = np.random.default_rng(0).integers(0, 256, (24, 64, 64, 3)).astype(np.uint8)
    concepts = {"dark": noise[:8] // 4, "red": noise[8:16] * np.array([1, 0, 0], np.uint8)}
    explainer = vtcav.VisualTCAV(model, ["1", "3"], steps=4, progress=False)
    return explainer.fit(concepts, negatives=noise[16:])


def test_saved_explanations_have_the_same_figure_when_loaded(explainer, tmp_path):
    picture = np.random.default_rng(1).integers(0, 256, (80, 120, 3)).astype(np.uint8)
    local = explainer.explain(picture, classes=2)
    loaded = LocalExplanation.load(local.save(tmp_path))
    save_figure(lambda figure: plot_local(loaded, figure), tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "local.png").read_bytes()
    shown = named(draw(loaded), "number 1 dark")
    rows = local.attributions.query("layer == '1' and concept == 'dark'")
    assert [text.split(" [")[0] for text in shown] == [number(a) for a in rows["attribution"]]


def test_saved_global_explanations_too(explainer, tmp_path):
    pictures = np.random.default_rng(1).integers(0, 256, (5, 64, 64, 3)).astype(np.uint8)
    glob = explainer.explain_class(explainer.model.class_names[1], pictures)
    loaded = GlobalExplanation.load(glob.save(tmp_path))
    save_figure(lambda figure: plot_global(loaded, figure), tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "global.png").read_bytes()


def test_one_map_in_axes_of_ones_own():
    figure, (left, right) = plt.subplots(1, 2)
    right.plot([0, 1])
    local = make_local(layers=["a", "b"], concepts=["c", "d"])
    assert local.plot(layers=["b"], concepts=["d"], ax=left) is figure
    assert left.get_title() == "d, b"
    assert len(left.images) == 2  # the picture and the map
    assert len(right.lines) == 1
    high, wide = local.picture.shape[:2]
    assert left.get_box_aspect() == pytest.approx(high / wide, rel=0.02)
    with pytest.raises(ExplanationError, match="ax= takes one concept map: name its layer"):
        local.plot(layers=["b"], ax=right)
    plt.close(figure)
