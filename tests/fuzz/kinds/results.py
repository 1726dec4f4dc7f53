"""Saved results: manifests, tables and arrays changed behind right hashes, and damaged files."""

import json
import shutil
from unittest.mock import patch

import numpy as np
import pandas as pd

import vtcav
from tests.fuzz.mutators import (
    json_bytes,
    mutated_array,
    mutated_bytes,
    mutated_dict,
    mutated_json,
    mutated_table,
    table_bytes,
)
from tests.fuzz.safetensors import packed, storable, unpacked
from tests.fuzz.trial import Kind, Trial
from tests.helpers.small import concepts, negatives, pictures, small_model
from vtcav.diagnostics.result import Diagnostics
from vtcav.files.hashing import file_hash, text_hash
from vtcav.report import write_report
from vtcav.results.erasure import Erasure
from vtcav.results.error_analysis import ErrorAnalysis
from vtcav.results.explanation import GlobalExplanation, LocalExplanation

_DRAWN = 0.02  # of what is loaded: figures and pages take long


class Results(Kind):
    """Loaded, and shown in every way."""

    name = "result"
    share = 0.2
    needs = ("sklearn",)

    def __init__(self, folder):
        super().__init__(folder)
        # figures take long, and are never read again
        with patch("vtcav.results.figures.page.save_figure", lambda draw, path: path.touch()):
            for path, result in _made().items():
                result.save(folder / "good" / path)
        self.good = sorted((folder / "good").iterdir())

    def trial(self, random):
        good = random.choice(self.good)
        place = self.folder / good.name
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(good, place, ignore=shutil.ignore_patterns("*.png", "*.csv"))
        manifest = place / f"{good.name}.json"
        data = json.loads(manifest.read_bytes())
        kept = sorted(path.name for path in place.iterdir() if path != manifest)
        data["files"] = {name: data["files"][name] for name in kept}
        what = changed_result(random, place, manifest, data)
        drawn = random.random() < _DRAWN
        return Trial(what, lambda: self.use(place, drawn), (place.name,))

    def use(self, place, drawn):
        result = _CLASSES[place.name].load(place)
        repr(result), result._repr_html_() if hasattr(result, "_repr_html_") else None
        for name in ("attributions", "effects", "predictions", "images", "table", "resampled"):
            getattr(result, name, None)
        for name in ("summary", "wide", "to_json", "sentences", "verdicts", "findings"):
            shown = getattr(result, name, None)
            shown() if callable(shown) else None
        if isinstance(result, LocalExplanation | GlobalExplanation):
            assert np.isfinite(result.attributions["attribution"]).all()
        if isinstance(result, LocalExplanation):
            for layer in result.layers:
                for concept in result.concepts:
                    result.concept_map(layer, concept)
        if drawn:
            result.plot()
            if isinstance(result, LocalExplanation | GlobalExplanation):
                write_report(place, self.folder / "report.html")


def changed_result(random, place, manifest, data):
    """Change one file of a result and make the hashes right, but for damaged bytes."""
    files = [manifest.name, *data["files"]]
    name = random.choice(files)
    path = place / name
    if random.random() < 0.2:
        path.write_bytes(mutated_bytes(random, path.read_bytes()))
        if name != manifest.name and random.random() < 0.8:
            data["files"][name] = file_hash(path)
            _write(manifest, data)
        return f"bytes of {name}"
    if name == manifest.name:
        data = mutated_json(random, data)
    elif path.suffix == ".npz":
        with np.load(path) as arrays:
            changed = mutated_dict(random, dict(arrays), mutated_array)
        np.savez(path, **changed)
    elif path.suffix == ".safetensors":
        tensors, _ = unpacked(path.read_bytes(), "format")
        path.write_bytes(packed(storable(mutated_dict(random, tensors, mutated_array))))
    else:
        path.write_bytes(table_bytes(mutated_table(random, pd.read_parquet(path))))
    if isinstance(data, dict) and isinstance(data.get("files"), dict) and name in data["files"]:
        data["files"][name] = file_hash(path)
    _write(manifest, data)
    return f"content of {name}"


def _write(manifest, data):
    if isinstance(data, dict):
        data.pop("sha256", None)
        try:
            text = json.dumps(data, ensure_ascii=False, allow_nan=False)
            data["sha256"] = text_hash(text)
        except ValueError:
            pass
    manifest.write_bytes(json_bytes(data))


def _made():
    model = small_model()
    explainer = vtcav.VisualTCAV(model, ["1", "3"], 3, progress=False)
    explainer.fit(concepts(), negatives(), null_cavs=20, bootstraps=5)
    some = pictures(12, seed=5)
    return {
        "local": explainer.explain(some[0], classes=2),
        "global": explainer.explain_class(0, some[:6]),
        "ranking": explainer.rank(some, "bright", pictures=4),
        "errors": explainer.errors(some, [0] * 6 + [1] * 6, pictures=2),
        "erasure": explainer.erase(some[0], (1, 1, 9, 9)),
        "diagnostics": explainer.diagnostics(),
        "versus": vtcav.versus(explainer, explainer, {"cat": some[:6]}),
        "discovery": explainer.discover(pictures(30, seed=9), k=3).attributed(),
    }


_CLASSES = {
    "local": LocalExplanation,
    "global": GlobalExplanation,
    "ranking": vtcav.Ranking,
    "errors": ErrorAnalysis,
    "erasure": Erasure,
    "diagnostics": Diagnostics,
    "versus": vtcav.Versus,
    "discovery": vtcav.Discovery,
}
