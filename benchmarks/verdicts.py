"""Verdicts of drawn worlds: how often the kind of a class verdict agrees with the truth.

A small network is trained in each world (`worlds.py`), and explained as a user would, with the
defaults. The truth is what the class's logit loses on average over the same pictures drawn without
a kind of objects, as a share of what they score above the negatives: a kind is used from 0.10 on,
not used below 0.03, and not counted in between.

    python benchmarks/verdicts.py [--seeds 181 20] [--networks FOLDER] [--note TEXT] [--quick]
"""

import argparse
import statistics
import tempfile
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from measuring import write
from torch import nn
from worlds import SIDE, World, concepts, drawn, scenes

import vtcav

CLASSES = "alpha", "beta", "gamma"
USED, NOT_USED, LEARNED = 0.10, 0.03, 0.9
TRAINING, TEST, PICTURES, EPOCHS = 1500, 300, 40, 26
ANSWERS = "used", "cannot be told", "not used", "not seen"


def tensor(pictures):
    """Return pictures as networks take them, [N, 3, SIDE, SIDE]."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def network(seed):
    """Return an untrained network: its depth, activation and normalisation come from the seed."""
    rng = np.random.default_rng([seed, 1])
    widths, activation = (3, 16, 32, 64, 64, 64)[: rng.integers(4, 7)], rng.integers(3)
    norm, blocks = rng.random() < 0.5, [nn.Conv2d(3, 16, 5, stride=2, padding=2)]
    for i, (before, width) in enumerate(pairwise(widths)):
        block = [nn.Conv2d(before, width, 3, padding=1)] if i else [blocks.pop()]
        block += [nn.BatchNorm2d(width)] * norm
        block.append((nn.ReLU, nn.SiLU, nn.GELU)[activation]())
        blocks.append(nn.Sequential(*block, *[nn.MaxPool2d(2)] * (i < min(3, len(widths) - 2))))
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 3))


def trained(world, seed, epochs, folder):
    """Return a network and its accuracy on new pictures; one that was kept is not trained again."""
    net, rng = network(seed), np.random.default_rng([seed, 2])
    kept = Path(folder) / f"{seed}-{epochs}.pt"
    if kept.exists():
        found = torch.load(kept)
        net.load_state_dict(found["weights"])
        return net.eval(), found["accuracy"]
    y = torch.arange(TRAINING + TEST) % 3
    x = tensor([drawn(*scene) for scene in scenes(world, y.tolist(), rng)])
    torch.manual_seed(seed)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    fastest = 4e-3 if any(isinstance(layer, nn.BatchNorm2d) for layer in net.modules()) else 8e-3
    optimiser = torch.optim.AdamW(net.parameters())
    steps = epochs * -(-TRAINING // 32)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, fastest, total_steps=steps)
    for _ in range(epochs):
        losses = []
        for batch in torch.randperm(TRAINING).split(32):
            sides = [d for d in (2, 3) if torch.rand(()) < 0.5]
            shift = torch.randint(-6, 7, (2,)).tolist()
            logits = net(x[batch].flip(sides).roll(shift, (2, 3)))
            loss = nn.functional.cross_entropy(logits, y[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            rate.step()
            losses.append(loss.item())
        if statistics.mean(losses) < 0.05:
            break
    with torch.no_grad():
        answers = net.eval()(x[TRAINING:]).argmax(1)
    accuracy = float((answers == y[TRAINING:]).float().mean())
    torch.save({"weights": net.state_dict(), "accuracy": accuracy}, kept)
    return net, accuracy


def truths(net, own, label, kinds, negatives):
    """Return by kind the share of a class's score that goes with it; none where it has no score."""
    with torch.no_grad():
        whole = net(tensor([drawn(*scene) for scene in own]))[:, label]
        reference = net(tensor(negatives))[:, label]
        gap = float(whole.mean() - reference.mean())
        if gap <= float(reference.std()):
            return {}
        without = {
            kind: net(
                tensor([drawn(g, [t for t in things if t.kind != kind]) for g, things in own])
            )
            for kind in kinds
        }
    return {kind: float((whole - z[:, label]).mean()) / gap for kind, z in without.items()}


