"""Study files: YAML with other values, keys and structure, and damaged bytes."""

import yaml

from tests.fuzz.mutators import DEEP, mutated_bytes, mutated_json
from tests.fuzz.trial import Kind, Trial
from tests.helpers.small import pictures
from vtcav.images.decoding import Image
from vtcav.study import Study

_STUDY = {
    "model": {"name": "torchvision:resnet18", "weights": "random", "task": "classes"},
    "layers": ["layer4"],
    "concepts": {"striped": "concepts/striped", "dotted": {"examples": "concepts/dotted"}},
    "negatives": "negatives",
    "classes": {"zebra": "zebra"},
    "images": ["zebra/0.png"],
    "texts": {"model": "clip", "images": "zebra", "concepts": {"spotted": "a spotted thing"}},
    "limits": {"striped": {"max_attribution": 0.5}},
    "discover": {"images": "zebra", "k": 3},
    "options": {"steps": 50, "null_cavs": 20, "seed": 0, "limit": 20, "min_examples": 1},
    "peers": ["tcav"],
    "groups": "(\\d+)",
    "errors": {"images": "labels.csv", "pictures": 2},
    "correct": {"concepts": ["striped"], "images": "labels.csv", "when": "present", "rounds": 1},
    "versus": {"network": "torchvision:resnet34", "margin": 0.01},
    "diagnostics": {"resamples": 20, "other_negatives": "zebra"},
    "formats": ["csv"],
    "report": True,
    "output": "out",
}
_STRUCTURE = (
    "[" * 100_000, "{a: " * 5000, "&a [*a]", "*missing", "!!python/object:os.system {}", "- " * 999,
    "<<: *a", "? [a]\n: b", "a: b: c", "\t", "%YAML 9.9", "!!binary x", "|\n x", "'", '"\\ud800"',
    "0x" + "f" * 5000, "1" * 5000, "2026-99-99", ".inf", "~", "\x00", "\ufeff", "[{}, ]: ]",
)  # fmt: skip


class Studies(Kind):
    """Read and checked."""

    name = "study"

    def __init__(self, folder):
        super().__init__(folder)
        self.path = folder / "some.yaml"
        for name in ("concepts/striped", "concepts/dotted", "negatives", "zebra"):
            (folder / name).mkdir(parents=True)
            for i, pixels in enumerate(pictures(2)):
                Image.fromarray(pixels).save(folder / name / f"{i}.png")

        labels = [f"zebra/{i}.png,{'zebra' if i else 'horse'}" for i in range(2)]
        (folder / "labels.csv").write_text("\n".join(("image,label", *labels)) + "\n")

    def trial(self, random):
        some = random.sample(sorted(_STUDY), random.randrange(4, len(_STUDY)))
        needed = {"model", "concepts", "negatives", "classes", "output"}
        data = {key: value for key, value in _STUDY.items() if key in needed | set(some)}
        kind = random.randrange(3)
        if kind:
            data = mutated_json(random, data)
        text = yaml.safe_dump(data, sort_keys=False).replace(DEEP, "[" * 3000 + "]" * 3000)
        if kind == 2:
            at = random.randrange(len(text))
            text = text[:at] + random.choice(_STRUCTURE) + text[at:]
        data = text.encode("utf-8", "replace")
        self.path.write_bytes(data if kind else mutated_bytes(random, data))
        return Trial(("bytes", "values", "structure")[kind], self.use, (self.path.name,))

    def use(self):
        study = Study.load(self.path)
        study.to_yaml(), study.to_dict(), repr(study)
