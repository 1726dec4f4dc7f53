"""Keras files: the golden numbers through them, what TF-Keras 2 wrote, and what is refused."""

import importlib.util
import json
import shutil
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import vtcav
from tests.helpers.replica import GOLDEN, GoldenNet
from vtcav.errors import ExtraError, ModelError
from vtcav.models.keras.classifier import KerasClassifier
from vtcav.models.keras.files import read_network, translate

if importlib.util.find_spec("keras") is None:
    pytest.skip("keras is not installed", allow_module_level=True)

from tests.models.keras.test_keras import fill, images, keras, layers, small_network

DATA = Path(__file__).parent.parent.parent / "keras_data"
CASES = ("relu", "gelu", "binary")
PREPROCESS = vtcav.Preprocess(64, mean=0.5, std=0.5)


def load(path, *arguments, **options):
    return vtcav.load_model(f"keras:{path}", *arguments, **options)


pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


# -- the golden numbers -------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_both_golden_files_hold_the_network_of_the_first_implementation(case):
    meta = json.loads((GOLDEN / case / "meta.json").read_text())
    models = [
        load(DATA / f"{case}{suffix}", meta["classes"], PREPROCESS, binary=meta["binary"])
        for suffix in (".h5", ".keras")
    ]
    assert models[0].fingerprint == models[1].fingerprint
    assert models[0].class_names == tuple(meta["classes"])
    torch_model = vtcav.Classifier(
        GoldenNet(case), meta["classes"], PREPROCESS, binary=meta["binary"]
    )
    x = images(3, 64)
    expected = torch_model.activations_and_logits(x, meta["layers"])
    for model in models:
        torch.testing.assert_close(
            model.activations_and_logits(x, meta["layers"]), expected, rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("file", ["relu.keras", "gelu.h5", "binary.keras"])
def test_golden_numbers(file):
    case = file.split(".")[0]
    meta = json.loads((GOLDEN / case / "meta.json").read_text())
    data, expected = np.load(GOLDEN / case / "images.npz"), np.load(GOLDEN / case / "expected.npz")
    model = load(DATA / file, meta["classes"], PREPROCESS, binary=meta["binary"])
    explainer = vtcav.VisualTCAV(model, meta["layers"], steps=50)
    explainer.fit({name: data[f"concept_{name}"] for name in meta["concepts"]}, data["random"])
    for layer in meta["layers"]:
        v, theirs = explainer.cavs.layers[layer].v.numpy(), expected[f"cav/{layer}/direction"]
        assert (np.linalg.norm(v - theirs, axis=1) <= 1e-5 * np.linalg.norm(theirs, axis=1)).all()
    for i, image in enumerate(data["test"]):
        local = explainer.explain(image, classes=2 if meta["binary"] else 3)
        classes = [1, 0] if meta["binary"] else expected[f"local/{i}/top_classes"].tolist()
        for layer in meta["layers"]:
            maps = np.stack([local.concept_map(layer, c) for c in meta["concepts"]])
            np.testing.assert_allclose(maps, expected[f"local/{i}/{layer}/maps"], atol=1e-3)
            table = local.attributions.query("layer == @layer").pivot(
                index="concept", columns="class_index", values="attribution"
            )
            ours = table.loc[meta["concepts"], classes].to_numpy()
            theirs = expected[f"local/{i}/{layer}/attributions"]
            np.testing.assert_allclose(ours, theirs, atol=1e-4)


# -- files of Keras 3 ---------------------------------------------------------------------------


def network():
    """With the layers that TF-Keras 2 describes in another way, one nested, one branch."""
    image = keras.Input((16, 16, 3), name="image")
    x = layers.SeparableConv2D(6, 3, strides=2, padding="same", activation="relu", name="sep")(
        image
    )
    inner = keras.Sequential(
        [
            keras.Input((8, 8, 6)),
            layers.DepthwiseConv2D(3, padding="same", name="depth"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(6.0, name="relu6"),
        ],
        name="inner",
    )
    y = inner(x)
    x = layers.Concatenate(name="joined")([x, y])
    x = layers.Conv2DTranspose(5, 3, name="up")(layers.Dropout(0.2, name="drop")(x))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return fill(keras.Model(image, layers.Dense(3, "softmax", name="scores")(x), name="net"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A network, compiled, and its files of Keras 3."""
    folder = tmp_path_factory.mktemp("saved")
    model = network()
    model.compile("adam", "categorical_crossentropy")
    model.save(folder / "net.keras")
    model.save_weights(folder / "net.weights.h5")
    model.save(folder / "net.h5")
    return model, folder


def same(path, model, **options):
    found = load(path, preprocess=vtcav.Preprocess(16), **options)
    x = images(2)
    expected = model(x.movedim(1, -1), training=False).detach()
    torch.testing.assert_close(found.probabilities(found.logits(x)), expected, rtol=1e-4, atol=1e-5)
    return found


@pytest.mark.parametrize("name", ["net.keras", "net.h5"])
def test_files_of_keras_3(name, saved):
    model, folder = saved
    found = same(folder / name, model)
    assert not found.module.network.compiled
    names = [layer.name for layer in found.layers()]
    assert names == ["sep", "joined", "drop", "up"]


def test_the_names_of_sums_are_kept_in_a_file(tmp_path):
    saved = small_network()
    saved.save(tmp_path / "net.keras")
    names = [layer.name for layer in KerasClassifier(saved, preprocess="tf").layers()]
    for _ in range(2):
        found = load(tmp_path / "net.keras", preprocess="tf")
        assert [layer.name for layer in found.layers()] == names


def test_sums_are_not_kept_in_hdf5(tmp_path):
    small_network().save(tmp_path / "net.h5")
    with pytest.raises(ModelError, match=r"saved by Keras 3.*save it as a \.keras file"):
        read_network(tmp_path / "net.h5")


def test_load_model(saved):
    _, folder = saved
    found = vtcav.load_model(f"keras:{folder / 'net.keras'}", ["a", "b", "c"], vtcav.Preprocess(16))
    assert found.described.startswith("Keras 'net' (")
    assert found.class_names == ("a", "b", "c")
    with pytest.warns(UserWarning, match=r"fitted to \(16, 16\) and scaled to \[0, 1\]"):
        vtcav.load_model(f"keras:{folder / 'net.keras'}")


@pytest.mark.parametrize("weights", ["net.weights.h5", "net.keras", "net.h5"])
def test_weights_from_another_file(weights, saved, tmp_path):
    model, folder = saved
    other = network()
    other.set_weights([0 * w for w in other.get_weights()])
    other.save(tmp_path / "zero.keras")
    same(tmp_path / "zero.keras", model, weights=folder / weights)
    with pytest.raises(ModelError, match=r"relu\.h5' do not fit the network 'net'"):
        load(folder / "net.keras", weights=DATA / "relu.h5")


# -- files of TF-Keras 2 ------------------------------------------------------------------------


def as_tf_keras(config):
    """A description as TF-Keras 2.15 writes it."""
    if isinstance(config, list):
        return [as_tf_keras(part) for part in config]
    if not isinstance(config, dict):
        return config
    config = {key: as_tf_keras(value) for key, value in config.items()}
    kind, inner = config.get("class_name"), config.get("config")
    if kind == "DTypePolicy":
        return inner["name"]
    if kind == "Functional":
        config |= {"module": "keras.src.engine.functional", "registered_name": "Functional"}
    if kind == "InputLayer":
        inner["batch_input_shape"] = inner.pop("batch_shape")
        inner.pop("optional", None)
    if kind == "BatchNormalization":
        inner["axis"] = [3]
        for new in ("renorm", "renorm_clipping", "renorm_momentum", "synchronized"):
            inner.pop(new, None)
    if kind in ("DepthwiseConv2D", "SeparableConv2D", "Conv2DTranspose"):
        inner["groups"] = 1
    if kind == "SeparableConv2D":
        zeros = {"module": "keras.initializers", "class_name": "Zeros", "config": {}}
        inner |= {
            "kernel_initializer": zeros,
            "kernel_regularizer": None,
            "kernel_constraint": None,
        }
    if "inbound_nodes" in config:
        config["build_config"] = {"input_shape": [None, 1, 1, 1]}
        config["inbound_nodes"] = [
            [[*history, {}] for history in histories(node["args"])]
            for node in config["inbound_nodes"]
        ]
    return config


def histories(args):
    if isinstance(args, dict):
        return [args["config"]["keras_history"]]
    return [history for part in args for history in histories(part)]


def as_in_hdf5(config):
    """A description without what only archives have."""
    if isinstance(config, list):
        return [as_in_hdf5(part) for part in config]
    if not isinstance(config, dict):
        return config
    left_out = ("module", "registered_name", "build_config")
    return {key: as_in_hdf5(value) for key, value in config.items() if key not in left_out}


def rewrite_archive(source, target, change):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "config.json":
                data = json.dumps(change(json.loads(data))).encode()
            if name == "metadata.json":
                data = json.dumps({"keras_version": "2.15.0"}).encode()
            new.writestr(name, data)


def rewrite_hdf5(source, target, change):
    shutil.copy(source, target)
    with h5py.File(target, "r+") as file:
        file.attrs["model_config"] = json.dumps(change(json.loads(file.attrs["model_config"])))
        file.attrs["keras_version"] = "2.15.0"


def test_an_archive_of_tf_keras_2(saved, tmp_path):
    model, folder = saved
    rewrite_archive(folder / "net.keras", tmp_path / "old.keras", as_tf_keras)
    with pytest.raises(TypeError, match=r"keras\.src\.engine"):  # what stands in the way
        keras.saving.load_model(tmp_path / "old.keras", compile=False)
    old = same(tmp_path / "old.keras", model)
    assert old.module.network.get_layer("inner").get_layer("norm").axis == 3


def test_an_hdf5_file_of_tf_keras_2(saved, tmp_path):
    model, folder = saved

    def change(config):
        with zipfile.ZipFile(folder / "net.keras") as archive:
            described = json.loads(archive.read("config.json"))
        return as_in_hdf5(as_tf_keras(described))

    rewrite_hdf5(folder / "net.h5", tmp_path / "old.h5", change)
    with pytest.raises(TypeError, match="groups"):
        keras.saving.load_model(tmp_path / "old.h5", compile=False)
    old = same(tmp_path / "old.h5", model)
    assert type(old.module.network.get_layer("sep")).__name__ == "SeparableConv2D"


def test_translation_leaves_other_values_alone():
    config = {
        "class_name": "Conv2D",
        "module": "keras.layers",
        "config": {"groups": 2, "axis": [1]},
    }
    assert translate(config) == config


# -- what is refused ----------------------------------------------------------------------------


def test_absent_and_other_files(tmp_path):
    with pytest.raises(ModelError, match=r"expected a \.keras or \.h5 file, but there is no file"):
        read_network(tmp_path / "absent.keras")
    (tmp_path / "text.h5").write_text("no network")
    with pytest.raises(ModelError, match=r"text\.h5' is neither"):
        read_network(tmp_path / "text.h5")
    (tmp_path / "saved_model.pb").write_text("")
    with pytest.raises(ModelError, match=r"is a TensorFlow SavedModel.*save it again with Keras 3"):
        read_network(tmp_path)
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("readme.txt", "no network")
    with pytest.raises(ModelError, match=r"other\.keras' cannot be read.*config\.json"):
        read_network(tmp_path / "other.keras")


def test_weights_alone(saved):
    _, folder = saved
    with pytest.raises(ModelError, match=r"holds the weights alone.*this one as weights="):
        read_network(folder / "net.weights.h5")


def test_a_suffix_that_is_not_the_files(saved, tmp_path):
    shutil.copy(DATA / "relu.keras", tmp_path / "relu.h5")
    with pytest.raises(ModelError, match=r"is a Keras archive: rename it to end in \.keras"):
        read_network(tmp_path / "relu.h5")
    shutil.copy(DATA / "relu.h5", tmp_path / "relu.keras")
    with pytest.raises(ModelError, match=r"is an HDF5 file: rename it to end in \.h5"):
        read_network(tmp_path / "relu.keras")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("unsafe", [False, True])
def test_code_in_a_file_is_not_run(suffix, unsafe, tmp_path):
    trace = tmp_path / "was_here"
    image = keras.Input((8, 8, 3))
    code = f"__import__('pathlib').Path({str(trace)!r}).touch()"
    function = eval(f"lambda x: ({code}, x)[1]")
    x = layers.Lambda(function, name="payload", output_shape=(8, 8, 3))(image)
    path = tmp_path / f"net{suffix}"
    keras.Model(image, layers.Dense(2)(layers.Flatten()(x))).save(path)
    trace.unlink(missing_ok=True)
    if unsafe:  # said by somebody else in this process
        keras.config.enable_unsafe_deserialization()
    try:
        with pytest.raises(ModelError, match=r"Python code \('payload' of type Lambda\).*not run"):
            read_network(path)
    finally:
        keras.src.backend.common.global_state.set_global_attribute("safe_mode_saving", None)
    assert not trace.exists()


@pytest.mark.parametrize(
    "named",
    [
        {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"},
        {"module": "builtins_", "class_name": "Payload", "config": {}, "registered_name": "P"},
        {"module": "keras.utils", "class_name": "function", "config": "get_file"},
    ],
)
def test_what_only_a_file_names_is_not_imported(named, saved, tmp_path):
    _, folder = saved

    def change(config):
        config["config"]["layers"][1]["config"]["activation"] = named
        return config

    rewrite_archive(folder / "net.keras", tmp_path / "net.keras", change)
    with pytest.raises(ModelError, match=r"names '.*', which is neither part of Keras nor regist"):
        read_network(tmp_path / "net.keras")


def test_an_old_version_that_is_imported_already(monkeypatch):
    monkeypatch.setattr(keras, "__version__", "3.8.0")
    with pytest.raises(ModelError, match=r"expected Keras 3\.12 or later, but 3\.8\.0"):
        read_network(DATA / "relu.keras")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_tensorflow_operators(suffix, saved, tmp_path):
    _, folder = saved

    def change(config):
        config["config"]["layers"][1] |= {"class_name": "TFOpLambda", "name": "tf.math.add"}
        return config

    rewrite = rewrite_archive if suffix == ".keras" else rewrite_hdf5
    rewrite(folder / f"net{suffix}", tmp_path / f"convnext{suffix}", change)
    message = (
        r"'tf\.math\.add' of type TFOpLambda.*load the old weights with load_weights.*ConvNeXt"
    )
    with pytest.raises(ModelError, match=message):
        read_network(tmp_path / f"convnext{suffix}")


def test_convnext_saved_again(tmp_path):
    """What that message says works: its function, and load_weights of the old file."""
    options = {"input_shape": (32, 32, 3), "classes": 3, "weights": None}
    small = {"depths": [1, 1, 1, 1], "projection_dims": [4, 4, 4, 4]}
    from keras.src.applications.convnext import ConvNeXt

    def build():
        return ConvNeXt(**small, **options, drop_path_rate=0.0, name="convnext_small")

    old = fill(build())
    old.save(tmp_path / "old.h5")
    new = build()
    new.load_weights(tmp_path / "old.h5")
    new.save(tmp_path / "new.keras")
    found = load(tmp_path / "new.keras")
    assert found.preprocess == vtcav.Preprocess(32, std=1 / 255)
    x = 255 * torch.rand(2, 3, 32, 32)
    expected = old(x.movedim(1, -1), training=False).detach()
    torch.testing.assert_close(found.probabilities(found.logits(x)), expected)


def test_layers_of_ones_own(tmp_path):
    class Twice(layers.Layer):
        def call(self, x):
            return 2 * x

    image = keras.Input((8, 8, 3))
    x = layers.Flatten()(Twice(name="twice")(image))
    keras.Model(image, layers.Dense(2)(x)).save(tmp_path / "net.keras")
    with pytest.raises(ModelError, match=r"names '.*Twice'.*neither part of Keras nor registered"):
        read_network(tmp_path / "net.keras")
    with keras.saving.custom_object_scope({"Twice": Twice}):
        assert read_network(tmp_path / "net.keras").get_layer("twice")


def test_a_device_that_is_absent():
    with pytest.raises(ModelError, match="device 'tpu:7' cannot be used"):
        read_network(DATA / "relu.h5", device="tpu:7")
    model = load(DATA / "relu.h5", preprocess=PREPROCESS, device="cpu")
    assert model.device == torch.device("cpu")


def test_h5py_absent(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "h5py" else find(name)
    )
    with pytest.raises(ExtraError, match=r"needs h5py.*pip install 'vtcav\[keras\]'"):
        read_network(DATA / "relu.h5")
