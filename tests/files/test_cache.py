"""The cache: the same results to the last bit, never something stale, never a lost result."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import vtcav
from tests.helpers.small import CLASSES, concepts, pictures, small_model, small_net
from vtcav.cli import main
from vtcav.errors import ExplanationError, ImageError
from vtcav.explainer.learning import learn
from vtcav.explainer.learning.learning_cache import preprocess_key
from vtcav.explainer.runs.identity import bank_digest
from vtcav.files.cache import Cache, CacheWarning
from vtcav.files.cache_location import cache_of, default_folder, parsed_size

LAYERS = ["1", "3"]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def passes(monkeypatch):
    """What went through the network: layers and number of images."""
    seen = []

    def watch(name):
        original = getattr(vtcav.Classifier, name)

        def spy(self, images, layers):
            if images.stride(0):  # else it is the test picture
                seen.append((tuple(layers), len(images)))
            return original(self, images, layers)

        monkeypatch.setattr(vtcav.Classifier, name, spy)

    def unseen(*arguments):
        before = len(seen)
        found = behaviour(*arguments)
        del seen[before:]
        return found

    watch("activations")
    watch("activations_and_logits")
    behaviour = learn.behaviour
    monkeypatch.setattr(learn, "behaviour", unseen)  # its image is no example
    return seen


def negatives():
    return pictures(20, seed=3)


def fitted(cache, found=None, against=None, *, model=None, layers=LAYERS, **options):
    explainer = vtcav.VisualTCAV(
        model or small_model(),
        layers,
        2,
        progress=False,
        cache=cache,
        batch_size=4,
        fill=None,  # counted are the passes of the CAVs
    )
    options = {"null_cavs": 20, "bootstraps": 10, **options}
    return explainer.fit(
        concepts() if found is None else found,
        negatives() if against is None else against,
        **options,
    )


def saved(explainer, path):
    explainer.cavs.save(path)
    return path.read_bytes()


def computed(passes):
    """Return how many images went through since the last time."""
    count = sum(n for _, n in passes)
    passes.clear()
    return count


def written(folder, images):
    folder.mkdir(parents=True)
    for i, picture in enumerate(images):
        Image.fromarray(picture).save(folder / f"{i:02d}.png")
    return folder


# -- the same results ---------------------------------------------------------------------------


def test_the_same_to_the_last_bit(folder, passes, tmp_path):
    expected = saved(fitted(False), tmp_path / "without")
    assert computed(passes) == 35
    assert saved(fitted(folder), tmp_path / "cold") == expected
    assert computed(passes) == 35
    warm = fitted(folder)
    assert saved(warm, tmp_path / "warm") == expected
    assert computed(passes) == 0
    assert warm.cavs.from_cache["negatives"] == {"look": [1, 1], "gap": [2, 2], "raw": [8, 8]}
    plain = fitted(None).explain(pictures(1)[0])
    local = warm.explain(pictures(1)[0])
    assert local.attributions.equals(plain.attributions)
    assert local.provenance == plain.provenance
    assert local.provenance.from_cache == warm.cavs.from_cache
    assert plain.provenance.from_cache == {}
    assert json.loads(json.dumps(local.provenance.to_dict()))["from_cache"]["negatives"]["look"]


def test_one_more_concept_leaves_the_others(folder, passes, tmp_path):
    fitted(folder)
    computed(passes)
    more = concepts() | {"dark": pictures(6, seed=8, high=90)}
    expected = saved(fitted(False, more), tmp_path / "without")
    computed(passes)
    assert saved(fitted(folder, more), tmp_path / "with") == expected
    assert computed(passes) == 6 + 20  # its examples once, the negatives for its direction
    fewer = {"cold": concepts()["cold"]}
    expected = saved(fitted(False, fewer), tmp_path / "without")
    computed(passes)
    assert saved(fitted(folder, fewer), tmp_path / "with") == expected
    assert computed(passes) == 0


def test_one_more_layer_leaves_the_others(folder, passes, tmp_path):
    fitted(folder, layers=["3"])
    expected = saved(fitted(False), tmp_path / "without")
    passes.clear()
    assert saved(fitted(folder), tmp_path / "with") == expected
    assert {layers for layers, _ in passes} == {("1",)}


def test_without_resampling_and_beyond_the_budget(folder, tmp_path, monkeypatch):
    options = {"null_cavs": 0, "bootstraps": 0}
    expected = saved(fitted(False, **options), tmp_path / "without")
    for _ in range(2):
        assert saved(fitted(folder, **options), tmp_path / "with") == expected


def test_left_out_images_are_named_each_time(folder, tmp_path):
    bright = written(tmp_path / "bright", concepts()["bright"])
    (bright / "03.png").write_bytes(b"no picture")
    banks = []
    for cache in (False, folder, folder):
        with pytest.warns(vtcav.SkippedImageWarning, match=r"^1 of 7 images is left out: .*03"):
            explainer = fitted(cache, {"bright": bright})
        banks.append(saved(explainer, tmp_path / "bank"))
    assert banks[0] == banks[1] == banks[2]
    assert explainer.cavs.from_cache["concept 'bright'"]["gap"] == [2, 2]
    with pytest.raises(ImageError, match=r"concept 'bright': cannot read '.*03\.png'"):
        fitted(folder, {"bright": bright}, strict=True)
    Image.fromarray(pictures(1)[0]).save(bright / "03.png")
    assert len(fitted(folder, {"bright": bright}).cavs.concepts[0].examples) == 7


# -- never stale --------------------------------------------------------------------------------


def changed_net():
    net = small_net()
    with torch.no_grad():
        net[0].weight[0, 0, 0, 0] += 1e-4
    return net


class OtherCode(nn.Sequential):
    """Modules and weights of `small_net`; only the code differs."""

    def forward(self, x):
        return super().forward(x * 1.01)


class SameCode(nn.Sequential):
    def forward(self, x):
        return super().forward(x)


@pytest.mark.parametrize(
    "change",
    [
        {"model": lambda: small_model(changed_net())},
        {"model": lambda: small_model(preprocess=vtcav.Preprocess(16, mean=1e-6))},
        {"model": lambda: small_model(preprocess=vtcav.Preprocess(16, interpolation="nearest"))},
        {"found": lambda: {"bright": concepts()["bright"] ^ np.uint8(1)}},
        {"found": lambda: {"bright": concepts()["bright"][::-1]}},
    ],
)
def test_a_change_is_noticed(folder, passes, tmp_path, change):
    plain = {"found": lambda: {"bright": concepts()["bright"]}, "model": small_model}
    fitted(folder, **{name: make() for name, make in plain.items()})
    made = {name: make() for name, make in (plain | change).items()}
    expected = saved(fitted(False, **made), tmp_path / "without")
    computed(passes)
    assert saved(fitted(folder, **made), tmp_path / "with") == expected
    assert computed(passes) >= 7


def test_changed_code_is_noticed(folder, passes):
    OtherCode.__qualname__ = OtherCode.__name__ = SameCode.__name__
    for kind in (SameCode, OtherCode):
        fitted(folder, model=small_model(kind(*small_net())))
        assert computed(passes) == 35


def test_other_options(folder, passes, tmp_path):
    fitted(folder)
    for options in ({"seed": 3}, {"null_cavs": 30, "limit": 6}):
        expected = saved(fitted(False, **options), tmp_path / "without")
        assert saved(fitted(folder, **options), tmp_path / "with") == expected


def test_an_image_that_changes_meanwhile_is_not_kept(folder, tmp_path, monkeypatch):
    bright = written(tmp_path / "bright", concepts()["bright"])
    passed = vtcav.Classifier.activations_and_logits
    other = pictures(1, seed=77)[0]

    def changing(self, images, layers):
        if images.stride(0):
            Image.fromarray(other).save(bright / "00.png")
        return passed(self, images, layers)

    explainer = vtcav.VisualTCAV(small_model(), LAYERS, progress=False, cache=folder, fill=None)
    monkeypatch.setattr(vtcav.Classifier, "activations_and_logits", changing)
    explainer.fit({"bright": bright}, negatives())
    kinds = [entry.kind for entry in Cache(folder).entries()]
    assert kinds.count("look") == 1  # of the negatives


def test_callables_are_not_cached_unless_they_say_what_they_are(folder, passes):
    class Halved:
        def __call__(self, image):
            return vtcav.Preprocess(16)(image) / 2

    class Mine(vtcav.Preprocess):
        pass

    assert preprocess_key(Mine(16)) == ""
    with pytest.warns(CacheWarning, match=r"nothing is cached: it is unknown .*cache_key"):
        fitted(folder, model=small_model(preprocess=Halved()))
    assert not folder.exists()
    Halved.cache_key = "halved 1"
    for expected in (35, 0):
        computed(passes)
        fitted(folder, model=small_model(preprocess=Halved()))
        assert computed(passes) == expected


# -- damage, disks, processes -------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["flipped", "short", "empty", "swapped", "header"])
def test_a_damaged_entry_is_computed_again(folder, tmp_path, damage):
    expected = saved(fitted(folder), tmp_path / "cold")
    path, other = sorted(folder.glob("gap-*"))[:2]
    data = path.read_bytes()
    broken = {
        "flipped": data[:-3] + bytes([data[-3] ^ 1]) + data[-2:],
        "short": data[: len(data) // 2],
        "empty": b"",
        "swapped": other.read_bytes(),
        "header": data.replace(b'"batch_size', b'"batch-size').replace(
            b"batch_size", b"batch-size"
        ),
    }[damage]
    assert broken != data
    path.write_bytes(broken)
    assert list(Cache(folder).damaged()) == [path]
    with pytest.warns(CacheWarning, match=f"the entry .*{path.name}' is damaged .*computed again"):
        again = fitted(folder)
    assert saved(again, tmp_path / "again") == expected
    assert path.read_bytes() == data
    assert not Cache(folder).damaged()


def test_a_file_in_the_place_of_the_folder(folder, tmp_path):
    expected = saved(fitted(False), tmp_path / "without")
    folder.write_text("a file")
    with pytest.warns(CacheWarning) as caught:
        assert saved(fitted(folder), tmp_path / "with") == expected
    assert [str(w.message).split(":")[0] for w in caught] == [
        "cannot read the cache",
        f"cannot write to the cache {str(folder)!r}",
    ]


def test_a_read_only_cache(folder, tmp_path, monkeypatch):
    """Refused by hand, as root, who may run the tests, is stopped by no folder's mode."""
    one = {"cold": concepts()["cold"]}
    expected = saved(fitted(folder, one), tmp_path / "one")

    def refused(path):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("vtcav.files.cache.atomic_path", refused)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert saved(fitted(folder, one), tmp_path / "bank") == expected
    with pytest.warns(CacheWarning, match=r"cannot write to the cache .*Read-only.*the same"):
        explainer = fitted(folder)
    assert saved(explainer, tmp_path / "bank") == saved(fitted(False), tmp_path / "without")


