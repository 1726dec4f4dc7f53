"""Mixed precision by request: what it costs is measured, and nothing else changes."""

import numpy as np
import pytest
import torch

import vtcav
from tests.helpers.small import CLASSES, concepts, negatives, pictures, small_net
from vtcav.errors import ExplanationError
from vtcav.explainer import gradient_precision
from vtcav.models.heads.mixed_precision import mixed


@pytest.fixture(scope="module")
def plain():
    model = vtcav.Classifier(small_net(), CLASSES, vtcav.Preprocess(16))
    explainer = vtcav.VisualTCAV(model, ["1", "3"], 8, progress=False)
    return explainer.fit(concepts(), negatives(), null_cavs=0, bootstraps=0)


def telling():
    """Return pictures whose attributions are large enough to tell an error at both layers."""
    return pictures(5, seed=1)[[4, 2]]


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
    with pytest.raises(
        ExplanationError, match="precision to be 'auto', 'bf16' or 'fp16', got 'int4'"
    ):
        coarse(plain, "int4")


@pytest.fixture
def able(monkeypatch):
    """bf16 is computed everywhere, on some processors slowly."""
    monkeypatch.setattr(gradient_precision, "computes_bf16", lambda device: True)


@pytest.mark.parametrize(("tolerance", "chosen"), [(0.5, ["1", "3"]), (1e-6, [])])
def test_auto_takes_bf16_where_it_is_exact_enough(plain, able, tolerance, chosen):
    found = coarse(plain, "auto", tolerance=tolerance).explain_class("cat", telling())
    settings = found.provenance.settings
    assert (settings["precision"], settings["bf16_layers"]) == ("auto", chosen)
    assert 0 < max(settings["precision_error"].values()) < 0.05
    same = coarse(plain, "bf16" if chosen else None, tolerance=tolerance)
    other = same.explain_class("cat", telling())
    assert found.attributions["attribution"].equals(other.attributions["attribution"])
    local = coarse(plain, "auto", tolerance=tolerance).explain(telling()[:1], classes=["cat"])
    assert local.provenance.settings["bf16_layers"] == chosen


def test_auto_measures_nothing_where_bf16_would_be_slower(plain, monkeypatch):
    monkeypatch.setattr(gradient_precision, "computes_bf16", lambda device: False)
    found = coarse(plain, "auto", tolerance=0.5).explain(telling()[:1], classes=["cat"])
    assert found.provenance.settings["bf16_layers"] == []
    assert "precision_error" not in found.provenance.settings
    exact = plain.explain(telling()[:1], classes=["cat"]).attributions["attribution"]
    assert found.attributions["attribution"].equals(exact)


class Float32Only(torch.nn.Module):
    """What an extension does whose kernels know one type."""

    def forward(self, z):
        if z.dtype != torch.float32:
            raise NotImplementedError(f"not implemented for {z.dtype}")
        return z * 1


def test_auto_leaves_a_network_alone_that_knows_no_bf16(able, caplog):
    net = torch.nn.Sequential(*small_net(), Float32Only())
    model = vtcav.Classifier(net, CLASSES, vtcav.Preprocess(16))
    exact = vtcav.VisualTCAV(model, ["3"], 8, progress=False)
    exact.fit(concepts(), negatives(), null_cavs=0, bootstraps=0)
    with caplog.at_level("INFO", "vtcav"):
        found = coarse(exact, "auto", tolerance=0.5).explain(telling()[:1], classes=["cat"])
    assert "keep the network's own precision" in caplog.text
    assert found.provenance.settings["bf16_layers"] == []
    assert found.provenance.settings["precision_error"] == {}
    a = exact.explain(telling()[:1], classes=["cat"]).attributions["attribution"]
    assert found.attributions["attribution"].equals(a)
    with pytest.raises(vtcav.errors.VtcavError, match="at layer '3'"):
        coarse(exact, "bf16", tolerance=0.5).explain(telling()[:1], classes=["cat"])


def test_a_run_is_not_mixed_of_two_precisions(plain, able, monkeypatch, tmp_path):
    coarse(plain, "auto", tolerance=0.5).explain_class("cat", telling(), run=tmp_path)
    monkeypatch.setattr(gradient_precision, "computes_bf16", lambda device: False)
    elsewhere = coarse(plain, "auto", tolerance=0.5)
    with pytest.raises(ExplanationError, match="other settings"):
        elsewhere.explain_class("cat", telling(), run=tmp_path)


def test_a_corrected_network_is_computed_as_the_first(plain, able):
    labelled = {"cat": pictures(4, seed=1), "dog": pictures(4, seed=2)}
    concept = plain.cavs.names[0]

    def attributions(precision):
        explainer = coarse(plain, precision, tolerance=0.5)
        fixed = explainer.correct(
            concept,
            "1",
            images=labelled,
            attributions=True,
            anyway=True,
            examples=concepts(),
            negatives=negatives(),
        )
        return fixed.report.attributions.select_dtypes("number").to_numpy()

    np.testing.assert_array_equal(attributions("auto"), attributions("bf16"))
