"""Runs in parts: they go on where they were cut off, to the last bit, and notice what changed."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

import vtcav
from tests.helpers.small import CLASSES, concepts, negatives, pictures, small_explainer, small_net
from vtcav.errors import ExplanationError, ImageError
from vtcav.explainer.runs.class_task import ClassTask
from vtcav.explainer.runs.identity import bank_digest
from vtcav.explainer.runs.image_table import ImageTable, compute_images, compute_parts
from vtcav.explainer.runs.part import Part, chunks_of
from vtcav.explainer.runs.part_files import PartRecord
from vtcav.explainer.runs.run_folder import DamagedPartWarning, opened
from vtcav.files.hashing import file_hash, json_hash
from vtcav.images.facts import Fact, fact_of
from vtcav.images.listing import collect
from vtcav.images.references import ImageRef

IMAGES = pictures(150, seed=7)  # parts of 64, 64 and 22
TABLES = ("attributions", "summary", "resampled", "images")


def made(**options):
    return small_explainer(steps=2, progress=False, **options)


@pytest.fixture(scope="module")
def explainer():
    return made()


@pytest.fixture(scope="module")
def whole(explainer):
    return explainer.explain_class("cat", IMAGES)


def bytes_of(glob, folder):
    """The tables of an explanation as files."""
    glob.save(folder)
    names = [f"global_{name}.{kind}" for name in TABLES for kind in ("csv", "parquet")]
    return {name: (folder / name).read_bytes() for name in names}


@pytest.fixture
def counted(explainer, monkeypatch):
    """The names of the images that are computed from here on."""
    seen = []
    batch = explainer.attributor.class_rows

    def spy(names, *rest):
        seen.extend(names)
        return batch(names, *rest)

    monkeypatch.setattr(explainer.attributor, "class_rows", spy)
    return seen


def written(folder, count=30, *, seed=5):
    folder.mkdir()
    for i, picture in enumerate(pictures(count, seed=seed)):
        Image.fromarray(picture).save(folder / f"{i:03d}.png")
    return folder


# -- going on -----------------------------------------------------------------------------------


SLOW = """
import sys, time
import vtcav
from tests.helpers.small import *

class Slow:
    def __init__(self):
        self.plain = vtcav.Preprocess(16)
    def __call__(self, image):
        time.sleep(0.02)
        return self.plain(image)

