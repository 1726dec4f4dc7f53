"""Memory: as many feature maps per pass as are fast and fit, and fewer where it runs out.

A pass through the rest of the network keeps what its backward pass needs. `Budget` measures that
for one feature map and takes as many as the free memory holds, up to what is fast. Where memory
runs out all the same, `BatchSize` halves itself and continues.

`benchmarks/batch_sizes.py` measures the constants: time per feature map by batch size, with the
channels first and last in memory.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from vtcav.errors import ModelError
from vtcav.models.base import Head

T = TypeVar("T")

IMAGES = 16
"""Images per pass by default. Fixed, because the parts of long runs depend on it."""

GPU_EXAMPLES = 64
"""Images per pass when learning on a GPU, which takes just as long for 16."""

FAST_MAPS, FAST_MAPS_GPU = 32, 256
"""Feature maps per pass beyond which nothing is gained, on a CPU and on a GPU."""

_SHARE = 0.4  # of the free memory; the rest is for temporary results and other programs
_UNKNOWN = 4 << 30  # bytes of free memory where the system does not tell
_MESSAGES = (
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
    "std::bad_alloc",
)

_log = logging.getLogger("vtcav")


class BatchSize:
    """The number of rows per pass, halved whenever memory runs out.

    Args:
        size: The number to begin with.
        of: The name of the rows, for messages.

    Example:
        >>> size = BatchSize(2, "numbers")
        >>> list(size.run(5, lambda rows: list(range(5))[rows]))
        [[0, 1], [2, 3], [4]]
    """

    def __init__(self, size: int, of: str = "feature maps") -> None:
        self.size = size
        self.of = of

    def __repr__(self) -> str:
        return f"BatchSize({self.size}, {self.of!r})"

    @classmethod
    def from_(cls, size: int | BatchSize) -> BatchSize:
        """Return a batch size, made from a number where it is not one already."""
        return size if isinstance(size, BatchSize) else cls(size)

    def run(self, count: int, work: Callable[[slice], T]) -> Iterator[T]:
        """Yield the results of work on all rows, `size` at a time.

        Args:
            count: The number of rows.
            work: Takes a range of rows. It is called again, with fewer, where memory runs out, so
                it must leave nothing behind when it fails.

        Raises:
            ModelError: When there is not enough memory for a single row.
        """
        start = 0
        while start < count:
            rows = slice(start, min(start + self.size, count))
            failure = None
            try:
                result = work(rows)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                # only the line: the exception's traceback would keep the memory alive
                failure = (str(error) or type(error).__name__).splitlines()[0]
            if failure is None:
                yield result
                start = rows.stop
            else:
                self._lower(rows.stop - rows.start, failure)

    def _lower(self, tried: int, failure: str) -> None:
        """Continue with half as many rows per pass."""
        if tried == 1:
            raise ModelError(
                f"there is not enough memory for one of the {self.of} ({failure}); use a smaller "
                "input, a later layer or a device with more memory"
            )
        self.size = tried // 2
        _log.warning(
            "memory ran out with %d %s per pass; continuing with %d", tried, self.of, self.size
        )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that memory ran out, on any device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(message in text for message in _MESSAGES)


class Budget:
    """The batch sizes of one explainer.

    Args:
        batch_size: Rows per pass; None determines it for each layer. Either is lowered where memory
            runs out.
    """

    def __init__(self, batch_size: int | None) -> None:
        self.batch_size = batch_size
        self._found: dict[tuple[object, ...], BatchSize] = {}

    def of(self, head: Head, F: Tensor, classes: int) -> BatchSize:
        """Return the feature maps per pass through a head with its backward passes.

        Args:
            head: The network after a layer, bound to the N images where it has prefix tokens.
            F: Feature maps [N, C, h, w].
            classes: T, the number of logits to differentiate.
        """
        key = (head.layer, *F.shape[1:], classes)
        if key not in self._found:
            size = self.batch_size or _fitting(bytes_per_map(head, F, classes), F.device)
            self._found[key] = BatchSize(size, f"feature maps of layer {head.layer!r}")
        return self._found[key]


def examples_per_pass(device: torch.device) -> int:
    """Return the number of images per pass to learn from."""
    return IMAGES if device.type == "cpu" else GPU_EXAMPLES


def _fitting(each: int, device: torch.device) -> int:
    """Return the power of two that is fast and fits; few values, so that runs repeat."""
    size = FAST_MAPS if device.type == "cpu" else FAST_MAPS_GPU
    while size > 1 and size * each > _SHARE * free_memory(device):
        size //= 2
    return size


def bytes_per_map(head: Head, F: Tensor, classes: int = 1) -> int:
    """Return about how many bytes a feature map takes in a forward and a backward pass.

    One map is passed forward, and what autograd keeps for it is counted, without the weights.

    Args:
        head: The network after a layer.
        F: Feature maps [N, C, h, w].
        classes: T, the number of logits to differentiate.
    """
    module = getattr(head, "module", None)
    tensors = [*module.parameters(), *module.buffers()] if module is not None else []
    weights = {tensor.untyped_storage().data_ptr() for tensor in tensors}
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    first = head.rows(torch.tensor([0])) if head.per_image else head
    with (
        torch.enable_grad(),
        torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor),
        warnings.catch_warnings(),
    ):
        # of PyTorch 2.14: what selective checkpoints keep is not counted, which is no matter here
        warnings.filterwarnings("ignore", "A saved_tensors_hooks context", FutureWarning)
        z = first(F[:1].detach().clone().requires_grad_())
    del z
    own = F[0].numel() * 4
    # kept tensors, their gradients on the way back, the map, its copy and a gradient per class
    return 2 * sum(kept.values()) + (2 + classes) * own


def free_memory(device: torch.device) -> int:
    """Return the bytes that are free on a device."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + cached)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    found = [n for n in (_available(), _container()) if n is not None]
    return max(0, min(found, default=_UNKNOWN))


def _available() -> int | None:
    """Return the bytes of this machine that are free or can be freed, where the system tells."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with suppress(ValueError, OSError, AttributeError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
    return None


def _container(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the bytes left of a container's limit, where there is one."""
    limit, current, stat = (root / f"memory.{name}" for name in ("max", "current", "stat"))
    with suppress(OSError, ValueError):
        most = int(limit.read_text("ascii"))  # "max" where there is none
        # the file cache can be freed
        cached = dict(line.split() for line in stat.read_text("ascii").splitlines())
        return most - int(current.read_text("ascii")) + int(cached.get("inactive_file", 0))
    return None
