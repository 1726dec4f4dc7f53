import hashlib
import itertools
import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text

from tests.helpers.banks import cloud, made_bank, made_set
from tests.helpers.small import concepts, pictures, small_explainer
from vtcav.diagnostics.diagnosis import diagnose
from vtcav.diagnostics.figure import plot_diagnostics
from vtcav.diagnostics.levels import CHECKS, LEVELS, NOT_APPLICABLE
from vtcav.diagnostics.location import place
from vtcav.diagnostics.result import Diagnostics
from vtcav.errors import CavError, ExplanationError
from vtcav.results.bank.zero_maps import ZeroMaps
from vtcav.results.figures.lettering import LINE_HEIGHT


def axis(k, length=4.0, C=20):
    shift = np.zeros(C)
    shift[k] = length
    return shift


def good_bank(**options):
    """Three concepts along axes of their own, and one that is like the negatives."""
    negatives = made_set("n", cloud(60, seed=9))
    pairs = {
        name: (made_set(name, cloud(30, shift=axis(k), seed=k)), negatives)
        for k, name in enumerate(("red", "green", "blue"))
    }
    pairs["nonsense"] = made_set("nonsense", cloud(30, seed=5)), negatives
    return made_bank(pairs, **options)


@pytest.fixture(scope="module")
def found():
    return diagnose(good_bank())


def one(found, check, concept="", layer=None):
    table = found.table
    rows = table[(table["check"] == check) & (table["concept"] == concept)]
    rows = rows if layer is None else rows[rows["layer"] == layer]
    assert len(rows) == 1, rows
    return rows.iloc[0]


def check_sound(found):
    """What holds for every table of findings."""
    table = found.table
    assert list(table.columns) == [
        *("layer", "concept", "check", "meaning", "note", "other", "low", "high", "value", "level"),
    ]
    assert set(table["level"]) <= {*LEVELS, NOT_APPLICABLE}
    assert set(table["check"]) <= set(CHECKS)
    missing = table[["value", "low", "high"]].isna().any(axis=1)
    assert (table.loc[missing, "note"] != "").all()
    assert (table.loc[table["value"].isna(), "level"] != "fine").all()
    assert table["meaning"].str.fullmatch(r"[A-Z0-9].*[^.]\.").all()
    assert not table["meaning"].str.contains("nan|inf").any()
    assert not table.duplicated(["layer", "concept", "check"]).sum() - _sets_twice(table)
    whole = table.dropna()
    assert (whole["low"] <= whole["value"] + 1e-9).all()
    assert (whole["value"] <= whole["high"] + 1e-9).all()
    summary = found.summary()
    assert len(summary) == len(found.layers) * len(found.concepts)
    assert (summary["meaning"] != "").all()


def _sets_twice(table):
    """Duplicates are looked for among examples, negatives and images to explain."""
    copies = table[table["check"] == "duplicates"]
    return copies.duplicated(["layer", "concept", "check"]).sum()


def test_good_concepts_are_fine_and_nonsense_is_not(found):
    check_sound(found)
    levels = {concept: found.level("a", concept) for concept in found.concepts}
    assert levels == {"red": "fine", "green": "fine", "blue": "fine", "nonsense": "do not use"}
    row = found.summary().set_index("concept").loc["nonsense"]
    assert row["check"] == "separability"
    assert "not shown to be better than guessing" in row["meaning"]
    assert row["do_not_use"] >= 3


def test_concepts_drawn_like_the_negatives_must_not_be_used():
    levels = []
    for seed in range(15):
        negatives = made_set("n", cloud(40, seed=(seed, 0)))
        examples = made_set("e", cloud(5 + seed, seed=(seed, 1)))
        found = diagnose(made_bank({"e": (examples, negatives)}), resamples=30)
        levels.append(found.level("a", "e"))
    assert levels == ["do not use"] * 15


def test_every_check_of_a_nonsense_concept_agrees(found):
    for check in ("split half", "standard error", "bootstrap", "examples"):
        assert one(found, check, "nonsense")["level"] == "do not use", check
        assert one(found, check, "red")["level"] == "fine", check
    # emblems are taken from the images that the direction was fitted to
    assert one(found, "emblem gap", "nonsense")["level"] != "fine"


