"""Every test and every executed example begins with the same random numbers."""

import pytest
import torch

from vtcav.images.fitting import blank

# many tests and examples take pictures of one colour, or of a few pixels, on purpose
blank.NAMED = 0


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
