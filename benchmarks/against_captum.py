"""The same integral with Captum's LayerIntegratedGradients: time by depth of the layer, values.

Captum runs the whole network at every point, and its baseline is an image. To make it integrate
from zero feature maps, a gate after the layer (in the copy that Captum runs, and at no cost) gives
zeros for a black image. Its trapezoid rule takes the same 51 points and divides by 51 where the
paper divides by 50 steps; its values are multiplied by 51/50.

    python benchmarks/against_captum.py [--images 1] [--repeats 2] [--device cuda] [--layers ...]
"""

import argparse

import torch
from captum.attr import LayerIntegratedGradients
from measuring import in_turn, with_steady_memory, write
from PIL import Image
from resnet50 import resnet50
from torch import nn

import vtcav
from vtcav.datasets import textures
from vtcav.method.integral.trapezoid import integrate, trapezoid

LAYERS = ["stem", "layer1", "layer2", "layer3", "layer4"]
STEPS, CLASS, BATCH = 50, 0, {"cpu": 17, "cuda": 51}


class Gated(nn.Module):
    """The network, with zeros for the layer's output where the image is black."""

    def __init__(self, net, layer):
        super().__init__()
        parts = dict(net.named_children())
        at = list(parts).index(layer) + 1
        self.below, self.above = (
            nn.Sequential(*list(parts.values())[:at]),
            nn.Sequential(*list(parts.values())[at:]),
        )
        self.gate = nn.Identity()

    def forward(self, x):
        """Return the logits."""
        lit = (x.flatten(1).abs().amax(1) > 0).float()[:, None, None, None]
        return self.above(self.gate(self.below(x) * lit))


def main():
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1, help="default 1")
    parser.add_argument("--repeats", type=int, default=2, help="default 2")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--layers", nargs="+", default=LAYERS, help=f"default {LAYERS}")
    arguments = parser.parse_args()
    device, batch = arguments.device, BATCH[arguments.device]
    net = resnet50().requires_grad_(False).to(device)
    preprocess = vtcav.Preprocess(224, mean=0.5, std=0.5)
    model = vtcav.Classifier(net, None, preprocess, device=device)
    pictures = textures.draw("striped", arguments.images, seed=9)
    x = torch.stack([preprocess(Image.fromarray(p)) for p in pictures]).to(device)
    alpha, weight = trapezoid(STEPS)
    classes = torch.full((len(x), 1), CLASS, device=device)
    rows = []
    for layer in arguments.layers:
        gated, head, found = Gated(net, layer).eval(), model.head(layer), {}
        method = LayerIntegratedGradients(gated, gated.gate)

        def captum(method=method, found=found):
            found["captum"] = method.attribute(
                x,
                torch.zeros_like(x),
                target=CLASS,
                n_steps=STEPS + 1,
                method="riemann_trapezoid",
                internal_batch_size=batch,
            )

        def ours(layer=layer, head=head, found=found):
            F = model.activations(x, [layer])[layer]
            IG = integrate(head, F, classes, alpha, weight, batch_size=batch).IG
            found["vtcav"] = IG[:, 0] * F

        ratio = in_turn(captum, ours, arguments.repeats, device)
        same = found["captum"].detach() * (STEPS + 1) / STEPS
        gap, size = (found["vtcav"] - same).abs(), same.abs()
        rows.append(
            {
                "what": f"Captum's time over vtcav's, {layer}",
                **ratio,
                "target": None,
                "largest_difference": f"{float(gap.max() / size.max()):.1e}",
                "relative_l1": f"{float(gap.sum() / size.sum()):.1e}",
            }
        )
        print(rows[-1], flush=True)
    settings = {"images": arguments.images, "steps": STEPS, "batch_size": batch}
    write("against_captum", rows, device, **settings)


if __name__ == "__main__":
    with_steady_memory()
    main()
