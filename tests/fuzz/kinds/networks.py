"""Network files: Keras archives, HDF5 files and folders of Hugging Face, changed and damaged."""

import io
import json
import shutil
import warnings
import zipfile
from pathlib import Path

import vtcav
from tests.fuzz.mutators import json_bytes, mutated_array, mutated_bytes, mutated_dict, mutated_json
from tests.fuzz.safetensors import packed, storable, unpacked
from tests.fuzz.trial import Kind, Trial
from tests.helpers.torchvision_ops import define_missing_operators

_KERAS = Path(__file__).parents[2] / "keras_data"


class _Networks(Kind):
    """Loaded, and its layers listed, which runs it."""

    share = 0.1

    def use(self, source):
        model = vtcav.load_model(source, device="cpu")
        model.layers()
        repr(model.preprocess)


class Archives(_Networks):
    """`.keras` archives."""

    name = "keras"
    needs = ("keras", "h5py")

    def __init__(self, folder):
        super().__init__(folder)
        self.good = (_KERAS / "relu.keras").read_bytes()
        with zipfile.ZipFile(io.BytesIO(self.good)) as archive:
            self.parts = {name: archive.read(name) for name in archive.namelist()}

    def trial(self, random):
        path, kind = self.folder / "some.keras", random.randrange(5)
        parts = dict(self.parts)
        name = random.choice(("config.json", "config.json", "metadata.json"))
        if kind == 0:
            path.write_bytes(mutated_bytes(random, self.good))
            return Trial("bytes", lambda: self.use(f"keras:{path}"), (path.name, "network"))
        if kind == 1:
            name = "model.weights.h5"
            parts[name] = mutated_bytes(random, parts[name])
        elif kind == 2:
            parts.pop(random.choice(sorted(parts)))
        else:
            parts[name] = json_bytes(mutated_json(random, json.loads(parts[name])))
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for part, data in parts.items():
                archive.writestr(part, data)
        return Trial(f"{name}, {kind}", lambda: self.use(f"keras:{path}"), (path.name, "network"))


class Hdf5(_Networks):
    """`.h5` files."""

    name = "hdf5"
    needs = ("keras", "h5py")

    def __init__(self, folder):
        super().__init__(folder)
        self.good = (_KERAS / "relu.h5").read_bytes()

    def trial(self, random):
        import h5py

        path = self.folder / "some.h5"
        if random.random() < 0.5:
            path.write_bytes(mutated_bytes(random, self.good))
            return Trial("bytes", lambda: self.use(f"keras:{path}"), (path.name, "network"))
        path.write_bytes(self.good)
        with h5py.File(path, "r+") as file:
            config = json.loads(file.attrs["model_config"])
            file.attrs["model_config"] = json_bytes(mutated_json(random, config))[:60_000]
        return Trial("config", lambda: self.use(f"keras:{path}"), (path.name, "network"))


class Folders(_Networks):
    """Folders of Hugging Face."""

    name = "huggingface"
    needs = ("transformers",)

    def __init__(self, folder):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            define_missing_operators()
        from transformers import ResNetConfig, ResNetForImageClassification

        super().__init__(folder)
        self.good = folder / "good"
        config = ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3
        )
        ResNetForImageClassification(config).save_pretrained(self.good)
        settings = {
            "image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32},
            "do_resize": True, "resample": 2, "do_normalize": True,
            "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
        }  # fmt: skip
        (self.good / "preprocessor_config.json").write_text(json.dumps(settings))

    def trial(self, random):
        place = self.folder / "some-network"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.good, place)
        path = random.choice(sorted(place.iterdir()))
        data, kind = path.read_bytes(), random.randrange(4)
        if kind == 0:
            path.write_bytes(mutated_bytes(random, data))
        elif kind == 1 and random.random() < 0.3:
            path.unlink()
        elif path.suffix == ".json":
            path.write_bytes(json_bytes(mutated_json(random, json.loads(data))))
        else:
            arrays, _ = unpacked(data, "format")
            path.write_bytes(
                packed(storable(mutated_dict(random, arrays, mutated_array)), {"format": b"pt"})
            )
        return Trial(
            f"{path.name}, {kind}", lambda: self.use(f"hf:{place}"), (place.name, "network")
        )
