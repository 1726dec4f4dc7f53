import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy import ndimage

from vtcav.datasets import textures
from vtcav.diagnostics import duplicates
from vtcav.diagnostics.duplicates import NEAR, find_copies
from vtcav.results.image_set import ImageSetRecord, perceptual_hash


def scene(seed, size=(160, 120), roughness=9.0):
    """A picture of blotches with a light of its own, as PIL image."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(size[1], size[0], 3))
    blotches = ndimage.gaussian_filter(noise, (roughness, roughness, 0))
    blotches = blotches / blotches.std() * 45 + rng.uniform(90, 160)
    ramp = np.linspace(-1, 1, size[0])[None, :, None] * rng.uniform(-30, 30)
    return Image.fromarray((blotches + ramp).clip(0, 255).astype(np.uint8))


def jpeg(picture, quality):
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(io.BytesIO(file.getvalue())).convert("RGB")


def crop(picture, left, top, right, bottom):
    w, h = picture.size
    return picture.crop((left * w, top * h, right * w, bottom * h))


CHANGES = {
    "saved again": lambda p: jpeg(p, 25),
    "resized": lambda p: p.resize((71, 83)),
    "enlarged": lambda p: p.resize((400, 300)),
    "brighter": lambda p: ImageEnhance.Brightness(p).enhance(1.25),
    "darker": lambda p: ImageEnhance.Brightness(p).enhance(0.5),
    "flatter": lambda p: ImageEnhance.Contrast(p).enhance(0.5),
    "grey": lambda p: p.convert("L").convert("RGB"),
    "cropped": lambda p: crop(p, 0.04, 0.04, 0.96, 0.96),
    "cropped at a corner": lambda p: crop(p, 0.08, 0.08, 1, 1),
    "cropped and saved": lambda p: jpeg(crop(p, 0, 0.1, 0.9, 1), 50),
}


def picture_set(role, pictures):
    prints = np.stack([perceptual_hash(picture) for picture in pictures])
    digests = tuple(f"{role}{i}" for i in range(len(prints)))
    return ImageSetRecord(role, digests, digests, prints, {})


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_found_and_named(change):
    originals = [scene(seed) for seed in range(12)]
    changed = picture_set("b", [CHANGES[change](picture) for picture in originals[3:]])
    copies = find_copies([picture_set("a", originals), changed])
    assert copies.found(0, 1).tolist() == [False] * 3 + [True] * 9
    assert copies.partner[3:12, 1].tolist() == list(range(12, 21))
    assert copies.found(1, 0).all()
    assert not copies.found(0, 0).any()
    table = copies.table()
    assert list(table["image"]) == [f"a{i}" for i in range(3, 12)]
    assert list(table["other_image"]) == [f"b{i}" for i in range(9)]
    assert set(table["kind"]) == {"near"}
    assert table["similarity"].between(NEAR, 1.0001).all()


def test_different_scenes_are_no_copies():
    copies = find_copies([picture_set("a", [scene(seed) for seed in range(60)])])
    assert not copies.found(0, 0).any()
    assert np.nanmax(copies.similarity) < NEAR - 0.1


@pytest.mark.parametrize("name", textures.NAMES)
def test_drawings_of_one_texture_are_no_copies(name):
    drawn = [Image.fromarray(picture) for picture in textures.draw(name, 60, size=96, seed=3)]
    copies = find_copies([picture_set("a", drawn)])
    assert not copies.found(0, 0).any()


def with_ruler(picture, share):
    """The picture with a ruler over a share of it, always the same."""
    values = np.asarray(picture).copy()
    height = round(share * len(values))
    values[-height:] = 230
    for k in range(0, values.shape[1], 20):
        values[-height:, k : k + 8 + k % 3 * 4] = 20
    return Image.fromarray(values)


@pytest.mark.parametrize("share", [0.2, 0.55, 0.6])
@pytest.mark.parametrize("first", [0, 2, 4])
def test_two_photographs_with_one_ruler_are_no_copies(share, first):
    flat = [ImageEnhance.Contrast(scene(seed)).enhance(0.3) for seed in (first, first + 1)]
    pictures = [with_ruler(picture, share) for picture in flat]
    others = [scene(seed) for seed in range(20, 50)]
    copies = find_copies([picture_set("a", pictures), picture_set("b", others)])
    assert not copies.close.any()
    again = picture_set("c", [jpeg(picture, 60) for picture in pictures])
    copies = find_copies([picture_set("a", pictures), picture_set("b", others), again])
    assert copies.found(0, 2).all()


def test_a_thing_added_to_a_photograph_makes_it_alike_but_no_copy():
    without = [scene(seed) for seed in range(8)]
    with_thing = [picture.copy() for picture in without]
    for picture in with_thing:
        picture.paste((250, 250, 30), (60, 40, 85, 65))
        picture.paste((10, 10, 90), (68, 48, 78, 58))
    copies = find_copies([picture_set("a", with_thing), picture_set("b", without)])
    assert copies.alike[:8, 1].sum() >= 6
    assert copies.found(0, 1).sum() <= 2


def test_plain_pictures_are_no_copies():
    y, x = np.mgrid[0:64, 0:64] / 64
    plain = [
        np.full((64, 64), 255.0),
        np.full((64, 64), 40.0),
        np.random.default_rng(0).normal(128, 6, (64, 64)),
        np.random.default_rng(1).normal(128, 6, (64, 64)),
        60 + 120 * y,  # two skies
        40 + 150 * y,
        60 + 90 * (x - 0.5) ** 2 + 90 * (y - 0.4) ** 2,  # two lamps
        80 + 70 * (x - 0.5) ** 2 + 80 * (y - 0.5) ** 2,
    ]
    pictures = [Image.fromarray(p.clip(0, 255).astype(np.uint8)) for p in plain]
    copies = find_copies([picture_set("a", pictures), picture_set("b", [scene(0)])])
    assert copies.plain.tolist() == [True] * 8 + [False]
    assert np.isnan(copies.similarity).all()
    assert not copies.found(0, 0).any()
    assert copies.table().empty


@pytest.mark.parametrize("colour", [(255, 255, 255), (250, 30, 30), (0, 0, 0)])
def test_a_mark_that_all_carry_makes_no_copies(colour):
    dark = textures.draw("meshed", 40, size=64) // 3
    dark[:, 4:20, 4:20] = colour
    pictures = [Image.fromarray(picture) for picture in dark]
    copies = find_copies([picture_set("a", pictures)])
    assert not copies.found(0, 0).any()
    copies = find_copies([picture_set("a", pictures), picture_set("b", [jpeg(pictures[7], 80)])])
    assert copies.found(0, 1).tolist() == [i == 7 for i in range(40)]


def test_equal_content_is_a_copy_even_where_it_is_plain():
    prints = np.zeros((4, 16, 16), np.uint8)
    a = ImageSetRecord("a", ("1", "2", "3", "4"), ("x", "y", "x", "x"), prints, {})
    b = ImageSetRecord("b", ("5",), ("y",), prints[:1], {})
    copies = find_copies([a, b])
    assert copies.found(0, 0).tolist() == [True, False, True, True]
    assert copies.earlier.tolist() == [False, False, True, True, False]
    assert copies.found(0, 1).tolist() == [False, True, False, False]
    assert copies.found(1, 0).tolist() == [True]
    assert not copies.found(1, 1).any()
    pairs = copies.table()[["image", "other_image", "kind"]].to_numpy().tolist()
    assert pairs == [["1", "3", "exact"], ["1", "4", "exact"], ["2", "5", "exact"]]


def test_only_the_later_ones_of_a_set_are_counted_again():
    pictures = [scene(0), scene(1), jpeg(scene(0), 40), scene(2), jpeg(scene(0), 70)]
    copies = find_copies([picture_set("a", pictures)])
    assert copies.earlier.tolist() == [False, False, True, False, True]


def test_a_set_of_nothing_but_copies_is_found():
    pictures = [jpeg(scene(0), quality) for quality in range(30, 90, 6)]
    copies = find_copies([picture_set("a", pictures), picture_set("b", [scene(9), scene(8)])])
    assert copies.found(0, 0).all()
    assert copies.earlier.sum() == 9
    alone = find_copies([picture_set("a", pictures)])
    assert alone.earlier.sum() >= 7


def test_pictures_that_all_look_alike_are_copies_only_when_closer_than_usual():
    # as X-rays of one view: one body, and what differs from person to person
    body = np.asarray(scene(0, (64, 64)), float)
    rng = np.random.default_rng(0)
    people = [
        body + ndimage.gaussian_filter(rng.normal(size=(64, 64, 1)), (4, 4, 0)) * 80
        for _ in range(30)
    ]
    people = [Image.fromarray(person.clip(0, 255).astype(np.uint8)) for person in people]
    one = picture_set("a", people)
    assert (find_copies([one]).similarity > 0.85).all()
    copies = find_copies([one, picture_set("b", [jpeg(person, 40) for person in people])])
    assert (copies.thresholds > NEAR).all()
    assert not copies.found(0, 0).any()
    assert copies.found(0, 1).all()
    assert copies.partner[:30, 1].tolist() == list(range(30, 60))


def face(rng, side=64):
    """A drawing of which all parts are where they are in every other, by a few pixels."""
    y, x = np.mgrid[:side, :side] / side

    def near(middle, size):
        return middle + rng.uniform(-size, size)

    d = np.hypot((x - near(0.5, 0.03)) / near(0.3, 0.03), (y - near(0.5, 0.03)) / near(0.4, 0.03))
    grey = 60 + rng.uniform(60, 130) / (1 + np.exp((d - 1) * 20))
    for across, down, width, height, dark in (
        *((0.38, 0.42, 0.004, 0.0015, 80), (0.62, 0.42, 0.004, 0.0015, 80)),
        (0.5, 0.7, 0.01, 0.002, 60),
    ):
        u, v = x - near(across, 0.025), y - near(down, 0.025)
        grey -= dark * np.exp(-(u**2 / width + v**2 / height))
    smooth = ndimage.gaussian_filter(rng.normal(size=(side, side)), side / 10)
    return Image.fromarray((grey + 6 * smooth / smooth.std()).clip(0, 255).astype(np.uint8))


def test_alike_pictures_are_judged_by_how_alike_their_own_sets_are():
    rng = np.random.default_rng(1)
    faces = picture_set("a", [face(rng) for _ in range(150)])
    # a set of other pictures says nothing of how alike faces are
    others = picture_set("b", [scene(seed) for seed in range(30)])
    copies = find_copies([faces, others])
    assert (np.nanmax(copies.similarity[:150, 0]) > NEAR) & (copies.thresholds[0, 0] > 0.95)
    assert copies.thresholds[1, 1] == np.float32(NEAR)
    assert not copies.close.any()
    rng = np.random.default_rng(1)
    again = [CHANGES[change](face(rng)) for change in ("saved again", "resized", "darker") * 5]
    copies = find_copies([faces, others, picture_set("c", again)])
    assert copies.found(2, 0).all()
    assert copies.partner[180:, 0].tolist() == list(range(15))


def test_blocks_change_nothing(monkeypatch):
    pictures = [scene(seed) for seed in range(7)]
    sets = [
        picture_set("a", pictures),
        picture_set("b", [jpeg(p, 60) for p in [*pictures[4:], scene(99), pictures[4]]]),
    ]
    whole = find_copies(sets)
    monkeypatch.setattr(duplicates, "_BLOCK", 4)
    blocks = find_copies(sets)
    np.testing.assert_allclose(blocks.similarity, whole.similarity, atol=1e-5)
    assert blocks.earlier.tolist() == whole.earlier.tolist()
    assert blocks.found(0, 1).tolist() == whole.found(0, 1).tolist()


def test_one_image_alone_has_nothing_to_be_compared_with():
    copies = find_copies([picture_set("a", [scene(0)])])
    assert np.isnan(copies.similarity).all()
    assert copies.partner.tolist() == [[-1]]
    assert not copies.found(0, 0).any()
