"""Models by name: preprocessing and class names come along, nothing downloads, files are strict."""

import json
import shutil
import socket
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import vtcav
from tests.helpers.nets import Net
from tests.helpers.small import pictures, small_net
from vtcav.errors import ExtraError, ModelError
from vtcav.models.class_names import read_class_names
from vtcav.models.settings import LoadSettings
from vtcav.models.sources.checkpoints import build_with_weights, read_weights
from vtcav.models.sources.image_processor import preprocess_of

PICTURE = Image.fromarray(pictures(1, size=(70, 90))[0])


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """Empty caches, and no way to reach anything outside."""

    def refuse(*_args, **_kwargs):
        raise AssertionError("something tried to reach a network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))


def in_hub_cache(monkeypatch, folder, repository, name):
    """The path of a file in an empty cache of Hugging Face."""
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    here = folder / f"models--{repository.replace('/', '--')}"
    (here / "refs").mkdir(parents=True)
    (here / "refs" / "main").write_text("abc")
    (here / "snapshots" / "abc").mkdir(parents=True)
    return here / "snapshots" / "abc" / name


# --- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("resnet50", "unknown model 'resnet50': expected 'demo', 'torchvision:NAME', 'timm:NAME'"),
        ("tim:convnext", "unknown model .*did you mean 'timm'"),
        ("net/mine.py:build", r"build\(\) in mine.py write python:mine:build"),
        ("timm:", "unknown model 'timm:'"),
        ("demo:1", "unknown model 'demo:1'"),
        ("torch:m.pt2", r"may run code .*torch.export.unflatten\(torch.export.load\(PATH\)\)"),
        ("onnx:m.onnx", "has no gradients and no layers"),
    ],
)
def test_names_that_cannot_be_loaded(name, why):
    with pytest.raises(ModelError, match=why):
        vtcav.load_model(name)