FULL = """
import resource, sys, warnings
from tests.helpers.small import *
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    explainer = small_explainer(steps=2, progress=False, cache=sys.argv[1])
assert sum("cannot write to the cache" in str(w.message) for w in caught) == 1, caught
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
from vtcav.explainer.runs.identity import bank_digest
print(bank_digest(explainer.cavs))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no limits of this kind")
def test_a_full_disk(folder):
    """A file of more than 3,000 bytes fails: an entry of the cache, and what is set aside."""
    from tests.helpers.small import small_explainer

    done = subprocess.run(
        [sys.executable, "-c", FULL, str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == bank_digest(small_explainer(steps=2, progress=False).cavs)
    assert not list(folder.glob(".*"))


SHARED = """
import sys
from tests.files.test_cache import *
warnings.simplefilter("error")
print("ready", flush=True)
rounds(Cache(sys.argv[1], 12_000), 10**6)
"""


def rounds(cache, count):
    """Learn two of three concepts at a time, in turn."""
    many = sorted((concepts() | {"dark": pictures(6, seed=8, high=90)}).items())
    banks = [fitted(cache, dict((many[i % 3 :] + many[: i % 3])[:2])).cavs for i in range(count)]
    return [bank_digest(bank) for bank in banks]


def test_processes_share_it_and_one_is_killed(folder):
    """Too small for all, so that they also remove each other's entries."""

    other = subprocess.Popen(
        [sys.executable, "-c", SHARED, str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    expected = rounds(False, 3)
    assert other.stdout.readline() == "ready\n"
    assert rounds(Cache(folder, 12_000), 6) == expected * 2
    assert other.poll() is None
    other.kill()
    other.communicate()
    assert rounds(Cache(folder, 12_000), 3) == expected
    assert not Cache(folder).damaged()


def test_it_stays_within_its_size(folder):
    cache = Cache(folder, 4000)
    (folder / "sub").mkdir(parents=True)
    (folder / "mine.safetensors").write_bytes(bytes(9000))
    for i in range(6):
        cache.put("gap", {"i": i}, {"x": torch.full((200,), float(i))})
        os.utime(cache.entries()[-1].path, (i, i))
    size = cache.entries()[0].size
    assert cache.get("gap", {"i": 0})["x"][0] == 0  # used last now
    half = folder / f".{cache.entries()[0].path.name}-x1"
    half.write_bytes(b"half")
    cache.trim()
    assert half.exists()  # perhaps another process is writing it
    os.utime(half, (1, 1))
    assert cache.trim() == 0
    assert not half.exists()
    left = cache.entries()
    assert len(left) == 4000 // size
    assert cache.get("gap", {"i": 0}) is not None
    assert cache.get("gap", {"i": 1}) is None
    assert cache.clear() == len(left)
    assert sorted(path.name for path in folder.iterdir()) == ["mine.safetensors", "sub"]


def test_entries_are_those_of_their_key(folder):
    cache = Cache(folder)
    tensors = {"a": torch.arange(3), "b": torch.eye(2, dtype=torch.float64)[:, :1]}
    cache.put("raw", {"k": 1}, tensors)
    found = cache.get("raw", {"k": 1})
    assert {n: t.dtype for n, t in found.items()} == {n: t.dtype for n, t in tensors.items()}
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert cache.get("raw", {"k": 2}) is None
    assert cache.get("gap", {"k": 1}) is None
    if sys.platform != "win32":
        assert folder.stat().st_mode & 0o077 == 0


# -- where --------------------------------------------------------------------------------------


def test_where_it_is(tmp_path, monkeypatch):
    monkeypatch.delenv("VTCAV_CACHE")
    assert cache_of(None, unset=False) is None
    assert cache_of(None, unset=True).folder == default_folder()
    assert cache_of(True, unset=False).folder == default_folder()
    assert cache_of(tmp_path, unset=False).folder == tmp_path
    for text in ("off", "0", "No", ""):
        monkeypatch.setenv("VTCAV_CACHE", text)
        assert cache_of(None, unset=True) is None
        assert cache_of(tmp_path, unset=True).folder == tmp_path
    monkeypatch.setenv("VTCAV_CACHE", str(tmp_path))
    assert cache_of(None, unset=False).folder == tmp_path
    assert cache_of(False, unset=True) is None
    monkeypatch.setenv("VTCAV_CACHE", "on")
    monkeypatch.setenv("VTCAV_CACHE_SIZE", "3 MB")
    found = cache_of(None, unset=False)
    assert (found.folder, found.max_bytes) == (default_folder(), 3_000_000)
    assert cache_of(found, unset=False) is found
    monkeypatch.setenv("VTCAV_CACHE_SIZE", "much")
    with pytest.raises(ExplanationError, match="expected a size such as 500MB or 2GB, got 'much'"):
        cache_of(None, unset=False)
    with pytest.raises(ExplanationError, match="expected cache to be a folder, True, False"):
        vtcav.VisualTCAV(small_model(), cache=3)
    assert parsed_size("1.5GiB") == 1_500_000_000


def test_the_classes_are_no_part_of_it(folder, passes):
    fitted(folder)
    computed(passes)
    fitted(folder, model=vtcav.Classifier(small_net(), CLASSES[::-1], vtcav.Preprocess(16)))
    assert computed(passes) == 0
    assert isinstance(Path(folder), Path)


def test_logits_are_those_of_the_network(folder):
    def learned(seed, cache):
        explainer = vtcav.VisualTCAV(small_model(small_net(seed=seed)), LAYERS, cache=cache)
        return explainer.fit(concepts(), negatives(), null_cavs=0, bootstraps=0).cavs.sets[-1]

    expected = learned(0, False)
    for seed in (0, 1, 0):  # another network writes in between
        found = learned(seed, folder)
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found.logits_std, expected.logits_std)


# -- the command line ---------------------------------------------------------------------------

MODEL = """
import vtcav
from tests.helpers.small import small_net


def build():
    return vtcav.Classifier(small_net(), ["cat", "dog", "fox"], vtcav.Preprocess(16))


def other():
    return vtcav.Classifier(small_net(), None, lambda image: vtcav.Preprocess(16)(image))
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VTCAV_CACHE")
    monkeypatch.setattr("vtcav.files.cache_location.default_folder", lambda: tmp_path / "user")
    (tmp_path / "cachemodel.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    for name, images in concepts().items():
        written(tmp_path / "concepts" / name, images)
    written(tmp_path / "random", negatives())
    yield tmp_path
    sys.modules.pop("cachemodel", None)


def explain(*options, model="build"):
    command = ["explain", "random/00.png", "--model", f"python:cachemodel:{model}"]
    command += ["--concepts", "concepts", "--negatives", "random", "--layers", "1,3"]
    command += ["--fill", "none"]  # counted are the passes of the CAVs
    return main([*command, "--steps", "2", "--quiet", "--batch-size", "4", *options])


def test_commands_cache_unless_told_not_to(place, capsys, passes, monkeypatch):
    assert explain("--no-cache") == 0
    assert not (place / "user").exists()
    assert computed(passes) == 35 + 1  # the image that is explained
    for images in (35, 0):
        assert explain() == 0
        assert computed(passes) == images + 1
    assert explain("--cache", "mine") == 0
    assert computed(passes) == 35 + 1
    monkeypatch.setenv("VTCAV_CACHE", str(place / "mine"))
    assert explain() == 0
    assert computed(passes) == 1
    monkeypatch.setenv("VTCAV_CACHE", "off")
    assert explain() == 0
    assert computed(passes) == 35 + 1
    assert main(["cache"]) == 2
    assert "the cache is off (VTCAV_CACHE)" in capsys.readouterr().err


def test_a_preprocessing_that_cannot_be_cached(place, capsys):
    assert explain(model="other") == 0
    assert "cache" not in capsys.readouterr().err
    assert explain("--cache", "mine", model="other") == 0
    assert "warning: nothing is cached: it is unknown" in capsys.readouterr().err


def test_the_command_shows_verifies_and_clears(place, capsys):
    assert main(["cache"]) == 0
    assert "Entries  0" in capsys.readouterr().out
    assert explain() == 0
    capsys.readouterr()
    assert main(["cache"]) == 0
    shown = capsys.readouterr().out
    assert f"Folder   {place / 'user'}" in shown
    assert "kB of at most 2.0 GB" in shown
    assert "3 sets of images" in shown
    assert main(["cache", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    kinds = {kind: count for kind, count in found["kinds"].items() if count}
    assert kinds == {"look": 3, "gap": 6, "raw": 12, "logits": 2, "scored": 2, "zeros": 4}
    assert main(["cache", "verify"]) == 0
    assert "29 entries, all intact" in capsys.readouterr().out
    path = next((place / "user").glob("raw-*"))
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["cache", "verify"]) == 1
    assert f"1 entries of the cache are damaged: {path.name}" in capsys.readouterr().err
    assert explain() == 0
    assert f"warning: the entry '{path}' is damaged" in capsys.readouterr().err
    assert main(["cache", "clear"]) == 0
    assert "Removed 29 entries" in capsys.readouterr().out
    assert list((place / "user").iterdir()) == []
    assert main(["cache", "clear", "--cache", str(place / "random"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == 0
    assert len(list((place / "random").iterdir())) == 20
