"""What ONNX Runtime and folded batch norms save: forward passes, learning, explaining.

EfficientNet-Lite0 (the demo's) and a network of ResNet-50's size with random weights. Every row is
a ratio of processor times, the two pieces of work in turn; exporting the network is told apart.

    python benchmarks/runtimes.py [--examples 10] [--repeats 2] [--networks lite0,resnet50]
"""

import argparse
import time

import numpy as np
import torch
from measuring import in_turn, with_steady_memory, write
from PIL import Image
from resnet50 import resnet50

import vtcav
from vtcav.datasets import demo_photographs, textures

LAYERS = {"lite0": None, "resnet50": ["layer2", "layer3", "layer4"]}
RUNTIMES = {"PyTorch": "torch", "ONNX Runtime": "onnxruntime"}
IMAGES = 16


def network(name):
    """Return a network and its preprocessing."""
    if name == "lite0":
        model = vtcav.load_model("demo")
        return model.module, model.preprocess
    return resnet50().requires_grad_(False), vtcav.Preprocess(224)


def rows_of(name, examples, repeats):
    """Yield the rows of a network."""
    net, preprocess = network(name)
    concepts = {key: textures.draw(key, examples, seed=0) for key in textures.NAMES}
    negatives = list(demo_photographs.negatives(0)[: 10 * examples // 3])
    arrays = [*(picture for array in concepts.values() for picture in array), *negatives]
    x = torch.stack([preprocess(Image.fromarray(np.asarray(a))) for a in arrays])
    pictures = list(demo_photographs.negatives(1)[:4])

    def bare():
        with torch.no_grad():
            for batch in x.split(IMAGES):
                net(batch)

    explainers = {}
    for title, runtime in RUNTIMES.items():
        model = vtcav.Classifier(net, None, preprocess, runtime=runtime)
        explainer = vtcav.VisualTCAV(model, LAYERS[name], progress=False)
        explainers[title] = explainer
        before = time.process_time()
        model.activations_and_logits(x[:IMAGES], explainer.layers)
        print(name, title, "first pass", round(time.process_time() - before, 2), "s", flush=True)

        def passes(model=model, layers=explainer.layers):
            for batch in x.split(IMAGES):
                model.activations_and_logits(batch, layers)

        def learn(explainer=explainer):
            explainer.fit(concepts, negatives, null_cavs=0, bootstraps=0)

        what = f"{name}: forward passes in {title}, over bare ones as PyTorch runs them"
        yield {"what": what, **in_turn(passes, bare, repeats), "target": None}
        what = f"{name}: learning 6 CAVs from {len(arrays)} examples in {title}, over one bare pass"
        yield {"what": what, **in_turn(learn, bare, repeats), "target": None}
    for what, work in (
        ("a local explanation with erasure", lambda e: e.explain(pictures[0], classes=3)),
        ("explain_class of 4 images with erasure", lambda e: e.explain_class(0, pictures)),
    ):
        fast, plain = (
            lambda work=work, e=explainers[title]: work(e) for title in ("ONNX Runtime", "PyTorch")
        )
        found = in_turn(fast, plain, repeats)
        yield {"what": f"{name}: {what}, ONNX Runtime over PyTorch", **found, "target": None}


def main():
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=10, help="of a concept; default 10")
    parser.add_argument("--repeats", type=int, default=2, help="default 2")
    parser.add_argument("--networks", default="lite0,resnet50")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.networks.split(","):
        for row in rows_of(name, arguments.examples, arguments.repeats):
            print(row["what"], row["value"], row["cpu_range"], flush=True)
            rows.append(row)
    write("runtimes", rows)


if __name__ == "__main__":
    with_steady_memory()
    main()
