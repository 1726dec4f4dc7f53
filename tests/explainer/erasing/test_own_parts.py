"""Parts of regions that are told to be a concept's own, from learning to the verdict."""

import html

import numpy as np
import pandas as pd
import pytest
import torch

import vtcav
from tests.helpers.nested import Red, pictures
from vtcav.explainer.erasing.targets import Targets
from vtcav.explainer.learning import place_classifiers
from vtcav.method.erasure.place_classifier import PlaceClassifier
from vtcav.report import write_report
from vtcav.report.image_effects import doubt, effects_of, measured
from vtcav.results.effect_tables import TOGETHER, read_effects
from vtcav.results.figures.effects_panel import EffectsPanel


@pytest.fixture(scope="module")
def model():
    return vtcav.Classifier(Red(), ["red", "none"], vtcav.Preprocess(32, mean=0.0, std=1.0))


def explainer(model, **settings):
    return vtcav.VisualTCAV(model, layers=["relu"], steps=2, progress=False, **settings)


def learned(model, names=("square", "dot"), **settings):
    examples = {
        "square": pictures(12, 1, red=True),
        "dot": pictures(12, 2, blue=True),
        "green": pictures(12, 5),
    }
    concepts = {name: examples[name] for name in names}
    fitted = explainer(model, **settings)
    return fitted.fit(concepts, pictures(24, 3), null_cavs=20, bootstraps=0)


@pytest.fixture(scope="module")
def fitted(model):
    return learned(model)


@pytest.fixture(scope="module")
def glob(fitted):
    return fitted.explain_class("red", pictures(30, 4, red=True, blue=True))


def test_a_dot_that_is_erased_with_what_counts_does_little_by_its_own_part(glob):
    rows = glob.class_effects().set_index("concept")
    square, dot = rows.loc["square"], rows.loc["dot"]
    assert square["drop_apart"] > 0.8 * square["drop"]
    assert dot["drop"] > 0.3 * square["drop"]  # its region covers some of the square
    assert dot["drop_apart"] < 0.1 * dot["drop"]
    assert dot["told"] > 0.9
    assert dot["present_apart"] == 1


def test_the_verdicts_follow_the_own_parts(glob):
    kinds = {verdict.concept: verdict.kind for verdict in glob.verdicts()}
    assert kinds["square"] == "used"
    assert kinds["dot"] != "used"


def test_an_own_part_is_part_of_the_region_and_what_is_alone_is_all_of_it(glob, fitted):
    rows = glob.effects[glob.effects["area"] > 0]
    assert (rows["area_apart"] <= rows["area"]).all()
    alone = fitted.explain_class("red", pictures(8, 6, red=True)).effects
    alone = alone[alone["concept"] == "square"]
    pd.testing.assert_series_equal(alone["drop_apart"], alone["drop"], check_names=False)
    pd.testing.assert_series_equal(alone["area_apart"], alone["area"], check_names=False)
    assert alone["told"].isna().all()


def test_one_image_and_batches_of_others_sizes_agree(fitted, model):
    images = pictures(5, 7, red=True, blue=True)
    several = fitted.explain_class("red", images).effects
    other = explainer(model, batch_size=2, cavs=fitted.cavs)
    wanted = ["drop_apart", "area_apart", "told"]
    found = other.explain_class("red", images).effects
    np.testing.assert_allclose(found[wanted], several[wanted], rtol=1e-4, atol=1e-6)


def test_a_bank_keeps_its_classifier_in_a_file(fitted, tmp_path):
    path = tmp_path / "bank.safetensors"
    fitted.cavs.save(path)
    kept, own = (bank.layers["relu"].classifier for bank in (vtcav.CavBank.load(path), fitted.cavs))
    assert torch.equal(kept.W, own.W)
    assert torch.equal(kept.told, own.told)


def test_some_concepts_of_a_bank_are_told_apart_as_before(model):
    bank = learned(model, ("square", "green", "dot")).cavs
    some = bank.of_concepts(["dot", "square"]).layers["relu"].classifier
    assert torch.equal(some.W, bank.layers["relu"].classifier.W[[0, 3, 1]])


