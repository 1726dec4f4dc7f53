"""Keras networks from files: Keras 3 and TF-Keras 2, `.keras` and `.h5`; no code is run.

Files of TF-Keras 2 differ from those of Keras 3 in a few names and arguments. A `.keras` archive
holds a description in JSON beside the weights: the description is translated, and the weights are
read as they are. For `.h5` files Keras 3 has a reader, which gets layers that accept the old
arguments.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from vtcav.errors import ExtraError, ModelError, text_of, why
from vtcav.files.json_text import parsed
from vtcav.files.paths import expanded, is_file, is_folder, is_there
from vtcav.models.inspection.unwrapping import usable_device
from vtcav.models.keras.hdf5_reading import check_sizes, largest_side, sound_copy

_HINT = "pip install 'vtcav[keras]'"
_FLOOR = 3, 12  # as in the package's metadata

# Arguments in descriptions of TF-Keras 2 that Keras 3 does not know. They have no effect, or none
# on a network that is built.
_KERNEL = "groups", "kernel_initializer", "kernel_regularizer", "kernel_constraint"
_SURPLUS: dict[str, tuple[str, ...]] = {
    "DepthwiseConv1D": ("groups",),
    "DepthwiseConv2D": ("groups",),
    "Conv1DTranspose": ("groups",),
    "Conv2DTranspose": ("groups",),
    "SeparableConv1D": _KERNEL,
    "SeparableConv2D": _KERNEL,
}
_MODELS = {"Functional": "keras.src.models.functional", "Sequential": "keras", "Model": "keras"}
_TF_OPERATORS = {"TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer", "ClassMethod"}
_TF_OPERATORS |= {"InstanceMethod", "InstanceProperty"}
_CODE = {"Lambda", "__lambda__", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer"}
_FUNCTIONS = {"builtins", "keras"} | {
    f"keras.{name}"
    for name in ("activations", "initializers", "regularizers", "constraints", "ops", "losses")
}
_AGAIN = (
    "Where the network was made, save it again with Keras 3: build it there from keras 3 layers, "
    "load the old weights with load_weights, and call save('network.keras')"
)


def import_keras() -> Any:
    """Return the module `keras`, on the torch backend.

    The environment variable that chooses the backend is set only during the import, and only if
    keras is not yet imported.

    Raises:
        ExtraError: When keras is not installed.
        ModelError: When keras is older than 3.12, or was imported with another backend.
    """
    if "keras" not in sys.modules:
        _check_installed()
        before = os.environ.get("KERAS_BACKEND")
        os.environ["KERAS_BACKEND"] = "torch"
        try:
            importlib.import_module("keras")
        finally:
            del os.environ["KERAS_BACKEND"]
            os.environ |= {} if before is None else {"KERAS_BACKEND": before}
    keras = sys.modules["keras"]
    backend = keras.config.backend() if hasattr(keras, "config") else "tensorflow"
    if backend != "torch":
        raise ModelError(
            f"expected Keras on the torch backend, but keras was imported with {backend!r}; start "
            "Python with the environment variable KERAS_BACKEND=torch"
        )
    # it may be another one than the installed package
    _check_version(getattr(keras, "__version__", None) or importlib.metadata.version("keras"))
    return keras


def _check_installed() -> None:
    if importlib.util.find_spec("keras") is None:
        raise ExtraError(f"a Keras network needs keras, which is not installed: {_HINT}")
    _check_version(importlib.metadata.version("keras"))


def _check_version(version: str) -> None:
    if tuple(map(int, version.split(".")[:2])) < _FLOOR:
        floor = ".".join(map(str, _FLOOR))
        raise ModelError(f"expected Keras {floor} or later, but {version} is installed: {_HINT}")


def read_network(
    path: str | Path,
    *,
    device: str | torch.device = "auto",
    weights: str | Path | None = None,
) -> Any:
    """Return the `keras.Model` in a file, not compiled.

    Args:
        path: A `.keras` or `.h5` file of Keras 3 or of TF-Keras 2.
        device: Where to put the weights; "auto" is Keras' own choice.
        weights: A `.weights.h5`, `.h5` or `.keras` file to take the weights from instead.

    Raises:
        ModelError: When there is no such file, it holds no network, or one that cannot be loaded.
        ExtraError: When keras or h5py is not installed.
    """
    path = _existing(path)
    keras = import_keras()
    if device != "auto":
        usable_device(device)
    if importlib.util.find_spec("h5py") is None:
        raise ExtraError(f"a Keras file needs h5py, which is not installed: {_HINT}")
    with contextlib.nullcontext() if device == "auto" else keras.device(str(device)):
        with sound_copy(path) as copy:
            from_file = _from_archive if zipfile.is_zipfile(path) else _from_hdf5
            network = from_file(path, copy)
        if weights is not None:
            _load_weights(network, _existing(weights))
    return network


def _existing(path: str | Path) -> Path:
    path = expanded(path)
    if is_folder(path):
        kind = "a TensorFlow SavedModel" if is_there(path / "saved_model.pb") else "a folder"
        raise ModelError(f"expected a .keras or .h5 file, but {str(path)!r} is {kind}. {_AGAIN}")
    if not is_file(path):
        raise ModelError(f"expected a .keras or .h5 file, but there is no file {str(path)!r}")
    return path


def _from_archive(path: Path, copy: Path) -> Any:
    """Return the network in a `.keras` archive, from a sound copy."""
    keras = import_keras()
    try:
        with zipfile.ZipFile(copy) as archive:
            config = parsed(archive.read("config.json"))
            version = str(parsed(archive.read("metadata.json"))["keras_version"])
    except Exception as error:
        raise ModelError(
            f"expected a .keras archive with config.json and metadata.json, but {str(path)!r} "
            f"cannot be read: {error!r}"
        ) from error
    _refuse(config, path, copy)
    if path.suffix != ".keras":
        raise ModelError(f"{str(path)!r} is a Keras archive: rename it to end in .keras")
    with _explained(path, version):
        if not version.startswith("2."):
            return keras.saving.load_model(copy, compile=False, safe_mode=True)
        network = keras.saving.deserialize_keras_object(translate(config), safe_mode=True)
        network.load_weights(copy)
        return network


def _from_hdf5(path: Path, copy: Path) -> Any:
    """Return the network in a `.h5` file, from a sound copy."""
    keras, h5py = import_keras(), importlib.import_module("h5py")
    try:
        with h5py.File(copy) as file:
            config, version = file.attrs.get("model_config"), file.attrs.get("keras_version", "2")
            weights_only = "layer_names" in file.attrs or "layers" in file
    except Exception as error:  # the parser of a foreign format, whatever the file holds
        raise ModelError(
            f"expected a .keras or .h5 file, but {str(path)!r} is neither: {why(error)}"
        ) from error
    if config is None:
        what = "the weights alone" if weights_only else "no network"
        raise ModelError(
            f"{str(path)!r} holds {what}, without the layers; expected what model.save writes. "
            "Give the network's file, and this one as weights="
        )
    try:
        described = parsed(config)
    except (ValueError, TypeError) as error:
        raise ModelError(f"the description in {str(path)!r} is no JSON: {error}") from error
    _refuse(described, path, copy)
    if path.suffix not in (".h5", ".hdf5"):
        raise ModelError(f"{str(path)!r} is an HDF5 file: rename it to end in .h5")
    with _explained(path, str(version)):
        custom = {} if str(version).startswith("3") else _tolerant_layers(keras)
        return keras.saving.load_model(copy, custom_objects=custom, compile=False, safe_mode=True)


def _tolerant_layers(keras: Any) -> dict[str, type]:
    """Return layers that accept and ignore the arguments of `_SURPLUS`."""

    def tolerant(base: Any, surplus: tuple[str, ...]) -> type:
        def init(self: Any, *args: Any, **kwargs: Any) -> None:
            for name in surplus:
                kwargs.pop(name, None)
            base.__init__(self, *args, **kwargs)

        return type(base.__name__, (base,), {"__init__": init})

    return {name: tolerant(getattr(keras.layers, name), gone) for name, gone in _SURPLUS.items()}


def _load_weights(network: Any, path: Path) -> None:
    try:
        with sound_copy(path) as copy:
            network.load_weights(copy)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"the weights in {str(path)!r} do not fit the network {network.name!r}: "
            f"{_first_lines(error)}"
        ) from error


def translate(config: Any) -> Any:
    """Return the description of a TF-Keras 2 network as Keras 3 describes it.

    Args:
        config: The JSON of `config.json` in a `.keras` archive.

    Example:
        >>> layer = {"module": "keras.layers", "class_name": "InputLayer", "registered_name": None,
        ...          "config": {"batch_input_shape": [None, 8, 8, 3], "name": "image"}}
        >>> translate(layer)["config"]
        {'name': 'image', 'batch_shape': [None, 8, 8, 3]}
    """
    return json.loads(json.dumps(config), object_hook=_translated)


def _translated(config: dict[str, Any]) -> dict[str, Any]:
    """Return an object of a description, whose parts are translated already."""
    for surplus in ("build_config", "compile_config"):  # layers are built when they are called
        config.pop(surplus, None)
    name, inner = config.get("class_name"), config.get("config")
    if not isinstance(inner, dict) or not isinstance(name, str):
        return config
    shape = inner.pop("batch_input_shape", None)
    if name == "InputLayer" and shape is not None:
        inner["batch_shape"] = shape
    if name == "BatchNormalization" and isinstance(inner.get("axis"), list):
        (inner["axis"],) = inner["axis"]
    for gone in _SURPLUS.get(name, ()):
        inner.pop(gone, None)
    if name in _MODELS and config.get("registered_name") in (None, name):
        config |= {"module": _MODELS[name], "registered_name": None}
    return config


def _refuse(config: Any, path: Path, copy: Path) -> None:
    """Refuse what Keras 3 cannot load, and what would run code from the file."""
    if not isinstance(config, dict):
        raise ModelError(f"the description in {str(path)!r} is no JSON object; save it again")
    check_sizes(config, largest_side(copy), path)
    found = dict(_described(config))
    if code := sorted(_CODE & set(found)):
        where = found[code[0]] or "a function"
        raise ModelError(
            f"{str(path)!r} holds Python code ({where!r} of type {code[0]}), which is not run "
            "because a file from elsewhere could do anything. Make it a layer class with "
            "keras.saving.register_keras_serializable, or build the network in Python and give "
            "it to vtcav.models.keras.classifier.KerasClassifier"
        )
    if foreign := next(_foreign(config), None):
        raise ModelError(
            f"{str(path)!r} names {foreign!r}, which is neither part of Keras nor registered: "
            "objects that only a file names are not imported, because they could do anything. "
            "Import the module of your layer before, with the layer decorated by "
            "keras.saving.register_keras_serializable"
        )
    if operators := sorted(_TF_OPERATORS & set(found)):
        raise ModelError(
            f"{str(path)!r} was made by TF-Keras 2 with TensorFlow operators as layers "
            f"({found[operators[0]]!r} of type {operators[0]}), which Keras 3 does not know. "
            f"{_AGAIN}; a keras.applications network, ConvNeXt for one, is built by its function"
        )


def _foreign(config: Any) -> Iterator[str]:
    """Yield the objects of a description that Keras would look for in other modules."""
    if isinstance(config, dict):
        module, kind = config.get("module"), config.get("class_name")
        if kind is not None and module is not None and not _is_known(config):
            name = config.get("config") if kind == "function" else kind
            yield f"{module}.{name}"
        for value in config.values():
            yield from _foreign(value)
    elif isinstance(config, list):
        for value in config:
            yield from _foreign(value)


def _is_known(config: dict[str, Any]) -> bool:
    """Whether an object is one of Keras', or one that the user registered or imported."""
    keras, module = import_keras(), str(config["module"])
    registered = config.get("registered_name")
    if isinstance(registered, str) and keras.saving.get_registered_object(registered) is not None:
        return True
    own = getattr(sys.modules.get(module), str(config["class_name"]), None)
    if isinstance(own, type) and issubclass(own, keras.layers.Layer):
        return True
    if config["class_name"] == "function":
        return module in _FUNCTIONS
    return module == "builtins" or module.split(".")[0] == "keras"