@pytest.mark.parametrize(
    ("name", "package"),
    [("torchvision:resnet18", "torchvision"), ("timm:test_vit", "timm"), ("hf:x", "transformers")],
)
def test_a_missing_package_is_one_line_away(name, package, monkeypatch):
    for module in [m for m in sys.modules if m.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    extra = name.partition(":")[0]
    with pytest.raises(ExtraError, match=rf"need {package}.*pip install 'vtcav\[{extra}\]'"):
        vtcav.load_model(name)


# --- torchvision --------------------------------------------------------------------------------


def test_torchvision_from_its_cache(libraries, tmp_path):
    weights = libraries.torchvision.get_model_weights("squeezenet1_1").DEFAULT
    net = libraries.torchvision.squeezenet1_1()
    with pytest.raises(ModelError, match=r"not on this machine .*downloads nothing.*IMAGENET1K_V1"):
        vtcav.load_model("torchvision:squeezenet1_1")
    file = tmp_path / "hub" / "checkpoints" / weights.url.rpartition("/")[2]
    file.parent.mkdir(parents=True)
    torch.save(net.state_dict(), file)
    model = vtcav.load_model("torchvision:squeezenet1_1", device="cpu")
    expected = weights.transforms()(PICTURE)
    torch.testing.assert_close(model.preprocess(PICTURE), expected)
    with torch.no_grad():
        torch.testing.assert_close(model.logits(expected[None]), net.eval()(expected[None]))
    assert len(model.class_names) == 1000
    assert model.class_names[340] == "zebra"
    assert vtcav.load_model(
        "torchvision:squeezenet1_1:IMAGENET1K_V1", device="cpu"
    ).fingerprint == (model.fingerprint)


def test_torchvision_with_other_classes(libraries, tmp_path):
    net = libraries.torchvision.squeezenet1_1(num_classes=3)
    torch.save(net.state_dict(), tmp_path / "mine.pt")
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\nfox\n")
    model = vtcav.load_model(
        "torchvision:squeezenet1_1", names, weights=tmp_path / "mine.pt", device="cpu"
    )
    assert model.class_names == ("cat", "dog", "fox")
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(model.logits(x), net.eval()(x))
    unnamed = vtcav.load_model(
        "torchvision:squeezenet1_1", weights=str(tmp_path / "mine.pt"), device="cpu"
    )
    assert unnamed.class_names == ("class 0", "class 1", "class 2")
    with pytest.raises(ModelError, match=r"not of this network: 'classifier.1.weight', .*\(3, 512"):
        vtcav.load_model(
            "torchvision:squeezenet1_1", ["a", "b"], weights=tmp_path / "mine.pt", device="cpu"
        )


def test_torchvision_without_weights(libraries):
    assert libraries
    model = vtcav.load_model(
        "torchvision:mobilenet_v3_small", ["a", "b"], weights="random", device="cpu"
    )
    assert model.class_names == ("a", "b")
    assert model.preprocess.size == (224, 224)
    with pytest.raises(ModelError, match="no classification network 'resnet19'; did you mean"):
        vtcav.load_model("torchvision:resnet19")
    with pytest.raises(ModelError, match="no weights 'V9' of 'resnet18'; there are IMAGENET1K_V1"):
        vtcav.load_model("torchvision:resnet18:V9")


# --- timm ---------------------------------------------------------------------------------------


def test_timm_from_its_cache(libraries, tmp_path, monkeypatch):
    net = libraries.timm.create_model("test_vit", pretrained=False).eval()
    repository = net.pretrained_cfg["hf_hub_id"]
    file = in_hub_cache(monkeypatch, tmp_path / "hf", repository, "model.safetensors")
    with pytest.raises(ModelError, match=r"timm:test_vit are not on this machine.*pretrained=True"):
        vtcav.load_model("timm:test_vit")
    save_file(net.state_dict(), file)
    model = vtcav.load_model("timm:test_vit", device="cpu")
    x = torch.randn(2, 3, 160, 160)
    with torch.no_grad():
        torch.testing.assert_close(model.logits(x), net(x))
    assert len(model.class_names) == 1000
    assert model.class_names[340] == "zebra"
    config = libraries.timm.data.resolve_model_data_config(net)
    expected = libraries.timm.data.create_transform(**config)(PICTURE)
    torch.testing.assert_close(model.preprocess(PICTURE), expected)


def test_timm_with_other_classes(libraries, tmp_path):
    net = libraries.timm.create_model("test_efficientnet", num_classes=4).eval()
    save_file(net.state_dict(), tmp_path / "mine.safetensors")
    model = vtcav.load_model(
        "timm:test_efficientnet", weights=tmp_path / "mine.safetensors", device="cpu"
    )
    assert len(model.class_names) == 4
    x = torch.randn(1, 3, 160, 160)
    with torch.no_grad():
        torch.testing.assert_close(model.logits(x), net(x))
    random = vtcav.load_model("timm:test_vit", ["a", "b"], weights="random", device="cpu")
    assert random.class_names == ("a", "b")
    single = vtcav.load_model("timm:test_vit", weights="random", binary=True, device="cpu")
    assert single.class_names == ("negative", "positive")
    with pytest.raises(ModelError, match="timm has no network 'test_vitt'; did you mean 'test_vit"):
        vtcav.load_model("timm:test_vitt")
    with pytest.raises(ModelError, match="Invalid pretrained tag"):
        vtcav.load_model("timm:test_vit.nonsense", weights="random")


# --- Hugging Face -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vit(tmp_path_factory, libraries):
    """A folder with a small ViT as transformers saves it, and the network."""
    assert libraries  # transformers looks for torchvision
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        image_size=32,
        patch_size=8,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        id2label={0: "cat", 1: "dog", 2: "fox"},
        label2id={"cat": 0, "dog": 1, "fox": 2},
    )
    net = transformers.ViTForImageClassification(config).eval()
    folder = tmp_path_factory.mktemp("hf") / "vit"
    net.save_pretrained(folder)
    settings = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": 32, "width": 32},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.5, 0.6, 0.7],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder, net


def test_hugging_face_from_a_folder(vit):
    folder, net = vit
    model = vtcav.load_model(f"hf:{folder}", device="cpu")
    assert model.class_names == ("cat", "dog", "fox")
    assert model.preprocess == vtcav.Preprocess(
        32, resize="stretch", mean=(0.5, 0.4, 0.3), std=(0.5, 0.6, 0.7)
    )
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model.logits(x), net(x).logits)
    (blocks,) = (n for n, m in net.named_modules() if isinstance(m, nn.ModuleList))
    assert [layer.name for layer in model.check_layers(None)] == [f"{blocks}.1"]
    assert model.logits_source == "the `logits` of the network's output"


def test_hugging_face_random_and_files(vit, tmp_path):
    folder, net = vit
    torch.save(net.state_dict(), tmp_path / "mine.pt")
    loaded = vtcav.load_model(f"hf:{folder}", weights=tmp_path / "mine.pt", device="cpu")
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded.logits(x), net(x).logits)
    random = vtcav.load_model(f"hf:{folder}", ["a", "b"], weights="random", device="cpu")
    assert random.class_names == ("a", "b")
    assert random.fingerprint != loaded.fingerprint


