"""Banks of CAVs: tensors, header and bytes changed behind a right hash."""

import numpy as np

import vtcav
from tests.fuzz.mutators import json_bytes, mutated_array, mutated_bytes, mutated_dict, mutated_json
from tests.fuzz.safetensors import packed, storable, unpacked
from tests.fuzz.trial import Kind, Trial
from tests.helpers.small import concepts, negatives, pictures, small_model
from vtcav.files.hashing import digest


class Banks(Kind):
    """Loaded, and used to explain a picture."""

    name = "bank"

    def __init__(self, folder):
        super().__init__(folder)
        self.path = folder / "some.safetensors"
        self.model = small_model()
        explainer = vtcav.VisualTCAV(self.model, ["1", "3"], 3, progress=False)
        explainer.fit(concepts(), negatives(), null_cavs=20, bootstraps=5).cavs.save(self.path)
        self.bytes = self.path.read_bytes()
        self.tensors, self.data = unpacked(self.bytes, "vtcav")
        self.picture = pictures(1, seed=5)[0]

    def trial(self, random):
        kind = random.randrange(5)
        if kind == 0:
            self.path.write_bytes(mutated_bytes(random, self.bytes))
            return Trial("bytes", self.use, (self.path.name, "CAVs"))
        tensors, data = self.tensors, self.data
        if kind < 3:
            tensors = storable(mutated_dict(random, tensors, mutated_array))
        if kind > 1:
            data = mutated_json(random, data)
        if isinstance(data, dict):
            data["sha256"] = digest({name: _Array(array) for name, array in tensors.items()})
        self.path.write_bytes(packed(tensors, {"vtcav": json_bytes(data)}))
        what = ("", "tensors", "tensors and header", "header", "header")[kind]
        return Trial(what, self.use, (self.path.name, "CAVs", "concept", "layer"))

    def use(self):
        bank = vtcav.CavBank.load(self.path)
        repr(bank), bank.table, bank._repr_html_()
        explainer = vtcav.VisualTCAV(self.model, list(bank.layers), 3, progress=False, cavs=bank)
        found = explainer.explain(self.picture, classes=1).attributions
        assert np.isfinite(found["attribution"]).all()
        p = found["p_value"].dropna()
        assert ((p > 0) & (p <= 1)).all()
        explainer.diagnostics()


class _Array:
    """An array with what `digest` asks of tensors."""

    def __init__(self, array):
        self.array = array

    def numpy(self):
        return self.array