def test_matrices_and_places(found):
    raw, corrected = found.cosines("a"), found.cosines("a", corrected=True)
    assert list(raw.index) == list(raw.columns) == list(found.concepts)
    np.testing.assert_allclose(np.diag(raw), 1)
    assert abs(corrected.loc["red", "green"]) < raw.loc["red", "green"] + 0.05
    assert corrected.loc["nonsense"].isna().all()
    np.testing.assert_allclose(found.place("a", "red"), np.full((4, 4), 1 / 16))
    assert found.place("a", "red", negatives=True).shape == (4, 4)
    assert found.agreement("red").shape == (1, 1)


def test_unknown_names_are_refused(found):
    for ask in (
        lambda: found.level("b", "red"),
        lambda: found.cosines("b"),
        lambda: found.place("b", "red"),
    ):
        with pytest.raises(ExplanationError, match=r"no layer 'b'; they have 'a'"):
            ask()
    with pytest.raises(ExplanationError, match="no concept 'x'; they have 'red', 'green'"):
        found.level("a", "x")


def test_findings_are_the_same_again_and_do_not_depend_on_other_concepts(found):
    pd.testing.assert_frame_equal(diagnose(good_bank()).table, found.table)
    negatives = made_set("n", cloud(60, seed=9))
    alone = diagnose(
        made_bank({"red": (made_set("red", cloud(30, shift=axis(0), seed=0)), negatives)})
    )
    for check in ("separability", "split half", "bootstrap", "negatives halves", "emblem gap"):
        pd.testing.assert_series_equal(
            one(alone, check, "red"), one(found, check, "red"), check_names=False
        )
    assert not diagnose(good_bank(), seed=1).curve.equals(found.curve)


# -- single findings --------------------------------------------------------------------------


def test_a_direction_that_is_another_concepts_is_seen():
    negatives = made_set("n", cloud(60, seed=9))
    pairs = {
        "weak": (made_set("weak", cloud(30, shift=axis(0, 2.5), seed=0)), negatives),
        "strong": (made_set("strong", cloud(30, shift=axis(0, 6.0), seed=1)), negatives),
    }
    found = diagnose(made_bank(pairs))
    for check in ("entanglement", "other concepts"):
        row = one(found, check, "weak")
        assert (row["level"], row["other"]) == ("look", "strong")
        assert "does not tell 'weak' from 'strong' apart" in row["meaning"]
        assert "erasing each in turn tells which one counts" in row["meaning"]
    assert one(found, "other concepts", "weak")["value"] < 0.1
    assert found.not_apart() == [("a", "weak", "strong")]
    decided = found.summary().set_index("concept").loc["weak"]
    assert "does not tell 'weak' from 'strong' apart" in decided["meaning"]
    assert one(found, "other concepts", "strong")["level"] == "fine"


def test_the_concept_that_is_confused_most_is_named():
    negatives = made_set("n", cloud(60, seed=9))
    shifts = {"mine": axis(0), "far": axis(1), "close": axis(0, 3.0) + axis(2, 3.0)}
    pairs = {
        name: (made_set(name, cloud(30, shift=shift, seed=k)), negatives)
        for k, (name, shift) in enumerate(shifts.items())
    }
    found = diagnose(made_bank(pairs))
    for check in ("entanglement", "other concepts"):
        assert "'close'" in one(found, check, "mine")["meaning"], check
    assert one(found, "other concepts", "mine")["level"] == "look"


def test_emblems_are_not_fine_where_the_direction_fails_on_other_images():
    negatives = made_set("n", cloud(30, 800, seed=1))
    examples = made_set("e", cloud(30, 800, seed=2))
    found = diagnose(made_bank({"e": (examples, negatives)}))
    for check in ("emblem gap", "emblem overlap"):
        row = one(found, check, "e")
        assert row["level"] == "look"
        assert row["meaning"].endswith("was not learned from the direction fails."), check
    assert one(found, "emblem gap", "e")["low"] > 0


def test_what_all_examples_have_in_common_is_said():
    negatives = made_set("n", cloud(60, seed=9))
    drawn = axis(19, 8.0)
    pairs = {
        name: (made_set(name, cloud(30, shift=axis(k) + drawn, seed=k)), negatives)
        for k, name in enumerate("abc")
    }
    row = one(diagnose(made_bank(pairs)), "common part")
    assert row["level"] == "look"
    assert row["value"] == pytest.approx(64 / 80, abs=0.05)


