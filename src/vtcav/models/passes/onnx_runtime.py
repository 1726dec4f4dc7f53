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
from torch.nn import functional
from torch.overrides import TorchFunctionMode

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


_BLIND: frozenset[Callable[..., Any]] = frozenset({
    torch.add, torch.batch_norm, torch.cat, torch.clamp, torch.conv1d, torch.conv2d, torch.conv3d,
    torch.conv_transpose2d, torch.div, torch.flatten, torch.matmul, torch.max_pool2d, torch.mean,
    torch.mul, torch.permute, torch.relu, torch.relu_, torch.reshape, torch.sigmoid, torch.sub,
    torch.tanh, torch.transpose,
    functional.adaptive_avg_pool2d, functional.avg_pool2d, functional.batch_norm,
    functional.dropout, functional.elu, functional.gelu, functional.group_norm,
    functional.hardsigmoid, functional.hardswish, functional.hardtanh, functional.interpolate,
    functional.layer_norm, functional.leaky_relu, functional.linear, functional.max_pool2d,
    functional.pad, functional.relu, functional.relu6, functional.scaled_dot_product_attention,
    functional.silu, functional.softmax, functional.softplus,
    Tensor.__add__, Tensor.__iadd__, Tensor.__matmul__, Tensor.__mul__, Tensor.__radd__,
    Tensor.__rmul__, Tensor.__sub__, Tensor.__truediv__, Tensor.add, Tensor.add_, Tensor.clamp,
    Tensor.contiguous, Tensor.dim, Tensor.div, Tensor.flatten, Tensor.is_floating_point,
    Tensor.matmul, Tensor.mean, Tensor.mul, Tensor.mul_, Tensor.numel, Tensor.permute, Tensor.relu,
    Tensor.reshape, Tensor.sigmoid, Tensor.size, Tensor.softmax, Tensor.sub, Tensor.sum,
    Tensor.transpose, Tensor.view,
})  # fmt: skip
"""Operations whose outcome is a tensor of a shape that no value changes, or a shape.

They need no try on `meta` tensors, whose first use imports most of PyTorch: seconds.
"""


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
        is_property = getattr(func, "__name__", "") == "__get__"
        if func not in _BLIND and not is_property and tensor_count((args, given)):
            bare, named = map_tensors((args, given), lambda t: torch.empty_like(t, device="meta"))
            try:
                func(*bare, **named)
            except Exception as error:
                name = getattr(func, "__name__", func)
                raise ReadsValuesError(f"{name}: {first_line(error)}") from error
        return func(*args, **given)


class _Count(TorchFunctionMode):
    """Counts the multiplications of convolutions, matrix products and attention.

    PyTorch's own counter imports its compiler, which takes seconds.
    """

    total = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = {} if kwargs is None else dict(kwargs)
        found = func(*args, **given)
        operands = [each for each in (*args, *given.values()) if isinstance(each, Tensor)]
        if func in _CONVOLUTIONS:
            self.total += found.numel() * operands[1][0].numel()
        elif func in _PRODUCTS:
            self.total += found.numel() * operands[0].shape[-1]
        elif func is functional.scaled_dot_product_attention:
            self.total += 2 * found.numel() * operands[1].shape[-2]
        elif func is functional.multi_head_attention_forward:
            length, *_, width = operands[0].shape
            self.total += operands[0].numel() * (4 * width + 2 * length)
        return found


_CONVOLUTIONS = frozenset((torch.conv1d, torch.conv2d, torch.conv3d))
_PRODUCTS = frozenset(
    (functional.linear, torch.matmul, torch.bmm, Tensor.matmul, Tensor.__matmul__, Tensor.bmm)
)


def multiply_adds(run: Callable[[], object]) -> int:
    """Return the multiplications of convolutions and matrix products in a pass.

    Args:
        run: Makes the pass.
    """
    with torch.no_grad(), _Count() as counter:
        run()
    return int(counter.total)


def reads_no_values(run: Callable[[], object]) -> None:
    """Check that a pass takes no values out of tensors, so that a trace can stand for it.

    Args:
        run: Makes the pass.

    Raises:
        ReadsValuesError: When it does.
    """
    with torch.no_grad(), _Look():
        run()


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
