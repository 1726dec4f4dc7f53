"""Saved corrections: tensors, layout and report changed behind right hashes, and damaged files."""

import json
import shutil
from unittest.mock import patch

import torch

import vtcav
from tests.fuzz.kinds.results import changed_result
from tests.fuzz.trial import Kind, Trial
from tests.helpers.literal_places import red_squares, square_network
from vtcav.explainer.correction.corrected_network import CorrectedNetwork


class Corrections(Kind):
    """Loaded, and run on a picture."""

    name = "correction"
    share = 0.3

    def __init__(self, folder):
        super().__init__(folder)
        red, noise = red_squares()
        self.model = vtcav.Classifier(square_network(), ["a", "b", "c"], vtcav.Preprocess(32))
        explainer = vtcav.VisualTCAV(self.model, ["1", "3"], 2, progress=False, placebos=0)
        explainer.fit({"red": red}, noise, null_cavs=0, bootstraps=0)
        images = {"a": red[:6], "b": noise[:6]}
        fixed = explainer.correct("red", "1", "present", images, anyway=True, attributions=True)
        self.good, self.place = folder / "good", folder / "correction"
        with patch("vtcav.results.figures.page.save_figure", lambda draw, path: path.touch()):
            fixed.save(self.good)

    def trial(self, random):
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.copytree(self.good, self.place, ignore=shutil.ignore_patterns("*.png", "*.csv"))
        manifest = self.place / "correction.json"
        data = json.loads(manifest.read_bytes())
        kept = sorted(path.name for path in self.place.iterdir() if path != manifest)
        data["files"] = {name: data["files"][name] for name in kept}
        what = changed_result(random, self.place, manifest, data)
        return Trial(what, self.use, (self.place.name,))

    def use(self):
        fixed = CorrectedNetwork.load(self.place, self.model)
        repr(fixed), repr(fixed.report), fixed.report.attributions
        z = fixed(torch.zeros(2, 3, 32, 32))
        assert z.shape == (2, 3)
        assert z.isfinite().all()