def test_a_concept_in_a_corner_is_seen():
    places = np.full((4, 4, 4), 0.2 / 15)
    places[:, 0, 0] = 0.8
    row = one(diagnose(good_bank(places=places)), "place", "red")
    assert row["level"] == "look"
    assert row["value"] == pytest.approx(1 / 16 / (0.64 + 0.04 / 15))
    assert "upper left" in row["meaning"]


def test_examples_that_do_not_activate_are_said():
    row = one(diagnose(good_bank(places=np.full((4, 4, 4), 0.25 / 16))), "place", "red")
    assert row["level"] == "look"
    assert "in 75 % of the examples the layer sees nothing" in row["meaning"]


def test_other_negatives_turn_a_direction_or_not():
    same = made_set("other", cloud(60, seed=77))
    shifted = made_set("other", cloud(60, shift=axis(7, 6.0), seed=78))
    found = diagnose(good_bank(), other_negatives=same)
    check_sound(found)
    row = one(found, "other negatives", "red")
    assert row["level"] == "fine"
    assert row["value"] > 0.9
    row = one(diagnose(good_bank(), other_negatives=shifted), "other negatives", "red")
    assert row["level"] == "look"
    assert row["value"] == pytest.approx(16 / 4 / (16 + 36) ** 0.5, abs=0.1)
    assert "60 other negatives" in row["meaning"]


def test_copies_and_leaks_are_counted():
    negatives = made_set("n", cloud(20, seed=9))
    ids = [f"e{i}" for i in range(10)] + ["e0", "e1", "e2", "n0", "n1"]
    prints = np.random.default_rng(0).integers(0, 255, (15, 16, 16)).astype(np.uint8)
    examples = made_set("e", cloud(15, shift=4, seed=1), digests=ids, prints=prints)
    negatives = made_set("n", cloud(20, seed=9), digests=[f"n{i}" for i in range(20)])
    other = made_set("o", cloud(15, shift=axis(3), seed=2), digests=["e5", *"abcdefghijklmn"])
    images = made_set("test", cloud(20), digests=["e7", "n3", *map(str, range(18))])
    pairs = {"c": (examples, negatives), "o": (other, negatives)}
    found = diagnose(made_bank(pairs), images=images)
    check_sound(found)
    own = found.table.query("check == 'duplicates' and concept == 'c'").iloc[0]
    assert own["value"] == pytest.approx(3 / 15)
    assert own["level"] == "do not use"
    assert "12 different pictures" in own["meaning"]
    assert one(found, "shared with negatives", "c")["value"] == pytest.approx(2 / 15)
    assert "2 of 15 examples are among" in one(found, "shared with negatives", "c")["meaning"]
    assert one(found, "shared with concepts", "c")["value"] == pytest.approx(1 / 15)
    leak = one(found, "leakage", "c")
    assert leak["value"] == pytest.approx(2 / 20)
    assert leak["level"] == "look"
    assert "(1 as examples, 1 as negatives)" in leak["meaning"]
    kinds = found.duplicates.set_index(["image", "other_image"])["kind"]
    assert kinds["e/0.png", "e/10.png"] == "exact"
    assert len(found.duplicates) == 3 + 2 + 1 + 2  # within e, with n, with o, with test


@pytest.mark.parametrize(
    ("pairs", "same", "level"), [(28, 0, "fine"), (28, 2, "look"), (3, 0, "look")]
)
def test_matched_pairs_are_a_good_design(pairs, same, level):
    prints = np.random.default_rng(0).integers(0, 255, (70, 16, 16)).astype(np.uint8)
    without = prints[30:].copy()
    without[:pairs] = np.clip(prints[:pairs].astype(int) + 5, 0, 255)
    prints[:30, :3, 12:16] = 128  # a thing in one part of the picture
    ids = [f"n{39 - i}" if i >= 30 - same else f"e{i}" for i in range(30)]
    examples = made_set("e", cloud(30, shift=4, seed=1), prints=prints[:30], digests=ids)
    negatives = made_set("n", cloud(40, seed=9), prints=without)
    row = one(diagnose(made_bank({"c": (examples, negatives)})), "shared with negatives", "c")
    assert row["level"] == level
    assert row["meaning"].startswith(f"Matched pairs: {pairs} of 30") == (pairs == 28)


