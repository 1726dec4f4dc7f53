"""What torch.compile would save: heads traced and compiled, over heads as they are.

The network after a layer is traced to a graph of its operations (hooks and skipped modules leave
no trace in it), and the graph compiled by Inductor for batches of one size, forward and backward.

    python benchmarks/compile.py [repeats]
"""

import os
import sys
import time

os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"  # for the time of compiling

import torch
from measuring import in_turn, write
from resnet50 import resnet50
from torch.fx.experimental.proxy_tensor import make_fx

import vtcav

BATCH = 16


def heads():
    """Yield what a head is of, the head, and feature maps for it."""
    nets = {
        "ResNet-50": (
            vtcav.Classifier(resnet50(), None, vtcav.Preprocess(224)),
            ["layer2", "layer3"],
        ),
        "EfficientNet-Lite0": (vtcav.load_model("demo", device="cpu"), ["_blocks.4", "_blocks.10"]),
    }
    x = torch.rand(BATCH, 3, 224, 224)
    for name, (model, layers) in nets.items():
        maps, _ = model.activations_and_logits(x, layers)
        for layer in layers:
            yield f"{name} {layer}", model.head(layer), maps[layer]


def passes(head, F):
    """Return a forward and a backward pass as a piece of work."""

    def work():
        maps = F.detach().clone().requires_grad_()
        return torch.autograd.grad(head(maps)[:, 0].sum(), maps)[0]

    return work


def main(repeats=5):
    """Measure and write."""
    torch.set_num_threads(1)
    rows = []
    for what, head, F in heads():
        start = time.perf_counter()
        with torch.no_grad():
            graph = make_fx(head)(F)
        graph.requires_grad_(False)  # else gradients of all weights are compiled, too
        compiled = torch.compile(graph, dynamic=False)
        ours, theirs = passes(head, F), passes(compiled, F)
        difference = float((ours() - theirs()).norm() / ours().norm())
        seconds = time.perf_counter() - start
        found = in_turn(ours, theirs, repeats)
        rows.append(
            {
                "what": f"passes as they are over compiled ones, {what} "
                f"(compiled in {seconds:.0f} s, gradients differ by {difference:.0e})",
                "value": found["cpu"],
                "target": None,
                **found,
            }
        )
        print(rows[-1]["what"], found, flush=True)
    write("compile", rows, batch=BATCH)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
