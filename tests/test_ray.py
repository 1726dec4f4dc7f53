"""The Ray engine: the rows of this process, whatever dies."""

import os
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vtcav
from tests.small import CLASSES, concepts, negatives, pictures, small_net
from vtcav.engines import engine_of
from vtcav.errors import ExplanationError, ExtraError, ImageError, ModelError

ray = pytest.importorskip("ray", reason="needs the extra vtcav[ray]")
pytest.importorskip("ray.data", reason="needs the extra vtcav[ray]")

pytestmark = [
    # of Ray's own threads, pipes and copies
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

IMAGES = pictures(70, seed=7)  # parts of 64 and 6
TWO = {"workers": 2}


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


@pytest.fixture(scope="module")
def runtime():
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, address="local")
    yield
    ray.shutdown()


def test_the_rows_of_this_process_and_a_killed_worker(runtime, tmp_path):
    marker = tmp_path / "marker"
    explainer = fitted(Dies(marker))
    glob = explainer.explain_class("cat", IMAGES, engine="ray", ray_options=TWO, run=tmp_path / "r")
    assert int(marker.read_text()) != os.getpid()
    same(glob, explainer.explain_class("cat", IMAGES))
    assert ray.is_initialized(), "a runtime that was there stays"
    # what Ray computed is taken over in this process
    before = {p.name: p.read_bytes() for p in (tmp_path / "r").glob("part*")}
    same(glob, explainer.explain_class("cat", IMAGES, run=tmp_path / "r"))
    assert {p.name: p.read_bytes() for p in (tmp_path / "r").glob("part*")} == before


def test_left_out_images_and_errors_are_those_of_this_process(runtime, tmp_path):
    for i, picture in enumerate(pictures(4)):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    (tmp_path / "2.png").write_bytes(b"no picture")
    explainer, options = fitted(), {"workers": 1}
    with pytest.warns(vtcav.SkippedImageWarning, match=r"^1 of 4 images are left out"):
        glob = explainer.explain_class("cat", tmp_path, engine="ray", ray_options=options)
    assert [Path(skip.name).name for skip in glob.skipped] == ["2.png"]
    with pytest.raises(ImageError, match=r"cannot read '.*2\.png': it is not a picture"):
        explainer.explain_class("cat", tmp_path, strict=True, engine="ray", ray_options=options)


def test_models_by_name(runtime):
    module = small_net()
    module.lock = threading.Lock()  # cannot be pickled
    explainer = fitted(module=module)
    with pytest.raises(ExplanationError, match=r"cannot be sent .* 'python:MODULE:CALLABLE'"):
        explainer.explain_class("cat", IMAGES[:3], engine="ray", ray_options=TWO)
    wrong = {"build_another": "learned on another network", "nothing": "has no .nothing"}
    for name, match in wrong.items():
        options = {"workers": 1, "model": f"python:tests.test_ray:{name}"}
        with pytest.raises((ModelError, vtcav.CavError), match=match):
            explainer.explain_class("cat", IMAGES[:3], engine="ray", ray_options=options)
    options = {"workers": 1, "model": "python:tests.test_ray:build"}
    named = explainer.explain_class("cat", IMAGES[:3], engine="ray", ray_options=options)
    same(named, explainer.explain_class("cat", IMAGES[:3]))


def test_no_room_for_the_actors(runtime):
    with pytest.raises(ExplanationError, match="5 workers with 0.5 CPU each do not fit into the 2"):
        engine_of("ray", {"workers": 5}).__enter__()
    with pytest.raises(ExplanationError, match="1 workers with 1 GPU each do not fit into the 0"):
        engine_of("ray", {"workers": 1, "num_gpus": 1}).__enter__()


def test_a_runtime_of_our_own_is_stopped_again():
    ray.shutdown()
    explainer = fitted()
    glob = explainer.explain_class("cat", IMAGES[:3], engine="ray", ray_options={"workers": 1})
    same(glob, explainer.explain_class("cat", IMAGES[:3]))
    assert not ray.is_initialized()


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
