"""What explaining a class, and learning, cost over the passes that they cannot do without.

A network of ResNet-50's size, 3 layers, 6 concepts, the paper's 50 steps; examples: 30 of each
concept and 100 negatives. The bare passes are written without vtcav, with the batches that it
uses: one forward of every image; for each layer the head's forward and backward at 51 points of
every image. They come twice: as PyTorch runs them by itself, and with the channels last in memory,
as vtcav does. The second is the stricter measure of what bookkeeping costs. With precision="auto",
whose measurement counts, the row names the layers computed in bf16. Nothing is erased: what that
adds is measured by erasure.py.

    python benchmarks/overhead.py [--images 2] [--repeats 2] [--full] [--device cuda]
"""

import argparse

import numpy as np
import torch
from measuring import in_turn, with_steady_memory, write
from PIL import Image
from resnet50 import resnet50

import vtcav
from vtcav.datasets import demo_photographs, textures

LAYERS = ["layer2", "layer3", "layer4"]
STEPS, IMAGES, MAPS = 50, 16, {"cpu": 32, "cuda": 256}


def bare_forward(net, x, memory_format):
    """Pass images through the network."""
    with torch.no_grad():
        for batch in x.split(IMAGES):
            net(batch.contiguous(memory_format=memory_format))


def bare_gradients(net, x, memory_format):
    """Pass images through the network, and all points of all layers forward and backward."""
    parts = dict(net.named_children())
    order = list(parts)
    heads = [torch.nn.Sequential(*(parts[n] for n in order[order.index(k) + 1 :])) for k in LAYERS]
    alphas = torch.linspace(0, 1, STEPS + 1, device=x.device)[:, None, None, None]
    for batch in x.split(IMAGES):
        maps = {}
        with torch.no_grad():
            y = batch.contiguous(memory_format=memory_format)
            for name, part in parts.items():
                y = part(y)
                if name in LAYERS:
                    maps[name] = y
        for layer, head in zip(LAYERS, heads, strict=True):
            points = torch.cat([F[None] * alphas for F in maps[layer]])
            for some in points.split(MAPS[x.device.type]):
                leaf = some.contiguous(memory_format=memory_format).requires_grad_()
                torch.autograd.grad(head(leaf)[:, 0].sum(), leaf)


def row(what, target, found):
    """Return a row of the table."""
    return {"what": what, **found, "target": target}


def options():
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2, help="to explain; default 2")
    parser.add_argument("--repeats", type=int, default=2, help="default 2")
    parser.add_argument("--examples", type=int, default=30, help="of a concept; default 30")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--full", action="store_true", help="50 images, which takes an hour")
    return parser.parse_args()


def main():
    """Measure and write."""
    arguments = options()
    images = 50 if arguments.full else arguments.images
    repeats, device = 1 if arguments.full else arguments.repeats, arguments.device
    net = resnet50().requires_grad_(False).to(device)
    preprocess = vtcav.Preprocess(224)
    model = vtcav.Classifier(net, None, preprocess, device=device)
    for layer in LAYERS:
        model.head(layer)  # checked once per process
    count = arguments.examples
    concepts = {name: textures.draw(name, count, seed=0) for name in textures.NAMES}
    negatives = list(demo_photographs.negatives(0)[: 10 * count // 3])
    arrays = [*(picture for array in concepts.values() for picture in array), *negatives]
    examples = torch.stack([preprocess(Image.fromarray(np.asarray(a))) for a in arrays]).to(device)
    pictures = list(textures.draw("striped", images, seed=9))
    x = torch.stack([preprocess(Image.fromarray(p)) for p in pictures]).to(device)
    explainer = vtcav.VisualTCAV(model, LAYERS, STEPS, fill=None, progress=False)

    def learn():
        explainer.fit(concepts, negatives, null_cavs=0, bootstraps=0)

    def explain():
        explainer.explain_class(0, pictures)

    def explain_auto():
        settings = {"cavs": explainer.cavs, "fill": None, "precision": "auto", "progress": False}
        glob = vtcav.VisualTCAV(model, LAYERS, STEPS, **settings).explain_class(0, pictures)
        taken.update(glob.provenance.settings["bf16_layers"])

    rows, taken = [], set()
    for kind, memory_format in (
        ("as PyTorch runs them", torch.contiguous_format),
        ("with channels last", torch.channels_last),
    ):
        what = f"learning 6 CAVs from {len(arrays)} examples, over one bare pass {kind}"
        found = in_turn(
            learn, lambda f=memory_format: bare_forward(net, examples, f), repeats, device
        )
        rows.append(row(what, "at most 1.2", found))
        what = f"explain_class of {images} images, over the bare passes {kind}"
        found = in_turn(explain, lambda f=memory_format: bare_gradients(net, x, f), repeats, device)
        rows.append(row(what, "at most 1.15", found))
    what = f"explain_class of {images} images, precision='auto', over the bare passes"
    plain = torch.contiguous_format
    found = in_turn(explain_auto, lambda: bare_gradients(net, x, plain), repeats, device)
    rows.append(row(what, "at most 0.5 with AMX", found) | {"bf16_layers": sorted(taken)})
    write("overhead", rows, device, images=images, layers=LAYERS, concepts=6, steps=STEPS)


if __name__ == "__main__":
    with_steady_memory()
    main()