explainer = small_explainer(small_model(preprocess=Slow()), steps=2, progress=False)
explainer.explain_class("cat", pictures(150, seed=7), run=sys.argv[1])
"""


def test_killed_in_the_middle(explainer, whole, counted, tmp_path):
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(run)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
    )
    end = time.monotonic() + 120
    while not (run / "part-00000.json").exists():
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < end
        time.sleep(0.02)
    with pytest.raises(ExplanationError, match=f"is being computed by process {process.pid} on"):
        explainer.explain_class("cat", IMAGES, run=run)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (run / "part-00002.json").exists()
    for name in (".part-00001.parquet-ab12", ".part-00001.json-x", ".run.json-y"):
        (run / name).write_bytes(b"half")
    (run / "part-00002.parquet").write_bytes(b"rows without a record")

    again = explainer.explain_class("cat", IMAGES, run=run)
    assert len(counted) in (150 - 64, 150 - 128)
    assert sorted(path.name for path in run.iterdir()) == [
        ".lock",
        *(f"effects-{n:05d}.parquet" for n in range(3)),
        *sorted(f"part-{n:05d}.{kind}" for n in range(3) for kind in ("json", "parquet")),
        "run.json",
    ]
    assert bytes_of(again, tmp_path / "again") == bytes_of(whole, tmp_path / "whole")


def test_in_memory_and_on_disk(explainer, whole, counted, tmp_path):
    first = explainer.explain_class("cat", IMAGES, run=tmp_path / "run")
    assert len(counted) == 150
    second = explainer.explain_class("cat", IMAGES, run=str(tmp_path / "run"))
    assert len(counted) == 150
    expected = bytes_of(whole, tmp_path / "0")
    assert bytes_of(first, tmp_path / "1") == expected == bytes_of(second, tmp_path / "2")
    assert first.provenance == whole.provenance
    assert whole.attributions["q_value"].equals(second.attributions["q_value"])


def test_parts_come_in_any_order(explainer, whole, tmp_path):
    class Backwards:
        def __enter__(self):
            self.left = False
            return self

        def __exit__(self, *error):
            self.left = True

        device = "cpu"

        def compute(self, task, chunks, progress=None):
            return reversed(list(compute_parts(task, chunks, progress)))

    task, refs = ClassTask(explainer.attributor, False, 0), collect(IMAGES)
    for run in (None, tmp_path / "run"):
        engine = Backwards()
        found = compute_images(task, refs, engine, run=run, shown=False)
        assert found.rows().frame(list(whole.attributions)).equals(whole.attributions)
        assert found.used == 150
        assert engine.left


def test_left_out_images_stay_left_out(explainer, counted, tmp_path):
    folder = written(tmp_path / "images")
    (folder / "004.png").write_bytes(b"no picture")
    for _ in range(2):
        with pytest.warns(vtcav.SkippedImageWarning, match=r"^1 of 30 images is left out.*004"):
            glob = explainer.explain_class("cat", folder, run=tmp_path / "run")
        assert [Path(skip.name).name for skip in glob.skipped] == ["004.png"]
        assert glob.summary()["n"].eq(29).all()
    assert len(counted) == 29
    with pytest.raises(ImageError, match=r"cannot read '.*004\.png'"):
        explainer.explain_class("cat", folder, run=tmp_path / "run", strict=True)


def test_no_image_at_all(explainer, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    for _ in range(2):
        with pytest.raises(ImageError, match="none of the 1 images can be read"):
            explainer.explain_class("cat", tmp_path / "a.png", run=tmp_path / "run")


def test_inputs_of_two_shapes_in_two_parts(tmp_path):
    net = vtcav.Classifier(small_net()[:2].append(averaging()), None, lambda image: tensor(image))
    explainer = vtcav.VisualTCAV(net, ["1"], 2, progress=False).fit(concepts(), negatives())
    images = [*pictures(64), *pictures(3, size=(20, 24))]
    for run in (None, tmp_path):
        with pytest.raises(ImageError, match=r"one shape, got \(3, 20, 24\) for 'array\[64\]'"):
            explainer.explain_class(0, images, run=run)


def averaging():
    from torch import nn

    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def tensor(image):
    return vtcav.Preprocess(None)(image)


# -- refused ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(explainer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    explainer.explain_class("cat", IMAGES[:5], run=folder)
    return folder


@pytest.mark.parametrize(
    ("options", "name", "images", "message"),
    [
        ({}, "dog", 5, r"settings\.class was 0, is 1"),
        ({}, "cat", 6, r"images\.listed was 5, is 6"),
        ({"steps": 3}, "cat", 5, r"settings\.steps was 2, is 3"),
        ({"batch_size": 5}, "cat", 5, r"settings\.batch_size was None, is 5"),
        ({"layers": ["3"]}, "cat", 5, r"layers was .*"),
    ],
)
def test_a_run_of_other_settings(explainer, run, options, name, images, message):
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    settings = {"layers": ["1", "3"], "steps": 2, **options}
    other = vtcav.VisualTCAV(explainer.model, cavs=explainer.cavs, progress=False, **settings)
    with pytest.raises(ExplanationError, match=f"holds a run with other settings: .*{message}"):
        other.explain_class(name, IMAGES[:images], run=run)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_a_run_of_another_preprocessing(run):
    def grey(image):
        return vtcav.Preprocess(16)(image.convert("L").convert("RGB"))

    model = vtcav.Classifier(small_net(), CLASSES, grey)
    with pytest.raises(ExplanationError, match=r"model\.preprocess_behaves \(.*\) has changed"):
        small_explainer(model, steps=2).explain_class("cat", IMAGES[:5], run=run)


def test_a_run_of_other_networks_concepts_and_classes(run):
    other = small_explainer(vtcav.Classifier(small_net(seed=1), CLASSES, vtcav.Preprocess(16)))
    with pytest.raises(ExplanationError, match=r"model\.fingerprint \(.*weights\) has changed"):
        other.explain_class("cat", IMAGES[:5], run=run)
    named = vtcav.Classifier(small_net(), ["cat", "dog", "wolf"], vtcav.Preprocess(16))
    with pytest.raises(ExplanationError, match=r"model\.classes \(.*names.*\) has changed"):
        small_explainer(named).explain_class("cat", IMAGES[:5], run=run)
    learned = vtcav.VisualTCAV(
        vtcav.Classifier(small_net(), CLASSES, vtcav.Preprocess(16)), ["1", "3"], 2, progress=False
    )
    swapped = dict(zip(concepts(), reversed(concepts().values()), strict=True))
    learned.fit(swapped, negatives())
    with pytest.raises(
        ExplanationError, match=r"settings: cavs \(what was learned\) has changed\."
    ):
        learned.explain_class("cat", IMAGES[:5], run=run)


def test_one_process_at_a_time(explainer, tmp_path):
    with opened(tmp_path / "run", {"kind": "held"}):
        holder = f"is being computed by process {os.getpid()} on"
        with pytest.raises(ExplanationError, match=holder):
            explainer.explain_class("cat", IMAGES[:2], run=tmp_path / "run")
    with pytest.raises(ExplanationError, match=r"a run of another kind \(held\)"):
        explainer.explain_class("cat", IMAGES[:2], run=tmp_path / "run")


def test_a_folder_that_cannot_be_used(explainer, tmp_path):
    (tmp_path / "file").write_text("here")
    with pytest.raises(ExplanationError, match=r"cannot use the run folder .*File exists"):
        explainer.explain_class("cat", IMAGES[:2], run=tmp_path / "file")


def test_a_full_disk(explainer, whole, counted, tmp_path, monkeypatch):
    import vtcav.explainer.runs.part_files as module

    write, calls = module.parquet.write_table, []

    def full(table, path, **options):
        calls.append(path)
        Path(path).write_bytes(b"PAR1")
        if len(calls) == 3:  # each part has two tables
            raise OSError(28, "No space left on device")
        write(table, path, **options)

    monkeypatch.setattr(module.parquet, "write_table", full)
    with pytest.raises(ExplanationError, match=r"No space left .*Finished parts are kept"):
        explainer.explain_class("cat", IMAGES, run=tmp_path / "run")
    assert sorted(p.suffix for p in (tmp_path / "run").glob("*part-*")) == [".json", ".parquet"]
    counted.clear()
    again = explainer.explain_class("cat", IMAGES, run=tmp_path / "run")
    assert len(counted) == 150 - 64
    assert again.attributions.equals(whole.attributions)


# -- noticed ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["parquet", "json"])
@pytest.mark.parametrize("damage", ["flipped", "short", "empty"])
def test_a_damaged_part_is_computed_again(explainer, run, counted, kind, damage):
    path = run / f"part-00000.{kind}"
    data = path.read_bytes()
    middle = len(data) // 2
    broken = {
        "flipped": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        "short": data[:middle],
        "empty": b"",
    }
    path.write_bytes(broken[damage])
    with pytest.warns(DamagedPartWarning, match="part-00000 of the run in .* is computed again"):
        explainer.explain_class("cat", IMAGES[:5], run=run)
    assert len(counted) == 5
    assert path.read_bytes() == data


REWRITTEN = {
    "a row too many": lambda rows: rows.take([*range(len(rows)), 0]),
    "half of the rows": lambda rows: rows.slice(0, len(rows) // 2),
    "no rows": lambda rows: rows.slice(0, 0),
    "another order": lambda rows: rows.take([1, 0, *range(2, len(rows))]),
}


@pytest.mark.parametrize("change", REWRITTEN)
def test_rows_that_do_not_fit_the_images_behind_a_right_hash(explainer, tmp_path, counted, change):
    run = tmp_path / "run"
    expected = explainer.explain_class("cat", IMAGES[:70], run=run).attributions
    rows, record = run / "part-00001.parquet", run / "part-00001.json"
    parquet.write_table(REWRITTEN[change](parquet.read_table(rows)), rows)
    data = json.loads(record.read_text()) | {"rows": file_hash(rows)}
    data.pop("sha256")
    record.write_text(json.dumps(data | {"sha256": json_hash(data)}))
    counted.clear()
    with pytest.warns(DamagedPartWarning, match=r"part-00001 .* it is damaged \(its? .*rows"):
        again = explainer.explain_class("cat", IMAGES[:70], run=run)
    pd.testing.assert_frame_equal(again.attributions, expected)
    assert len(counted) == 6


def test_parts_of_other_shapes_name_the_run(explainer, tmp_path):
    run = tmp_path / "run"
    explainer.explain_class("cat", IMAGES[:70], run=run)
    record = run / "part-00001.json"
    data = json.loads(record.read_text()) | {"shape": [3, 1, 16]}
    data.pop("sha256")
    record.write_text(json.dumps(data | {"sha256": json_hash(data)}))
    with pytest.raises(ImageError, match=r"the run in '.*run': expected inputs of one shape"):
        explainer.explain_class("cat", IMAGES[:70], run=run)


def test_a_damaged_manifest_is_written_again(explainer, run, counted):
    path = run / "run.json"
    text = path.read_text()
    path.write_text(text[:50])
    with pytest.warns(DamagedPartWarning, match=r"run\.json' is damaged and is written again"):
        explainer.explain_class("cat", IMAGES[:5], run=run)
    assert path.read_text() == text
    assert not counted


def test_parts_of_another_run_are_not_taken(explainer, run, counted, tmp_path):
    """Also when its manifest was lost."""
    explainer.explain_class("dog", IMAGES[:5], run=tmp_path / "run")
    (tmp_path / "run/run.json").unlink()
    counted.clear()
    with pytest.warns(DamagedPartWarning, match="it belongs to a run with other settings"):
        glob = explainer.explain_class("cat", IMAGES[:5], run=tmp_path / "run")
    assert len(counted) == 5
    assert glob.attributions["class_name"].eq("cat").all()


def test_a_changed_image_is_computed_again(explainer, counted, tmp_path):
    folder = written(tmp_path / "images", 70)
    explainer.explain_class("cat", folder, run=tmp_path / "run")
    os.utime(folder / "001.png", (1, 1))  # another time, the same content
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explainer.explain_class("cat", folder, run=tmp_path / "run")
    assert len(counted) == 70
    Image.fromarray(pictures(1, seed=99)[0]).save(folder / "069.png")
    with pytest.warns(DamagedPartWarning, match=r"part-00001 .*'.*069\.png' has changed since"):
        again = explainer.explain_class("cat", folder, run=tmp_path / "run")
    assert len(counted) == 76
    assert again.attributions.equals(explainer.explain_class("cat", folder).attributions)


def test_an_image_that_could_not_be_opened_is_tried_again(explainer, tmp_path):
    folder = written(tmp_path / "images", 3)
    link, target = folder / "lost.png", tmp_path / "later.png"
    link.symlink_to(target)
    with pytest.warns(vtcav.SkippedImageWarning, match="lost.png"):
        explainer.explain_class("cat", folder, run=tmp_path / "run")
    Image.fromarray(pictures(1)[0]).save(target)
    with pytest.warns(DamagedPartWarning, match=r"lost\.png' has changed since"):
        glob = explainer.explain_class("cat", folder, run=tmp_path / "run")
    assert not glob.skipped


def test_facts(tmp_path):
    folder = written(tmp_path / "images", 1)
    [ref] = collect(folder)
    fact = fact_of(ref)
    assert fact.size == (folder / "000.png").stat().st_size
    assert fact.digest == ref.digest()
    believed = Fact(fact.size, fact.mtime_ns, "known")
    assert fact_of(ref, believed) == believed
    assert fact_of(ref, Fact(fact.size, fact.mtime_ns + 1, "known")) == fact
    assert fact_of(ref, Fact(fact.size, fact.mtime_ns, "")) == fact
    picture = ImageRef("array[0]", np.zeros((2, 2, 3), np.uint8))
    assert fact_of(picture) == Fact(-1, -1, picture.digest())


def test_bank_digest(explainer):
    bank = explainer.cavs
    assert bank_digest(bank) == bank_digest(made().cavs)
    assert bank_digest(bank) != bank_digest(bank.select(["3"]))


def test_chunks():
    refs = [ImageRef(str(i), np.zeros((1, 1), np.uint8)) for i in range(1000)]
    chunks = chunks_of(refs, 16)
    assert [ref for chunk in chunks for ref in chunk.refs] == refs
    assert [chunk.number for chunk in chunks] == list(range(16))
    assert len(chunks_of(refs, 100)[0].refs) == 100
    long = chunks_of(refs[:1] * 1_000_000, 16)
    assert len(long) == 15_625
    assert len(long[0].refs) == 64


# -- flat ---------------------------------------------------------------------------------------


FLAT = """
import resource
import numpy as np, torch, vtcav
net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 8, stride=8), torch.nn.ReLU(),
    torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 3))
