"""Saved corrections whose arrays have other sizes, behind right hashes."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import vtcav
from tests.fuzz.kinds.corrections import Corrections
from vtcav.explainer.correction.corrected_network import CorrectedNetwork
from vtcav.files.hashing import file_hash, text_hash


@pytest.mark.parametrize("change", [lambda w: w[:, :0], lambda w: w[:0], lambda w: w[:, :-1]])
def test_a_saved_correction_of_other_sizes(change, tmp_path):
    made = Corrections(tmp_path)
    file, manifest = made.good / "correction.safetensors", made.good / "correction.json"
    tensors = load_file(file)
    sizes = {"w": change, "P": change} | dict.fromkeys(("offset", "low", "level"), lambda t: t)
    if not len(change(torch.ones(1, 4))):
        sizes = dict.fromkeys(sizes, lambda t: t[:0])
    save_file({n: sizes[n.split(".")[-1]](t).contiguous() for n, t in tensors.items()}, file)
    data = json.loads(manifest.read_text())
    data["files"][file.name] = file_hash(file)
    del data["sha256"]
    data["sha256"] = text_hash(json.dumps(data, ensure_ascii=False, allow_nan=False))
    manifest.write_text(json.dumps(data, ensure_ascii=False))
    with pytest.raises(vtcav.VtcavError, match=r"channels|correction"):
        CorrectedNetwork.load(made.good, made.model)(torch.zeros(1, 3, 32, 32))


def test_a_saved_correction_of_a_layer_that_is_not_there(tmp_path):
    made = Corrections(tmp_path)
    manifest = made.good / "correction.json"
    data = json.loads(manifest.read_text())
    data["report"]["layer"] = "x" * 300
    del data["sha256"]
    data["sha256"] = text_hash(json.dumps(data, ensure_ascii=False, allow_nan=False))
    manifest.write_text(json.dumps(data, ensure_ascii=False))
    with pytest.raises(vtcav.VtcavError, match="good"):
        CorrectedNetwork.load(made.good, made.model)