def _described(config: Any) -> Iterator[tuple[str, str]]:
    """Yield the class and the name of every object in a description."""
    if isinstance(config, dict):
        if isinstance(kind := config.get("class_name"), str):
            inner = config.get("config")
            name = inner.get("name", "") if isinstance(inner, dict) else ""
            yield kind, str(config.get("name") or name)
        for value in config.values():
            yield from _described(value)
    elif isinstance(config, list):
        for value in config:
            yield from _described(value)


@contextlib.contextmanager
def _explained(path: Path, version: str) -> Iterator[None]:
    """Turn an exception of Keras into one sentence that says what to do."""
    try:
        yield
    except Exception as error:
        again = "Where the network was made, save it as a .keras file (.h5 does not hold all of it)"
        again = again if version.startswith("3") else _AGAIN
        raise ModelError(
            f"{str(path)!r} (saved by Keras {version}) cannot be loaded with Keras "
            f"{import_keras().__version__}: {_first_lines(error)}. {again}; import the modules of "
            "layers of your own before"
        ) from error


def _first_lines(error: Exception) -> str:
    """Return the core of an error message, without the descriptions that Keras adds."""
    text = " ".join(f"{type(error).__name__}: {text_of(error)}".split())
    text = text.rsplit("Exception encountered: ", 1)[-1]
    for addition in (" Full object config", " config={", " Please ensure that"):
        text = text.split(addition)[0]
    return text[:300].rstrip(". ")
