"""Textures: reproducible, varied, and each with the property that its name promises."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from vtcav.datasets import textures
from vtcav.errors import ConceptError

names = st.sampled_from(textures.NAMES)
seeds = st.integers(0, 2**40)


@cache
def drawings(name, size=160):
    return textures.draw(name, 8, size=size, seed=0)


# ---------------------------------------------------------------- measures of a picture


def grey(picture):
    """Return the luma, smoothed against grain."""
    return ndimage.gaussian_filter(picture @ np.array([0.299, 0.587, 0.114]), 1.0)


def directedness(picture, fold, window=None):
    """Return 1 when all edges lie along `fold` / 2 lines at equal angles, 0 for edges anywhere.

    With a window, the mean over windows of that size rather than the value of the whole picture.
    """
    dy, dx = np.gradient(grey(picture))
    edge = dx + 1j * dy
    turned = np.abs(edge) ** 2 * np.exp(1j * fold * np.angle(edge))
    if window is not None:
        turned = sum(
            unit * ndimage.gaussian_filter(part, window)
            for unit, part in ((1, turned.real), (1j, turned.imag))
        )
        return np.abs(turned).mean() / (np.abs(edge) ** 2).mean()
    return abs(turned.mean()) / (np.abs(edge) ** 2).mean()


def one_sidedness(picture):
    """Return how much steeper edges rise than they fall, along the direction where it is most."""
    dy, dx = np.gradient(np.log(grey(picture) + 8))
    slopes = (np.cos(a) * dx + np.sin(a) * dy for a in np.linspace(0, np.pi, 12, endpoint=False))
    return max(abs((d**3).mean()) / (d**2).mean() ** 1.5 for d in slopes)


def pieces(picture):
    """Return the phase of more pieces: their number and area; and the other's largest share."""
    level = grey(picture)
    level = level / ndimage.gaussian_filter(level, picture.shape[0] / 6)
    bright = level > (np.percentile(level, 5) + np.percentile(level, 95)) / 2
    phases = []
    for phase in (bright, ~bright):
        sizes = np.bincount(ndimage.label(phase)[0].ravel())[1:]
        sizes = sizes[sizes > 8]
        phases.append((len(sizes), phase.mean(), sizes.max() / sizes.sum()))
    (count, area, _), (_, _, largest) = sorted(phases, reverse=True)
    return count, area, largest


def median(measure, name, *args):
    return np.median([measure(picture, *args) for picture in drawings(name)], axis=0)


# ---------------------------------------------------------------- what each name promises


def test_striped_has_edges_along_one_line_everywhere():
    assert min(directedness(picture, 2) for picture in drawings("striped")) > 0.8


def test_chequered_has_edges_along_two_lines_at_right_angles():
    for picture in drawings("chequered"):
        assert directedness(picture, 2) < 0.3
        assert directedness(picture, 4) > 0.4


def test_dotted_has_many_small_spots_apart_on_one_ground():
    for picture in drawings("dotted"):
        count, area, ground = pieces(picture)
        assert count >= 8
        assert area < 0.45
        assert ground > 0.95


def test_dotted_has_edges_in_all_directions():
    assert median(directedness, "dotted", 2) < 0.15
    assert median(directedness, "dotted", 4) < 0.15


def test_zigzagged_is_stripes_that_turn_at_corners():
    near, far = (median(directedness, "zigzagged", 2, window) for window in (6, None))
    assert near > far + 0.15
    straight_near, straight_far = (median(directedness, "striped", 2, w) for w in (6, None))
    assert straight_near < straight_far + 0.1


def test_meshed_is_one_net_around_many_holes():
    count, area, net = median(pieces, "meshed")
    assert count >= 20
    assert area > 0.5
    assert net > 0.95


def test_scaly_is_closed_cells_with_an_upper_and_a_lower_side():
    count, _, rims = median(pieces, "scaly")
    assert count >= 20
    assert rims > 0.9
    others = [median(one_sidedness, name) for name in textures.NAMES if name != "scaly"]
    assert median(one_sidedness, "scaly") > 1.25 * max(others)


# ---------------------------------------------------------------- every texture


@pytest.mark.parametrize("name", textures.NAMES)
def test_drawings_of_a_name_vary_in_colour_and_scale(name):
    pictures = drawings(name).astype(float)
    colours = pictures.mean((1, 2))
    assert np.linalg.norm(colours[:, None] - colours, axis=-1).max() > 60
    edges = [np.hypot(*np.gradient(grey(p))).mean() / grey(p).std() for p in drawings(name)]
    assert max(edges) > 1.3 * min(edges)


@given(name=names, seed=seeds, size=st.integers(16, 64))
@settings(max_examples=25, deadline=None)
def test_every_drawing_has_contrast(name, seed, size):
    pictures = textures.draw(name, 2, size=size, seed=seed)
    assert pictures.shape == (2, size, size, 3)
    assert pictures.dtype == np.uint8
    assert (pictures.std((1, 2)).max(-1) > 8).all()