def test_examples_saved_again_among_the_negatives_are_no_design():
    prints = np.random.default_rng(0).integers(0, 255, (70, 16, 16)).astype(np.uint8)
    prints[30:58] = np.clip(prints[:28].astype(int) + 5, 0, 255)
    examples = made_set("e", cloud(30, shift=4, seed=1), prints=prints[:30])
    negatives = made_set("n", cloud(40, seed=9), prints=prints[30:])
    row = one(diagnose(made_bank({"c": (examples, negatives)})), "shared with negatives", "c")
    assert row["level"] == "look"
    assert "the same photographs, saved again" in row["meaning"]


def test_a_layer_before_its_activation_is_named_with_the_one_after_it():
    C = 8
    shift = np.zeros(C)
    shift[0] = 3
    raw = {"e": cloud(30, C, shift=shift, seed=1) - 9, "n": cloud(40, C, seed=2) - 9}
    layers = {k: {"bn": x, "act": np.maximum(x + 9, 0)} for k, x in raw.items()}
    bank = made_bank({"c": (made_set("e", layers["e"]), made_set("n", layers["n"]))})
    empty = bank.layers["bn"].values_pos[0] * 0
    bn = replace(bank.layers["bn"], values_pos=(empty,), values_neg=(empty[:1].expand(40),))
    found = diagnose(replace(bank, layers={**bank.layers, "bn": bn}))
    row = one(found, "emblem gap", "c", "bn")
    assert row["level"] == "do not use"
    assert row["meaning"].endswith("take the output after the activation, 'act'.")


def test_the_sentence_on_the_nearest_concept_has_the_cosine_of_the_matrix(found):
    matrix = found.cosines("a")
    row = one(found, "entanglement", "red")
    other = next(name for name in found.concepts if repr(name) in row["meaning"])
    assert f"cosine {matrix.loc['red', other]:.2f};" in row["meaning"]


def test_an_image_that_is_listed_twice_is_no_copy_of_itself():
    images = made_set("test", cloud(8))
    twice = replace(
        images,
        names=images.names + images.names[:3],
        digests=images.digests + images.digests[:3],
        perceptual_hashes=np.concatenate([images.perceptual_hashes, images.perceptual_hashes[:3]]),
        gap={"a": images.gap["a"][[*range(8), 0, 1, 2]]},
    )
    found = diagnose(good_bank(), images=twice)
    assert found.duplicates.empty
    rows = found.table.query("check == 'duplicates'")
    assert rows["meaning"].str.contains("All 8 images to explain are different").any()
    assert len(found.provenance.settings["images"]["names"]) == 8


def test_plain_pictures_are_not_called_fine():
    plain = np.zeros((30, 16, 16), np.uint8)
    examples = made_set("e", cloud(30, shift=4, seed=1), prints=plain)
    found = diagnose(made_bank({"e": (examples, made_set("n", cloud(30)))}))
    row = one(found, "shared with negatives", "e")
    assert row["level"] == "look"
    assert "100 % of the pictures have too little detail" in row["meaning"]


def test_layers_that_disagree_are_seen():
    rng = np.random.default_rng(0)
    strong, rest = rng.normal(size=(90, 5)), rng.normal(size=(90, 5))
    strong[:30, 0] += 4
    noise = rng.normal(size=(90, 5))
    layers = {"a": strong, "b": strong + 0.1 * rest, "c": noise}
    bank = made_bank(
        {
            "e": (
                made_set("e", {k: x[:30] for k, x in layers.items()}),
                made_set("n", {k: x[30:] for k, x in layers.items()}),
            )
        }
    )
    found = diagnose(bank)
    check_sound(found)
    table = found.agreement("e")
    assert list(table.index) == ["a", "b", "c"]
    assert table.loc["a", "b"] > 0.9
    assert one(found, "layer agreement", "e", "c")["level"] == "look"
    assert (
        one(found, "layer agreement", "e", "c")["value"]
        < one(found, "layer agreement", "e", "a")["value"]
    )


# -- degenerate input -------------------------------------------------------------------------


