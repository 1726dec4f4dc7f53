"""The Ray engine: the rows of this process, whatever dies."""

import os
import pickle
import signal
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from torch import nn

import vtcav
from tests.helpers.small import CLASSES, concepts, negatives, pictures, small_net, with_weights
from vtcav.errors import CavError, ExplanationError, ExtraError, ImageError, ModelError
from vtcav.explainer.runs import ray_engine as engine
from vtcav.explainer.runs.class_task import ClassTask
from vtcav.explainer.runs.part import chunks_of
from vtcav.explainer.runs.ray_engine import engine_of
from vtcav.images.listing import collect

ray = pytest.importorskip("ray", reason="needs the extra vtcav[ray]")
pytest.importorskip("ray.data", reason="needs the extra vtcav[ray]")

pytestmark = [
    # of Ray's own threads, pipes and copies
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

IMAGES = pictures(70, seed=7)  # parts of 64 and 6


class Plain:
    def __call__(self, image):
        return vtcav.Preprocess(16)(image)


class Dies(Plain):
    """Kills its process once."""

    def __init__(self, marker):
        self.marker, self.home = marker, os.getpid()

    def __call__(self, image):
        if os.getpid() != self.home and not self.marker.exists():
            self.marker.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(image)


def fitted(preprocess=None, module=None):
    model = vtcav.Classifier(module or small_net(), CLASSES, preprocess or vtcav.Preprocess(16))
    explainer = vtcav.VisualTCAV(model, ["1", "3"], 2, progress=False)
    return explainer.fit(concepts(), negatives(), bootstraps=20)


def wide_net():
    """A network with enough convolutions to run with the channels last."""
    convolutions = [nn.Conv2d(3, 8, 3, 2, 1), *(nn.Conv2d(8, 8, 3, padding=1) for _ in range(4))]
    layers = [part for convolution in convolutions for part in (convolution, nn.ReLU())]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    return with_weights(net, 0)


def build():
    """What actors load by name."""
    return vtcav.Classifier(small_net(), CLASSES, vtcav.Preprocess(16))


def build_another():
    return vtcav.Classifier(small_net(seed=1), CLASSES, vtcav.Preprocess(16))


def same(one, another):
    rows, others = one.attributions, another.attributions
    numbers = rows.select_dtypes("number").columns
    assert rows.drop(columns=numbers).equals(others.drop(columns=numbers))
    np.testing.assert_allclose(rows[numbers], others[numbers], atol=1e-6)
    np.testing.assert_allclose(one.resampled["mean"], another.resampled["mean"], atol=1e-6)


# before the runtime of the tests below starts
def test_two_workers_of_a_runtime_of_our_own():
    explainer = fitted(module=wide_net())
    assert explainer.model._channels_last
    glob = explainer.explain_class("cat", IMAGES, engine="ray", ray_options={"workers": 2})
    same(glob, explainer.explain_class("cat", IMAGES))
    assert not ray.is_initialized()


@pytest.fixture(scope="module")
def runtime():
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, address="local")
    yield
    ray.shutdown()


@pytest.fixture
def here(monkeypatch):
    """What an actor does, in this process."""
    monkeypatch.setattr(
        "vtcav.explainer.runs.ray_engine._ray", lambda: SimpleNamespace(get=lambda packed: packed)
    )

    def work(explainer, images, *, strict=False, name=None):
        task, [chunk] = ClassTask(explainer.attributor, strict, 0), chunks_of(collect(images), 16)
        worker = engine._Worker(engine._packed(task, name, "cpu"))
        return engine._unpacked(worker({"chunk": pickle.dumps(chunk)}))[1]

    return work


def test_images_are_ranked_by_workers(runtime):
    explainer = fitted()
    ranking = explainer.rank(IMAGES, "bright", "3", engine="ray", ray_options={"workers": 1})
    own = explainer.rank(IMAGES, "bright", "3")
    assert ranking.table["image"].tolist() == own.table["image"].tolist()
    np.testing.assert_allclose(ranking.table["presence"], own.table["presence"], atol=1e-6)
    assert [one.position for one in ranking.shown] == [one.position for one in own.shown]


def test_a_killed_worker_loses_nothing(runtime, tmp_path):
    """And a runtime that was there is used and stays; images that cannot be read are named."""
    marker, run = tmp_path / "marker", tmp_path / "run"
    images = [*IMAGES, tmp_path / "lost.png"]
    images[-1].write_bytes(b"no picture")
    explainer = fitted(Dies(marker))
    with pytest.warns(vtcav.SkippedImageWarning, match=r"^1 of 71 images is left out.*lost\.png"):
        glob = explainer.explain_class(
            "cat", images, engine="ray", ray_options={"workers": 1}, run=run
        )
    assert int(marker.read_text()) != os.getpid()
    same(glob, explainer.explain_class("cat", IMAGES))
    assert ray.is_initialized()
    # this process takes over what Ray computed
    before = {p.name: p.read_bytes() for p in run.glob("part*")}
    with pytest.warns(vtcav.SkippedImageWarning):
        same(glob, explainer.explain_class("cat", images, run=run))
    assert {p.name: p.read_bytes() for p in run.glob("part*")} == before
    for options, match in TOO_MANY:
        with pytest.raises(ExplanationError, match=match):
            engine_of("ray", options).__enter__()


TOO_MANY = [
    ({"workers": 5}, r"5 workers with 0\.5 CPU each do not fit into the 2"),
    ({"workers": 1, "num_gpus": 1}, "1 workers with 1 GPU each do not fit into the 0"),
]


def lost():
    raise ModuleNotFoundError("No module named 'their_network'")


class Lost(Plain):
    """Cannot be unpacked where an actor works."""

    def __reduce__(self):
        return lost, ()


def test_what_keeps_actors_from_working_is_said(runtime):
    explainer = fitted(Lost())
    with pytest.raises(ExplanationError, match=r"cannot work: .*No module named 'their_network'"):
        explainer.explain_class("cat", IMAGES[:3], engine="ray", ray_options={"workers": 1})


def test_errors_are_those_of_this_process(here, tmp_path):
    (tmp_path / "2.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"cannot read '.*2\.png': it is not a picture"):
        here(fitted(), tmp_path / "2.png", strict=True)


def test_models_by_name(here):
    module = small_net()
    module.lock = threading.Lock()  # cannot be pickled
    explainer = fitted(module=module)
    with pytest.raises(ExplanationError, match=r"cannot be sent .* 'python:MODULE:CALLABLE'"):
        here(explainer, IMAGES[:3])
    with pytest.raises(CavError, match="learned on another network"):
        here(explainer, IMAGES[:3], name="python:tests.explainer.test_ray:build_another")
    with pytest.raises(ModelError, match="has no 'nothing'"):
        here(explainer, IMAGES[:3], name="python:tests.explainer.test_ray:nothing")
    part = here(explainer, IMAGES[:3], name="python:tests.explainer.test_ray:build")
    rows = explainer.explain_class("cat", IMAGES[:3]).attributions
    assert part.rows.to_pandas()["attribution"].equals(rows["attribution"])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (
            {"adress": "auto"},
            "unknown option 'adress' of the Ray engine: expected address, workers",
        ),
        ({"workers": 0}, "expected workers to be a whole number of at least 1, got 0"),
        ({"num_gpus": "one"}, "expected num_gpus to be a number from 0 on, got 'one'"),
    ],
)
def test_options(options, match):
    with pytest.raises(ExplanationError, match=match):
        engine_of("ray", options)


def test_without_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(ExtraError, match=r'is not installed: pip install "vtcav\[ray\]"'):
        engine_of("ray")
