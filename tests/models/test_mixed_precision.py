"""Mixed precision by request: what it costs is measured, and nothing else changes."""

import pytest
import torch

import vtcav
from tests.helpers.small import CLASSES, concepts, negatives, pictures, small_net
from vtcav.errors import ExplanationError
from vtcav.models.heads.mixed_precision import mixed


@pytest.fixture(scope="module")
def plain():
    model = vtcav.Classifier(small_net(), CLASSES, vtcav.Preprocess(16))
    explainer = vtcav.VisualTCAV(model, ["1", "3"], 8, progress=False)
    return explainer.fit(concepts(), negatives(), null_cavs=0, bootstraps=0)


def coarse(plain, precision, **settings):
    return vtcav.VisualTCAV(
        plain.model, steps=8, cavs=plain.cavs, precision=precision, progress=False, **settings
    )


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_error_is_measured(plain, precision):
    explainer = coarse(plain, precision, tolerance=0.5)
    glob = explainer.explain_class("cat", pictures(5, seed=1))
    exact = plain.explain_class("cat", pictures(5, seed=1))
    assert dict(glob.provenance.settings)["precision"] == precision
    lost = glob.provenance.settings["precision_error"]
    assert list(lost) == ["1", "3"]
    assert 0 < max(lost.values()) < 0.05
    a, b = glob.attributions["attribution"], exact.attributions["attribution"]
    relative = (a - b).abs() / b.clip(lower=0.01)
    first = glob.attributions["image"] == glob.attributions["image"].iloc[0]
    assert relative[first].max() == pytest.approx(max(lost.values()), rel=0.05, abs=1e-5)
    assert 0 < relative.max() < 0.1
    # class shares and predictions do not move
    assert glob.attributions["probability"].equals(exact.attributions["probability"])
    assert "precision" not in exact.provenance.settings


def test_an_error_above_the_tolerance_warns(plain):
    explainer = coarse(plain, "bf16", tolerance=1e-6)
    with pytest.warns(UserWarning, match=r"precision='bf16' moves attributions by up to .*layer"):
        local = explainer.explain(pictures(1, seed=1))
    assert max(local.provenance.settings["precision_error"].values()) > 1e-6


def test_the_gradient_in_half_the_bits(plain):
    """float16 gets its gradients scaled: those below its smallest number survive."""
    head = plain.model.head("1")

    def gradient(head, scale):
        F = torch.rand(
            2, *plain.model.layers()[0].shape, generator=torch.Generator().manual_seed(0)
        )
        F.requires_grad_()
        z = head(F)
        assert z.dtype == torch.float32
        return torch.autograd.grad(z[:, 0].sum() * scale, F)[0]

    exact = gradient(head, 1e-6)
    for precision in ("bf16", "fp16"):
        G = gradient(mixed(head, precision), 1e-6)
        assert float((G - exact).norm() / exact.norm()) < 0.05
    assert mixed(head, None) is head


def test_an_unknown_precision(plain):
    with pytest.raises(ExplanationError, match="precision to be 'bf16' or 'fp16', got 'int4'"):
        coarse(plain, "int4")