def test_one_concept_has_nothing_to_be_confused_with():
    found = diagnose(
        made_bank({"c": (made_set("c", cloud(30, shift=4)), made_set("n", cloud(40, seed=1)))})
    )
    check_sound(found)
    row = one(found, "entanglement", "c")
    assert (row["level"], row["note"]) == (NOT_APPLICABLE, "no other concept")
    assert found.level("a", "c") == "fine"


def test_concept_and_negatives_of_the_same_images():
    same = made_set("s", cloud(12))
    found = diagnose(made_bank({"c": (same, same), "d": (made_set("d", cloud(9, shift=4)), same)}))
    check_sound(found)
    row = one(found, "separability", "c")
    assert row["level"] == "do not use"
    assert "the direction is 0" in row["note"]
    assert one(found, "shared with negatives", "c")["level"] == "do not use"
    assert one(found, "emblem gap", "c")["level"] == "do not use"
    assert found.level("a", "c") == "do not use"


@pytest.mark.parametrize("value", [0.0, 3.7])
def test_constant_activations(value):
    constant = {"a": np.full((12, 6), value), "b": cloud(12, 6, shift=4)}
    negatives = {"a": np.full((15, 6), value), "b": cloud(15, 6, seed=1)}
    found = diagnose(made_bank({"c": (made_set("c", constant), made_set("n", negatives))}))
    check_sound(found)
    assert one(found, "separability", "c", "a")["level"] == "do not use"
    assert one(found, "separability", "c", "b")["level"] == "fine"
    assert one(found, "layer agreement", "c", "a")["level"] == "look"
    assert np.isnan(found.agreement("c").loc["a", "b"])


@pytest.mark.parametrize("sizes", [(1, 20), (2, 20), (20, 1), (2, 2), (5, 5), (3, 7)])
def test_few_images_are_never_fine(sizes):
    examples, negatives = (
        made_set(name, cloud(n, shift=shift, seed=n))
        for name, n, shift in zip("en", sizes, (9, 0), strict=True)
    )
    found = diagnose(made_bank({"c": (examples, negatives)}))
    check_sound(found)
    assert one(found, "examples", "c")["level"] != "fine"
    assert found.level("a", "c") != "fine"


def test_places_are_those_of_the_brightest_cells():
    one, sides = np.zeros((6, 6)), np.zeros((6, 6))
    one[4, 0] = sides[:, 0] = sides[:, 5] = 1
    assert place(one) == "the lower left"
    assert place(sides) == "several places"  # not the middle, which is dark
    assert place(np.stack([one, one])) == "the lower left"


def test_a_map_of_one_cell_has_no_place():
    negatives = made_set("n", cloud(20))
    examples = made_set("c", cloud(20, shift=4, seed=1))
    bank = made_bank({"c": (examples, negatives)}, places=np.ones((1, 1, 1)))
    row = one(diagnose(bank), "place", "c")
    assert (row["level"], row["note"]) == ("look", "the map has fewer than 4 cells")


def test_an_empty_map_is_said():
    row = one(diagnose(good_bank(places=np.zeros((4, 4, 4)))), "place", "red")
    assert (row["level"], row["note"]) == ("look", "no example activates")


def test_a_bank_without_evidence_is_refused():
    bank = good_bank()
    with pytest.raises(CavError, match=r"has no sets of the images .* fit again"):
        diagnose(replace(bank, sets=()))
    with pytest.raises(CavError, match="resamples to be a whole number of at least 20, got 3"):
        diagnose(bank, resamples=3)
    with pytest.raises(CavError, match="no activations at layer 'a'"):
        diagnose(bank, other_negatives=made_set("o", {"b": cloud(5)}))


# -- files and figure -------------------------------------------------------------------------


