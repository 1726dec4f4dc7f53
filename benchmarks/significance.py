"""What significance adds to `explain_class`: time and memory, in one run.

A network of ResNet-50's size, layers of 28 x 28, 14 x 14 and 7 x 7 places, 6 concepts of 30
examples, 100 negatives; 100 null and 100 bootstrap CAVs of each concept against none. Concepts of
one size share their null CAVs; to count as many as the worst case needs, the concepts here have 30
to 35 examples, so that they share none. The two alternate; ratios are taken pair by pair.

    python benchmarks/significance.py [images] [steps] [repeats]
"""

import json
import platform
import resource
import statistics
import sys
import time
from pathlib import Path

import torch
from resnet50 import resnet50

import vtcav
from vtcav import demo, textures

LAYERS = ["layer2", "layer3", "layer4"]


def main(images=50, steps=50, repeats=3):
    """Time both and report."""
    model = vtcav.Classifier(resnet50(), None, vtcav.Preprocess(224), device="cpu")
    concepts = {name: textures.draw(name, 30 + k, seed=0) for k, name in enumerate(textures.NAMES)}
    negatives = demo.negatives(0)[:100]
    pictures = list(textures.draw("striped", images, seed=9))
    explainers = {}
    for name, count in (("without", 0), ("with", 100)):
        explainer = vtcav.VisualTCAV(model, LAYERS, steps or "adaptive", progress=False)
        start = time.perf_counter()
        explainer.fit(concepts, negatives, null_cavs=count, bootstraps=count)
        explainers[name] = explainer
        print(f"fit {name}: {time.perf_counter() - start:.1f} s", flush=True)
    for name in explainers:
        explainers[name].explain_class(0, pictures[:1])
    rows, memory = [], {}
    for _ in range(repeats):
        row = {}
        for name, explainer in explainers.items():
            start = time.perf_counter()
            explainer.explain_class(0, pictures)
            row[name] = time.perf_counter() - start
            memory.setdefault(name, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        rows.append(row)
        print(row, flush=True)
    ratios = [row["with"] / row["without"] for row in rows]
    results = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "vtcav": vtcav.__version__,
        "images": images,
        "steps": steps or "adaptive",
        "resampled_cavs": len(explainers["with"].cavs.layers["layer4"].resampled.v),
        "seconds": {k: round(statistics.median(row[k] for row in rows), 2) for k in rows[0]},
        "ratio": {
            "median": round(statistics.median(ratios), 3),
            "min": round(min(ratios), 3),
            "max": round(max(ratios), 3),
        },
        "peak_memory_mib": memory,
    }
    text = json.dumps(results, indent=1)
    print(text)
    (Path(__file__).parent / "significance.json").write_text(text + "\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
