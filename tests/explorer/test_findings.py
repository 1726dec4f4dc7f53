"""Found concepts in the explorer: tiles, the concepts that they become, and feedback."""

import io

import numpy as np
import pytest
from PIL import Image
from torch import nn

import vtcav
from tests.helpers.marked import SIDE, net, scenes
from tests.helpers.small import pictures, small_model
from vtcav.errors import ConceptError, ExplanationError, ImageError
from vtcav.explainer.discovery import parts
from vtcav.explorer import ConceptSpec, Example, Session, limits
from vtcav.explorer.export import save_bank
from vtcav.explorer.findings import Findings
from vtcav.explorer.photographs import PhotoOrder
from vtcav.explorer.scheduling import SupersededError
from vtcav.method.discovery.feedback import with_feedback

COUNT = 32  # the first half has a red mark


class Explored:
    """A session over photographs, and what is found in them."""

    def __init__(self, **settings):
        self.shown, self.corners = scenes(COUNT)
        model = small_model(net(nn.ReLU()), preprocess=vtcav.Preprocess(SIDE))
        settings = {"images": self.shown, "negatives": pictures(30, seed=3), **settings}
        self.session = Session(model, ["1"], **settings)
        self.photographs = PhotoOrder(self.session)
        self.findings = Findings(self.session, self.photographs)
        self.keys = [picture.key for picture in self.session.pictures.listed()]

    def red(self):
        """The tile whose patches are on red marks."""
        [finding] = self.findings.kept()
        return max(finding.tiles, key=lambda tile: sum(map(self.on_mark, tile.examples)))

    def on_mark(self, example):
        i = self.keys.index(example.picture)
        (y, x), (left, top, right, bottom) = self.corners[i], example.box
        inside = min(right, x + 9) - max(left, x) > 3 and min(bottom, y + 9) - max(top, y) > 3
        return i < COUNT // 2 and inside

    def concept(self, *tiles, name="red", **more):
        """The concept that the page makes of tiles."""
        first = tiles[0]
        settings = {
            "examples": tuple(e for tile in tiles for e in tile.examples),
            "negatives": first.negatives,
            "shared": False,
            "found": tuple(tile.key for tile in tiles),
        }
        return ConceptSpec(name=name, **{**settings, **more})


@pytest.fixture(scope="module")
def explored():
    made = Explored()
    made.findings.discover("1")
    return made


def test_a_tile_has_the_patches_that_show_it(explored):
    [finding] = explored.findings.kept()
    assert finding.photographs == tuple(explored.keys)
    ranks = [("fine", "look", "do not use").index(tile.level) for tile in finding.tiles]
    assert ranks == sorted(ranks)
    tile = explored.red()
    assert len(tile.examples) == 5
    assert all(explored.on_mark(example) for example in tile.examples)
    assert not {e.picture for e in tile.negatives} & {e.picture for e in tile.examples}
    assert explored.session.status.what == ""


def test_a_named_tile_is_the_direction_that_was_found(explored):
    tile, session = explored.red(), explored.session
    bank = session.bank(explored.concept(tile), ["1"])
    np.testing.assert_array_equal(bank.layers["1"].v[0].numpy(), tile.v)
    # and everything else is as `fit_directions` has it
    chosen = [
        [explored.shown[explored.keys.index(e.picture)] for e in part]
        for part in (tile.examples, tile.negatives)
    ]
    other = vtcav.VisualTCAV(session.model, ["1"], progress=False)
    other.fit_directions(
        {"red": tile.v.copy()}, "1", images=chosen[0], negatives=chosen[1], min_examples=1
    )
    expected = other.cavs.layers["1"]
    np.testing.assert_allclose(bank.layers["1"].e_pos[0], expected.e_pos[0], rtol=1e-6)
    np.testing.assert_allclose(bank.layers["1"].e_neg[0], expected.e_neg[0], rtol=1e-6)
    # what is explained with it is that direction
    found = session.explain(explored.keys[0], explored.concept(tile), "1", [0])
    np.testing.assert_allclose(
        found.M, other.explain(explored.shown[0], classes=1).concept_map("1", "red"), atol=1e-6
    )


