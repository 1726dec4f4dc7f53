"""Two local workers of the Ray engine against one, one thread each.

A network of ResNet-50's size at one layer, on a Ray runtime that is started before the clock. Each
worker takes parts of 64 images. What counts is the wall time, so the machine must be idle and have
two processors or more.

    python benchmarks/ray_workers.py [images] [repeats]
"""

import os
import statistics
import sys
import time

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import numpy as np
import ray
import torch
from measuring import write
from resnet50 import resnet50

import vtcav
from vtcav.datasets import demo_photographs, textures

LAYERS = ["layer3"]


def main(images=256, repeats=2):
    """Measure and write."""
    torch.set_num_threads(1)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, address="local")
    model = vtcav.Classifier(resnet50(), None, vtcav.Preprocess(224), device="cpu")
    explainer = vtcav.VisualTCAV(model, LAYERS, 2, progress=False)
    concepts = {name: textures.draw(name, 8, seed=0) for name in textures.NAMES[:2]}
    explainer.fit(concepts, demo_photographs.negatives(0)[:20], null_cavs=0, bootstraps=0)
    pictures = textures.draw("striped", images, seed=9)
    values, times = {}, {1: [], 2: []}
    for _ in range(repeats):
        for workers in (1, 2):
            start = time.perf_counter()
            table = explainer.explain_class(
                0, pictures, engine="ray", ray_options={"workers": workers}
            ).attributions
            times[workers].append(time.perf_counter() - start)
            values[workers] = table["attribution"].to_numpy()
            print(f"{workers} workers: {times[workers][-1]:.1f} s", flush=True)
    ratio = statistics.median(a / b for a, b in zip(times[1], times[2], strict=True))
    row = {
        "what": f"one Ray worker's wall time over two's, {images} images",
        "value": round(ratio, 2),
        "target": "at least 1.6",
        "seconds": {k: round(statistics.median(v), 1) for k, v in times.items()},
        "largest_difference": float(np.abs(values[1] - values[2]).max()),
    }
    write("ray_workers", [row], images=images, layers=LAYERS)
    ray.shutdown()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