def test_saved_and_loaded(tmp_path):
    found = diagnose(good_bank(), images=made_set("test", cloud(7)))
    found.save(tmp_path)
    again = Diagnostics.load(tmp_path)
    pd.testing.assert_frame_equal(again.table, found.table)
    pd.testing.assert_frame_equal(again.curve, found.curve)
    pd.testing.assert_frame_equal(again.summary(), found.summary())
    pd.testing.assert_frame_equal(again.duplicates, found.duplicates, check_dtype=False)
    pd.testing.assert_frame_equal(again.cosines("a"), found.cosines("a"))
    np.testing.assert_array_equal(again.place("a", "red"), found.place("a", "red"))
    manifest = json.loads((tmp_path / "diagnostics.json").read_text())
    assert manifest["provenance"]["settings"]["resamples"] == 100
    assert manifest["provenance"]["settings"]["limits"]["AUC_FINE"] == 0.8
    assert manifest["provenance"]["settings"]["images"]["names"] == [
        f"test/{i}.png" for i in range(7)
    ]
    assert manifest["provenance"]["model"]["network"] == "made by hand"
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {*manifest["files"], "diagnostics.json"}
    assert {"diagnostics.png", "diagnostics.npz", "diagnostics_findings.parquet"} <= names


def test_the_first_format_is_read(tmp_path, found):
    found.save(tmp_path)
    path = tmp_path / "diagnostics.json"
    manifest = json.loads(path.read_text(encoding="utf-8")) | {"format": 1}
    del manifest["sha256"]
    text = json.dumps(manifest, ensure_ascii=False)
    manifest["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(manifest), encoding="utf-8")
    pd.testing.assert_frame_equal(Diagnostics.load(tmp_path).table, found.table)


def test_what_was_changed_is_not_loaded(tmp_path, found):
    with pytest.raises(ExplanationError, match=r"no complete diagnostics: .* missing"):
        Diagnostics.load(tmp_path)
    found.save(tmp_path)
    path = tmp_path / "diagnostics_findings.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ExplanationError, match=r"diagnostics_findings.parquet' .* changed"):
        Diagnostics.load(tmp_path)
    found.save(tmp_path)
    manifest = tmp_path / "diagnostics.json"
    manifest.write_text(manifest.read_text().replace("red", "rad"))
    with pytest.raises(ExplanationError, match="was changed after it was saved"):
        Diagnostics.load(tmp_path)
    manifest.write_text('{"format": 99}')
    with pytest.raises(ExplanationError, match="of format 99, expected 1 or 2"):
        Diagnostics.load(tmp_path)
    manifest.write_text("{")
    with pytest.raises(ExplanationError, match="cannot read"):
        Diagnostics.load(tmp_path)


def test_nothing_changes_where_it_cannot_be_saved(tmp_path, found):
    (tmp_path / "diagnostics.npz").mkdir()
    with pytest.raises(ExplanationError, match=r"cannot save the diagnostics .* nothing was"):
        found.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["diagnostics.npz"]


def test_the_figure_shows_every_concept_level_and_reason(found):
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    figure = found.plot()
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert set(found.concepts) <= set(texts)
    assert texts.count("fine") == 3
    assert texts.count("do not use") == 1
    labels = [axes.get_label() for axes in figure.axes]
    assert "separability a" in labels
    assert "place a nonsense" in labels
    plt.close("all")


def test_the_figure_cuts_no_reason(found):
    parts = "layers", "concepts", "table", "curve", "cosines", "place"
    reason = "the layer responds otherwise after the activation; " * 6 + "take another"
    long = found.summary().assign(meaning=reason)
    shown = SimpleNamespace(**{part: getattr(found, part) for part in parts}, summary=lambda: long)
    figure = plot_diagnostics(shown, Figure())
    figure.draw_without_rendering()
    lines = [
        text for text in figure.findobj(Text) if set(text.get_text().split()) & {"activation;"}
    ]
    assert len(lines) >= 4 * len(long)
    assert not any("…" in text.get_text() for text in lines)
    heights = sorted(text.get_window_extent().y0 for text in lines)
    steps = [after - before for before, after in itertools.pairwise(heights)]
    assert min(steps) > 0.9 * LINE_HEIGHT * figure.dpi  # no row runs into the next


def test_the_figure_of_many_concepts_is_a_matrix_and_the_worst_rows():
    sets = [made_set(f"s{k}", cloud(6, seed=k)) for k in range(2)]
    bank = made_bank({f"c{k}": tuple(sets) for k in range(14)}, places=np.zeros((14, 2, 3)))
    found = diagnose(bank, resamples=20)
    figure = plot_diagnostics(found, Figure())
    assert figure.get_size_inches()[1] < 13
    axes = {each.get_label(): each for each in figure.axes}
    summary = found.summary()
    assert len(axes["levels"].lines) == len(summary) == 14 * len(found.layers)
    wrong = int((summary["level"] != "fine").sum())
    texts = [text.get_text() for text in figure.findobj(Text)]
    assert f"not fine: the first 8 of {wrong}; the table has all" in texts
    assert sum(text.startswith(("DO NOT USE", "LOOK")) for text in texts) <= 8
    assert sum(" more finding" in text for text in texts) == 1


@pytest.mark.parametrize("count", [1, 3])
def test_the_figure_of_degenerate_concepts(count):
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    same = made_set("s", cloud(5))
    pairs = {f"c{k}": (same, same) for k in range(count)}
    bank = made_bank(pairs, places=np.zeros((count, 2, 3)))
    figure = diagnose(bank, images=same).plot()
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert texts.count("not tested") >= 2 * count
    assert texts.count("empty") == count
    assert any(text.startswith("DO NOT USE") for text in texts)
    figure.canvas.draw()
    plt.close("all")


def test_concepts_of_a_network():
    found = diagnose(small_explainer().cavs)
    check_sound(found)
    assert found.layers == ("1", "3")
    assert found.concepts == ("bright", "cold")
    assert found.place("3", "bright").shape == (4, 4)
    assert 0 < found.place("3", "bright").sum() <= 1 + 1e-5


def test_images_are_sought_among_those_that_concepts_were_learned_from():
    explainer = small_explainer()
    given = concepts()
    found = explainer.diagnostics(given["bright"][:4], negatives=pictures(9, seed=8))
    leak = one(found, "leakage", "bright")
    assert (leak["value"], leak["level"]) == (1, "do not use")
    assert one(found, "leakage", "cold")["level"] == "fine"
    assert len(found.duplicates) == 4
    assert one(found, "other negatives", "cold", "3")["value"] > 0.5


def zero_maps(scores, raised=40):
    """Zero maps of a layer: 40 images, some of which score no higher; their classes lie 1 apart."""
    spread = torch.ones(40)
    return ZeroMaps(torch.tensor([scores]), spread, torch.arange(40) < raised)


def test_a_layer_whose_zero_maps_tell_classes_apart_is_not_read_first():
    gap = {layer: cloud(30, shift=axis(0), seed=1) for layer in "ab"}
    pair = made_set("c", gap), made_set("n", {layer: cloud(60, seed=9) for layer in "ab"})
    zero = {"a": zero_maps([0.0, 6.0], raised=36), "b": zero_maps([0.0, 0.2])}
    found = diagnose(made_bank({"c": pair}, zero=zero))
    row = one(found, "zero maps", layer="a")
    assert (row["value"], row["level"]) == (pytest.approx(3.0), "look")
    assert "300 % as far apart" in row["meaning"]
    assert "read layer 'b' first" in row["meaning"]
    row = one(found, "not raised", layer="a")
    assert (row["value"], row["level"]) == (pytest.approx(0.1), "look")
    assert "Of 40 examples 4 scored no higher" in row["meaning"]
    assert row["low"] < 0.1 < row["high"]
    for check in ("zero maps", "not raised"):
        assert one(found, check, layer="b")["level"] == "fine"
    assert found.level("a", "c") == "look"
    check_sound(found)


def test_scores_at_zero_maps_that_are_not_known_or_not_finite():
    pair = made_set("c", cloud(30, shift=axis(0), seed=1)), made_set("n", cloud(60, seed=9))
    found = diagnose(made_bank({"c": pair}))
    assert one(found, "zero maps")["level"] == "not applicable"
    assert "fit again" in one(found, "zero maps")["meaning"]
    found = diagnose(made_bank({"c": pair}, zero={"a": zero_maps([0.0, math.nan])}))
    assert one(found, "zero maps")["level"] == "look"
    check_sound(found)


def test_findings_saved_before_pairs_were_named_are_read(tmp_path, found, monkeypatch):
    older = found._tables() | {"findings": found._findings.drop(columns="other")}
    monkeypatch.setattr(Diagnostics, "_tables", lambda self: older)
    found.save(tmp_path)
    assert Diagnostics.load(tmp_path).not_apart() == []
    pd.testing.assert_frame_equal(Diagnostics.load(tmp_path).table, found.table)
