"""Values of the images of a set, a row each, written in place batch by batch."""

from __future__ import annotations

from torch import Tensor


class Rows:
    """A tensor with a row for each image.

    Small tensors of every batch would lie between the feature maps that come and go, and keep their
    space from being used again: memory would grow with the images as if all maps were kept.

    Args:
        most: The most images that may come.

    Example:
        >>> import torch
        >>> values = Rows(5)
        >>> values.add(torch.ones(2, 3))
        >>> values.add(torch.zeros(1, 3))
        >>> values.rows.shape
        torch.Size([3, 3])
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._rows: Tensor | None = None
        self._count = 0

    def add(self, part: Tensor) -> None:
        """Add the rows of a batch [n, ...]."""
        if self._rows is None:
            self._rows = part.new_empty(self._most, *part.shape[1:])
        self._rows[self._count : self._count + len(part)] = part
        self._count += len(part)

    @property
    def rows(self) -> Tensor:
        """The rows that were added [N, ...], at least one.

        Raises:
            ValueError: Where none was added.
        """
        if self._rows is None:
            raise ValueError("expected at least one batch, got none")
        whole = self._count == self._most
        return self._rows if whole else self._rows[: self._count].clone()
