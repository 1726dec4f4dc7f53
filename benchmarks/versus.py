"""False alarms of `versus`, and whether it names what differs: networks whose cues are known.

For each seed the controlled experiment trains a network with the tag in all training images (q = 1)
and one without (q = 0). Trainings of one recipe (q = 1) are compared with each other, one a side
and three a side: whatever is significant there is a false alarm. Trainings with q = 0 are compared
with those of q = 1: the erasure of each class's own tag must be named, with the right sign. Each
class is explained once per network, with the paper's attribution at three blocks and erasure.

    python benchmarks/versus.py WEIGHTS 121 122 123 124 125 126 [--images 16] [--margin 0.15 0.2]
"""

import argparse
import json
import warnings
from itertools import combinations, product
from pathlib import Path

import pandas as pd
import torch
from correction import network
from measuring import machine

import vtcav
from vtcav.evaluation.experiment.drawn_unit import DrawnExperiment, UnitSettings
from vtcav.explainer.versus.differences import SHARE
from vtcav.explainer.versus.versus import compared
from vtcav.images.listing import collect

LAYERS = ["block3", "block5", "block6"]
SIGNIFICANT = 0.05


class Explained:
    """A network whose classes are explained with the same images as every other network's."""

    def __init__(self, experiment, seed, q, options, images):
        model = network(experiment, seed, q, options.weights)
        sets = experiment.concepts(options.seeds[0])
        self.explainer = vtcav.VisualTCAV(model, LAYERS, progress=False)
        self.explainer.fit(sets.examples, sets.negatives, seed=seed)
        self.classes = {
            name: self.explainer.explain_class(name, list(own)) for name, own in images.items()
        }


def differences(firsts, seconds, images, margin):
    """Return the table of `versus` between trainings of two networks."""
    pairs = [
        ([one.classes[name] for one in firsts], [one.classes[name] for one in seconds])
        for name in images
    ]
    explainers = [one.explainer for one in firsts], [one.explainer for one in seconds]
    refs = {name: collect(list(own)) for name, own in images.items()}
    return compared(explainers, pairs, refs, margin=margin, names=("a", "b")).differences


def splits(networks, size):
    """Yield two groups of trainings of one size, each choice once; of half of all, each pair."""
    for first in combinations(networks, size):
        rest = [one for one in networks if one not in first]
        for second in combinations(rest, size):
            if networks.index(first[0]) < networks.index(second[0]):
                yield first, second


def false_alarms(networks, size, images, margin):
    """Return how many comparisons of one recipe with itself there are, and are significant."""
    tables = [differences(a, b, images, margin) for a, b in splits(networks, size)]
    q = pd.concat(tables)["q_value"].dropna() if tables else pd.Series(dtype=float)
    return {"comparisons": len(q), "significant": int((q < SIGNIFICANT).sum())}


def named(without, with_tag, tags, images, margin):
    """Return in how many classes the own tag's share is named, with the right sign."""
    found = []
    for a, b in zip(without, with_tag, strict=True):
        table = differences(a, b, images, margin)
        table = table[table["quantity"] == SHARE].set_index(["class_name", "concept"])
        for name in images:
            row = table.loc[(name, tags[name])]
            found.append(row["q_value"] < SIGNIFICANT and row["difference"] > 0)
    return {"classes": len(found), "named": int(sum(found))}


def main():
    """Measure, print and write beside this file."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path, help="a folder for the trained networks")
    parser.add_argument("seeds", type=int, nargs="+")
    parser.add_argument("--images", type=int, default=16, help="of each class; default 16")
    parser.add_argument("--margin", type=float, nargs="+", default=[0.15], help="default 0.15")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    options.weights.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    experiment = DrawnExperiment(UnitSettings())
    trial = experiment.trial(options.seeds[0], options.images)
    images = {name: trial.pictures[trial.of_class(t)] for t, name in enumerate(trial.classes)}
    tags = dict(zip(trial.classes, trial.concepts["tag"], strict=True))
    networks = {}
    for q in (1.0, 0.0):
        networks[q] = []
        for seed in options.seeds:
            networks[q].append(Explained(experiment, seed, q, options, images))
            print(f"seed {seed}, q = {q:g}: explained", flush=True)
    found = {
        "machine": machine(),
        "seeds": options.seeds,
        "images": options.images,
        "layers": LAYERS,
    }
    for size, margin in product((1, 3), options.margin):
        groups = [list(combinations(networks[q], size)) for q in (0.0, 1.0)]
        found[f"{size} a side, margin {margin:g}"] = {
            "one recipe": false_alarms(networks[1.0], size, images, margin),
            "q = 0 against q = 1": named(*groups, tags, images, margin),
        }
    print(json.dumps(found, indent=1))
    options.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
