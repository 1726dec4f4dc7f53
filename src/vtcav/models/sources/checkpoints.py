"""Weights from files: tensors only, never code, and only where they fit the network exactly."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vtcav.errors import ModelError, warn, why
from vtcav.files.paths import expanded, is_file
from vtcav.models.settings import LoadSettings

_NESTED = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights")
_SHOWN = 3  # keys of each kind in a message


def build_network(
    build: Callable[[int | None], nn.Module],
    settings: LoadSettings,
    pretrained: Callable[[], nn.Module],
) -> nn.Module:
    """Return a network with the weights that the user asks for, in evaluation mode.

    Args:
        build: Builds the network without weights, for a number of classes or (None) for its own.
        settings: The settings, which have the weights and the number of classes.
        pretrained: Returns the network with its pretrained weights.
    """
    if settings.weights is None:
        return pretrained().eval()
    if settings.weights == "random":
        return build(settings.scores).eval()
    return build_with_weights(build, settings.weights, settings.scores).eval()


def build_with_weights(
    build: Callable[[int | None], nn.Module], path: str | Path, classes: int | None
) -> nn.Module:
    """Return a network with the weights of a file.

    Args:
        build: Builds the network, for a number of classes or (None) for its own.
        path: A .safetensors file, or a file of `torch.save` that holds only tensors.
        classes: The number of classes; None takes as many as the file has weights for.

    Raises:
        ModelError: When the file cannot be read or does not fit the network.
    """
    state = read_weights(path)
    module = build(classes)
    state = _without_wrappers(state, module.state_dict(), path)
    if classes is None and (found := _class_count(state, module.state_dict())) is not None:
        module = build(found)
    _check(state, module.state_dict(), path)
    try:
        module.load_state_dict(state)
    except Exception as error:  # of sparse tensors and other kinds that no parameter takes
        raise ModelError(
            f"the weights in {str(path)!r} cannot be loaded into this network: {error}"
        ) from error
    return module


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors in a file of weights by name. Nothing in the file is executed.

    Raises:
        ModelError: When there is no such file, it holds more than tensors, or none.
    """
    path = expanded(path)
    if not is_file(path):
        raise ModelError(f"there is no file of weights at {str(path)!r}")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except Exception as error:  # the parser of a foreign format, whatever the file holds
            raise ModelError(f"cannot read weights from {str(path)!r}: {why(error)}") from error
    refuse_torchscript(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{str(path)!r} holds more than tensors, and loading it would run code in it: save "
            "only the weights, torch.save(module.state_dict(), path) or safetensors, or build "
            "the network with python:MODULE:CALLABLE"
        ) from error
    except Exception as error:  # the parser of a foreign format, whatever the file holds
        raise ModelError(
            f"cannot read weights from {str(path)!r}: {why(error)}; expected a file of "
            "torch.save or safetensors"
        ) from error
    state: Any = content
    way: list[str] = []
    while isinstance(state, Mapping) and not _is_state(state):
        key = next((key for key in _NESTED if isinstance(state.get(key), Mapping)), None)
        if key is None:
            break
        state, way = state[key], [*way, key]
    if not isinstance(state, Mapping) or not _is_state(state):
        raise ModelError(
            f"expected weights by name in {str(path)!r}, got {_form(content)}; save "
            "module.state_dict()"
        )
    if way:
        _say(path, f"took {'.'.join(way)!r} of {_form(content)}")
    return {str(key): value for key, value in state.items()}


def refuse_torchscript(path: Path) -> None:
    """Refuse an archive of TorchScript, whose code some versions of PyTorch run when it is read."""
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception as error:  # the parser of a foreign format, whatever the file holds
        raise ModelError(f"cannot read weights from {str(path)!r}: {why(error)}") from error
    parts = {part for name in names for part in name.split("/")[:2]}
    if parts & {"constants.pkl", "code"}:
        raise ModelError(
            f"{str(path)!r} is a TorchScript archive, which holds code beside the weights: save "
            "only the weights, torch.save(torch.jit.load(path).state_dict(), new_path)"
        )


def _is_state(content: Mapping[Any, Any]) -> bool:
    return bool(content) and all(isinstance(value, Tensor) for value in content.values())


def _form(content: object) -> str:
    if isinstance(content, Mapping):
        keys = [str(key) for key in content]
        return f"a dict with {', '.join(keys[:6])}{', ...' if len(keys) > 6 else ''}"
    return f"a {type(content).__name__}"


def _without_wrappers(
    state: dict[str, Tensor], wanted: Mapping[str, Tensor], path: str | Path
) -> dict[str, Tensor]:
    """Return the state with the network's names, without the prefixes that wrappers add."""
    if state.keys() == wanted.keys():
        return state
    inside = {key.replace("_orig_mod.", ""): value for key, value in state.items()}
    first = next(iter(wanted), "")
    ways = {k.removesuffix(first) for k in inside if k.endswith(first)}
    fitting = {way: sum(way + key in inside for key in wanted) for way in ways if way[-1:] in "."}
    most = max(fitting.values(), default=0)
    best = [way for way in fitting if fitting[way] == most]
    if len(best) > 1:
        raise ModelError(
            f"the weights in {str(path)!r} are of several networks, under {_keys(sorted(best))}; "
            "save those of the one to explain"
        )
    if not best:
        return state
    [way] = best
    if inside.keys() != state.keys():
        _say(path, "left out '_orig_mod.', which torch.compile adds to names")
    if way:
        rest = [key for key in inside if not key.startswith(way)]
        _say(path, f"took the names under {way!r}{' and not ' * bool(rest)}{_keys(rest)}")
    return {key.removeprefix(way): value for key, value in inside.items() if key.startswith(way)}


def _class_count(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> int | None:
    """Return the number of classes that a file has weights for, where everything else fits."""
    missing, extra, other = _differences(state, wanted)
    counts = {(state[key].shape[:1], wanted[key].shape[:1]) for key in other}
    same_inside = all(state[key].shape[1:] == wanted[key].shape[1:] for key in other)
    if missing or extra or len(counts) != 1 or not same_inside:
        return None
    [(found, _)] = counts
    return int(found[0]) if found else None


def _differences(
    state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> tuple[list[str], list[str], list[str]]:
    """Return the names that a state lacks, that it has in excess, and that differ in shape."""
    missing = [key for key in wanted if key not in state]
    extra = [key for key in state if key not in wanted]
    other = [key for key in wanted if key in state and state[key].shape != wanted[key].shape]
    return missing, extra, other


def _check(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: str | Path) -> None:
    """Raise where the names or shapes in a file are not those of the network."""
    missing, extra, other = _differences(state, wanted)
    faults = [f"the file lacks {_keys(missing)}"] if missing else []
    faults += [f"the network has no {_keys(extra)}"] if extra else []
    if other:
        key = other[0]
        shapes = f"{tuple(state[key].shape)}, expected {tuple(wanted[key].shape)}"
        faults.append(f"{_keys(other)} of another shape ({shapes})")
    if faults:
        raise ModelError(
            f"the weights in {str(path)!r} are not of this network: {'; '.join(faults)}. Is it "
            "the same architecture, with as many classes?"
        )


def _keys(keys: Sequence[str]) -> str:
    shown = ", ".join(map(repr, keys[:_SHOWN]))
    return shown if len(keys) <= _SHOWN else f"{shown} and {len(keys) - _SHOWN} more"


def _say(path: str | Path, what: str) -> None:
    warn(f"weights from {str(path)!r}: {what}")
