"""What a local explanation costs over the passes it cannot do without, in one run.

280 examples (6 concepts of 30 and 100 negatives), 3 layers, 3 classes, EfficientNet-Lite0, the
paper's 50 steps. The bare passes are: one forward of every example to the deepest layer, one whole
forward of the image, and for each layer the head's forward and one backward per class at the 51
points, in the same batches, written without vtcav's bookkeeping. They alternate with the
explanation; ratios are taken pair by pair.

    python benchmarks/local_explanation.py [repeats]
"""

import json
import platform
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import vtcav
from vtcav.datasets import demo_photographs, textures

LAYERS = ["_blocks.10", "_blocks.13", "_bn1"]
STEPS, CLASSES, BATCH = 50, 3, 16


def bare_features(module, x):
    """Pass images through the network up to its last batch norm."""
    x = module._swish(module._bn0(module._conv_stem(x)))
    for block in module._blocks:
        x = block(x)
    return module._bn1(module._conv_head(x))


def bare_head(module, layer, maps):
    """Run what follows a layer."""
    if layer.startswith("_blocks"):
        for block in module._blocks[int(layer.split(".")[1]) + 1 :]:
            maps = block(maps)
        maps = module._bn1(module._conv_head(maps))
    return module._fc(module._avg_pooling(module._swish(maps)).flatten(1))


def bare_learning(module, examples):
    """Pass all examples through the network once."""
    with torch.no_grad():
        for batch in examples.split(BATCH):
            bare_features(module, batch)


def bare_explaining(module, image, shapes):
    """Differentiate every class at every point of every layer."""
    with torch.no_grad():
        module(image)
    for layer in LAYERS:
        F = torch.rand(1, *shapes[layer])
        for alpha in torch.linspace(0, 1, STEPS + 1).split(BATCH):
            maps = (F * alpha[:, None, None, None]).requires_grad_()
            z = bare_head(module, layer, maps)
            for t in range(CLASSES):
                torch.autograd.grad(z[:, t].sum(), maps, retain_graph=t < CLASSES - 1)


def timed(work):
    """Return the seconds that `work` takes, and what it returns."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def main(repeats=5):
    """Time the passes and the explanation in turn, and report."""
    model = vtcav.load_model("demo", device="cpu")
    module = model.module.requires_grad_(False)
    shapes = {layer.name: layer.shape for layer in model.layers()}
    concepts = {name: textures.draw(name, 30, seed=0) for name in textures.NAMES}
    negatives = demo_photographs.negatives(0)[:100]
    picture = demo_photographs.photograph("chelsea")
    arrays = np.concatenate([*concepts.values(), negatives_224(negatives)])
    examples = torch.stack([model.preprocess(Image.fromarray(array)) for array in arrays])
    image = model.preprocess(picture)[None]
    for layer in LAYERS:
        model.head(layer)  # checked once per process, not per explanation
    explainer = vtcav.VisualTCAV(model, LAYERS, STEPS, batch_size=BATCH, fill=None, progress=False)
    rows = []
    for repeat in range(repeats + 1):
        row = {
            "bare_learning": timed(lambda: bare_learning(module, examples))[0],
            "fit": timed(lambda: explainer.fit(concepts, negatives))[0],
            "bare_explaining": timed(lambda: bare_explaining(module, image, shapes))[0],
            "explain": timed(lambda: explainer.explain(picture, classes=CLASSES))[0],
        }
        adaptive = vtcav.VisualTCAV(
            model, LAYERS, cavs=explainer.cavs, batch_size=BATCH, fill=None, progress=False
        )
        row["explain_adaptive"], local = timed(
            lambda a=adaptive: a.explain(picture, classes=CLASSES)
        )
        if repeat:  # the first warms up
            rows.append(row)
    report(rows, local)


def negatives_224(negatives):
    """Return the negatives at the size of the drawings, so that one array holds all."""
    return np.stack([np.asarray(Image.fromarray(n).resize((224, 224))) for n in negatives])


def report(rows, local):
    """Print the medians and write them beside this file."""
    seconds = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    ratios = {
        "fit": [row["fit"] / row["bare_learning"] for row in rows],
        "explain": [row["explain"] / row["bare_explaining"] for row in rows],
        "together": [
            (row["fit"] + row["explain"]) / (row["bare_learning"] + row["bare_explaining"])
            for row in rows
        ],
    }
    results = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "vtcav": vtcav.__version__,
        "repeats": len(rows),
        "seconds": {key: round(value, 3) for key, value in seconds.items()},
        "ratio_to_bare_passes": {
            key: {
                "median": round(statistics.median(values), 3),
                "min": round(min(values), 3),
                "max": round(max(values), 3),
            }
            for key, values in ratios.items()
        },
        "adaptive_evaluations": {
            str(layer): int(rows["evaluations"].iloc[0])
            for layer, rows in local.attributions.groupby("layer", sort=False)
        },
    }
    text = json.dumps(results, indent=1)
    print(text)
    (Path(__file__).parent / "local_explanation.json").write_text(text + "\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