def test_hugging_face_what_is_not_there(vit, tmp_path):
    with pytest.raises(
        ModelError, match=r"neither a folder nor in the local cache.*hf download x/y"
    ):
        vtcav.load_model("hf:x/y")
    empty = tmp_path / "vit-empty"  # a name that transformers before 5 takes for a kind
    empty.mkdir()
    with pytest.raises(ModelError, match=r"cannot load hf:.*vit-empty.*has no config\.json"):
        vtcav.load_model(f"hf:{empty}")
    (empty / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"cannot load hf:.*vit-empty.*has no 'model_type'"):
        vtcav.load_model(f"hf:{empty}", weights="random")
    transformers = pytest.importorskip("transformers")
    headless = tmp_path / "headless"
    transformers.ViTModel(vit[1].config).save_pretrained(headless)
    with pytest.raises(ModelError, match=r"no weights for classifier.* without its last layer"):
        vtcav.load_model(f"hf:{headless}")
    text = tmp_path / "text"
    transformers.BertConfig().save_pretrained(text)
    with pytest.raises(ModelError, match=r"no image classifier of transformers .*'bert'"):
        vtcav.load_model(f"hf:{text}", weights="random")


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    "file", ["config.json", "preprocessor_config.json", "tokenizer_config.json"]
)
def test_hugging_face_with_code_of_its_own(vit, file, inside, tmp_path):
    folder = shutil.copytree(vit[0], tmp_path / "net")
    content = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
    code: dict = {"auto_map": {"AutoConfig": "payload.C"}}
    content |= {"text_config": [code]} if inside else code
    (folder / file).write_text(json.dumps(content))
    trace = tmp_path / "was_here"
    (folder / "payload.py").write_text(f"open({str(trace)!r}, 'w')\nclass C: ...\n")
    with pytest.raises(ModelError, match=r"Python code of its own.*auto_map.*not run"):
        vtcav.load_model(f"hf:{folder}", device="cpu")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("config.json", {"architectures": 2**32}, "cannot load hf:"),
        ("config.json", {"num_hidden_layers": 2**32}, "'num_hidden_layers'.* asks for"),
        ("config.json", {"intermediate_size": 2**20}, "describes a network of"),
        ("config.json", {"id2label": 3}, "hf:"),
        ("preprocessor_config.json", {"size": 2**31}, "preprocessor_config.json of hf:.*size"),
        ("preprocessor_config.json", {"resample": "2"}, "preprocessor_config.json of .*resample"),
        ("preprocessor_config.json", {"resample": -2}, "preprocessor_config.json of .*resample"),
    ],
)
def test_hugging_face_with_impossible_fields(vit, file, change, said, tmp_path):
    folder = shutil.copytree(vit[0], tmp_path / "net")
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(content | change))
    with pytest.raises(ModelError, match=said):
        vtcav.load_model(f"hf:{folder}", device="cpu")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_archives_are_refused_unread(vit, tmp_path, monkeypatch):
    script = tmp_path / "net.pt"
    torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(script)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(ModelError, match="TorchScript archive, which holds code"):
        read_weights(script)
    folder = shutil.copytree(vit[0], tmp_path / "vit")
    (folder / "model.safetensors").unlink()
    shutil.copy(script, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="TorchScript archive"):
        vtcav.load_model(f"hf:{folder}", device="cpu")


@pytest.mark.parametrize("name", ["x.csv", "net.gguf", "model.safetensors", "net.pt"])
@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"GGUF\x03\0\0\0", b"\xff" * 40])
def test_files_of_other_formats_as_weights(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"cannot read weights from .*{name}|more than tensors"):
        read_weights(tmp_path / name)


@pytest.mark.parametrize("weights", [None, "random"])
def test_hugging_face_with_packages_that_do_not_fit(vit, weights, monkeypatch):
    transformers = pytest.importorskip("transformers")

    def fail(*_args, **_kwargs):
        raise ModuleNotFoundError("Could not import module 'ViTForImageClassification'")

    for way in ("from_pretrained", "from_config"):
        monkeypatch.setattr(transformers.AutoModelForImageClassification, way, fail)
    with pytest.raises(ModelError, match=r"cannot import what hf:.* needs: .*fit each other"):
        vtcav.load_model(f"hf:{vit[0]}", weights=weights)


def test_hugging_face_without_a_processor(vit, tmp_path):
    vit[1].save_pretrained(tmp_path / "bare")
    with pytest.warns(UserWarning, match=r"without preprocessor_config.json: .*resized to 32"):
        model = vtcav.load_model(f"hf:{tmp_path / 'bare'}", device="cpu")
    assert model.preprocess.size == (32, 32)


