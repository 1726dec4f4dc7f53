"""Images behind URIs and in Parquet files: the same pictures, wherever they lie."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

import vtcav
from tests.helpers.small import pictures, small_explainer
from vtcav.cli import main
from vtcav.errors import ExtraError, ImageError
from vtcav.explainer.runs.class_task import ClassTask
from vtcav.explainer.runs.image_table import compute_parts
from vtcav.explainer.runs.part import chunks_of
from vtcav.explainer.runs.run_folder import DamagedPartWarning
from vtcav.images import remote as stored
from vtcav.images.concepts import concept_folders, negative_folders
from vtcav.images.facts import fact_of
from vtcav.images.listing import collect
from vtcav.images.masks import find_masks

PICTURES = pictures(9, seed=4)
MODEL = "python:tests.helpers.small:small_model"


def png(picture):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "png")
    return buffer.getvalue()


DATA = [png(picture) for picture in PICTURES]


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "a b #1%20"  # what a URI would have to quote
    (root / "sub").mkdir(parents=True)
    for i, data in enumerate(DATA):
        (root / ("sub" if i > 6 else "") / f"{i} #é.png").write_bytes(data)
    (root / ".hidden.png").write_bytes(DATA[0])
    return root


@pytest.fixture
def table(tmp_path):
    """Write columns to a Parquet file of several row groups."""

    def write(rows=4, **columns):
        path = tmp_path / "images.parquet"
        parquet.write_table(pa.table(columns), path, row_group_size=rows)
        return path

    return write


def shown(refs):
    return np.stack([np.asarray(ref.load()) for ref in refs])


def test_a_folder_behind_a_uri(folder):
    refs = collect(folder.as_uri())
    assert np.array_equal(shown(refs), PICTURES)
    assert [ref.name.rsplit("/", 1)[1] for ref in refs][:2] == ["0 #é.png", "1 #é.png"]
    assert [ref.name for ref in refs][8].endswith("/sub/8 #é.png")
    one = collect((folder / "3 #é.png").as_uri())
    assert np.array_equal(shown(one), PICTURES[3:4])
    assert one[0].digest() == collect(folder / "3 #é.png")[0].digest()
    both = collect([folder.as_uri(), (folder / "3 #é.png").as_uri()])
    assert len(both) == 10


def test_what_fsspec_knows():
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    for i, data in enumerate(DATA):
        system.pipe(f"/zebras/{i}.png", data)
    try:
        assert np.array_equal(shown(collect("memory://zebras")), PICTURES)
        [ref] = collect("memory:///zebras/0.png")
        system.rm("/zebras/0.png")
        with pytest.raises(ImageError, match=r"cannot read 'memory:///zebras/0\.png'"):
            ref.load()
    finally:
        system.rm("/zebras", recursive=True)


@pytest.mark.parametrize("name", ["image", "bytes"])
def test_bytes_in_a_parquet_file(table, name):
    path = table(**{name: DATA})
    refs = collect(path)
    assert [ref.name for ref in refs] == [f"{path}#{i}" for i in range(9)]
    assert np.array_equal(shown(refs[::-1]), PICTURES[::-1])
    assert np.array_equal(shown(collect(path.as_uri())), PICTURES)
    named = table(**{name: DATA}, path=[f"{i}.png" for i in range(9)])
    assert [ref.name for ref in collect(named)] == [f"{i}.png" for i in range(9)]
    assert np.array_equal(shown(collect(named)), PICTURES)


def test_the_structs_of_hugging_face(table):
    cells = [{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(DATA)]
    refs = collect(table(image=cells, label=list(range(9))))
    assert np.array_equal(shown(refs), PICTURES)
    assert refs[5].name == "5.png"


def test_paths_in_a_parquet_file(table, folder, tmp_path):
    paths = [f"{folder.name}/0 #é.png", str(folder / "1 #é.png"), (folder / "2 #é.png").as_uri()]
    refs = collect(table(path=[*paths, None, "lost.png"]))
    assert np.array_equal(shown(refs[:3]), PICTURES[:3])
    assert [ref.name for ref in refs] == [*paths, f"{tmp_path / 'images.parquet'}#3", "lost.png"]
    with pytest.raises(ImageError, match=r"parquet#3': its row of the Parquet file is empty"):
        refs[3].load()
    with pytest.raises(ImageError, match=r"cannot read 'lost\.png': "):
        refs[4].load()


def test_row_groups_are_read_once(table, monkeypatch):
    read, seen = parquet.ParquetFile.read_row_group, []

    def spy(self, group, *rest, **options):
        seen.append(group)
        return read(self, group, *rest, **options)

    monkeypatch.setattr(parquet.ParquetFile, "read_row_group", spy)
    explainer = small_explainer(steps=2, progress=False)
    explainer.explain_class("cat", table(bytes=DATA))
    assert sorted(seen) == [0, 1, 2]  # threads may begin with a later one


def test_a_thread_that_lags_finds_its_row_group(table, monkeypatch):
    read, seen = parquet.ParquetFile.read_row_group, []

    def spy(self, group, *rest, **options):
        seen.append(group)
        return read(self, group, *rest, **options)

    monkeypatch.setattr(parquet.ParquetFile, "read_row_group", spy)
    monkeypatch.setattr(stored, "_APART", 10)
    refs = collect(table(rows=4, bytes=DATA * 4))
    for row in (0, 4, 8, 12, 2, 13):  # the last in the first group comes after three others
        refs[row].load()
    assert seen == [0, 1, 2, 3, 0]
    assert sum(map(len, stored._GROUPS.values())) <= 12
    seen.clear()
    for row in (0, 4, 8, 1, 5, 9):
        refs[row].load()
    assert seen == [1, 2]


def test_explained_alike(folder, table, tmp_path):
    explainer = small_explainer(steps=2, progress=False)
    expected = explainer.explain_class("cat", folder).attributions.drop(columns="image")
    for source in (folder.as_uri(), table(bytes=DATA)):
        for run in (None, tmp_path / "run", tmp_path / "run"):
            rows = explainer.explain_class("cat", source, run=run).attributions
            assert rows.drop(columns="image").equals(expected)
        run.rename(tmp_path / f"old {len(list(tmp_path.iterdir()))}")


def test_unreadable_ones_are_named_and_changed_ones_noticed(table, tmp_path):
    explainer = small_explainer(steps=2, progress=False)
    source = table(bytes=[*DATA[:2], b"no picture", b""])
    with pytest.warns(vtcav.SkippedImageWarning, match=r"^2 of 4 .*#2' \(it is not.*#3' \(there"):
        glob = explainer.explain_class("cat", source, run=tmp_path / "run")
    assert len(glob.images) == 4
    table(bytes=DATA[:4])
    with pytest.warns(DamagedPartWarning, match=r"parquet#2' has changed since"):
        glob = explainer.explain_class("cat", source, run=tmp_path / "run")
    assert not glob.skipped


def test_facts_are_those_of_the_file(folder):
    [ref] = collect((folder / "3 #é.png").as_uri())
    [file] = collect(folder / "3 #é.png")
    assert fact_of(ref) == fact_of(file)
    task = ClassTask(small_explainer(steps=1, progress=False).attributor, False, 0)
    for refs in ([ref], [file]):
        [(_, part)] = compute_parts(task, chunks_of(refs, 16))
        assert part.facts == (fact_of(file),)


def test_draws_are_those_of_a_folder(folder):
    drawn = [
        [ref.digest() for ref in collect(f, limit=3, seed=2)] for f in (folder, folder.as_uri())
    ]
    assert drawn[0] == drawn[1]
    with pytest.raises(ImageError, match="limit to be a whole number of at least 1"):
        collect(folder.as_uri(), limit=0)


def test_refused(table, tmp_path):
    with pytest.raises(ImageError, match=r"no column of images in .*; it has label, score"):
        collect(table(label=[1], score=[0.5]))
    with pytest.raises(ImageError, match=r"'file:///nowhere/at/all' does not exist"):
        collect("file:///nowhere/at/all")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="no images in"):
        collect((tmp_path / "empty").as_uri())
    (tmp_path / "images.parquet").write_bytes(b"no table")
    with pytest.raises(ImageError, match="cannot list the images of"):
        collect(tmp_path / "images.parquet")
    with pytest.raises((ImageError, ExtraError), match="nosuch"):
        collect("nosuch://bucket/zebras")


def test_lists_may_mix_every_kind_of_source(folder, table):
    [known] = collect(folder / "2 #é.png")
    mixed = [
        PICTURES[0],
        folder.as_uri(),
        known,
        table(bytes=DATA[:2]),
        Image.fromarray(PICTURES[8]),
    ]
    refs = collect(mixed)
    expected = [PICTURES[0], *PICTURES, PICTURES[2], *PICTURES[:2], PICTURES[8]]
    assert np.array_equal(shown(refs), expected)
    assert refs[0].name == "array[0]"


def test_globs(folder, table, tmp_path):
    names = [Path(ref.name).name for ref in collect(str(folder / "[0-4]*.png"))]
    assert names == [f"{i} #é.png" for i in range(5)]
    assert len(collect(str(folder / "*"))) == 7  # files alone, where there are any
    everything = collect(folder / "**" / "*.png")
    assert [ref.name for ref in everything] == [ref.name for ref in collect(folder)]
    assert len(collect(str(tmp_path / "a b*"))) == 9  # of folders, the files in them
    whole = collect(table(bytes=DATA))
    rows = collect(str(tmp_path / "*.parquet"))
    assert [ref.name for ref in rows] == [ref.name for ref in whole]
    (folder / "[x].png").write_bytes(DATA[0])
    assert len(collect(str(folder / "[x].png"))) == 1  # a name before it is a pattern
    with pytest.raises(ImageError, match=r"no file or folder matches '.*\*\.jpg'"):
        collect(str(folder / "*.jpg"))


def test_globs_behind_a_uri(bucket):
    assert [ref.name for ref in collect("memory://zoo/cat/[0-2].png*")] == [
        f"memory://zoo/cat/{i}.png" for i in range(3)
    ]
    assert len(collect("memory://zoo/**/0.png")) == 4
    assert len(collect("memory://zoo/*/0.png")) == 2
    assert len(collect("memory://zoo/*.png")) == 1
    assert np.array_equal(shown(collect("memory://shards/*.parquet")), PICTURES)
    with pytest.raises(ImageError, match=r"no images in 'memory://zoo/\*\.jpg'"):
        collect("memory://zoo/*.jpg")


@pytest.fixture
def bucket(tmp_path):
    """Concepts, negatives and an image in an object store of fsspec."""
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    sets = {"concepts/bright": 250, "concepts/dark": 5, "random": 120, "cat": 60}
    for name, level in sets.items():
        noise = np.random.default_rng(level).integers(0, 16, (6, 24, 24, 3))
        for i, picture in enumerate((noise + level).clip(0, 255).astype(np.uint8)):
            system.pipe(f"/zoo/{name}/{i}.png", png(picture))
    system.pipe("/zoo/one.png", DATA[0])
    for i, part in enumerate((DATA[:5], DATA[5:])):
        path = tmp_path / "part.parquet"
        parquet.write_table(pa.table({"bytes": part}), path)
        system.pipe(f"/shards/{i}.parquet", path.read_bytes())
    local = tmp_path / "zoo"
    for path in system.find("/zoo"):
        file = local / path.removeprefix("/zoo/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(system.cat(path))
    yield local
    for name in ("/zoo", "/shards"):
        system.rm(name, recursive=True)


def learned(concepts, negatives, image, **options):
    explainer = small_explainer(steps=2, progress=False, **options)
    explainer.fit(concepts, negatives, null_cavs=2, bootstraps=2, limit=5, seed=1)
    return explainer, explainer.explain(image, classes=1)


def test_learned_and_explained_alike_from_everywhere(bucket, table):
    local = bucket
    _, expected = learned({"dark": local / "concepts/dark"}, local / "random", local / "one.png")
    dark = [(local / f"concepts/dark/{i}.png").read_bytes() for i in range(6)]
    sources = {
        "uri": ("memory://zoo/concepts/dark", "memory://zoo/random", "memory://zoo/one.png"),
        "file": tuple((local / part).as_uri() for part in ("concepts/dark", "random", "one.png")),
        "glob": tuple(str(local / part) for part in ("concepts/dark/*.png", "ran*", "on*.png")),
        "parquet": (table(bytes=dark), local / "random", local / "one.png"),
    }
    for kind, (concept, negatives, image) in sources.items():
        explainer, found = learned({"dark": concept}, negatives, image)
        for column in ("attribution", "p_value", "cav_low"):
            assert found.attributions[column].equals(expected.attributions[column]), kind
        assert len(explainer.cavs.concepts[0].examples) == 5


def test_learning_from_a_uri_is_cached(bucket, tmp_path):
    source = {"dark": "memory://zoo/concepts/dark"}, "memory://zoo/random", "memory://zoo/one.png"
    cache = vtcav.Cache(tmp_path / "cache")
    _, one = learned(*source, cache=cache)
    _, other = learned(*source, cache=cache)
    assert cache.entries()
    assert one.attributions.equals(other.attributions)


def test_an_image_behind_a_uri_that_cannot_be_read_is_named(bucket):
    import fsspec

    fsspec.filesystem("memory").pipe("/zoo/concepts/dark/9.png", b"no picture")
    explainer = small_explainer(steps=2, progress=False)
    with pytest.warns(vtcav.SkippedImageWarning, match=r"1 of 7 .*'memory://zoo/concepts/dark/9"):
        explainer.fit({"dark": "memory://zoo/concepts/dark"}, "memory://zoo/random")
    with pytest.raises(ImageError, match=r"memory://zoo/concepts/dark/9\.png"):
        explainer.explain("memory://zoo/concepts/dark/9.png")
    with pytest.raises(
        vtcav.ConceptError, match=r"concept 'dark': 'memory://zoo/x' does not exist"
    ):
        explainer.fit({"dark": "memory://zoo/x"}, "memory://zoo/random")


def test_folders_of_concepts_behind_a_uri(bucket):
    root = "memory://zoo/concepts"
    assert concept_folders(root) == {n: f"{root}/{n}" for n in ("bright", "dark")}
    assert list(concept_folders(root, besides=f"{root}/dark/")) == ["bright"]
    assert negative_folders(f"{root}/", ["dark"]) == {"dark": f"{root}/dark"}
    for source in ("memory://zoo/random", "memory://zoo/r*", "random*", "x.parquet"):
        assert negative_folders(source, ["dark"]) == source
    with pytest.raises(vtcav.ConceptError, match=r"found none; .* 'memory://zoo/random/striped'"):
        concept_folders("memory://zoo/random")
    with pytest.raises(vtcav.ConceptError, match="cannot list the folders in 'memory://nowhere'"):
        concept_folders("memory://nowhere")


def test_masks_are_matched_with_images_behind_a_uri(bucket, tmp_path):
    folder = tmp_path / "masks"
    for name in ("cat/1", "random/1", "one"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("1", (24, 24)).save(folder / f"{name}.png")
    refs = collect("memory://zoo")
    masks = find_masks(refs, "memory://zoo", folder)
    found = {ref.name: mask for ref, mask in zip(refs, masks, strict=True)}
    assert found["memory://zoo/cat/1.png"] == folder / "cat/1.png"
    assert found["memory://zoo/one.png"] == folder / "one.png"
    assert found["memory://zoo/cat/2.png"] is None


def test_commands_take_uris(bucket, tmp_path):
    common = ["--model", MODEL, "--concepts", "memory://zoo/concepts", "--layers", "1", "--quiet"]
    common += ["--negatives", "memory://zoo/random", "--null-cavs", "0", "--bootstraps", "0"]
    out = tmp_path / "out"
    assert main(["explain", "memory://zoo/one.png", *common, "-o", str(out)]) == 0
    assert set(vtcav.LocalExplanation.load(out).concepts) == {"bright", "dark"}
    images = ["--images", "memory://zoo/cat/*.png"]
    assert main(["explain-class", "cat", *images, *common, "-o", str(out)]) == 0
    assert len(vtcav.GlobalExplanation.load(out).images) == 6
    learned_before = ["--model", MODEL, "--cavs", str(out / "cavs.safetensors"), "--quiet"]
    assert main(["diagnose", *images, *learned_before, "-o", str(out)]) == 0
