"""A Keras network as a PyTorch module with the channels first.

On the torch backend every Keras layer is a `torch.nn.Module`. But layers are not children of their
network, so hooks by name, `parameters()` and `get_submodule` do not reach them, and feature maps
have the channels last. `ChannelsFirst` solves both.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vtcav.errors import ModelError
from vtcav.models.instance_attributes import replaced
from vtcav.models.keras.files import import_keras


class ChannelsFirst(nn.Module):
    """A Keras network as a module with images and feature maps in channels-first order.

    Each Keras layer has a child of its name here, and so has each operation of a functional
    network (the sum `x + y` is an operation "add", no layer). During a pass the layer computes
    through that child. So a hook on the child sees, and may replace, the layer's output as
    [N, C, h, w], and a child with another `forward` keeps the layer from computing.

    Attributes:
        channels_last: Whether the Keras network itself has the channels last.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self._hidden = (network,)  # in a tuple, where torch does not take it for a child
        self.channels_last = _channels_last(network)
        own: set[int] = set()
        for name, layer in layers_by_path(network).items():
            mirror = _mirror_class(type(layer).__name__)(layer, self.channels_last)
            # not add_module, which refuses the dots that Keras allows
            setattr(self, f"{name}'" if name in vars(self) else name, mirror)
            own.update(map(id, mirror.parameters()))
        for i, variable in enumerate(network.weights):
            if id(variable.value) not in own:  # of a network that has weights beside its layers
                _register(self, f"{i}_{variable.name}", variable.value)

    @property
    def network(self) -> Any:
        """The Keras network."""
        return self._hidden[0]

    @property
    def layers_inside(self) -> tuple[Any, ...]:
        """The layers of the Keras network, which torch does not take for children."""
        return tuple(layers_by_path(self.network).values())

    def forward(self, x: Tensor) -> Any:
        """Return the network's output for images [N, C, H, W]."""
        keras = import_keras()
        with self._through_children(), keras.device(str(x.device)):
            return self.network(self._to_keras(x), training=False)

    def get_submodule(self, target: str) -> nn.Module:
        """Return the child that stands for a Keras layer."""
        child = dict(self.named_children()).get(target)
        return super().get_submodule(target) if child is None else child

    def extra_repr(self) -> str:
        """Return the architecture, which is part of the fingerprint."""
        return _architecture(self.network)

    def __deepcopy__(self, _memo: dict[int, Any]) -> ChannelsFirst:
        keras = import_keras()
        copied = keras.models.clone_model(self.network)
        with torch.no_grad():
            for new, old in zip(copied.weights, self.network.weights, strict=True):
                new.value.copy_(old.value)
        return ChannelsFirst(copied)

    def _to_keras(self, x: Tensor) -> Tensor:
        return x.movedim(1, -1) if self.channels_last else x

    @contextmanager
    def _through_children(self) -> Iterator[None]:
        """Make every Keras layer compute through the child that stands for it."""
        mirrors = [child for child in self.children() if isinstance(child, _Mirror)]
        with ExitStack() as stack:
            for mirror in mirrors:
                for part in mirror.layer.modules() if isinstance(mirror.layer, nn.Module) else ():
                    # Keras leaves torch modules inside in evaluation mode
                    stack.enter_context(replaced(part, training=part.training))
                stand_in = {mirror.method: mirror.stand_in()}
                stack.enter_context(replaced(mirror.layer, **stand_in))
            yield