SETTINGS = {"resample": 3, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"size": 48}, {"size": 48, "resize": "stretch"}),
        ({"size": {"height": 32, "width": 48}}, {"size": (32, 48), "resize": "stretch"}),
        (
            {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": 224},
            {"size": 224, "crop_pct": 224 / 256},
        ),
        (
            {
                "size": {"shortest_edge": 64},
                "do_center_crop": True,
                "crop_size": {"height": 64, "width": 64},
            },
            {"size": 64},
        ),
        (
            {
                "image_processor_type": "ConvNextImageProcessor",
                "size": {"shortest_edge": 224},
                "crop_pct": 0.875,
            },
            {"size": 224, "crop_pct": 0.875},
        ),
        (
            {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}},
            {"size": 384, "resize": "stretch"},
        ),
        ({"size": {"shortest_edge": 256}}, None),  # keeps the aspect ratio
        ({"size": 48, "do_center_crop": True, "crop_size": 40}, None),
        ({"size": 48, "rescale_factor": 1 / 127.5}, None),
        ({"size": 48, "do_rescale": False}, None),
        ({"do_resize": False}, None),
    ],
)
def test_processors_as_preprocess(settings, expected):
    found = preprocess_of({**SETTINGS, **settings})
    wanted = expected and vtcav.Preprocess(**expected, interpolation="bicubic", mean=0.5, std=0.25)
    assert found == wanted


def test_a_processor_is_what_transformers_computes(libraries):
    assert libraries  # the processors need torchvision
    transformers = pytest.importorskip("transformers")
    picture = Image.fromarray(pictures(1, size=(90, 120))[0])
    processors = [
        transformers.ViTImageProcessor(size={"height": 32, "width": 32}),
        transformers.ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=0.8),
        transformers.CLIPImageProcessor(size={"shortest_edge": 40}, crop_size=32),
    ]
    for processor in processors:
        expected = processor(images=picture, return_tensors="pt")["pixel_values"][0]
        settings = json.loads(processor.to_json_string())
        got = preprocess_of(settings)(picture)
        assert got.shape == expected.shape
        # resized pictures are whole numbers of 0..255 here and rounded elsewhere there
        assert (got - expected).abs().max() < 0.05


# --- weights and class names from files ---------------------------------------------------------


def build(count=None):
    return small_net(count or 3)


def same(module, net):
    return all(
        torch.equal(value, net.state_dict()[key]) for key, value in module.state_dict().items()
    )


@pytest.mark.parametrize(
    ("wrap", "said"),
    [
        (lambda state: state, None),
        (lambda state: {"state_dict": state, "epoch": 3}, "took 'state_dict' of a dict with state"),
        (lambda state: {"model": {"net": state}, "lr": 0.1}, "took 'model.net' of"),
        (lambda state: {f"module.{k}": v for k, v in state.items()}, "names under 'module.'"),
        (lambda state: {f"_orig_mod.{k}": v for k, v in state.items()}, "left out '_orig_mod.'"),
        (
            lambda state: {**{f"a.b.{k}": v for k, v in state.items()}, "loss": torch.ones(1)},
            "names under 'a.b.' and not 'loss'",
        ),
    ],
)
@pytest.mark.parametrize("form", ["pt", "safetensors"])
def test_weights_from_checkpoints_of_many_forms(wrap, said, form, tmp_path):
    net, path = small_net(seed=5), tmp_path / f"w.{form}"
    content = wrap(net.state_dict())
    if form == "pt":
        torch.save(content, path)
    elif all(isinstance(value, torch.Tensor) for value in content.values()):
        save_file(content, path)
    else:
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module = build_with_weights(build, path, None)
    assert same(module, net)
    text = " ".join(str(warning.message) for warning in caught)
    assert (said in text) if said else not text


def test_weights_for_another_number_of_classes(tmp_path):
    torch.save(small_net(7, seed=5).state_dict(), tmp_path / "w.pt")
    assert same(build_with_weights(build, tmp_path / "w.pt", None), small_net(7, seed=5))


def edited(change):
    state = small_net().state_dict()
    change(state)
    return state


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (edited(lambda s: s.pop("0.bias")), r"the file lacks '0.bias'\. Is it the same"),
        (edited(lambda s: s.update(extra=torch.ones(1))), "the network has no 'extra'"),
        (
            edited(lambda s: s.update({"0.weight": torch.ones(2, 2)})),
            r"'0.weight' of another shape \(\(2, 2\), expected \(4, 3, 3, 3\)\)",
        ),
        (
            {"a": torch.ones(1)},
            "lacks '0.weight', '0.bias', '2.weight' and 5 more; the net",
        ),
        ({}, "expected weights by name .* got a dict"),
        ([torch.ones(1)], "expected weights by name .* got a list"),
        ({"lr": 0.1, "epoch": 3}, "got a dict with lr, epoch"),
        (
            {f"{who}.{k}": v for who in ("a", "b") for k, v in small_net().state_dict().items()},
            r"are of several networks, under 'a\.', 'b\.'",
        ),
    ],
)
def test_weights_that_do_not_fit(content, why, tmp_path):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=why):
        build_with_weights(build, tmp_path / "w.pt", None)


