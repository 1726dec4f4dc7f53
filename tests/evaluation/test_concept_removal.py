"""Taking a concept out of feature maps: by hand, and on a linear head."""

import numpy as np
import torch

from vtcav.evaluation.removal.curves import area, curves
from vtcav.method.concept_part import coefficient, concept_part

# two channels at three positions, a direction of length 5
F = torch.tensor([[[[3.0, 6.0, 0.0]], [[4.0, 8.0, 5.0]]]])
d = torch.tensor([3.0, 4.0])


def test_the_concepts_part_by_hand():
    torch.testing.assert_close(coefficient(F, d), torch.tensor([[[1.0, 2.0, 0.8]]]))
    D = concept_part(F, d, 0.9)
    torch.testing.assert_close(D, torch.tensor([[[[0.3, 3.3, 0.0]], [[0.4, 4.4, 0.0]]]]))


def test_nothing_above_beta_is_left_and_nothing_else_changes():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(4, 5, 3, 3, generator=generator)
    directions = torch.randn(4, 5, generator=generator)
    beta = torch.tensor([0.1, -0.2, 0.0, 0.3])
    before = coefficient(maps, directions)
    left = maps - concept_part(maps, directions, beta)
    after = coefficient(left, directions)
    torch.testing.assert_close(after, torch.minimum(before, beta[:, None, None]))
    across = (
        torch.eye(5)
        - directions[:, :, None] * directions[:, None] / (directions.square().sum(1)[:, None, None])
    )
    torch.testing.assert_close(
        torch.einsum("ncd,ndhw->nchw", across, left),
        torch.einsum("ncd,ndhw->nchw", across, maps),
        atol=1e-5,
        rtol=0,
    )


def test_a_direction_of_zeros_removes_nothing():
    assert not coefficient(F, torch.zeros(2)).any()
    assert not concept_part(F, torch.zeros(2), -1.0).any()


def test_curves_of_a_linear_head_are_lines():
    W = torch.tensor([[1.0, 2.0], [0.0, -1.0]])

    def head(maps):
        return maps.sum((2, 3)) @ W.T

    D = concept_part(F, d, 0.9)
    t = torch.linspace(0, 1, 5)
    z = curves(head, torch.cat([F, 2 * F]), torch.cat([D, D]), t, batch_size=3)
    # sum(F) = (9, 17) and sum(D) = (3.6, 4.8): class 0 falls by 3.6 + 2 * 4.8, class 1 rises
    torch.testing.assert_close(z[0, :, 0], 43 - 13.2 * t)
    torch.testing.assert_close(z[0, :, 1], -17 + 4.8 * t)
    torch.testing.assert_close(z[1, :, 0], 86 - 13.2 * t)
    assert not z.requires_grad
    np.testing.assert_allclose(area(z[:, :, 0].numpy(), t.numpy()), [43 - 6.6, 86 - 6.6])


def test_area_is_that_of_trapezoids():
    from scipy.integrate import trapezoid

    random = np.random.default_rng(0)
    values, t = random.normal(size=(3, 7)), np.sort(random.random(7))
    np.testing.assert_allclose(area(values, t), trapezoid(values, t, axis=1))
