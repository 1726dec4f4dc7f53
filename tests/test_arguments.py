"""Arguments of other kinds than asked for: used, or refused in vtcav's own words.

Somebody swaps two arguments, passes a column of a table or the text of an unset variable. Whatever
it is, no other error leaves the package, and no message is a page long.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

import vtcav
from vtcav import datasets, evaluation
from vtcav.errors import VtcavError, brief
from vtcav.evaluation.compare import compare
from vtcav.study.versus import versus_study

LONGEST = 700
RNG = np.random.default_rng(0)


def pictures(count):
    return RNG.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)


RED = pictures(12)
RED[..., 0] = 255
torch.manual_seed(0)
NETWORK = nn.Sequential(
    *(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU()),
    *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 3)),
)
MODEL = vtcav.Classifier(NETWORK, ["a", "b", "c"], vtcav.Preprocess(32))
ODD = {
    "none": None,
    "nan": float("nan"),
    "float": 1.5,
    "below 0": -3,
    "huge": 10**30,
    "bool": True,
    "text": "zzz",
    "empty text": "",
    "bytes": b"x",
    "empty list": [],
    "list of none": [None],
    "numbers": np.arange(6).reshape(2, 3),
    "floats": np.ones(3),
    "array of texts": np.array(["1", "3"]),
    "index": pd.Index(["1", "3"]),
    "column": pd.Series(["1"]),
    "table": pd.DataFrame({"a": [1]}),
    "tensor": torch.ones(2, 2),
    "mapping": {"x": 1},
    "set": {"1"},
    "object": object(),
    "type": int,
    "pictures": pictures(3),
    "function": len,
    "model": MODEL,
    "complex": 2j,
    "nested": [["1"]],
    "range": range(2),
    "number of NumPy": np.int64(1),
}


def new(**settings):
    settings = {"layers": ["1", "3"], "steps": 4, "progress": False, "cache": False} | settings
    return vtcav.VisualTCAV(MODEL, **settings)


def fit(concepts=None, negatives=RED[::-1], **more):
    concepts = {"red": RED} if concepts is None else concepts
    return new().fit(concepts, negatives, **{"null_cavs": 2, "bootstraps": 2} | more)


def with_each(call, *names):
    """Return calls that each take one argument, by its name."""
    return {name: lambda value, name=name: call(**{name: value}) for name in names}


def prefixed(name, calls):
    return {f"{name}({argument})": call for argument, call in calls.items()}


class Results:
    """An explainer with its concepts, and results, made once."""

    def __init__(self):
        self.explainer = fit({"red": RED, "noise": pictures(12)}, pictures(12))
        self.local = self.explainer.explain(RED[0])
        self.whole = self.explainer.explain_class("a", RED[:5])
        self.found = self.explainer.discover(pictures(20), k=2)
        self.diagnosed = self.explainer.diagnostics()


@pytest.fixture(scope="module")
def results():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Results()


SETTINGS = (
    "layers",
    "steps",
    "tolerance",
    "batch_size",
    "precision",
    "fill",
    "placebos",
    "cache",
    "progress",
)
CALLS = {
    **prefixed("VisualTCAV", with_each(lambda **g: new(**g), *SETTINGS)),
    **prefixed(
        "fit", with_each(fit, "concepts", "negatives", "null_cavs", "bootstraps", "seed", "strict")
    ),
    "fit(images of a concept)": lambda value: fit({"red": value}),
    "fit(texts)": lambda value: new().fit(texts=value, images=RED),
    "Classifier(class_names)": lambda value: vtcav.Classifier(NETWORK, value),
    "Classifier(preprocess)": lambda value: vtcav.Classifier(NETWORK, None, value),
    "Classifier(module)": lambda value: vtcav.Classifier(value),
    "load_model": vtcav.load_model,
    **prefixed(
        "Preprocess",
        with_each(
            lambda **g: vtcav.Preprocess(**{"size": 32} | g), "size", "mean", "std", "resize"
        ),
    ),
    "CavBank.load": vtcav.CavBank.load,
    "GlobalExplanation.load": vtcav.GlobalExplanation.load,
    "Study.load": vtcav.Study.load,
}
OF_RESULTS = {
    "explain(image)": lambda r, value: r.explainer.explain(value),
    "explain(classes)": lambda r, value: r.explainer.explain(RED[0], value),
    "erase(region)": lambda r, value: r.explainer.erase(RED[0], value),
    "explain_class(name)": lambda r, value: r.explainer.explain_class(value, RED[:3]),
    "explain_class(images)": lambda r, value: r.explainer.explain_class("a", value),
    **{
        f"explain_class({name})": lambda r, value, name=name: r.explainer.explain_class(
            "a", RED[:3], **{name: value}
        )
        for name in ("limit", "seed", "strict", "groups", "run", "engine", "ray_options")
    },
    "rank(concept)": lambda r, value: r.explainer.rank(RED[:3], value),
    "rank(layer)": lambda r, value: r.explainer.rank(RED[:3], "red", value),
    "rank(pictures)": lambda r, value: r.explainer.rank(RED[:3], "red", "3", pictures=value),
    "discover(k)": lambda r, value: r.explainer.discover(pictures(20), k=value),
    "discover(layers)": lambda r, value: r.explainer.discover(pictures(20), value, k=2),
    "discover(seed)": lambda r, value: r.explainer.discover(pictures(20), k=2, seed=value),
    "correct(concept)": lambda r, value: r.explainer.correct(value, "3"),
    "correct(layer)": lambda r, value: r.explainer.correct("red", value),
    "correct(when)": lambda r, value: r.explainer.correct("red", "3", value),
    "errors(images)": lambda r, value: r.explainer.errors(value, ["a"] * 3),
    "errors(labels)": lambda r, value: r.explainer.errors(RED[:3], value),
    "diagnostics(images)": lambda r, value: r.explainer.diagnostics(value),
    "diagnostics(resamples)": lambda r, value: r.explainer.diagnostics(resamples=value),
    "fit_directions": lambda r, value: new().fit_directions(
        {"v": value}, "3", images=RED, negatives=pictures(12), null_cavs=2
    ),
    "versus(b)": lambda r, value: vtcav.versus(r.explainer, value, RED[:3], "a"),
    "versus(images)": lambda r, value: vtcav.versus(r.explainer, r.explainer, value, "a"),
    "versus(margin)": lambda r, value: vtcav.versus(
        r.explainer, r.explainer, RED[:3], "a", margin=value
    ),
    "versus(names)": lambda r, value: vtcav.versus(
        r.explainer, r.explainer, RED[:3], "a", names=value
    ),
    "concept_map(layer)": lambda r, value: r.local.concept_map(value, "red"),
    "concept_map(concept)": lambda r, value: r.local.concept_map("3", value),
    "region": lambda r, value: r.local.region(value),
    "sentences": lambda r, value: r.local.sentences(value),
    **{
        f"plot({name})": lambda r, value, name=name: r.local.plot(**{name: value})
        for name in ("layers", "concepts", "classes", "beside", "diagnostics", "column")
    },
    "summary": lambda r, value: r.whole.summary(value),
    "by_group": lambda r, value: r.whole.by_group(value),
    "class plot(concepts)": lambda r, value: r.whole.plot(concepts=value),
    "Discovery.name(concept)": lambda r, value: r.found.name(value, "found"),
    "Discovery.name(name)": lambda r, value: r.found.name(0, value),
    "Discovery.plot": lambda r, value: r.found.plot(value),
    "Diagnostics.level": lambda r, value: r.diagnosed.level(value, "red"),
    "Diagnostics.place": lambda r, value: r.diagnosed.place("3", value),
    "best_layer": lambda r, value: r.explainer.best_layer(value),
}
SOURCES = ("arrays", "folders", "table", "torch", "huggingface", "webdataset", "lmdb", "broden")
MASK = np.eye(8)
TABLE = pd.DataFrame({"image": ["a.png", "b.png"], "label": ["u", "v"]})
ON_ITS_OWN = {
    **{f"from_{name}": getattr(datasets, f"from_{name}") for name in SOURCES},
    "slices": datasets.slices,
    "volumes": datasets.volumes,
    "from_coco": lambda value: datasets.from_coco(value, "images"),
    "from_boxes": datasets.from_boxes,
    "from_masks(masks)": lambda value: datasets.from_masks(RED[:3], value, "spot"),
    "from_masks(concepts)": lambda value: datasets.from_masks(RED[:3], RED[:3], value),
    **prefixed(
        "from_folders",
        with_each(lambda **g: datasets.from_folders("tree", **g), "concepts", "listed", "seed"),
    ),
    **prefixed(
        "from_table",
        with_each(
            lambda **g: datasets.from_table(TABLE, **g), "image", "label", "root", "separator"
        ),
    ),
    **prefixed("Patches", with_each(lambda **g: datasets.Patches(**g), "pad", "min_size")),
    "textures.draw": lambda value: vtcav.textures.draw(value, 1, size=16),
    "textures.write": lambda value: vtcav.textures.write(value, ["striped"], 1, size=16),
    **{
        name: lambda value, name=name: getattr(evaluation, name)(value, MASK)
        for name in ("pointing_game", "soft_iou", "localise", "at_resolution")
    },
    "spearman": lambda value: evaluation.spearman(value, [1, 2, 3]),
    "interval_over_seeds": evaluation.interval_over_seeds,
    "evaluate(seeds)": lambda value: evaluation.evaluate("out", images="none", seeds=value),
    "evaluate(agreements)": lambda value: evaluation.evaluate(
        "out", images="none", agreements=value
    ),
}


def check(call):
    """Call with each of the odd values."""
    wrong = {}
    for name, value in ODD.items():
        try:
            call(value)
        except VtcavError as error:
            if len(str(error)) > LONGEST:
                wrong[name] = f"a message of {len(str(error))} letters"
        except Exception as error:  # noqa: BLE001
            wrong[name] = repr(error)[:120]
        plt.close("all")
    assert not wrong


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("call", CALLS)
def test_settings(monkeypatch, tmp_path, call):
    monkeypatch.chdir(tmp_path)
    check(CALLS[call])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("call", ON_ITS_OWN)
def test_data_and_metrics(monkeypatch, tmp_path, call):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / "tree" / name).mkdir(parents=True)
        Image.fromarray(RED[0]).save(tmp_path / "tree" / name / "0.png")
    check(ON_ITS_OWN[call])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("call", OF_RESULTS)
def test_what_is_done_with_concepts(monkeypatch, tmp_path, results, call):
    monkeypatch.chdir(tmp_path)
    check(lambda given: OF_RESULTS[call](results, given))


@pytest.mark.parametrize("given", ["", " ", None, 1.5, []])
def test_the_current_folder_is_not_written_to_by_mistake(monkeypatch, tmp_path, results, given):
    monkeypatch.chdir(tmp_path)
    for save in (
        results.local.save,
        results.whole.save,
        results.explainer.cavs.save,
        lambda run: results.explainer.explain_class("a", RED[:3], run=run or ""),
    ):
        with pytest.raises(VtcavError, match=r"expected (folder|path|run) to be a path, got"):
            save(given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("given", ["false", 1, None])
def test_what_is_true_or_false_is_no_text(results, given):
    for call in (
        lambda: results.explainer.explain_class("a", RED[:3], strict=given),
        lambda: results.explainer.rank(RED[:3], "red", "3", strict=given),
        lambda: results.local.plot(column=given),
        lambda: results.local.plot(smooth=given),
        lambda: results.whole.class_effects(by_group=given),
        lambda: results.whole.to_json(rows=given),
        lambda: results.diagnosed.cosines("3", corrected=given),
        lambda: results.diagnosed.place("3", "red", negatives=given),
        lambda: vtcav.Classifier(NETWORK, None, vtcav.Preprocess(32), binary=given),
        lambda: datasets.Patches(square=given),
        lambda: evaluation.evaluate("out", quick=given),
        lambda: evaluation.interval_over_seeds([0.1], correlation=given),
    ):
        with pytest.raises(VtcavError, match=r"expected \w+ to be true or false, got"):
            call()


@pytest.mark.parametrize("given", ["no", 0, "auto", []])
def test_what_is_true_or_false_or_none_is_no_text(monkeypatch, tmp_path, results, given):
    monkeypatch.chdir(tmp_path)
    study = vtcav.Study.__new__(vtcav.Study)  # looked at after the argument
    networks = (["a"], ["b"])
    for call in (
        lambda: new(progress=given),
        lambda: compare(results.explainer, {"a": RED[:2]}, progress=given),
        lambda: evaluation.evaluate("out", progress=given),
        lambda: vtcav.run_study(study, "out", progress=given),
        lambda: versus_study(study, networks, "out", margin=None, progress=given),
        lambda: results.whole.save("out", csv=given),
    ):
        with pytest.raises(
            VtcavError, match=r"expected \w+ to be true or false, got .*; None takes"
        ):
            call()
    assert not list(tmp_path.iterdir())


def test_long_values_are_told_by_what_they_are():
    assert brief(["a"]) == "['a']"
    assert brief(list(range(1000))) == "list of length 1000"
    assert brief(pictures(2)) == "ndarray of shape (2, 32, 32, 3)"
    assert brief("x" * 999) == f"'{'x' * 159}..."
