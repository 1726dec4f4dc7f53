"""Run folders: a run is begun again on what a crash or a stranger left of it."""

import contextlib
import io
import json
import shutil

import pandas as pd
import pyarrow as pa
import pyarrow.parquet

import vtcav
from tests.fuzz.mutators import json_bytes, mutated_bytes, mutated_json, mutated_table, table_bytes
from tests.fuzz.trial import Kind, Trial
from tests.helpers.small import concepts, negatives, pictures, small_model
from vtcav.files.hashing import file_hash, json_hash


class Runs(Kind):
    """The table has to be that of a run that nobody disturbed."""

    name = "run"
    share = 0.15

    def __init__(self, folder):
        super().__init__(folder)
        self.explainer = vtcav.VisualTCAV(small_model(), ["3"], 3, progress=False, fill=None)
        self.explainer.fit(concepts(), negatives(), null_cavs=5)
        self.images = pictures(70, seed=5)
        self.expected = self.made(folder / "good").attributions

    def made(self, run):
        return self.explainer.explain_class(0, self.images, run=run)

    def trial(self, random):
        run = self.folder / "some-run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(self.folder / "good", run)
        path = random.choice(sorted(run.iterdir()))
        kind = random.randrange(4)
        if kind == 0:
            path.unlink()
            if random.random() < 0.3:
                path.mkdir()
        elif kind == 1 or path.suffix not in (".json", ".parquet"):
            path.write_bytes(mutated_bytes(random, path.read_bytes()))
        else:
            _edit(random, run, path)
        edited = kind > 1 and path.suffix == ".parquet"
        return Trial(f"{path.name}, {kind}", lambda: self.use(run, edited), (run.name,))

    def use(self, run, edited):
        found = self.made(run)
        if edited:  # numbers behind right hashes are believed
            assert list(found.attributions) == list(self.expected)
            found.summary(), found.wide(), found.images
        else:
            pd.testing.assert_frame_equal(found.attributions, self.expected)


def _same_kinds(table, path):
    """A table as Parquet with a file's columns, if it has these: others are refused at once."""
    with contextlib.suppress(pa.ArrowException, KeyError):
        schema = pyarrow.parquet.read_schema(path).remove_metadata()
        if list(table) == schema.names:
            data = io.BytesIO()
            found = pa.Table.from_pandas(table, schema, preserve_index=False)
            pyarrow.parquet.write_table(found.replace_schema_metadata(), data)
            return data.getvalue()
    return table_bytes(table)


def _edit(random, run, path):
    """Change a file and make the hash of its part right."""
    record = path.with_suffix(".json")
    if path.suffix == ".parquet":
        number = path.stem.partition("-")[2]
        record = run / f"part-{number}.json"
        path.write_bytes(_same_kinds(mutated_table(random, pd.read_parquet(path)), path))
        name = "rows" if path.name.startswith("part") else "effects"
        data = json.loads(record.read_bytes()) | {name: file_hash(path)}
        data.pop("sha256")
        data["sha256"] = json_hash(data)
    else:
        data = json.loads(path.read_bytes())
        signed = data.pop("sha256", None)
        data = mutated_json(random, data)
        if signed and isinstance(data, dict):
            data["sha256"] = json_hash(data)
    record.write_bytes(json_bytes(data))
