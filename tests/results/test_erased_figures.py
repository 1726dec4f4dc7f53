"""Figures, notebooks and report show what was erased, and how far the score falls."""

import math
from dataclasses import replace
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

import vtcav
from tests.helpers.small import pictures, small_explainer
from vtcav.errors import ExplanationError
from vtcav.report import build_report
from vtcav.results.erased import change_text
from vtcav.results.figures.effects_panel import EffectsPanel
from vtcav.results.figures.erasure import plot_erasure
from vtcav.results.figures.global_explanation import plot_global
from vtcav.results.figures.local.content import LocalContent
from vtcav.results.figures.local.figure import plot_local
from vtcav.results.figures.local.table import LocalTable
from vtcav.results.figures.overlay import outlined
from vtcav.results.figures.selection import Shown
from vtcav.results.verdicts import image_sentences, verdicts

ENDS = "drop_low", "drop_high", "fill_low", "fill_high"
IMAGE = pictures(1, seed=21, low=100)[0]


@pytest.fixture(scope="module")
def explainer():
    return small_explainer()


@pytest.fixture(scope="module")
def local(explainer):
    return explainer.explain(IMAGE, classes=3)


@pytest.fixture(scope="module")
def glob(explainer):
    return explainer.explain_class("cat", pictures(5, seed=22, low=100))


def texts(figure, gid=None):
    found = figure.findobj(Text)
    return [t.get_text() for t in found if gid is None or t.get_gid() == gid]


def shown(figure, label):
    (axes,) = [axes for axes in figure.axes if axes.get_label() == label]
    return axes


def test_the_figure_of_an_image_shows_it_without_each_concept(local):
    figure = plot_local(local, Figure())
    for concept in local.concepts:
        rows = local.effects[local.effects["concept"] == concept]
        expected = [change_text(r.drop, r.share) for r in rows.itertuples()]
        said = texts(figure, f"change {concept}")
        assert [s.split(" (p")[0] for s in said] == expected
        axes = shown(figure, f"without {concept}")
        if local.region(concept).any():
            drawn = np.asarray(axes.images[-1].get_array())
            assert (drawn == local.erased(concept).after).all()
        else:
            assert "seen" in str(texts(axes)) or "nowhere" in str(texts(axes))


def explained(glob, **rows):
    """A class of which concepts have other effects: share, and gap, with 4 logits gone."""
    own = glob.class_effects()
    own = own[own["concept"] == "bright"]
    numbers = dict(zip((*ENDS, "drop"), (3.6, 4.1, 3.5, 4.5, 4.0), strict=True))
    effects = pd.concat(
        [own.assign(concept=name, share=s, gap=g, **numbers) for name, (s, g) in rows.items()],
        ignore_index=True,
    )
    told = verdicts(effects, glob.class_name)
    images = glob.shown_effects().fillna({"drop": 4.0})
    return SimpleNamespace(
        class_effects=lambda: effects,
        shown_effects=lambda: images,
        verdicts=lambda: told,
        provenance=glob.provenance,
    )


def test_the_numbers_of_a_class_have_the_interval_and_unit_of_its_verdict(glob):
    nan = float("nan")
    for given, bright, cold, unit in (
        ({"bright": (0.4, 10), "cold": (0.8, 5)}, "40 % (35 to 45 %)", "80 % (70 to 90 %)", "%"),
        # a gap within the spread of the negatives' scores makes no share
        ({"bright": (nan, 10), "cold": (nan, 5)}, "4.00 logits", "4.00 logits", "logits"),
        ({"bright": (0.4, 10), "cold": (nan, 5)}, "40 % (35 to 45 %)", "4.00 logits", "logits"),
    ):
        one = explained(glob, **given)
        panel = EffectsPanel(one)
        said = {verdict.concept: verdict.sentence for verdict in one.verdicts()}
        for concept, change in (("bright", bright), ("cold", cold)):
            assert change in said[concept]
            mean, ends = panel.numbers(concept)
            assert change.startswith(mean.removesuffix(" ?").removesuffix(" ns"))
            assert ends == (
                "[3.50, 4.50]" if "logits" in change else f"[{change[6:8]}, {change[12:14]}]"
            )
        assert panel.label == f"score that is gone, in {unit}"
        assert ("In logits, where" in panel.note) == (unit == "logits")