def with_others(examples, negatives):
    """Return for each concept the negatives with the examples of all other concepts."""
    return {
        name: np.stack(
            [*negatives, *(p for other in examples if other != name for p in examples[other])]
        )
        for name in examples
    }


def judged(seed, options):
    """Return the accuracy of a seed's network, and a row for each class and kind with a truth."""
    world = World(seed)
    net, accuracy = trained(world, seed, options.epochs, options.networks)
    if accuracy < LEARNED and not options.quick:
        return accuracy, []
    rng, rows = np.random.default_rng([seed, 3]), []
    examples, negatives = concepts(world, rng)
    preprocess = vtcav.Preprocess(SIDE, mean=0.5, std=0.5)
    model = vtcav.Classifier(net, CLASSES, preprocess)
    explainer = vtcav.VisualTCAV(model, cache=False, progress=False)
    explainer.fit(examples, with_others(examples, negatives) if options.others else negatives)
    for label, name in enumerate(CLASSES):
        own = scenes(world, [label] * PICTURES, rng)
        true = truths(net, own, label, world.kinds, negatives)
        if not true:
            continue
        pictures = np.stack([drawn(*scene) for scene in own])
        for verdict in explainer.explain_class(name, pictures).verdicts():
            kind = verdict.concept
            rows.append({
                "seed": seed, "class": name, "kind": kind,
                "shown": sum(kind in [t.kind for t in things] for _, things in own) / PICTURES,
                "truth": round(true[kind], 3), "verdict": verdict.kind,
                "claimed": None if verdict.in_logits else verdict.size,
                "sentence": verdict.sentence,
            })  # fmt: skip
    return accuracy, rows


def counted(pairs):
    """Return the rows of the table."""
    groups = {
        "truly not used": [p for p in pairs if abs(p["truth"]) < NOT_USED],
        "truly used": [p for p in pairs if abs(p["truth"]) >= USED],
    }
    rows = []
    for what, own in groups.items():
        rows.append({"what": what, "value": len(own)})
        for answer in ANSWERS:
            value = sum(p["verdict"] == answer for p in own)
            rows.append({"what": f"{what}, {answer}", "value": value})
    named = [p for p in groups["truly used"] if p["verdict"] == "used" and p["claimed"]]
    ratios = [abs(p["claimed"] / p["truth"]) for p in named]
    median = round(statistics.median(ratios), 2) if ratios else None
    off = sum(not 0.5 <= ratio <= 2 for ratio in ratios)
    rows.append({"what": "claimed share over true share, median", "value": median})
    rows.append({"what": "claimed share off by more than a factor of 2", "value": off})
    return rows


def main():
    """Measure, print and write beside this file."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs=2, default=(181, 20), metavar=("FIRST", "COUNT"))
    parser.add_argument("--networks", help="a folder that keeps trained networks")
    what = "the negatives of a concept are also the examples of the others; not written"
    parser.add_argument("--others", action="store_true", help=what)
    parser.add_argument("--note", default="", help="is written with the settings")
    parser.add_argument(
        "--quick", action="store_true", help="one seed, hardly trained, not written"
    )
    options = parser.parse_args()
    options.networks = options.networks or tempfile.mkdtemp()
    options.epochs = 2 if options.quick else EPOCHS
    first, count = options.seeds
    torch.set_num_threads(1)
    pairs, accuracies = [], {}
    for seed in range(first, first + (1 if options.quick else count)):
        accuracies[seed], rows = judged(seed, options)
        pairs += rows
        print(f"seed {seed}: accuracy {accuracies[seed]:.2f}, {len(rows)} pairs", flush=True)
        for p in rows:
            if p["verdict"] == "used" and abs(p["truth"]) < NOT_USED:
                print(f"WRONG, {p['class']}, {p['truth']:+.3f}: {p['sentence']}", flush=True)
    if options.quick or options.others:
        print(*(f"{row['what']}: {row['value']}" for row in counted(pairs)), sep="\n")
        return
    settings = {"seeds": [first, count], "note": options.note, "accuracies": accuracies}
    write("verdicts", counted(pairs), **settings, pairs=pairs)


if __name__ == "__main__":
    main()
