"""How long a feature map takes in passes of several sizes, with the channels first and last.

Measures the constants of `vtcav.models.memory` and `channels_last`: the milliseconds per
map of a forward and a backward pass through heads of EfficientNet-Lite0, and per image of a forward
pass of the whole network, as in learning. It is processor time, and wall time on a GPU.

    python benchmarks/batch_sizes.py [--device cuda] [--layers _blocks.2 ...] [--repeats 3]
"""

import argparse
import statistics
from dataclasses import replace

import torch
from measuring import timed, write

import vtcav
from vtcav.models.heads.gradient import gradient
from vtcav.models.heads.resumed import ModuleHead

SIZES = {"cpu": (8, 16, 32, 64), "cuda": (16, 64, 128, 256, 512)}


def main():
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    layers = ["_blocks.2", "_blocks.4", "_blocks.10", "_blocks.13"]
    parser.add_argument("--layers", nargs="+", default=layers)
    parser.add_argument("--repeats", type=int, default=3, help="of which the median counts")
    options = parser.parse_args()
    model = vtcav.load_model("demo", device=options.device)
    images = torch.randn(max(SIZES[options.device]), 3, 224, 224, device=options.device)
    rows = []
    for layer in options.layers:
        F, head = model.activations(images, [layer])[layer], model.head(layer)
        for last in (False, True):
            own = replace(head, channels_last=last)
            rows += measured(
                f"{layer}, channels {'last' if last else 'first'}", F, own, options.repeats
            )
    rows += measured("the network forward", images, model.logits, options.repeats)
    write("batch_sizes", rows, options.device, layers=options.layers)


def measured(what, inputs, run, repeats):
    """Return a row for each size of a pass."""
    device = inputs.device.type

    def work(part):
        if not isinstance(run, ModuleHead):
            return run(part)
        part = part.detach().clone().requires_grad_()
        return gradient(run(part)[:, 0], part)

    rows = []
    for size in SIZES[device]:
        parts = torch.split(inputs, size)

        def all_parts(parts=parts):
            for part in parts:
                work(part)

        all_parts()
        seconds = [timed(all_parts)[1 if device == "cpu" else 0] for _ in range(repeats)]
        value = round(1000 * statistics.median(seconds) / len(inputs), 2)
        rows.append({"what": f"ms per map of {what}, {size} per pass", "value": value})
    return rows


if __name__ == "__main__":
    main()
