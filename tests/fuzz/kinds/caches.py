"""Entries of the cache: changed, behind right hashes and keys, or no files at all."""

import os
import shutil

import numpy as np
import torch

import vtcav
from tests.fuzz.mutators import json_bytes, mutated_array, mutated_bytes, mutated_dict, mutated_json
from tests.fuzz.safetensors import packed, storable, unpacked
from tests.fuzz.trial import Kind, Trial
from tests.helpers.small import concepts, negatives, small_model
from vtcav.files.hashing import digest


class Caches(Kind):
    """Concepts are learned with the cache. Numbers of the right form are believed, no others."""

    name = "cache"
    share = 0.2

    def __init__(self, folder):
        super().__init__(folder)
        self.model = small_model()
        self.expected = self.learned(folder / "good").layers["3"].v

    def learned(self, cache):
        explainer = vtcav.VisualTCAV(self.model, ["3"], 3, progress=False, fill=None, cache=cache)
        return explainer.fit(concepts(), negatives(), null_cavs=5).cavs

    def trial(self, random):
        place = self.folder / "some-cache"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.folder / "good", place)
        path = random.choice(sorted(place.iterdir()))
        kind = random.randrange(5)
        if kind == 0:
            path.unlink()
            random.choice((os.mkfifo, os.mkdir, lambda p: p.symlink_to(p)))(path)
        elif kind == 1:
            path.write_bytes(mutated_bytes(random, path.read_bytes()))
        else:
            arrays, data = unpacked(path.read_bytes(), "vtcav-cache")
            if kind == 2:
                data = mutated_json(random, data)
            else:
                arrays = storable(mutated_dict(random, arrays, mutated_array))
                data["sha256"] = digest({k: torch.from_numpy(a.copy()) for k, a in arrays.items()})
            path.write_bytes(packed(arrays, {"vtcav-cache": json_bytes(data)}))
        return Trial(
            f"{path.name[:8]}, {kind}", lambda: self.use(place, kind), (place.name, "CAVs")
        )

    def use(self, place, kind):
        found = self.learned(place)
        for cavs in found.layers.values():
            for tensor in cavs.by_name().values():
                assert tensor.isfinite().all()
        found.save(self.folder / "bank")
        vtcav.CavBank.load(self.folder / "bank")
        if kind < 3:
            assert np.array_equal(found.layers["3"].v.numpy(), self.expected.numpy())