def test_what_cannot_be_told_is_neither_first_nor_filled_in_the_figure_of_a_class(glob):
    """The largest effect may be that of another concept: what is used comes first."""
    one = explained(glob, bright=(0.8, 5), cold=(0.4, 10))
    effects = one.class_effects().assign(
        present=1.0, area=0.1, q_value=0.001, placebo_mean=0.1, drop_apart=[0.1, math.nan], n=20
    )
    told = verdicts(effects, glob.class_name)
    assert [(each.concept, each.kind) for each in told] == [
        ("cold", "used"),
        ("bright", "cannot be told"),
    ]
    one.class_effects, one.verdicts = lambda: effects, lambda: told
    panel = EffectsPanel(one)
    assert panel.place("cold") < panel.place("bright")
    assert [panel.sure(concept) for concept in ("cold", "bright")] == [True, False]
    assert [panel.numbers(concept)[0] for concept in ("cold", "bright")] == ["40 %", "80 % ?"]
    assert "?: cannot be told" in panel.note


def test_what_is_mostly_anothers_comes_last_in_an_image(local):
    """Whatever its size, in sentences, figure and notebook alike."""
    effects = local._effects.assign(area=0.1, p_value=0.01, placebos=20)
    first = max(local.concepts, key=lambda c: effects[effects["concept"] == c]["drop"].abs().max())
    own = effects["concept"] == first
    sizes = np.where(own, 6.0, 2.0)
    drops = {"drop": sizes, "drop_apart": np.where(own, 0.1, 2.0)}
    effects = effects.assign(**drops, drop_low=sizes, drop_high=sizes, placebo_mean=0.0)
    one = replace(local, _effects=effects)
    said = [text for text in one.sentences() if text.startswith("Without")]
    assert [text.startswith(f"Without '{first}'") for text in said] == [False] * (len(said) - 1) + [
        True
    ]
    content = LocalContent(one, Shown(), smooth=False)
    assert content.concepts[-1] == first
    assert "another concept’s last" in content.order
    assert not any(change.sure for change in content.measured(first))
    assert all(change.sure for name in content.concepts[:-1] for change in content.measured(name))


def test_the_table_of_many_concepts_has_measured_beside_attribution(local):
    content = LocalContent(local, Shown(), smooth=False)
    drops = local.effects.drop_duplicates("concept").set_index("concept")["drop"]
    sizes = drops[list(content.concepts)].abs().fillna(-1)
    assert sizes.is_monotonic_decreasing
    figure = Figure()
    LocalTable(content).draw(figure)
    for concept in local.concepts:
        rows = local.effects[local.effects["concept"] == concept]
        said = texts(figure, f"change {concept}")
        if rows["area"].iloc[0] > 0:
            expected = [change_text(r.drop, r.share) for r in rows.itertuples()]
            assert [s.split(" (p")[0] for s in said] == expected
            after = np.asarray(shown(figure, f"without {concept}").images[-1].get_array())
            assert (after == local.erased(concept).after).all()
        else:
            assert said[0].startswith("n")  # nowhere, not seen
        best = local.best_layers.get(concept, local.layers[-1])
        assert len(texts(figure, f"number {best} {concept}")) == 3
    assert {"measured", "attribution"} <= set(texts(figure))


def test_scores_without_a_share_have_bars_in_logits(local):
    effects = local._effects.assign(share=float("nan"))
    content = LocalContent(replace(local, _effects=effects), Shown(), smooth=False)
    largest = effects["drop"].abs().max()
    assert largest <= content.logits <= 2.5 * largest
    assert content.measured_text.endswith(f"(0 to -{content.logits:g} logits)")
    for concept in local.concepts:
        rows = effects[effects["concept"] == concept]
        for change, row in zip(content.measured(concept), rows.itertuples(), strict=True):
            if row.drop == row.drop:
                assert change.share == pytest.approx(max(row.drop, 0) / content.logits)
    assert "share of the class's logit" not in " ".join(content.notes())


def test_without_erasure_nothing_is_added():
    local = small_explainer(fill=None).explain(IMAGE, classes=1)
    figure = plot_local(local, Figure())
    assert not [a for a in figure.axes if a.get_label().startswith("without")]
    assert local.sentences() == []
    assert "without" not in local._repr_html_()


