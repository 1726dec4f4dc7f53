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
from vtcav import demo, textures

LAYERS = ["layer2", "layer3", "layer4"]


class Utilisation(threading.Thread):
    """Asks the GPU a few times a second how busy it is, where pynvml is installed."""

    def __init__(self):
        super().__init__(daemon=True)
        self.seen, self._over = [], threading.Event()

    def run(self):
        """Ask until told to stop."""
        while not self._over.wait(0.2):
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


def main():
    """Compare and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=64, help="default 64")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU that torch can use (torch.cuda.is_available() is false): nothing measured")
        return
    concepts = {name: textures.draw(name, 12, seed=0) for name in textures.NAMES}
    negatives = demo.negatives(0)[:40]
    pictures = list(textures.draw("striped", arguments.images, seed=9))
    net, preprocess = resnet50(), vtcav.Preprocess(224)
    here = vtcav.Classifier(net, None, preprocess, device="cpu")
    there = vtcav.Classifier(net, None, preprocess, device="cuda")
    cpu = vtcav.VisualTCAV(here, LAYERS, 10, progress=False).fit(
        concepts, negatives, null_cavs=0, bootstraps=0
    )
    expected, slow = explained(cpu, pictures[:2])
    rows, failed = [], False
    for precision in (None, "bf16", "fp16"):
        exact = vtcav.VisualTCAV(
            there, LAYERS, 10, cavs=cpu.cavs, precision=precision, tolerance=0.5, progress=False
        )
        found, _ = explained(exact, pictures[:2])
        gap = float(abs(found - expected).max())
        failed |= precision is None and gap > 1e-3
        whole = vtcav.VisualTCAV(
            there, LAYERS, 50, cavs=cpu.cavs, precision=precision, tolerance=0.5, progress=False
        )
        whole.explain_class(0, pictures[:16])
        busy = Utilisation()
        busy.start()
        _, seconds = explained(whole, pictures)
        rows.append(
            {
                "what": f"GPU, precision={precision}: images a second, 3 layers of 51 points",
                "value": round(len(pictures) / seconds, 2),
                "target": None,
                "largest_difference_to_cpu": gap,
                "utilisation_percent": busy.stop(),
                "peak_GB": round(torch.cuda.max_memory_allocated() / 1e9, 2),
            }
        )
        print(rows[-1], flush=True)
    write("gpu", rows, images=len(pictures), cpu_seconds_of_2_images_of_11_points=round(slow, 1))
    if failed:
        sys.exit("the GPU's attributions differ from the CPU's by more than 1e-3")


if __name__ == "__main__":
    main()
