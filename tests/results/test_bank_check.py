"""Banks from files: what has the right checksum and cannot be right is refused by name."""

import json
from contextlib import suppress

import pytest
import torch
from safetensors import safe_open

import vtcav
from tests.helpers.small import small_explainer
from vtcav.errors import CavError
from vtcav.results.bank import file as bank_file

LAYER = "cav/{}/"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("bank") / "cavs.safetensors"
    small_explainer().cavs.save(path)
    with safe_open(path, "pt") as file:
        data = json.loads(file.metadata()["vtcav"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return tensors, data


def load(tmp_path, tensors, data):
    """Load a bank with a right checksum."""
    data = {name: value for name, value in data.items() if name not in ("format", "sha256")}
    path = tmp_path / "cavs.safetensors"
    bank_file.write(path, tensors, data)
    return vtcav.CavBank.load(path)


def first(tensors, ending):
    return next(name for name in sorted(tensors) if name.endswith(ending))


def test_what_was_saved_passes(saved, tmp_path):
    bank = load(tmp_path, *saved)
    assert list(bank.layers) == saved[1]["layers"]
    assert bank.names == tuple(concept["name"] for concept in saved[1]["concepts"])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("ending", ["/v", "/e_pos", "/resampled/v", "/resampled/e_neg"])
def test_numbers_that_are_not_finite(saved, tmp_path, ending, value):
    tensors = dict(saved[0])
    name = first(tensors, ending)
    tensors[name] = tensors[name].clone()
    tensors[name].view(-1)[-1] = value
    with pytest.raises(CavError, match=r"layer '.*': .*holds (NaN|infinite).*fit again"):
        load(tmp_path, tensors, saved[1])


CHANGES = {
    "short": ("/v", lambda t: t[:, :-1], "has shape|mean activations"),
    "few": ("/resampled/v", lambda t: t[:3], "has shape|resampled CAVs"),
    "flat": ("/e_pos", lambda t: t[0], "has shape"),
    "whole": ("/v", lambda t: t.long(), "expected floating point"),
    "image": ("gap/{}", lambda t: t[:-1], "mean activations"),
    "hashes": ("prints", lambda t: t[0], "perceptual hashes"),
    "places": ("place_pos", lambda t: t[:, 0], "has shape"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_tensors_that_do_not_fit(saved, tmp_path, change):
    ending, work, message = CHANGES[change]
    tensors, data = dict(saved[0]), saved[1]
    name = first(tensors, ending.format(data["layers"][0]))
    tensors[name] = work(tensors[name]).contiguous()
    with pytest.raises(CavError, match=message):
        load(tmp_path, tensors, data)


DATA = {
    "variant": {"settings": {"variant": "other"}},
    "filter without w": {"settings": {"variant": "filter"}},
    "contrast": {"contrast": [[0, 99]]},
    "no pairs": {"contrast": [1]},
    "names": {"concepts": 3},
    "text": {"sets": "text"},
    "nothing": {"resampling": None},
}


@pytest.mark.parametrize("change", DATA)
def test_descriptions_that_do_not_fit(saved, tmp_path, change):
    with pytest.raises(CavError, match=r"cavs\.safetensors' (cannot be used|are incomplete)"):
        load(tmp_path, saved[0], saved[1] | DATA[change])


def test_null_cavs_beyond_those_there_are(saved, tmp_path):
    resampling = json.loads(json.dumps(saved[1]["resampling"]))
    resampling["null"] = [[0, 10_000]] * len(resampling["null"])
    with pytest.raises(CavError, match="expected 10000 resampled CAVs or more"):
        load(tmp_path, saved[0], saved[1] | {"resampling": resampling})


def test_a_bank_of_other_software_ends_in_no_other_error(saved, tmp_path):
    tensors, data = saved
    generator = torch.Generator().manual_seed(0)
    for name in sorted(tensors):
        for replaced in (torch.zeros(0), torch.randn(2, 2, generator=generator), None):
            given = {k: t for k, t in tensors.items() if k != name}
            if replaced is not None:
                given[name] = replaced
            with suppress(CavError):
                load(tmp_path, given, data)


@pytest.mark.parametrize("where", ["name", "digest", "untested"])
def test_half_letters_that_no_table_can_hold(saved, tmp_path, where):
    data = json.loads(json.dumps(saved[1]))
    if where == "name":
        data["concepts"][0]["name"] = "\ud800"
    elif where == "untested":
        data["resampling"]["untested"] = ["\ud800"] * len(data["concepts"])
    else:
        data["sets"][0]["digests"][0] = "\ud800"
    with pytest.raises(CavError, match=f"{where}.*surrogates not allowed"):
        load(tmp_path, saved[0], data)