def test_the_figure_of_a_class_begins_with_the_verdict(glob):
    figure = plot_global(glob, Figure())
    said = " ".join(" ".join(texts(figure)).split())
    assert " ".join(glob.verdicts()[0].sentence.split()) in said
    axes = shown(figure, "panel without")
    effects = glob.class_effects().set_index("concept")
    means = [float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "D"]
    order = effects["drop"].dropna().sort_values(key=abs, ascending=False)
    assert effects["share"].isna().all()
    assert "in logits" in said
    assert means == pytest.approx(list(order))


def test_the_figure_of_a_marked_region(explainer):
    found = explainer.erase(IMAGE, (2, 2, 9, 9), classes=2)
    figure = plot_erasure(found, Figure())
    said = " ".join(" ".join(texts(figure)).split())
    for sentence in found.sentences():
        assert sentence in said
    assert (np.asarray(shown(figure, "without").images[-1].get_array()) == found.erased.after).all()
    plt.close("all")


def test_notebooks_show_pictures_without_concepts(local, glob):
    html = local._repr_html_()
    found = [c for c in local.concepts if local.region(c).any()]
    assert html.count("<img") == 1 + 4 + 2 * len(found)
    first = {picture.concept: picture for picture in reversed(glob.erased)}
    html = glob._repr_html_()
    for concept, picture in first.items():
        assert f"without “{concept}”: {picture.change}" in html


def test_the_report_shows_pictures_without_concepts(local, glob):
    page = build_report([local], [glob])
    assert "What was erased" in page
    assert page.count('class="pair"') == len(glob.erased)
    for picture in glob.erased:
        assert f"<b>{picture.change}</b>" in page
    assert "Without \\u201c" in page or "nowhere" in page or "not seen" in page


def test_outlines_leave_the_inside_alone():
    picture, region = np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), bool)
    region[10:30, 10:30] = True
    drawn = outlined(picture, region)
    assert (drawn[12:28, 12:28] == 0).all()
    assert (drawn[10, 10:30] == [230, 159, 0]).all()
    assert (drawn[9, 10:30] == 255).all()


def row(**changes):
    base = {
        "concept": "ruler",
        "class_name": "animal",
        "logit": 6.0,
        "reference": 1.0,
        "drop": 3.9,
        "drop_low": 3.7,
        "drop_high": 4.0,
        "share": 0.78,
        "area": 0.1,
        "seen": 0.99,
        "placebo_mean": 0.15,
        "p_value": 0.048,
    }
    return base | changes


def test_sentences_on_one_image():
    nan = float("nan")
    rows = [
        row(concept="grass", drop=nan, share=nan, seen=0.6, area=0.0, p_value=nan),
        row(concept="fur", area=0.0, drop=0.0),
        row(concept="brick", drop=-1.0, drop_low=-1.1, drop_high=-0.9, share=-0.2, p_value=0.3),
        row(),
        row(concept="sky", drop=0.5, drop_low=0.4, drop_high=0.6, share=0.1, area=0.7),
    ]
    ruler, brick, sky, fur, grass = image_sentences(pd.DataFrame(rows))
    assert ruler == (
        "Without 'ruler' the score of 'animal' falls by 78 % (74 to 80 %, depending on the fill) "
        "in this image; regions of the same size elsewhere: 3 % (p = 0.048)."
    )
    assert "rises by 20 %" in brick
    assert brick.endswith("Chance may explain it.")
    assert sky.endswith("The region covers 70 % of the picture.")
    assert fur == "'fur' is nowhere in this image: nothing was erased."
    assert "held-out AUC 0.60" in grass
    two = [row(concept="fur", area=0.0, drop=0.0), row(concept="ink", area=0.0, drop=0.0)]
    assert image_sentences(pd.DataFrame(two)) == [
        "'fur' and 'ink' are nowhere in this image: nothing was erased."
    ]
    same = row(drop_low=3.9, drop_high=3.9)
    assert "falls by 78 %, whatever the fill, in this" in image_sentences(pd.DataFrame([same]))[0]
    (alone,) = image_sentences(
        pd.DataFrame([row(share=nan, reference=nan, p_value=nan)]), "the marked region"
    )
    assert alone == (
        "Without the marked region the score of 'animal' falls by 3.90 logits (3.70 to 4.00, "
        "depending on the fill) in this image; it was not compared with regions elsewhere."
    )


