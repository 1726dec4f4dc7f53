"""What each tuned constant of the adaptive rule does to errors and evaluations.

One constant of `vtcav.method.integral.constants` at a time is set to a smaller and to a larger
value. For each, on photographs that `evaluations.py` does not report: the 95th percentile of the
errors of attributions against 512 points, the same of errors over their estimates, evaluations and
processor seconds. The default tolerance is finer than the rule's own, so that intervals are halved.

The rescale rule is measured on EfficientNet-Lite0 with ImageNet weights, successive refinement on a
small ConvNeXt with random weights, whose LayerNorms need the graded spacing; both at the second and
the last but one recommended layer, for three classes and six drawn pooled CAVs.

    python benchmarks/integral_constants.py [--rule rescale refinement] [--photographs rocket ...]
        [--tolerance 0.003] [--only SAFETY ...]
"""

import argparse
import statistics
import time
from unittest.mock import patch

import torch
from measuring import write
from torch import nn

import vtcav
from vtcav.datasets import demo_photographs
from vtcav.method.attribution import class_share, concept_attribution, positive_relevance
from vtcav.method.integral import constants
from vtcav.method.integral.adaptive import integrate_adaptive
from vtcav.method.integral.integrand import Integrand
from vtcav.method.integral.trapezoid import FLOOR, integrate

FINE = 512  # points of the rule that the others are held against
RESOLVED = 0.001  # it is not exact itself
CONCEPTS = 6

VALUES = {
    "rescale": {
        "FIRST_INTERVALS": (2.2, 8.8),
        "FEWEST_INTERVALS": (7, 28),
        "MOST_FIRST_INTERVALS": (16, 64),
        "MOST_INTERVALS": (32, 256),
        "WIDER_ENDS": (0.0, 0.7),
        "CONVERGENCE_ORDER": (1.0, 2.5),
        "TYPICAL_ERROR": (0.125, 0.5),
        "UNSEEN_ERROR": (0.0, 0.2),
        "LEFT_AFTER_HALVING": (0.0, 0.3),
        "LEAST_DISSIMILARITY": (0.0, 0.5),
        "EXTRAPOLATION": (0.0, 0.6),
        "MOST_HALVED": (0.45, 1.0),
        "SHORTEST_STEP": (1e-4, 1e-2),
        "CACHED_NUMBERS": (1 << 15, 1 << 21),
    },
    "refinement": {
        "COMPLETENESS": (0.01, 0.04),
        "SAFETY": (1.5, 6.0),
        "DECAY": (1.25, 5.0),
        "LEAST_LEVEL": (2, 4),
        "RESOLVED_LEVEL": (3, 5),
        "MOST_LEVEL": (6, 9),
        "NEAR_ZERO": (2.0**-8, 2.0**-6),
        "ZERO_POINT": (1.25, 5.0),
        "EVEN_SHARE": (0.2, 0.6),
        "CHANGE_SHARE": (0.1, 0.5),
        "CHANGE_BEGINS": (0.002, 0.05),
    },
}


def main():
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rule", nargs="+", choices=list(VALUES), default=list(VALUES))
    names = ["rocket", "horse", "coins"]
    parser.add_argument("--photographs", nargs="+", default=names, help="of scikit-image")
    parser.add_argument("--tolerance", type=float, default=0.003)
    parser.add_argument("--only", nargs="+", help="constants; default: all")
    options = parser.parse_args()
    pictures = [demo_photographs.photograph(name) for name in options.photographs]
    rows = []
    for rule in options.rule:
        measured = Measured(rule, pictures, options.tolerance)
        rows.append(measured.row(f"{rule}: as it is"))
        for name, values in VALUES[rule].items():
            for value in values if not options.only or name in options.only else ():
                with patch.object(constants, name, value):
                    rows.append(measured.row(f"{rule}: {name} = {value:.4g}"))
    settings = {"photographs": options.photographs, "tolerance": options.tolerance}
    write("integral_constants", rows, **settings)


