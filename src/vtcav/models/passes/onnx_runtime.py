"""Forward passes in ONNX Runtime, for networks on a processor in float32 (extra `fast`).

A network is exported with the layers as outputs, from one traced pass of its modules, and each
image passes by itself, in as many threads as PyTorch computes with. So the numbers of an image
depend neither on the others in its batch nor on the number of threads.

A trace holds one way through the network's code. A network whose code looks at values on the way is
not taken, and once anything in the network has changed it is exported again.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from vtcav.models.inspection.nested_tensors import map_tensors, tensor_count
from vtcav.models.inspection.probing import first_line
from vtcav.models.inspection.torch_internals import quiet_export

if TYPE_CHECKING:
    from numpy.typing import NDArray

_INPUT = "images"

Outputs: TypeAlias = Callable[[nn.Module, Tensor], Sequence[Tensor]]
"""Runs a network on images and returns what is asked for."""


def runtime_version() -> str | None:
    """Return the version of ONNX Runtime, if it and what exports networks to it are installed."""
    if find_spec("onnxruntime") is None or find_spec("onnx") is None:
        return None
    try:
        return version("onnxruntime")
    except PackageNotFoundError:  # built under another name
        return None


class ReadsValuesError(Exception):
    """The code of a network looks at values on the way, so that no trace can stand for it."""


class _Look(TorchFunctionMode):
    """Refuses operations that take values out of tensors, or whose shape depends on values.

    Such an operation cannot be done on a `meta` tensor, which has a shape and no values.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = {} if kwargs is None else dict(kwargs)
        if tensor_count((args, given)):
            bare, named = map_tensors((args, given), lambda t: torch.empty_like(t, device="meta"))
            try:
                func(*bare, **named)
            except Exception as error:
                name = getattr(func, "__name__", func)
                raise ReadsValuesError(f"{name}: {first_line(error)}") from error
        return func(*args, **given)


def multiply_adds(run: Callable[[], object]) -> int:
    """Return the multiplications and additions of convolutions and matrix products in a pass.

    Args:
        run: Makes the pass.

    Raises:
        ReadsValuesError: When the pass takes values out of tensors.
    """
    with torch.no_grad():
        with _Look():
            run()
        with FlopCounterMode(display=False) as counter:
            run()
    return int(counter.get_total_flops()) // 2


class _Exported(nn.Module):
    """A network with other outputs."""

    def __init__(self, network: nn.Module, outputs: Outputs) -> None:
        super().__init__()
        self.network, self.outputs = network, outputs

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.outputs(self.network, x))


def export(network: nn.Module, outputs: Outputs, x: Tensor) -> bytes:
    """Return a network as an ONNX file.

    Args:
        network: The network, in evaluation mode.
        outputs: Runs it.
        x: An image [1, C, H, W].
    """
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad(), quiet_export():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Exported(network, outputs).eval(),
            (x,),
            file,  # type: ignore[arg-type]  # this exporter takes a buffer
            input_names=[_INPUT],
            dynamo=False,
            opset_version=18,
        )
    return file.getvalue()


class OnnxSession:
    """An exported network, ready to run.

    Args:
        program: The ONNX file.
    """

    def __init__(self, program: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(
            program, options, providers=["CPUExecutionProvider"]
        )

    def run(self, x: Tensor) -> list[Tensor]:
        """Return the outputs for images [N, C, H, W]."""
        images = x.contiguous().numpy()

        def one(n: int) -> list[NDArray[np.float32]]:
            found: list[NDArray[np.float32]] = self._session.run(None, {_INPUT: images[n : n + 1]})
            return found

        with _threads(min(torch.get_num_threads(), len(images))) as each:
            parts = list(each(one, range(len(images))))
        return [torch.from_numpy(np.concatenate(same)) for same in zip(*parts, strict=True)]


@contextlib.contextmanager
def _threads(count: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """Yield a `map` that runs in some threads."""
    if count == 1:
        yield map
        return
    with ThreadPoolExecutor(count) as pool:
        yield pool.map