explainer = vtcav.VisualTCAV(vtcav.Classifier(net, None, vtcav.Preprocess(192)), ["1"], 1,
    progress=False, batch_size=8)
noise = np.random.default_rng(0).integers(0, 255, (20, 192, 192, 3)).astype(np.uint8)
explainer.fit({"dark": noise[:8] // 4}, noise[8:], bootstraps=10)
for count in (70, 700):
    explainer.explain_class(0, [noise[i % 20] for i in range(count)])
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no resource usage")
def test_memory_does_not_grow_with_the_number_of_images():
    """Each input has 442,368 bytes: the 630 more of them would take 279 MB.

    glibc gives what is freed back at once; what it would keep differs from run to run by 100 MB.
    """
    steady = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    output = subprocess.run(
        [sys.executable, "-c", FLAT],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | steady,
    ).stdout
    few, many = (int(line) for line in output.split())
    kilobytes = 1 if sys.platform != "darwin" else 1024
    assert (many - few) / kilobytes < 40_000


def test_unknown_engines(explainer):
    with pytest.raises(ExplanationError, match="engine to be 'local' or 'ray', got 'spark'"):
        explainer.explain_class("cat", IMAGES[:2], engine="spark")
    with pytest.raises(ExplanationError, match="ray_options go with engine='ray'"):
        explainer.explain_class("cat", IMAGES[:2], ray_options={"workers": 2})


def test_sums_that_do_not_fit_each_other_are_a_damaged_part():
    sums = {"a": np.ones(3), "b": np.ones(3)}
    none = pa.table({})
    part = Part(none, none, used=1, skipped=(), sums=sums, shape=(3, 4, 4), first="x", facts=())
    record = PartRecord.of(part)
    assert {len(values) for values in record.read_sums().values()} == {3}
    with pytest.raises(ValueError, match="its sums do not fit each other"):
        record.model_copy(update={"sums": {**record.sums, "b": ""}}).read_sums()
    table = ImageTable(strict=False)
    table.add(0, part)
    other = replace(part, sums={"a": np.ones(2), "b": np.ones(2)})
    with pytest.raises(ExplanationError, match="of layer 'a' one has sums of 2 resampled CAVs"):
        table.add(1, other)
