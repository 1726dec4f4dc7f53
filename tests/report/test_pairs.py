"""Concepts that a layer does not tell apart: a short table of those that a verdict depends on."""

import html
import re
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

import vtcav
from vtcav.report import build_report
from vtcav.report.pairs import pair_rows, pairs_part
from vtcav.results.effect_tables import TOGETHER
from vtcav.results.verdicts import verdicts

NAN = float("nan")
ROW = {
    "layer": TOGETHER,
    "n": 50,
    "drop": 3.9,
    "drop_low": 3.5,
    "drop_high": 4.2,
    "fill_low": 3.7,
    "fill_high": 4.0,
    "gap": 5.0,
    "share": 0.78,
    "present": 1.0,
    "area": 0.1,
    "seen": 0.99,
    "placebo_mean": 0.1,
    "q_value": 0.001,
    "same_region": "",
}
NOTHING = {"drop": 0.0, "drop_low": 0.0, "drop_high": 0.0, "fill_low": 0.0, "fill_high": 0.0}
EFFECTS = pd.DataFrame(
    [
        ROW | {"concept": "weak", **NOTHING, "share": 0.0, "q_value": 0.5},
        ROW | {"concept": "mark"},
        ROW | {"concept": "none", "drop": NAN, "share": NAN},
        ROW | {"concept": "rare", **NOTHING, "share": 0.0, "present": 0.02},
    ]
)


def rows_of(effects, *pairs):
    found = verdicts(effects, "ill")
    return list(pair_rows({key: ["3"] for key in pairs}, "ill", effects, found))


def test_a_row_has_the_change_without_each_the_used_one_first():
    [row] = rows_of(EFFECTS, ("weak", "mark"))
    assert row.concepts == ("mark", "weak")
    assert row.changes == ("-78 %", "0 %")
    assert row.used == (True, False)
    assert (row.class_name, row.layers, row.overlap) == ("ill", "layer '3'", False)
    over = EFFECTS.assign(same_region=['{"mark": 0.7}', "", "", ""])
    assert rows_of(over, ("weak", "mark"))[0].overlap
    assert rows_of(EFFECTS, ("mark", "none"))[0].changes == ("-78 %", "not seen")


def test_a_row_says_what_the_verdicts_say():
    both = {"same_region": '{"b": 0.9}', "told": 0.95}
    own = {"drop_apart": 1.5, "drop_apart_low": 1.2, "drop_apart_high": 1.8, "q_apart": 0.001}
    first = ROW | both | own | {"concept": "a", "present_apart": 1.0}
    other = {"concept": "b", "same_region": '{"a": 0.9}', "drop_apart": 0.9}
    effects = pd.DataFrame([first, first | other])
    [row] = rows_of(effects, ("a", "b"))
    assert row.concepts == ("a", "b")
    assert row.changes == ("-30 % (own part)", "-78 % (cannot be told)")
    assert row.used == (True, False)


def test_pairs_that_no_verdict_depends_on_are_folded():
    pairs = {("weak", "none"): ["3"], ("mark", "rare"): ["2", "3"], ("rare", "none"): ["3"]}
    rows = rows_of(EFFECTS, *pairs)
    assert [row.concepts for row in rows] == [("mark", "rare")]
    part = pairs_part(pairs, rows, erased=True)
    assert (len(part.shown), len(part.more)) == (1, 0)
    assert part.others == [f"“{a}” and “none” (layer '3')" for a in ("weak", "rare")]


def test_what_is_read_first_is_shown_and_the_rest_folded():
    names = [f"c{k}" for k in range(5)]
    rows = [ROW | {"concept": name, "share": 0.9 - k / 10} for k, name in enumerate(names)]
    pairs = {key: ["3"] for key in combinations(names, 2)}
    part = pairs_part(pairs, rows_of(pd.DataFrame(rows), *pairs), erased=True)
    assert (len(part.shown), len(part.more), len(part.others)) == (6, 4, 0)
    assert [row.concepts[0] for row in part.shown] == ["c0"] * 4 + ["c1"] * 2


def test_without_erasing_there_are_pairs_alone():
    [row] = pairs_part({("a", "b"): ["3"]}, [], erased=False).shown
    assert (row.concepts, row.layers, row.changes) == (("a", "b"), "layer '3'", ())


@pytest.fixture(scope="module")
def explained():
    """A network with one channel, in which all that is bright is one direction."""
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 1, 1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    )
    net[0].weight.data[:] = 1.0
    net[0].bias.data[:] = -0.5
    net.append(torch.nn.Linear(1, 2))
    net[4].weight.data = torch.tensor([[20.0], [-20.0]])
    model = vtcav.Classifier(net, ["bright", "dark"], vtcav.Preprocess(16, mean=0.0, std=1.0))
    explainer = vtcav.VisualTCAV(model, ["1"], 2, placebos=4, progress=False)

    def pictures(n, seed, side):
        rng = np.random.default_rng(seed)
        found = rng.integers(20, 60, (n, 16, 16, 3)).astype(np.uint8)
        for picture in found if side else ():
            i, j = rng.integers(1, 15 - side, 2)
            picture[i : i + side, j : j + side] = rng.integers(200, 255, 3)
        return found

    concepts = {f"square {n}": pictures(10, n, n) for n in (3, 4, 5)}
    explainer.fit(concepts, pictures(20, 9, 0), null_cavs=0, bootstraps=0)
    classes = [explainer.explain_class(name, pictures(8, 7, 4)) for name in ("bright", "dark")]
    return classes, explainer.diagnostics(resamples=20)


def test_the_page_has_a_line_for_a_pair_and_class(explained):
    classes, diagnostics = explained
    assert len(diagnostics.not_apart()) >= 2
    page = build_report((), classes, diagnostics)
    start = page.index("Concepts that the network does not tell apart")
    section = page[start : page.index("What the attributions say")]
    text = html.unescape(re.sub("<[^>]+>", " ", section))
    rows = section.count("<tr>") - section.count("<thead>")
    pairs = len(diagnostics.not_apart())
    assert pairs <= rows <= 2 * pairs
    assert "one may stand for the other" in text
    assert text.count("Erasing each") == 0
    assert len(text.split()) < 45 + 20 * rows