class Trap:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code was run')",))


def test_code_in_a_file_of_weights_is_not_run(tmp_path):
    torch.save({"state_dict": small_net().state_dict(), "trap": Trap()}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"holds more than tensors.*torch.save\(module.state_dict"):
        read_weights(tmp_path / "w.pt")
    torch.save(small_net(), tmp_path / "whole.pt")
    with pytest.raises(ModelError, match="holds more than tensors"):
        read_weights(tmp_path / "whole.pt")


def test_files_that_are_no_weights(tmp_path):
    with pytest.raises(ModelError, match="no file of weights"):
        read_weights(tmp_path / "absent.pt")
    for name in ("w.pt", "w.safetensors"):
        (tmp_path / name).write_text("nothing")
        with pytest.raises(ModelError, match=r"cannot read weights from|holds more than tensors"):
            read_weights(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "cat\ndog\n"),
        ("a.csv", "cat\ndog"),
        ("a.json", '["cat", "dog"]'),
        ("a.json", '{"0": "cat", "1": "dog"}'),
        ("a.json", '{"model_type": "vit", "id2label": {"1": "dog", "0": "cat"}}'),
    ],
)
def test_class_names_from_a_file(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    assert read_class_names(tmp_path / name) == ["cat", "dog"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "is no JSON"),
        ('{"cat": 0}', "expected names by class index from 0 to 0 .*the keys cat"),
        ("[1, 2]", "expected a list of names"),
        ("3", "expected a list of names"),
    ],
)
def test_files_that_are_no_class_names(text, why, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ModelError, match=why):
        read_class_names(tmp_path / "a.json")
    with pytest.raises(ModelError, match="cannot read class names"):
        read_class_names(tmp_path / "absent.txt")


def test_class_names_with_commas(tmp_path, monkeypatch):
    def names(given):
        return LoadSettings("demo", class_names=given).names

    monkeypatch.chdir(tmp_path)
    assert names("good, scratched") == ("good", "scratched")
    with pytest.raises(ModelError, match="a name is empty in 'good,'; expected a file with a name"):
        names("good,")
    with pytest.raises(
        ModelError, match=r"no such file; class_names takes a file .*, or names with"
    ):
        names("good")
    (tmp_path / "a,b.txt").write_text("cat\ndog\n")
    assert names("a,b.txt") == ["cat", "dog"]


# --- python -------------------------------------------------------------------------------------


def test_python_with_weights_names_and_layouts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "made_for_this.py").write_text(
        "from tests.helpers.small import small_net\n"
        "import vtcav\n\n"
        "def build():\n    return small_net()\n\n"
        "def model():\n    return vtcav.Classifier(small_net(), None, vtcav.Preprocess(16))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    torch.save(small_net(seed=9).state_dict(), tmp_path / "w.pt")
    (tmp_path / "names.json").write_text('["cat", "dog", "fox"]')
    model = vtcav.load_model(
        "python:made_for_this:build",
        "names.json",
        vtcav.Preprocess(16),
        weights="w.pt",
        layouts={"1": "NCHW"},
        device="cpu",
    )
    assert model.class_names == ("cat", "dog", "fox")
    assert same(model.module, small_net(seed=9))
    with pytest.raises(ModelError, match="returns a finished model; set weights there"):
        vtcav.load_model("python:made_for_this:model", weights="w.pt")


def test_an_exported_program_through_python():
    """What `load_model("torch:PATH")` points to works where the batch size is dynamic."""
    net = Net().eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            net, (torch.randn(2, 3, 16, 16),), dynamic_shapes=({0: batch},)
        )
        module = torch.export.unflatten(program)
        model = vtcav.Classifier(module, None, vtcav.Preprocess(16))
        found = [layer.name for layer in model.layers()]
    assert found == ["stem", "layer", "conv"]
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    maps, z = model.activations_and_logits(x, ["layer"])
    torch.testing.assert_close(model.head("layer")(maps["layer"]), z)
    with torch.no_grad():
        torch.testing.assert_close(z, net(x))
    assert isinstance(net, nn.Module)
    assert np.isfinite(z.numpy()).all()