# -- signs of trust, one scale, the column of a paper -------------------------------------------


def test_doubts_of_diagnostics_are_signs_with_their_reasons(explainer, local, glob):
    diagnostics = explainer.diagnostics(resamples=20)
    table = diagnostics.summary()
    doubted = table[table["level"] != "fine"].sort_values("level")
    gravest = next(doubted.itertuples())  # six examples are few
    signs = {"look": "\u25b2", "do not use": "\u2716"}
    for explanation in (local, glob):
        figure = explanation.plot(diagnostics=diagnostics)
        said = " ".join(" ".join(texts(figure)).split())
        assert f"{signs[gravest.level]} {gravest.concept!r} at layer" in said
        assert " ".join(gravest.meaning.split()) in said
        plt.close(figure)
    figure = local.plot(diagnostics=diagnostics, column=True)
    said = " ".join(" ".join(texts(figure)).split())
    assert f"Diagnostics: {signs[gravest.level]} {gravest.level} (" in said
    assert "reasons are in the diagnostics." in said
    plt.close(figure)
    content = LocalContent(
        local, Shown(judgements=diagnostics.judged(local.provenance)), smooth=False
    )
    for (layer, concept), (level, _) in diagnostics.judged(local.provenance).items():
        for bar in content.bars[layer, concept]:
            assert content.number(bar).endswith(signs.get(level, "")), level


def test_diagnostics_of_other_examples_say_nothing(explainer, local):
    examples = {name: pictures(7, seed=30 + k) for k, name in enumerate(local.concepts)}
    other = vtcav.VisualTCAV(explainer.model, local.layers).fit(examples, pictures(9, seed=3))
    other = other.diagnostics(resamples=20)
    assert other.judged(local.provenance) == {}
    figure = local.plot(diagnostics=other)
    said = " ".join(" ".join(texts(figure)).split())
    names = " and ".join([", ".join(map(repr, local.concepts[:-1])), repr(local.concepts[-1])])
    assert f"Not diagnosed: {names}." in said
    assert "\u25b2" not in said
    plt.close(figure)


def test_figures_beside_each_other_have_one_scale(explainer, local):
    other = explainer.explain(pictures(1, seed=23)[0], classes=1)
    both = [LocalContent(one, Shown(beside=[local, other]), smooth=False) for one in (local, other)]
    own = [LocalContent(one, Shown(), smooth=False) for one in (local, other)]
    assert {content.limit for content in both} == {max(content.limit for content in own)}
    drops = max(one.effects["drop"].abs().max() for one in (local, other))
    assert both[0].logits == both[1].logits >= drops


@pytest.mark.parametrize("fill", ["convolution", None])
def test_the_column_of_a_paper_is_85_mm_wide(fill):
    local = small_explainer(fill=fill).explain(IMAGE, classes=3)
    figure = local.plot(column=True)
    assert figure.get_figwidth() == pytest.approx(85 / 25.4)
    assert min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text()) >= 7
    content = LocalContent(local, Shown(), smooth=False)
    for concept in local.concepts:
        best = content.best(concept)
        numbers = [content.number(bar) for bar in content.bars[best, concept]]
        assert texts(figure, f"number {best} {concept}") == numbers
        shown(figure, f"map {best} {concept}")
        if fill and not content.not_erased(concept):
            sizes = [change.size for change in content.measured(concept)]
            assert texts(figure, f"change {concept}") == sizes
    figure.canvas.draw()
    width = figure.bbox.width
    for text in figure.findobj(Text):
        if text.get_text() and text.get_visible():
            box = text.get_window_extent()
            assert 0 <= box.x0 < box.x1 <= width, text.get_text()
    plt.close(figure)


def test_a_column_is_a_figure_of_its_own(local):
    figure, axes = plt.subplots()
    with pytest.raises(ExplanationError, match="column=True draws a figure of its own"):
        local.plot(layers=local.layers[:1], concepts=local.concepts[:1], column=True, ax=axes)
    plt.close(figure)
