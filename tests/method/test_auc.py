"""A rank statistic without a table of all pairs."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from vtcav.method.auc import auc, auc_of

numbers = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=20)


@given(high=numbers, low=numbers)
def test_the_share_of_pairs_is_that_of_their_table(high, low):
    high, low = torch.tensor(high), torch.tensor(low)
    assert auc_of(high, low) == auc(high[:, None] - low)
