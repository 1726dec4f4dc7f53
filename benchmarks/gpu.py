"""On a GPU: the numbers of the processor, how fast, and how busy the GPU is.

Attributions on the GPU must be those of the CPU within 1e-3 in float32 (TF32 is left as it is set);
mixed precision is compared too. Without a GPU it says so and ends.

    python benchmarks/gpu.py [--images 64]
"""

import argparse
import statistics
import sys
import threading
import time

import torch
from measuring import write
from resnet50 import resnet50

import vtcav
from vtcav.datasets import demo_photographs, textures

LAYERS = ["layer2", "layer3", "layer4"]


class Utilisation(threading.Thread):
    """Asks the GPU a few times a second how busy it is, where pynvml is installed."""

    def __init__(self):
        super().__init__(daemon=True)
        self.seen, self._over = [], threading.Event()

    def run(self):
        """Ask until told to stop."""
        while not self._over.wait(0.05):
            try:
                self.seen.append(torch.cuda.utilization())
            except (ModuleNotFoundError, RuntimeError) as error:
                print(f"no utilisation: {error}")
                return

    def stop(self):
        """Return the mean in percent, or None."""
        self._over.set()
        self.join()
        return round(statistics.mean(self.seen), 1) if self.seen else None


def explained(explainer, pictures):
    """Return attributions, and the seconds they took."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    table = explainer.explain_class(0, pictures).attributions
    torch.cuda.synchronize()
    return table["attribution"].to_numpy(), time.perf_counter() - start


def measured(explainer, pictures, expected, what):
    """Return a row of the table."""
    torch.cuda.reset_peak_memory_stats()
    _, first = explained(explainer, pictures)  # compiles, and sees what fits
    busy = Utilisation()
    busy.start()
    runs = [explained(explainer, pictures) for _ in range(3)]
    busy = busy.stop()
    seconds = statistics.median(run[1] for run in runs)
    found = runs[0][0][: len(expected)]
    return {
        "what": f"images a second on a GPU, 3 layers of ResNet-50's size, {what}",
        "value": round(len(pictures) / seconds, 1),
        "target": None,
        "seconds_the_first_time": round(first, 1),
        "largest_difference_to_cpu": float(abs(found - expected).max()),
        "utilisation_percent": busy,
        "peak_GB": round(torch.cuda.max_memory_allocated() / 1e9, 2),
    }


def main():
    """Compare and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64, help="default 64")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU that torch can use (torch.cuda.is_available() is false): nothing measured")
        return
    concepts = {name: textures.draw(name, 12, seed=0) for name in textures.NAMES}
    pictures = list(textures.draw("striped", arguments.images, seed=9))
    net, preprocess = resnet50(), vtcav.Preprocess(224)
    here = vtcav.Classifier(net, None, preprocess, device="cpu")
    there = vtcav.Classifier(net, None, preprocess, device="cuda")
    cpu = vtcav.VisualTCAV(here, LAYERS, 50, progress=False)
    cpu.fit(concepts, demo_photographs.negatives(0)[:40], null_cavs=0, bootstraps=0)
    expected, _ = explained(cpu, pictures[:1])
    rows = []
    for options in (
        *({"steps": 50, "precision": precision} for precision in (None, "bf16", "fp16")),
        {"steps": "adaptive"},
    ):
        explainer = vtcav.VisualTCAV(
            there, LAYERS, cavs=cpu.cavs, tolerance=0.01, progress=False, **options
        )
        what = ", ".join(f"{name}={value!r}" for name, value in options.items())
        rows.append(measured(explainer, pictures, expected, what))
        print(rows[-1], flush=True)
        write("gpu", rows, images=len(pictures))
    if rows[0]["largest_difference_to_cpu"] > 1e-3:
        sys.exit("the GPU's attributions differ from the CPU's by more than 1e-3")


if __name__ == "__main__":
    main()
