"""What significance adds to `explain_class`: time and memory, in one run.

A network of ResNet-50's size, layers of 28 x 28, 14 x 14 and 7 x 7 places, 6 concepts of 30
examples, 100 negatives; 100 null and 100 bootstrap CAVs of each concept against none. Concepts of
one size share their null CAVs; to count as many as the worst case needs, the concepts here have 30
to 35 examples, so that they share none. The two alternate, and which comes first alternates too;
ratios are taken pair by pair, of wall time and of the processor time of all threads, which other
work on the machine disturbs less.

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
from vtcav.datasets import demo_photographs, textures

LAYERS = ["layer2", "layer3", "layer4"]


def timed(explainer, pictures, memory, name):
    """Return seconds of wall time and of processor time, of all threads."""
    wall, cpu = time.perf_counter(), time.process_time()
    explainer.explain_class(0, pictures)
    found = time.perf_counter() - wall, time.process_time() - cpu
    memory.setdefault(name, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    return found


def report(rows, i):
    """Return median seconds of both and their ratios."""
    ratios = [row["with"][i] / row["without"][i] for row in rows]
    return {
        "seconds": {k: round(statistics.median(row[k][i] for row in rows), 2) for k in rows[0]},
        "ratio": {
            "median": round(statistics.median(ratios), 3),
            "min": round(min(ratios), 3),
            "max": round(max(ratios), 3),
        },
    }


def main(images=50, steps=50, repeats=3):
    """Time both and report."""
    model = vtcav.Classifier(resnet50(), None, vtcav.Preprocess(224), device="cpu")
    concepts = {name: textures.draw(name, 30 + k, seed=0) for k, name in enumerate(textures.NAMES)}
    negatives = demo_photographs.negatives(0)[:100]
    pictures = list(textures.draw("striped", images, seed=9))
    explainers = {}
    for name, count in (("without", 0), ("with", 100)):
        explainer = vtcav.VisualTCAV(model, LAYERS, steps or "adaptive", fill=None, progress=False)
        start = time.perf_counter()
        explainer.fit(concepts, negatives, null_cavs=count, bootstraps=count)
        explainers[name] = explainer
        print(f"fit {name}: {time.perf_counter() - start:.1f} s", flush=True)
    for name in explainers:
        explainers[name].explain_class(0, pictures[:1])
    rows, memory = [], {}
    for k in range(repeats):
        order = list(explainers.items())[:: -1 if k % 2 else 1]
        row = {name: timed(explainer, pictures, memory, name) for name, explainer in order}
        rows.append(row)
        wall, cpu = (row["with"][i] / row["without"][i] for i in (0, 1))
        print(f"pair {k + 1} of {repeats}: wall {wall:.3f}, processor {cpu:.3f}", flush=True)
    results = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "vtcav": vtcav.__version__,
        "images": images,
        "steps": steps or "adaptive",
        "resampled_cavs": len(explainers["with"].cavs.layers["layer4"].resampled.v),
        "wall": report(rows, 0),
        "processor": report(rows, 1),
        "peak_memory_mib": memory,
    }
    text = json.dumps(results, indent=1)
    print(text)
    (Path(__file__).parent / "significance.json").write_text(text + "\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
