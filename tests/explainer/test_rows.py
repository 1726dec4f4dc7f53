"""Rows of images, written in place; and a rank statistic without a table of all pairs."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vtcav.explainer.learning.rows import Rows
from vtcav.method.auc import auc, auc_of


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


numbers = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=20)


@given(high=numbers, low=numbers)
def test_the_share_of_pairs_is_that_of_their_table(high, low):
    high, low = torch.tensor(high), torch.tensor(low)
    assert auc_of(high, low) == auc(high[:, None] - low)
