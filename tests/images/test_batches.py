"""Values that are not finite are found, and large ones are not taken for them."""

import pytest
import torch

from vtcav.errors import ModelError
from vtcav.models.finite import check_finite

NAMES = ["one.png", "two.png"]


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_single_value_is_named(wrong, dtype):
    good, bad = torch.ones(2, 3, 4, 4, dtype=dtype), torch.ones(2, 3, 4, 4, dtype=dtype)
    bad[1, 2, 3, 0] = wrong
    check_finite(NAMES, {"a": good})
    with pytest.raises(ModelError, match=r"infinite values or NaN at layer 'b' for 'two.png'"):
        check_finite(NAMES, {"a": good, "b": bad})
    with pytest.raises(ModelError, match=r"NaN at its scores for 'two.png'"):
        check_finite(NAMES, {"a": good}, bad[:, 2, 3])


def test_infinities_that_cancel_out_are_found():
    bad = torch.ones(2, 1, 1, 2)
    bad[0] = torch.tensor([torch.inf, -torch.inf])
    with pytest.raises(ModelError, match=r"for 'one.png'"):
        check_finite(NAMES, {"a": bad})


def test_large_values_are_finite():
    check_finite(NAMES, {"a": torch.full((2, 1, 8, 8), 3e38)}, torch.full((2, 3), -3e38))
    check_finite(NAMES, {"a": torch.full((2, 1, 8, 8), 6e4, dtype=torch.float16)})
