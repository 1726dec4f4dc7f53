"""Images behind URIs and in Parquet files: the same pictures, wherever they lie."""

import io
import warnings

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

import vtcav
from tests.helpers.small import pictures, small_explainer
from vtcav.errors import ExtraError, ImageError
from vtcav.explainer.runs.part import Task, chunks_of, explain_parts
from vtcav.explainer.runs.run_folder import DamagedPartWarning
from vtcav.images import remote as stored
from vtcav.images.facts import fact_of
from vtcav.images.remote import collect_stored

PICTURES = pictures(9, seed=4)


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
    refs = collect_stored(folder.as_uri())
    assert np.array_equal(shown(refs), PICTURES)
    assert [ref.name.rsplit("/", 1)[1] for ref in refs][:2] == ["0 #é.png", "1 #é.png"]
    assert [ref.name for ref in refs][8].endswith("/sub/8 #é.png")
    one = collect_stored((folder / "3 #é.png").as_uri())
    assert np.array_equal(shown(one), PICTURES[3:4])
    assert one[0].digest() == collect_stored(folder / "3 #é.png")[0].digest()
    both = collect_stored([folder.as_uri(), (folder / "3 #é.png").as_uri()])
    assert len(both) == 10


def test_what_fsspec_knows():
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    for i, data in enumerate(DATA):
        system.pipe(f"/zebras/{i}.png", data)
    try:
        assert np.array_equal(shown(collect_stored("memory://zebras")), PICTURES)
        [ref] = collect_stored("memory:///zebras/0.png")
        system.rm("/zebras/0.png")
        with pytest.raises(ImageError, match=r"cannot read 'memory:///zebras/0\.png'"):
            ref.load()
    finally:
        system.rm("/zebras", recursive=True)


@pytest.mark.parametrize("name", ["image", "bytes"])
def test_bytes_in_a_parquet_file(table, name):
    path = table(**{name: DATA})
    refs = collect_stored(path)
    assert [ref.name for ref in refs] == [f"{path}#{i}" for i in range(9)]
    assert np.array_equal(shown(refs[::-1]), PICTURES[::-1])
    assert np.array_equal(shown(collect_stored(path.as_uri())), PICTURES)
    named = table(**{name: DATA}, path=[f"{i}.png" for i in range(9)])
    assert [ref.name for ref in collect_stored(named)] == [f"{i}.png" for i in range(9)]
    assert np.array_equal(shown(collect_stored(named)), PICTURES)


def test_the_structs_of_hugging_face(table):
    cells = [{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(DATA)]
    refs = collect_stored(table(image=cells, label=list(range(9))))
    assert np.array_equal(shown(refs), PICTURES)
    assert refs[5].name == "5.png"


def test_paths_in_a_parquet_file(table, folder, tmp_path):
    paths = [f"{folder.name}/0 #é.png", str(folder / "1 #é.png"), (folder / "2 #é.png").as_uri()]
    refs = collect_stored(table(path=[*paths, None, "lost.png"]))
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
    refs = collect_stored(table(rows=4, bytes=DATA * 4))
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
    [ref] = collect_stored((folder / "3 #é.png").as_uri())
    [file] = collect_stored(folder / "3 #é.png")
    assert fact_of(ref) == fact_of(file)
    task = Task(small_explainer(steps=1, progress=False).attributor, 0, False)
    for refs in ([ref], [file]):
        [(_, part)] = explain_parts(task, chunks_of(refs, 16))
        assert part.facts == (fact_of(file),)


def test_draws_are_those_of_a_folder(folder):
    drawn = [
        [ref.digest() for ref in collect_stored(f, limit=3, seed=2)]
        for f in (folder, folder.as_uri())
    ]
    assert drawn[0] == drawn[1]
    with pytest.raises(ImageError, match="a limit of at least 1"):
        collect_stored(folder.as_uri(), limit=0)


def test_refused(table, tmp_path):
    with pytest.raises(ImageError, match=r"no column of images in .*; it has label, score"):
        collect_stored(table(label=[1], score=[0.5]))
    with pytest.raises(ImageError, match=r"'file:///nowhere/at/all' does not exist"):
        collect_stored("file:///nowhere/at/all")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="no images in"):
        collect_stored((tmp_path / "empty").as_uri())
    (tmp_path / "images.parquet").write_bytes(b"no table")
    with pytest.raises(ImageError, match="cannot list the images of"):
        collect_stored(tmp_path / "images.parquet")
    with pytest.raises((ImageError, ExtraError), match="nosuch"):
        collect_stored("nosuch://bucket/zebras")


def test_other_sources_are_taken_as_ever():
    assert [ref.name for ref in collect_stored(PICTURES[:2])] == ["array[0]", "array[1]"]
    assert not stored.is_stored([])
    assert not stored.is_stored(["s3://bucket/a.png", PICTURES[0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert stored.is_stored(("s3://bucket/a.png", "b.parquet"))
