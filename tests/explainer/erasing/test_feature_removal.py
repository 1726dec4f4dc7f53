"""Removal from feature maps: against a literal reading, and what it is for."""

import numpy as np
import pytest
import torch
from matplotlib.text import Text

import vtcav
from tests.explainer.erasing.test_erasure import Counts
from tests.helpers.literal_places import red_squares, square_network
from vtcav.results.effect_tables import TOGETHER


class Colours(Counts):
    """Scores the red and the blue in a picture."""

    def __init__(self):
        super().__init__()
        self.conv.weight.data = torch.tensor([[1.0, -1, -1], [-1, -1, 1]])[..., None, None]


@pytest.fixture(scope="module")
def explainer():
    model = vtcav.Classifier(square_network(), ["a", "b", "c"], vtcav.Preprocess(32))
    red, noise = red_squares(40)
    settings = {"features": True, "progress": False, "batch_size": 5}
    explainer = vtcav.VisualTCAV(model, ["1", "3"], 2, **settings)
    return explainer.fit({"red": red, "none": noise[:8]}, noise[8:], null_cavs=0, bootstraps=0)


def test_rows_are_those_of_the_literal_reading(explainer):
    red, noise = red_squares(40)
    images = np.concatenate([red[:3], noise[:3]])
    found = explainer.explain_class("b", images).effects
    model, moved = explainer.model, 0.0
    for layer in ("1", "3"):
        places = explainer.cavs.layers[layer].places
        w, offset, low = (t[0].double().numpy() for t in (places.w, places.offset, places.low))
        pattern = places.pattern[0].double().numpy()
        assert w @ pattern == pytest.approx(1, abs=1e-4)
        rows = found[(found["layer"] == layer) & (found["concept"] == "red")]
        for picture, (_, row) in zip(images, rows.iterrows(), strict=True):
            x = model.preprocess(pil(picture))[None]
            F = model.activations(x, [layer])[layer]
            left = F[0].double().numpy().copy()
            for i, j in np.ndindex(left.shape[1:]):
                more = w @ left[:, i, j] - offset - low
                if more > 0:
                    less = left[:, i, j] - more * pattern
                    left[:, i, j] = np.where(left[:, i, j] > 0, less.clip(min=0), less)
            with torch.no_grad():
                z = float(model.head(layer)(torch.tensor(left, dtype=torch.float32)[None])[0, 1])
            assert row["without"] == pytest.approx(z, abs=2e-5)
            assert row["drop"] == pytest.approx(row["logit"] - row["without"])
            moved = max(moved, abs(row["drop"]))
    assert moved > 1e-4


def pil(array):
    from PIL import Image

    return Image.fromarray(array)


def test_what_is_not_seen_has_no_number_and_verdicts_are_of_pictures(explainer):
    glob = explainer.explain_class("b", red_squares(40)[0][:3])
    rows = glob.effects[glob.effects["layer"] != TOGETHER]
    assert set(rows["layer"]) == {"1", "3"}
    none = rows[rows["concept"] == "none"]
    assert none["drop"].isna().all()
    assert none["note"].str.startswith("not seen at this layer").all()
    assert rows.loc[rows["concept"] == "red", "note"].str.contains("the drop is too small").all()
    assert len(glob.class_effects()) == 6
    assert sorted(verdict.concept for verdict in glob.verdicts()) == ["none", "red"]


def test_it_tells_things_in_one_place_apart():
    """A blue dot in the middle of a red square, which alone makes the score."""
    rng = np.random.default_rng(0)

    def squares(n, dot):
        x = rng.integers(60, 90, (n, 24, 24, 3)).astype(np.uint8)
        for picture in x:
            i, j = rng.integers(0, 16, 2)
            picture[i : i + 8, j : j + 8] = 255, 0, 0
            if dot:
                picture[i + 3 : i + 5, j + 3 : j + 5] = 0, 0, 255
        return x

    model = vtcav.Classifier(Colours(), ["red", "blue"], vtcav.Preprocess(24, mean=0.0, std=1.0))
    settings = {"features": True, "fill": "mean", "placebos": 0, "progress": False}
    explainer = vtcav.VisualTCAV(model, ["relu"], 2, **settings)
    explainer.fit({"dot": squares(12, True)}, squares(20, False), null_cavs=0, bootstraps=0)
    rows = explainer.explain_class("red", squares(4, True)).class_effects().set_index("layer")
    assert rows.loc[TOGETHER, "drop"] > 0.1
    assert abs(rows.loc["relu", "drop"]) < 0.2 * rows.loc[TOGETHER, "drop"]
    blue = explainer.explain_class("blue", squares(4, True)).class_effects().set_index("layer")
    assert blue.loc["relu", "drop"] > 0.5 * blue.loc[TOGETHER, "drop"] > 0


def test_it_works_where_pictures_are_not_filled_in(explainer):
    alone = vtcav.VisualTCAV(
        explainer.model, steps=2, cavs=explainer.cavs, fill=None, features=True, progress=False
    )
    effects = alone.explain(red_squares(40)[0][0], classes=["a", "b"]).effects
    assert set(effects["layer"]) == {"1", "3"}
    assert len(effects) == 8


def test_figures_sentences_and_terminal_speak_of_pictures(explainer, tmp_path, capsys):
    red, _ = red_squares(40)
    plain = vtcav.VisualTCAV(explainer.model, steps=2, cavs=explainer.cavs, progress=False)
    ours, others = (each.explain(red[0], classes=["b"]) for each in (explainer, plain))
    assert len(ours.effects) == len(others.effects) + 4
    assert ours.sentences() == others.sentences()
    drawn = [[text.get_text() for text in local.plot().findobj(Text)] for local in (ours, others)]
    assert drawn[0] == drawn[1]
    glob = explainer.explain_class("b", red[:3])
    assert glob.plot().axes
    from vtcav.cli.commands import explain_class

    explain_class._print(glob, cautions=[], groups=[])
    said = capsys.readouterr().out
    assert said.count("A second opinion") == 1
