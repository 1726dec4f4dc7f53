"""Filling in regions: against loops over pixels, and what must hold of every fill."""

import math

import numpy as np
import pytest
import torch

import vtcav
from vtcav.explainer.settings import ErasureSettings
from vtcav.method.erasure.fill import FILLS, filled, others


def literal_convolution(x, H):
    """Normalised convolution, pixel by pixel."""
    c, rows, columns = x.shape
    sigma = 0.1 * min(rows, columns)
    reach = int(3 * sigma)
    total = sum(math.exp(-0.5 * (d / sigma) ** 2) for d in range(-reach, reach + 1))
    keep = 1 - H
    mean = (x * keep).sum((1, 2)) / keep.sum()
    out = x.copy()
    for i in range(rows):
        for j in range(columns):
            if not H[i, j]:
                continue
            above, below = np.zeros(c), 0.0
            for a in range(max(0, i - reach), min(rows, i + reach + 1)):
                for b in range(max(0, j - reach), min(columns, j + reach + 1)):
                    weight = math.exp(-0.5 * ((a - i) ** 2 + (b - j) ** 2) / sigma**2) / total**2
                    above += weight * keep[a, b] * x[:, a, b]
                    below += weight * keep[a, b]
            out[:, i, j] = (above + 1e-4 * mean) / (below + 1e-4)
    return out


@pytest.fixture
def picture():
    """A picture that is not square, and a region at its edge."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(3, 18, 24))
    H = np.zeros((18, 24))
    H[10:18, 4:15] = 1
    return x, H


def test_convolution_is_the_literal_one(picture):
    x, H = picture
    found = filled(torch.tensor(x)[None], torch.tensor(H)[None])[0]
    np.testing.assert_allclose(found.numpy(), literal_convolution(x, H), atol=1e-10)


@pytest.mark.parametrize("fill", ["convolution", "blur"])
def test_a_picture_is_filled_as_it_is_alone(picture, fill):
    x, H = (torch.tensor(a)[None] for a in picture)
    pictures, regions = torch.cat([x, x.flip(3), x]), torch.cat([H, H.flip(2), 0 * H])
    found = filled(pictures, regions, fill)
    assert torch.equal(found[:1], filled(x, H, fill))
    assert torch.equal(found[1:2], filled(x.flip(3), H.flip(2), fill))
    assert torch.equal(found[2:], x)


@pytest.mark.parametrize("fill", FILLS)
def test_what_is_outside_stays_to_the_last_bit(picture, fill):
    x, H = (torch.tensor(a, dtype=torch.float32)[None] for a in picture)
    found = filled(x, H, fill)
    outside = (H == 0)[:, None].expand_as(x)
    assert torch.equal(found[outside], x[outside])
    assert not torch.equal(found, x)


@pytest.mark.parametrize("fill", FILLS)
def test_fills_commute_with_a_normalisation_by_channel(picture, fill):
    x, H = (torch.tensor(a)[None] for a in picture)
    scale, shift = (torch.tensor(v)[:, None, None] for v in ([2.0, 0.5, 3.0], [1.0, -1.0, 0.2]))
    torch.testing.assert_close(
        filled(x * scale + shift, H, fill), filled(x, H, fill) * scale + shift
    )


@pytest.mark.parametrize("fill", FILLS)
def test_a_region_that_covers_all_is_filled_with_finite_numbers(picture, fill):
    x = torch.tensor(picture[0])[None]
    assert filled(x, torch.ones(1, 18, 24), fill).isfinite().all()


def test_a_constant_picture_stays_constant():
    x, H = torch.full((1, 3, 16, 16), 0.3), torch.zeros(1, 16, 16)
    H[0, 4:12, 4:12] = 1
    for fill in FILLS:
        torch.testing.assert_close(filled(x, H, fill), x)


@pytest.mark.parametrize("fill", ["telea", "navier-stokes"])
def test_inpainting_is_opencvs_without_its_rounding(fill):
    """A grey picture of whole numbers over the full range: as OpenCV does it on 8 bits."""
    cv2 = pytest.importorskip("cv2")
    rows, columns = np.mgrid[:32, :40]
    grey = ((rows * 5 + columns * 3) % 256).astype(np.uint8)
    grey[0, :2] = 0, 255
    H = np.zeros((32, 40), np.uint8)
    H[12:20, 15:27] = 1
    flag = cv2.INPAINT_TELEA if fill == "telea" else cv2.INPAINT_NS
    expected = cv2.inpaint(grey, H, 3, flag)
    x = torch.tensor(grey / 255)[None, None]
    found = filled(x, torch.tensor(H, dtype=torch.float64)[None], fill)[0, 0].numpy() * 255
    assert np.abs(found - expected)[H > 0].mean() < 1.5
    assert not np.allclose(found[H > 0] % 1, 0, atol=1e-3)


def test_without_opencv_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr("vtcav.method.erasure.fill_names.find_spec", lambda name: None)
    with pytest.raises(vtcav.ExtraError, match=r"pip install 'vtcav\[inpainting\]'"):
        ErasureSettings(fill="telea")
    assert ErasureSettings(fill="blur").fill == "blur"
    assert "telea" not in others("convolution")


def test_a_callable_gets_the_picture_and_the_region(picture):
    x, H = (torch.tensor(a)[None] for a in picture)
    seen = []

    def black(x, H):
        seen.append((tuple(x.shape), tuple(H.shape)))
        return torch.zeros_like(x)

    found = filled(x, H, black)
    assert seen == [((1, 3, 18, 24), (1, 1, 18, 24))]
    assert (found[0, :, 10:18, 4:15] == 0).all()
