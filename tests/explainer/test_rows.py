"""Rows of images, written in place."""

import pytest
import torch

from vtcav.explainer.learning.rows import Rows


@pytest.mark.parametrize("most", [5, 9])
def test_rows_are_those_of_all_batches_in_order(most):
    parts = [torch.arange(6.0).reshape(2, 3), torch.ones(1, 3), torch.zeros(2, 3)]
    rows = Rows(most)
    for part in parts:
        rows.add(part)
    assert torch.equal(rows.rows, torch.cat(parts))
    # nothing is held of rows that did not come
    assert rows.rows.untyped_storage().nbytes() == 5 * 3 * 4
    with pytest.raises(ValueError, match="at least one batch, got none"):
        Rows(1).rows  # noqa: B018