class Measured:
    """The integrals of a rule's network, with the attributions of a fine rule."""

    def __init__(self, rule, pictures, tolerance):
        model = convnext() if rule == "refinement" else vtcav.load_model("demo", device="cpu")
        named = [layer.name for layer in model.layers() if layer.recommended]
        self.tolerance = tolerance
        self.integrands = [
            integrand_of(model, layer, picture, seed)
            for layer in (named[1], named[-2])
            for seed, picture in enumerate(pictures)
        ]
        # most of a network with LayerNorms happens close to 0: midpoints of alpha = u^8
        u = (torch.arange(FINE, dtype=torch.float64) + 0.5) / FINE
        power = 8 if rule == "refinement" else 1
        points = (u**power).float(), (power * u ** (power - 1) / FINE).float()
        self.truth = []
        for each in self.integrands:
            fine = integrate(each.head, each.F, each.classes, *points, batch_size=16)
            self.truth.append(each.attributions(fine.IG, torch.tensor([0])))

    def row(self, what):
        """Return the row of the table for the constants as they are now."""
        begun = time.process_time()
        found = [
            integrate_adaptive(each, tolerance=self.tolerance, batch_size=16)
            for each in self.integrands
        ]
        seconds = time.process_time() - begun
        errors, ratios = [], []
        for each, integral, truth in zip(self.integrands, found, self.truth, strict=True):
            a = each.attributions(integral.IG, torch.tensor([0]))
            error = (a - truth).abs() / truth.clamp(min=FLOOR)
            errors.append(error[truth >= FLOOR])
            ratios.append((error / integral.error.clamp(min=RESOLVED)).flatten())
        error, ratio = (torch.cat(each).quantile(0.95) for each in (errors, ratios))
        spent = statistics.mean(float(integral.evaluations) for integral in found)
        value = (
            f"95 % of errors below {error:.2%}, and below {ratio:.0%} of their estimate; "
            f"{spent:.1f} evaluations, {seconds:.1f} s"
        )
        print(what, flush=True)
        return {"what": what, "value": value}


def integrand_of(model, layer, picture, seed):
    """Return what steps 5 to 8 compute for a picture, with drawn pooled CAVs and maps of 1."""
    maps, z = model.activations_and_logits(model.preprocess(picture)[None], [layer])
    F, head = maps[layer], model.head(layer)
    classes = z.topk(3).indices
    difference = (z - head(0 * F)).detach()
    s = class_share(z, z - difference).gather(1, classes)
    M = torch.ones(1, CONCEPTS, *F.shape[2:])
    generator = torch.Generator().manual_seed(seed)
    p = torch.rand(1, CONCEPTS, F.shape[1], generator=generator) ** 8

    def attributions(IG, on):
        B = positive_relevance(IG, F[on])
        return concept_attribution(B, s[on], M[on], p[on])

    return Integrand(head, F, classes, difference.gather(1, classes), attributions)


class Block(nn.Module):
    """A block of ConvNeXt, without the scale that is next to nothing before training."""

    def __init__(self, channels):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.rest = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )

    def forward(self, x):
        """Return the block's output [N, C, h, w]."""
        y = self.depthwise(x).permute(0, 2, 3, 1)
        return x + self.rest(self.norm(y)).permute(0, 3, 1, 2)


def convnext():
    """Return a small ConvNeXt with random weights."""
    torch.manual_seed(0)
    widths = (24, 48, 96, 192)
    parts = [nn.Conv2d(3, widths[0], 4, stride=4)]
    for before, width in zip((None, *widths), widths, strict=False):
        if before is not None:
            parts += [nn.GroupNorm(1, before), nn.Conv2d(before, width, 2, stride=2)]
        parts += [nn.Sequential(Block(width), Block(width))]
    parts += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(widths[-1])]
    network = nn.Sequential(*parts, nn.Linear(widths[-1], 10)).eval()
    for weight in network.parameters():
        if weight.ndim > 1:
            nn.init.kaiming_normal_(weight)
    return vtcav.Classifier(network, preprocess=vtcav.Preprocess(128, mean=0.5, std=0.5))


if __name__ == "__main__":
    main()