def test_marked_photographs_stand_first(explored):
    ranked = explored.photographs.rank(explored.concept(explored.red()), "1")
    assert len(ranked) == COUNT
    first = [explored.keys.index(each.picture) < COUNT // 2 for each in ranked[: COUNT // 2]]
    assert all(first)
    assert all(explored.on_mark(each.peak) for each in ranked[:8])
    assert all(each.peak.box is None for each in ranked if each.presence == 0)


def test_feedback_turns_the_direction(explored):
    tile = explored.red()
    before = explored.photographs.rank(explored.concept(tile), "1")
    unlike = next(each for each in before if each.picture not in {e.picture for e in tile.examples})
    refit = explored.concept(tile, negatives=(*tile.negatives, unlike.peak))
    # by hand: the mean of the feature maps under the patch
    model = explored.session.model
    i = explored.keys.index(unlike.picture)
    x = model.preprocess(Image.fromarray(explored.shown[i]))[None]
    F = model.activations(x, ["1"])["1"][0].numpy()
    left, top, right, bottom = unlike.peak.box
    middles = 2 * np.arange(12) + 1
    rows = np.flatnonzero((middles >= top) & (middles <= bottom))
    columns = np.flatnonzero((middles >= left) & (middles <= right))
    place = F[:, rows][:, :, columns].mean((1, 2))
    expected = with_feedback(tile.v, tile.mean, [], [place])
    v = explored.findings.directions(refit)["1"].numpy()
    np.testing.assert_allclose(v, expected, rtol=1e-4, atol=1e-6)
    after = explored.photographs.rank(refit, "1")
    [now] = [each for each in after if each.picture == unlike.picture]
    assert now.presence < unlike.presence
    assert [e.picture for e in after].index(now.picture) > before.index(unlike)
    [(number, cosine)] = explored.findings.agreement(refit, "1")
    assert number == tile.number
    assert cosine == pytest.approx(v @ tile.v / np.linalg.norm(v) / np.linalg.norm(tile.v))
    assert explored.findings.agreement(explored.concept(tile), "1") == [
        (number, pytest.approx(1.0))
    ]


def test_the_nearest_concept_of_a_tile(explored):
    tile, session = explored.red(), explored.session
    red = ConceptSpec(name="red", examples=tile.examples, negatives=tile.negatives, shared=False)
    boxes = tuple(Example(picture=key, box=(0, 0, 9, 9)) for key in explored.keys[-5:])
    other = ConceptSpec(name="corners", examples=boxes)
    empty = ConceptSpec(name="empty")
    closest = explored.findings.nearest("1", [other, red, empty])
    assert set(closest) == {each.key for each in explored.findings.kept()[0].tiles}
    name, cosine, auc = closest[tile.key]
    cavs = session.bank(red, ["1"], judge=False)
    v = cavs.layers["1"].v[0].numpy()
    assert name == "red"
    assert cosine == pytest.approx(v @ tile.v / np.linalg.norm(v) / np.linalg.norm(tile.v))
    projected = [record.gap["1"].numpy() @ tile.v for record in cavs.evidence("red")]
    assert auc == pytest.approx((projected[0][:, None] > projected[1]).mean())
    # a tile is not compared with a concept that was made of it
    made = explored.findings.nearest("1", [explored.concept(tile), other])
    assert made[tile.key].name == "corners"
    assert explored.findings.nearest("1", [empty]) == {}
    assert explored.findings.nearest("nowhere", [red]) == {}


def test_learned_concepts_are_compared_too(explored, tmp_path):
    tile = explored.red()
    bank = explored.session.bank(explored.concept(tile), ["1"])
    made = Explored(cavs=bank)
    made.findings.discover("1")
    assert made.findings.nearest("1", [])[made.red().key].name == "red"


def test_merged_tiles_lie_between_both(explored):
    [finding] = explored.findings.kept()
    pair = finding.tiles[:2]
    v = explored.findings.directions(explored.concept(*pair))["1"].numpy()
    cosines = [v @ tile.v / np.linalg.norm(v) / np.linalg.norm(tile.v) for tile in pair]
    assert cosines[0] == pytest.approx(cosines[1], abs=1e-5)


def test_a_found_concept_is_saved_as_a_file_of_cavs(explored, tmp_path):
    concept = explored.concept(explored.red())
    with pytest.raises(ConceptError, match="was found, not learned from its images"):
        explored.session.refs_of(concept)
    path = save_bank(tmp_path, "red", explored.session.bank(concept, ["1"]), replace=False)
    bank = vtcav.CavBank.load(path)
    assert bank.table()["direction"].tolist() == ["found in photos"]
    assert explored.session.diagnose(concept, ["1"]).summary()["level"].tolist() != []


def test_what_is_not_here_is_named(explored):
    lost = ConceptSpec(name="lost", examples=explored.red().examples, found=("gone-0",))
    with pytest.raises(ConceptError, match="'lost' was made of is not here any more"):
        explored.session.bank(lost, ["1"])
    with pytest.raises(ExplanationError, match="expected one of the layers"):
        explored.findings.discover("7")
    bare = Session(explored.session.model, ["1"], negatives=pictures(9, seed=3), images=pictures(1))
    own = Example(picture=bare.pictures.listed()[0].key)
    with pytest.raises(ConceptError, match="is not here any more"):
        bare.bank(lost.model_copy(update={"examples": (own,)}), ["1"])
    with pytest.raises(ImageError, match="at least 10 readable images"):
        Explored(images=scenes(9)[0]).findings.discover("1")


def test_a_newer_request_ends_the_search():
    made, calls = Explored(), []

    def check():
        calls.append(made.session.status.what)
        if len(calls) > 3:
            raise SupersededError("a newer request has come")

    with pytest.raises(SupersededError):
        made.findings.discover("1", check)
    assert "passing photos through the network" in calls
    assert made.session.status.what == ""
    assert made.findings.kept() == []


def test_a_search_can_be_stopped_between_factorisations(monkeypatch):
    made, calls = Explored(), []
    own = parts.factorise

    def counted(*given):
        calls.append(given)
        return own(*given)

    def check():
        if calls:
            raise SupersededError("a newer request has come")

    monkeypatch.setattr(parts, "factorise", counted)
    with pytest.raises(SupersededError):
        made.findings.discover("1", check)
    assert len(calls) == 1


def test_photos_that_cannot_be_shown_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(limits, "PICTURES", 3)
    for i, picture in enumerate(pictures(5)):
        data = io.BytesIO()
        Image.fromarray(picture).save(data, "PNG")
        broken = data.getvalue()[:40] if i == 1 else data.getvalue()
        (tmp_path / f"{i}.png").write_bytes(broken)
    session = Session(small_model(), ["1"], negatives=pictures(9, seed=3), images=tmp_path)
    assert [picture.name for picture in session.pictures.listed()] == ["0.png", "2.png"]
    assert [skip.name.rsplit("/", 1)[-1] for skip in session.skipped] == ["1.png", "2 more photos"]
    assert Example(picture=session.pictures.listed()[0].key).box is None