def test_single_concepts_and_those_learned_one_after_another_are_not_told_apart(model):
    one = learned(model, ["square"])
    other = learned(model, ["dot"])
    assert one.cavs.layers["relu"].classifier is None
    both = explainer(model, cavs=one.cavs.followed_by(other.cavs))
    assert both.cavs.layers["relu"].classifier is None
    found = both.explain_class("red", pictures(8, 4, red=True, blue=True)).effects
    shared = found[found["same_region"] != ""]
    assert len(shared)
    assert shared["drop_apart"].isna().all()
    assert found[found["same_region"] == ""]["drop_apart"].notna().all()


def test_what_is_taken_for_another_concept_casts_no_doubt_on_a_concepts_own_part():
    """Some squares are taken for discs, but what is taken for a square is one."""
    told = torch.tensor([[1.0, 0.95, 0.6], [0.4, 1.0, 0.9], [0.8, 0.7, 1.0]])
    classifier = PlaceClassifier(torch.zeros(4, 2), torch.zeros(4), told)
    names, unknown = ("square", "disc", "dot"), torch.zeros(0)
    targets = Targets(TOGETHER, names, {}, {}, unknown, unknown, {"layer": classifier})
    assert targets.told(0, [1]) == pytest.approx(0.95)
    assert targets.told(1, [0]) == pytest.approx(0.4)
    assert targets.told(0, [1, 2]) == pytest.approx(0.6)
    assert np.isnan(targets.told(0, []))


def test_what_is_kept_of_concepts_is_bounded(model, monkeypatch):
    monkeypatch.setattr(place_classifiers, "MOST_CONCEPTS", 2)
    assert learned(model).cavs.layers["relu"].classifier is not None
    three = learned(model, ["square", "dot", "green"])
    assert three.cavs.layers["relu"].classifier is None


def test_the_cache_changes_nothing(model, tmp_path, monkeypatch):
    monkeypatch.setenv("VTCAV_CACHE", str(tmp_path))
    banks = [learned(model, cache=cache).cavs for cache in (False, True, True)]
    taken = banks[2].from_cache.values()
    assert [kinds["candidates"] for kinds in taken if "candidates" in kinds] == [[1, 1], [1, 1]]
    first, *others = (bank.layers["relu"].classifier for bank in banks)
    for other in others:
        assert torch.equal(other.W, first.W)
        assert torch.equal(other.told, first.told)


class Deep(Red):
    """The same with a coarser layer behind, whose grid is another."""

    def __init__(self):
        super().__init__()
        self.pool = torch.nn.AvgPool2d(4)
        self.coarse = torch.nn.ReLU()

    def forward(self, x):
        coarse = self.coarse(self.pool(self.relu(self.conv(x))))
        return torch.relu(self.score(coarse)).mean((2, 3)) * 10


def test_what_other_layers_left_in_the_cache_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("VTCAV_CACHE", str(tmp_path))
    deep = vtcav.Classifier(Deep(), ["red", "none"], vtcav.Preprocess(32, mean=0.0, std=1.0))
    concepts = {"square": pictures(12, 1, red=True), "dot": pictures(12, 2, blue=True)}

    def classifier(layers, cache):
        fitted = vtcav.VisualTCAV(deep, layers=layers, progress=False, cache=cache)
        fitted.fit(concepts, pictures(24, 3), null_cavs=20, bootstraps=0)
        return fitted.cavs.layers["coarse"].classifier

    classifier(["relu", "coarse"], cache=True)  # locations of a finer grid
    found, expected = (classifier(["coarse"], cache=cache) for cache in (True, False))
    assert torch.equal(found.W, expected.W)


def test_effects_of_older_files_have_no_own_parts(glob, tmp_path):
    old = glob.effects.drop(columns=["told", "drop_apart", "area_apart"])
    old.to_parquet(tmp_path / "effects.parquet")
    found = read_effects(tmp_path, "effects")
    assert found["drop_apart"].isna().all()
    assert set(found["layer"]) == {TOGETHER}


def test_the_figure_shows_what_the_verdict_says_by_its_own_part(glob):
    told = {verdict.concept: verdict for verdict in glob.verdicts()}
    assert told["square"].own_part
    panel = EffectsPanel(glob)
    row = glob.class_effects().set_index("concept").loc["square"]
    share = 100 * row["drop_apart"] / row["gap"]
    assert panel.numbers("square")[0].removesuffix(" %") == f"{share:.0f}"
    assert "Of 'square'" in panel.note
    images = glob.effects.query("concept == 'square'")
    expected = 100 / row["gap"] * images["drop_apart"]
    np.testing.assert_allclose(panel.points("square"), np.clip(expected, *panel.limits), rtol=1e-6)


