"""Tensors inside the outputs of modules: tuples, lists, dicts and dataclasses."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from torch import Tensor

Part: TypeAlias = tuple[str | int, ...]
"""The path to a tensor in a container: indices, keys or attributes, outermost first."""


def first_tensor(output: Any) -> tuple[Part, Tensor] | None:
    """Return the first tensor in an output and the path to it, or None without any.

    Example:
        >>> import torch
        >>> first_tensor((None, {"maps": torch.zeros(2)}))
        ((1, 'maps'), tensor([0., 0.]))
    """
    return next(tensors_in(output), None)


def tensor_count(output: Any) -> int:
    """Return how many tensors an output holds."""
    return sum(1 for _ in tensors_in(output))


def tensor_at(output: Any, part: Part) -> Any:
    """Return the part of an output at a path.

    Raises:
        LookupError: When the output has another form.
    """
    for key in part:
        if isinstance(output, Mapping | tuple | list):
            output = output[key]  # type: ignore[index]  # a key that does not fit is a LookupError
        else:
            output = getattr(output, str(key), None)
    return output


def replaced(output: Any, part: Part, tensor: Tensor) -> Any:
    """Return a copy of an output with another tensor at a path.

    Example:
        >>> import torch
        >>> replaced((1, [torch.zeros(1), 2]), (1, 0), torch.ones(1))
        (1, [tensor([1.]), 2])
    """
    if not part:
        return tensor
    key, rest = part[0], part[1:]
    return _with(output, {key: replaced(tensor_at(output, (key,)), rest, tensor)})


def map_tensors(output: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a copy of an output with every tensor changed.

    Example:
        >>> import torch
        >>> map_tensors({"a": (torch.ones(1), None)}, lambda tensor: 2 * tensor)
        {'a': (tensor([2.]), None)}
    """
    if isinstance(output, Tensor):
        return change(output)
    parts = parts_of(output)
    changed = {key: map_tensors(value, change) for key, value in parts}
    return (
        _with(output, changed) if any(changed[key] is not part for key, part in parts) else output
    )


def tensors_in(output: Any, way: Part = ()) -> Iterator[tuple[Part, Tensor]]:
    """Yield the tensors in an output with the paths to them.

    Args:
        output: A tensor or a container.
        way: The path to the output itself.
    """
    if isinstance(output, Tensor):
        yield way, output
        return
    for key, value in parts_of(output):
        yield from tensors_in(value, (*way, key))


def parts_of(output: Any) -> list[tuple[Any, Any]]:
    """Return the keys and values of a container; none for anything else."""
    if isinstance(output, Mapping):
        return list(output.items())
    if isinstance(output, tuple | list):
        return list(enumerate(output))
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return [(field.name, getattr(output, field.name)) for field in dataclasses.fields(output)]
    return []


def _with(output: Any, parts: dict[Any, Any]) -> Any:
    """Return a copy of a container with some parts replaced."""
    if isinstance(output, tuple):
        values = [parts.get(i, value) for i, value in enumerate(output)]
        if hasattr(output, "_fields"):
            return type(output)(*values)
        return type(output)(values)
    if isinstance(output, Mapping | list):
        copied: Any = copy.copy(output)
        for key, value in parts.items():
            copied[key] = value
        return copied
    return dataclasses.replace(output, **parts)
