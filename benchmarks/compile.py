"""What torch.compile saves: the passes of heads as they are, over those compiled.

Plain gradients, as the trapezoid rule takes them, and the mean gradients of the adaptive rule;
`vtcav.models.heads.compiled` traces and compiles both as for `compile="default"`.

    python benchmarks/compile.py [--repeats 5] [--device cuda] [--only "Lite0 _blocks.4" ...]
"""

import argparse
import os
import time

os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"  # for the time of compiling

import torch
from measuring import in_turn, write
from resnet50 import resnet50

import vtcav
from vtcav.method.integral.rescale_gradients import at_zero, mean_gradients
from vtcav.method.integral.rescale_intervals import edges_of, points_of
from vtcav.method.integral.trapezoid import weighted_gradients
from vtcav.models.heads.batch_size import BatchSize
from vtcav.models.heads.compiled import CompiledHead, Compiler

BATCH = {"cpu": 16, "cuda": 256}


def heads(device):
    """Yield what a head is of, the head, and feature maps for it."""
    nets = {
        "ResNet-50": (
            vtcav.Classifier(resnet50(), None, vtcav.Preprocess(224), device=device),
            ["layer2", "layer3"],
        ),
        "Lite0": (vtcav.load_model("demo", device=device), ["_blocks.4", "_blocks.10"]),
    }
    x = torch.rand(8, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    for name, (model, layers) in nets.items():
        maps, _ = model.activations_and_logits(x, layers)
        for layer in layers:
            yield f"{name} {layer}", model.head(layer), maps[layer]


def plain_passes(head, F, batch):
    """Return a batch of plain gradients as a piece of work."""
    N, P = len(F), batch // len(F)
    alpha, weight = torch.linspace(0, 1, P).expand(N, P), torch.full((N, P), 1 / P)
    classes = torch.zeros(N, 1, dtype=torch.long, device=F.device)
    return lambda: weighted_gradients(head, F, classes, alpha, weight, batch)


def mean_passes(head, F, batch):
    """Return a batch of mean gradients as a piece of work."""
    N, n = len(F), batch // len(F)
    edges, zero = edges_of(n), at_zero(head, F)
    image = torch.arange(N).repeat_interleave(n)
    places = points_of(image, edges[:-1].repeat(N), edges[1:].repeat(N))
    rows = [tensor.to(F.device) for tensor in places]
    classes = torch.zeros(N, 1, dtype=torch.long, device=F.device)
    return lambda: mean_gradients(head, F, classes, zero, *rows)[0]


def main():
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="default 5")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--only", nargs="+", help="heads to compile; default all four")
    arguments = parser.parse_args()
    device, batch = arguments.device, BATCH[arguments.device]
    if device == "cpu":
        torch.set_num_threads(1)
    rows = []
    for what, head, F in heads(device):
        if arguments.only and what not in arguments.only:
            continue
        compiled = CompiledHead(Compiler("default"), head, None, BatchSize(batch))
        for kind, passes in (("gradients", plain_passes), ("mean gradients", mean_passes)):
            as_it_is, once = passes(head, F, batch), passes(compiled, F, batch)
            start = time.perf_counter()
            found = once()
            seconds = time.perf_counter() - start
            difference = float((found - as_it_is()).norm() / found.norm())
            ratio = in_turn(as_it_is, once, arguments.repeats, device)
            rows.append(
                {
                    "what": f"{kind} as they are over compiled ones, {what} (compiled in "
                    f"{seconds:.0f} s, gradients differ by {difference:.0e})",
                    "target": None,
                    **ratio,
                }
            )
            print(rows[-1]["what"], ratio, flush=True)
    write("compile", rows, device, batch=batch)


if __name__ == "__main__":
    main()