@given(name=names, seed=seeds, few=st.integers(1, 3), more=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_a_larger_count_keeps_the_first_drawings(name, seed, few, more):
    first = textures.draw(name, few, size=32, seed=seed)
    np.testing.assert_array_equal(textures.draw(name, few + more, size=32, seed=seed)[:few], first)


@given(name=names, seed=seeds)
@settings(max_examples=15, deadline=None)
def test_no_two_drawings_are_alike(name, seed):
    pictures = np.concatenate([textures.draw(name, 2, size=32, seed=s) for s in (seed, seed + 1)])
    assert len(np.unique(pictures.reshape(4, -1), axis=0)) == 4


def test_names_do_not_share_their_random_choices():
    striped, dotted = (textures.draw(n, 1, size=64)[0].mean((0, 1)) for n in ("striped", "dotted"))
    assert not np.allclose(striped, dotted, atol=3)


def test_another_process_draws_the_same():
    code = "from vtcav import textures as t; print(t.draw('meshed', 2, size=32).tobytes().hex())"
    answers = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": salt},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for salt in ("1", "2")
    }
    assert answers == {textures.draw("meshed", 2, size=32).tobytes().hex() + "\n"}


def test_it_needs_neither_torch_nor_matplotlib():
    code = "import sys, vtcav.datasets.textures; print({'torch', 'matplotlib'} & set(sys.modules))"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "set()"


def test_the_size_changes_the_resolution_only():
    small, large = (textures.draw("chequered", 3, size=size) for size in (64, 128))
    shrunk = large.reshape(3, 64, 2, 64, 2, 3).mean((2, 4))
    for a, b in zip(small, shrunk, strict=True):
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.9


# ---------------------------------------------------------------- errors


def test_a_near_miss_is_answered_with_the_name_that_was_meant():
    with pytest.raises(
        ConceptError,
        match=r"no drawn texture 'stripes'; did you mean 'striped'\? there are 'striped', ",
    ):
        textures.draw("stripes", 1)


@pytest.mark.parametrize("name", ["wallpaper", "", None])
def test_an_unknown_name_is_answered_with_the_list(name):
    with pytest.raises(ConceptError, match=f"{name!r}; .*{', '.join(map(repr, textures.NAMES))}"):
        textures.draw(name, 1)


@pytest.mark.parametrize(
    ("what", "value", "least"),
    [
        ("count", 0, 1),
        ("count", -3, 1),
        ("count", 2.0, 1),
        ("size", 15, 16),
        ("size", "224", 16),
        ("seed", -1, 0),
        ("seed", None, 0),
    ],
)
def test_a_number_that_cannot_be_used_is_named(what, value, least):
    wanted = {"count": 1, "size": 32, "seed": 0} | {what: value}
    match = f"{what} to be a whole number of at least {least}, got {value!r}"
    with pytest.raises(ConceptError, match=match):
        textures.draw("striped", **wanted)


# ---------------------------------------------------------------- files


def read(file):
    with Image.open(file) as image:
        return np.asarray(image)


def test_write_makes_one_folder_of_pictures_per_texture(tmp_path):
    folders = textures.write(tmp_path / "new" / "concepts", count=2, size=32, seed=3)
    assert list(folders) == list(textures.NAMES)
    for name, folder in folders.items():
        assert folder == tmp_path / "new" / "concepts" / name
        files = sorted(folder.iterdir())
        assert [file.name for file in files] == [f"{name}_000.png", f"{name}_001.png"]
        written = np.stack([read(file) for file in files])
        np.testing.assert_array_equal(written, textures.draw(name, 2, size=32, seed=3))


def test_write_takes_a_single_name_and_leaves_other_files_alone(tmp_path):
    (tmp_path / "dotted").mkdir()
    (tmp_path / "dotted" / "mine.png").write_bytes(b"mine")
    (tmp_path / "dotted" / "dotted_000.png").write_bytes(b"old")
    textures.write(str(tmp_path), "dotted", 1, size=32)
    assert (tmp_path / "dotted" / "mine.png").read_bytes() == b"mine"
    np.testing.assert_array_equal(
        read(tmp_path / "dotted" / "dotted_000.png"), textures.draw("dotted", 1, size=32)[0]
    )


@pytest.mark.parametrize("wrong", [{"names": ["striped", "dots"]}, {"count": 0}, {"size": 1}])
def test_write_refuses_before_it_writes(tmp_path, wrong):
    with pytest.raises(ConceptError):
        textures.write(tmp_path / "out", **wrong)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_no_half_picture(tmp_path, monkeypatch):
    def broken(self, file, **options):
        Path(file).write_bytes(b"half a pict")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", broken)
    with pytest.raises(OSError, match="disk full"):
        textures.write(tmp_path, ["striped"], 2, size=32)
    assert list((tmp_path / "striped").iterdir()) == []
