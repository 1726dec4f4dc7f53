"""The base of scores that hold what the plain pass of an image decides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor


class HeldScore(ABC):
    """A score that depends on something of the plain pass of each image: its boxes, its regions.

    `hold` is called once for an image, with the output of the plain pass. `read` is called for
    every pass along the integral, with what it returned. Both are to be functions of the output
    alone, and `read` is to be differentiable.
    """

    @abstractmethod
    def hold(self, output: Any) -> Any:
        """Return what is held of N images: a tensor [N, ...], or a tuple or dict of these."""

    @abstractmethod
    def read(self, output: Any, held: Any) -> Tensor:
        """Return the scores [N, T].

        Args:
            output: The network's output, of the N images or of N other feature maps of them.
            held: What `hold` returned for the images.
        """

    def __call__(self, output: Any) -> Tensor:
        """Return the scores [N, T] of a plain pass."""
        return self.read(output, self.hold(output))


def part_of(output: Any, *names: str) -> Any:
    """Return the first part of an output that is there, by key or attribute.

    Raises:
        KeyError: When there is none.
    """
    for name in names:
        if isinstance(output, dict) and output.get(name) is not None:
            return output[name]
        if getattr(output, name, None) is not None:
            return getattr(output, name)
    raise KeyError(" or ".join(map(repr, names)))
