"""Copies of modules' attributes, so that a pass which writes to them reaches only the copies."""

from __future__ import annotations

import copy
import functools
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

_ATOMS = frozenset({bool, int, float, str, type(None), type, types.FunctionType})
_DICTS = (dict, OrderedDict, defaultdict, Counter)
_CONTAINERS = (tuple, list, set, deque, *_DICTS)
_DEEPEST = 4
_LARGEST = 1000  # entries of a container that is copied; larger ones are data


class Copier:
    """Copies values, with the copies of modules and tensors in their place.

    Copied are containers, arrays, methods and partial functions; objects of other classes are
    shared. What several modules share is shared by their copies.

    Args:
        modules: The copies of modules.
        tensor: Returns the copy of a tensor.
    """

    def __init__(
        self, modules: Mapping[nn.Module, nn.Module], tensor: Callable[[Tensor], Tensor]
    ) -> None:
        self._modules, self._tensor = modules, tensor
        self._known: dict[int, tuple[Any, Any]] = {}  # by identity: original, copy

    def forget(self) -> None:
        """Copy everything but tensors anew from now on."""
        tensors = {i: pair for i, pair in self._known.items() if isinstance(pair[0], Tensor)}
        self._known = tensors

    def copied(self, value: Any, depth: int = 0) -> Any:
        """Return the copy of a value; the value itself where it needs none.

        Args:
            value: An attribute.
            depth: How many containers it is in.
        """
        if type(value) in _ATOMS:
            return value
        if isinstance(value, nn.Module):
            return self._modules.get(value, value)
        if id(value) not in self._known:
            self._known[id(value)] = value, value  # for values that hold themselves
            self._known[id(value)] = value, self._new(value, depth)
        return self._known[id(value)][1]

    def _new(self, value: Any, depth: int) -> Any:
        inner = functools.partial(self.copied, depth=depth + 1)
        kind = type(value)
        if isinstance(value, Tensor):
            return self._tensor(value)
        if kind is types.MethodType:
            return types.MethodType(value.__func__, inner(value.__self__))
        if kind is functools.partial:
            named = {key: inner(each) for key, each in value.keywords.items()}
            return functools.partial(inner(value.func), *map(inner, value.args), **named)
        if kind is np.ndarray:
            return value.copy()
        small = kind in _CONTAINERS and (len(value) <= _LARGEST or _holds_parts(value))
        if small and depth < _DEEPEST:
            return _filled(value, inner)
        return value


def _holds_parts(value: Any) -> bool:
    """Tell whether a container has modules and tensors by name, as a module has its own."""
    parts = value.values() if isinstance(value, dict) else value
    return all(isinstance(part, Tensor | nn.Module | None) for part in parts)


def _filled(value: Any, inner: Callable[[Any], Any]) -> Any:
    """Return a container of the same kind with other content."""
    if isinstance(value, tuple):
        found = tuple(inner(each) for each in value)
        return value if all(a is b for a, b in zip(value, found, strict=True)) else found
    made = copy.copy(value)
    made.clear()
    if isinstance(value, _DICTS):
        made.update({key: inner(each) for key, each in list(value.items())})
    elif isinstance(value, set):
        made.update([inner(each) for each in list(value)])
    else:
        made.extend([inner(each) for each in list(value)])
    return made


def same_value(a: Any, b: Any) -> bool:
    """Tell whether two copies of an attribute hold the same, as far as it can be told.

    Example:
        >>> same_value({"seen": [1, 2]}, {"seen": [1]})
        False
    """
    if a is b:
        return True
    if type(a) is not type(b) or isinstance(a, Tensor):  # a tensor is copied once
        return False
    if isinstance(a, np.ndarray):
        return a.shape == b.shape and bool(np.all(a == b))
    if isinstance(a, _DICTS):
        return a.keys() == b.keys() and all(same_value(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple | deque):
        return len(a) == len(b) and all(map(same_value, a, b))
    if isinstance(a, set | bool | int | float | str):
        return bool(a == b)
    return isinstance(a, functools.partial | types.MethodType)