def test_pictures_in_the_report_say_that_they_are_without_all_of_a_region(glob, tmp_path):
    """The verdict is about the own part, the picture and its change are not."""
    glob.save(tmp_path)
    page = html.unescape(write_report(tmp_path).read_text("utf-8"))
    erased = page.partition('id="erased-title"')[2]
    told = {verdict.concept: verdict for verdict in glob.verdicts()}
    notes = erased.count("are without all of the region.")
    assert notes == sum(verdict.own_part for verdict in told.values())
    assert "without all of the region of “square”: where" in page.replace("\n", " ")


def test_an_effect_that_is_mostly_anothers_is_not_set_in_bold(fitted):
    local = fitted.explain(pictures(1, 11, red=True, blue=True)[0], classes=["red"])
    square, dot = local.sentences()
    assert "Without 'square'" in square
    assert "Its region overlaps with that of 'square'; with only its own part of it erased" in dot
    assert [each.sure for each in measured([effects_of(local)])] == [True, False]
    assert doubt([effects_of(local)], "red", "square") == ""
    assert doubt([effects_of(local)], "red", "dot") == (
        "But what changes without its region is mostly another concept's."
    )


def test_a_correction_does_not_count_what_is_anothers(fitted):
    """A dot lies in the square that counts: taking the square out is no loss of the dot's."""
    shown = pictures(6, 7, red=True, blue=True)
    labelled = {"red": shown, "none": pictures(6, 8)}
    report = fitted.correct("square", "relu", "present", labelled, rounds=1, anyway=True).report
    rows = report.images.query("concept == 'dot' and true_class == 'red'")
    own = fitted.explain_class("red", shown).effects.query("concept == 'dot'")
    assert (own["drop"] > 0.2).all()
    np.testing.assert_allclose(rows["drop"], own["drop_apart"], atol=1e-5)
    square = report.images.query("concept == 'square' and true_class == 'red'")
    assert (square["drop"] > 0.4).all()


def test_advice_that_was_followed_is_not_given_again(model, tmp_path):
    """The same pictures, in other arrays: what is compared is their content."""
    examples = {"square": pictures(12, 1, red=True), "dot": pictures(12, 2, blue=True)}
    plain = pictures(24, 3)
    negatives = {"dot": np.concatenate([plain, examples["square"].copy()]), "square": plain}
    fitted = explainer(model).fit(examples, negatives, null_cavs=20, bootstraps=0)
    fitted.cavs.save(tmp_path / "bank.safetensors")
    kept = explainer(model, cavs=vtcav.CavBank.load(tmp_path / "bank.safetensors"))
    found = kept.explain_class("red", pictures(30, 4, red=True, blue=True))
    found = vtcav.GlobalExplanation.load(found.save(tmp_path / "class"))
    assert found.provenance.among_negatives == {"dot": ("square",)}
    [dot] = [each for each in found.verdicts() if each.concept == "dot"]
    assert dot.kind == "cannot be told"
    assert "examples of 'square' among the negatives of 'dot' did not suffice" in dot.sentence
    note = (
        "Shares are of the score above that of the negatives of all concepts together, among them "
        "examples of 'square': with other negatives they differ."
    )
    assert note == found.provenance.shares_note
    assert note in EffectsPanel(found).note
    page = write_report(tmp_path).read_text("utf-8")
    overview = page[page.index('id="overview"') : page.index("What the attributions say")]
    assert html.unescape(overview).count(note) == 1
    assert note in html.unescape(found._repr_html_())


def test_one_set_of_negatives_without_concepts_needs_no_note(glob, model, tmp_path):
    assert glob.provenance.among_negatives == {}
    assert glob.provenance.shares_note == ""
    image = pictures(1, 4, red=True, blue=True)[0]
    own = explainer(model, fill=None)
    examples = {"square": pictures(12, 1, red=True), "dot": pictures(12, 2, blue=True)}
    own.fit(examples, {"square": pictures(24, 3), "dot": pictures(24, 8)}, null_cavs=0)
    local = own.explain(image)
    assert local.provenance.negative_sets == 2
    assert local.provenance.shares_note == ""  # nothing was erased