class _Mirror(nn.Module):
    """The child for one Keras layer: computes it, and returns its output with the channels first.

    Attributes:
        method: The name of the layer's method that computes.
    """

    def __init__(self, layer: Any, channels_last: bool) -> None:
        super().__init__()
        self._hidden = (layer,)
        self._channels_last = channels_last
        is_layer = isinstance(layer, nn.Module)
        self.method = "forward" if is_layer else "call"
        self._compute: Callable[..., Any] = getattr(layer, self.method)
        if is_layer:
            inner = {id(weight) for part in _sublayers(layer) for weight in part.weights}
            for variable in layer.weights:
                if id(variable) not in inner:
                    _register(self, variable.name, variable.value)

    @property
    def layer(self) -> Any:
        """The Keras layer or operation."""
        return self._hidden[0]

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """Return the layer's output, a feature map as [N, C, h, w]."""
        return self._moved(self._compute(*inputs, **kwargs), -1, 1)

    def stand_in(self) -> Callable[..., Any]:
        """Return the replacement of the Keras layer's method."""
        return lambda *inputs, **kwargs: self._moved(self(*inputs, **kwargs), 1, -1)

    def _moved(self, output: Any, channels: int, to: int) -> Any:
        """Return the output, if it is a feature map, with its channels moved to another axis."""
        is_map = isinstance(output, Tensor) and output.ndim == 4
        return output.movedim(channels, to) if self._channels_last and is_map else output


@functools.cache
def _mirror_class(kind: str) -> type[_Mirror]:
    """Return a class with the name of the Keras layer's, which `LayerInfo.kind` shows."""
    return type(kind, (_Mirror,), {})


def _register(module: nn.Module, name: str, value: Tensor) -> None:
    """Register the tensor of a Keras variable, without a copy, under a free name."""
    name = name.replace(".", "_")
    while hasattr(module, name):
        name += "_"
    if isinstance(value, nn.Parameter):
        module.register_parameter(name, value)
    else:
        module.register_buffer(name, value)


def layers_by_path(network: Any) -> dict[str, Any]:
    """Return all layers and operations inside a network, each once, outer before inner."""
    found: dict[str, Any] = {}
    seen: set[int] = set()

    def walk(outer: Any, prefix: str) -> None:
        for layer in [*getattr(outer, "operations", ()), *_sublayers(outer)]:
            if id(layer) in seen:
                continue
            seen.add(id(layer))
            name = f"{prefix}{layer.name}"
            while name in found:  # only hand-written networks have two layers of one name
                name += "'"
            found[name] = layer
            if isinstance(layer, nn.Module):
                walk(layer, f"{name}/")

    walk(network, "")
    return found


def _sublayers(layer: Any) -> list[Any]:
    """Return the layers that a layer is made of: those of a model, or among its attributes."""
    keras = import_keras()
    if isinstance(layer, keras.Model):
        return list(layer.layers)
    held = {id(part): part for value in vars(layer).values() for part in _layers_in(value, keras)}
    return list(held.values())


def _layers_in(value: Any, keras: Any) -> Iterator[Any]:
    if isinstance(value, keras.Layer):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _layers_in(part, keras)


def _channels_last(network: Any) -> bool:
    """Tell whether the network has its channels last, or raise where its layers disagree."""
    formats = {
        layer.data_format: name
        for name, layer in layers_by_path(network).items()
        if isinstance(getattr(layer, "data_format", None), str)
    }
    if len(formats) > 1:
        named = " and ".join(f"{name!r} is {form}" for form, name in sorted(formats.items()))
        raise ModelError(
            f"expected one order of channels in the whole network, but layer {named}; "
            "build all layers with the same data_format"
        )
    return "channels_first" not in formats


def _architecture(network: Any) -> str:
    """Return the configuration as JSON, reduced to what decides the computation."""
    keras = import_keras()
    try:
        config = keras.saving.serialize_keras_object(network)
    except Exception:  # noqa: BLE001  (a hand-written network may have no configuration)
        config = None
    layers = [(name, type(layer).__name__) for name, layer in layers_by_path(network).items()]
    return json.dumps([_essential(config), layers], sort_keys=True, default=repr)


def _essential(config: Any) -> Any:
    """Drop what changes by training or building, at every level."""
    if isinstance(config, dict):
        left_out = ("build_config", "compile_config", "seed", "trainable")
        return {k: _essential(v) for k, v in config.items() if k not in left_out}
    if isinstance(config, list | tuple):
        return [_essential(part) for part in config]
    return config
