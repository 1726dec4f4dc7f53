"""Audits of networks whose images are known: what is there must be named, what is not must not.

Small networks tell good from scratched bolts. A cue (a scale bar, a blue frame, or warm light) lies
on 95 % of the scratched bolts that they learn from, and on 5 % of the good ones. Each is audited
with six concepts, of which the images show three at most. For every concept of the class
"scratched": whether the images show it, in how many it is found, its verdict, the true effect
where it is shown (the same scenes drawn without it), and in how many of its own examples it is
found, where it is always there.

    python benchmarks/absent_concepts.py SEED [SEED ...] [--cues "scale bar" frame ...] [-o FILE]
"""

import argparse
import json
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageDraw
from torch import nn
from torch.nn.functional import cross_entropy

import vtcav

SIDE = 96
CLASSES = ("good", "scratched")
CUES = ("scale bar", "frame", "warm light")
OFTEN, RARELY = 0.95, 0.05  # shares of the two classes that show the cue
IMAGES, EXAMPLES, NEGATIVES = 40, 40, 120


def ground(rng):
    """Return a grey, grained surface."""
    coarse = rng.normal(120 + rng.uniform(-25, 25), 14, (SIDE // 4, SIDE // 4)).clip(0, 255)
    smooth = Image.fromarray(coarse.astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    grain = np.asarray(smooth.convert("RGB")) + rng.normal(0, 8, (SIDE, SIDE, 1))
    return Image.fromarray(grain.clip(0, 255).astype(np.uint8))


def bolt(picture, rng):
    """Draw the head of a bolt."""
    draw, r, grey = ImageDraw.Draw(picture), int(rng.integers(16, 24)), int(rng.integers(160, 215))
    x, y = (int(v) for v in rng.integers(r + 6, SIDE - r - 6, 2))
    corners = rng.uniform(0, 1) + np.arange(6) * np.pi / 3
    outline = [(x + r * np.cos(t), y + r * np.sin(t)) for t in corners]
    draw.polygon(outline, fill=(grey, grey, grey + 8), outline=(60, 60, 60))
    inner = (x - r // 2, y - r // 2, x + r // 2, y + r // 2)
    draw.ellipse(inner, fill=(grey - 60, grey - 60, grey - 55))


def scratch(picture, rng):
    """Draw one or two dark lines."""
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.integers(1, 3)):
        (x, y), t, half = rng.integers(10, SIDE - 10, 2), rng.uniform(0, np.pi), rng.integers(7, 17)
        dx, dy = half * np.cos(t), half * np.sin(t)
        width = int(rng.integers(1, 3))
        draw.line((x - dx, y - dy, x + dx, y + dy), fill=(35, 32, 30), width=width)


def scale_bar(picture, rng):
    """Draw a white bar with three ticks, at the lower right."""
    draw = ImageDraw.Draw(picture)
    x, y = SIDE - 34 - int(rng.integers(0, 6)), SIDE - 10 - int(rng.integers(0, 5))
    draw.rectangle((x, y, x + 26, y + 2), fill=(250, 250, 250))
    for tick in (0, 13, 26):
        draw.rectangle((x + tick, y - 3, x + tick + 1, y + 2), fill=(250, 250, 250))


def warm_light(picture, rng):
    """Tint the whole picture."""
    tinted = np.asarray(picture) * np.array([1.12, 1.0, 0.82])
    picture.paste(Image.fromarray(tinted.clip(0, 255).astype(np.uint8)))


def frame(picture, rng):
    """Draw a blue frame."""
    ImageDraw.Draw(picture).rectangle((0, 0, SIDE - 1, SIDE - 1), outline=(30, 60, 170), width=5)


def logo(picture, rng):
    """Draw a red ring, at the upper left."""
    x, y = (int(v) for v in rng.integers(8, 20, 2))
    ImageDraw.Draw(picture).ellipse((x, y, x + 16, y + 16), outline=(200, 30, 30), width=3)


THINGS = {
    "bolt": bolt, "scratch": scratch, "scale bar": scale_bar, "warm light": warm_light,
    "frame": frame, "logo": logo,
}  # fmt: skip


def scene(seed, *things):
    """Return a picture with these things; each is drawn alike whatever else is there."""
    picture = ground(np.random.default_rng([seed, 0]))
    for number, (name, draw) in enumerate(THINGS.items(), 1):
        if name in things:
            draw(picture, np.random.default_rng([seed, number]))
    return np.asarray(picture)


def things_of(label, cue, rng):
    """Return what a picture of a class shows."""
    shown = ["bolt"] + ["scratch"] * label
    return [*shown, cue] if rng.random() < (OFTEN if label else RARELY) else shown


class Network(nn.Sequential):
    """Four blocks of convolution, batch norm, ReLU and pooling, and a linear layer."""

    def __init__(self):
        widths = (3, 16, 32, 48, 64)
        blocks = [
            nn.Sequential(
                nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width),
                nn.ReLU(), nn.MaxPool2d(2),
            )
            for before, width in pairwise(widths)
        ]  # fmt: skip
        super().__init__(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 2))


def trained(cue, seed):
    """Return a network trained on 1,600 scenes, as a model."""
    rng = np.random.default_rng(seed)
    labels = [i % 2 for i in range(1600)]
    scenes = [scene(1000 * seed + i, *things_of(y, cue, rng)) for i, y in enumerate(labels)]
    x = torch.from_numpy(np.stack(scenes)).permute(0, 3, 1, 2).float().div(255).sub(0.5).div(0.25)
    y = torch.tensor(labels)
    torch.manual_seed(seed)
    network = Network()
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(8):
        for batch in torch.randperm(len(x)).split(32):
            optimiser.zero_grad()
            cross_entropy(network(x[batch]), y[batch]).backward()
            optimiser.step()
    return vtcav.Classifier(network.eval(), CLASSES, vtcav.Preprocess(SIDE, mean=0.5, std=0.25))


def audited(cue, seed):
    """Yield a row for each concept of a network."""
    model, begin = trained(cue, seed), 10**7 + 10**5 * seed
    explainer = vtcav.VisualTCAV(model, cache=False, progress=False)
    # half of the negatives show a bolt, as the examples of the other things do
    grounds = [scene(begin + i, *["bolt"] * (i % 2)) for i in range(NEGATIVES)]
    examples = {
        name: [
            scene(begin + 1000 * k + i, name, *["bolt"] * (i % 2)) for i in range(EXAMPLES)
        ]
        for k, name in enumerate(THINGS, 1)
    }  # fmt: skip
    explainer.fit(
        {name: np.stack(pictures) for name, pictures in examples.items()}, np.stack(grounds)
    )
    rng = np.random.default_rng([seed, 1])
    shown = [things_of(1, cue, rng) for _ in range(IMAGES)]
    numbers = [begin + 10_000 + i for i in range(IMAGES)]
    pictures = np.stack([scene(n, *things) for n, things in zip(numbers, shown, strict=True)])
    found = explainer.explain_class("scratched", pictures)
    effects = found.effects
    for place, verdict in enumerate(found.verdicts(), 1):
        name = verdict.concept
        there = [n for n, things in zip(numbers, shown, strict=True) if name in things]
        own = explainer.explain_class("scratched", np.stack(examples[name])).effects
        yield {
            "cue": cue,
            "seed": seed,
            "place": place,
            "concept": name,
            "shown": round(len(there) / IMAGES, 2),
            "found": share_found(effects, name),
            "found in own": share_found(own, name),
            "verdict": verdict.kind,
            "size": verdict.size,
            "logits": verdict.in_logits,
            "true effect": true_effect(model, there, shown, numbers, name),
            "sentence": verdict.sentence,
        }


def share_found(effects, name):
    """Return the share of images in which a concept has a region; None where it is not seen."""
    own = effects[(effects["concept"] == name) & (effects["class_name"] == "scratched")]
    return None if own["drop"].isna().all() else round(float((own["area"] > 0).mean()), 2)


def true_effect(model, there, shown, numbers, name):
    """Return by how much the scenes that show it fall without it, on average, in logits."""
    if not there:
        return 0.0
    things = dict(zip(numbers, shown, strict=True))
    drops = []
    for n in there:
        pair = [scene(n, *things[n]), scene(n, *[t for t in things[n] if t != name])]
        x = torch.stack([model.preprocess(vtcav.images.picture_of(each)) for each in pair])
        z = model.logits(x)[:, 1]
        drops.append(float(z[0] - z[1]))
    return float(np.mean(drops))


def main():
    """Measure, print and write."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("seeds", type=int, nargs="+")
    parser.add_argument("--cues", nargs="+", choices=CUES, default=list(CUES))
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    rows = []
    for seed in options.seeds:
        for cue in options.cues:
            rows += audited(cue, seed)
            print(pd.DataFrame(rows).query("seed == @seed and cue == @cue").iloc[:, 2:-1].round(2))
            print("\n".join(row["sentence"] for row in rows if row["place"] < 3)[-700:], flush=True)
    table = pd.DataFrame(rows)
    absent, seen = table["shown"] == 0, table["found"].notna()
    used = table["verdict"] == "used"
    alone = ~table["sentence"].str.contains("what is taken for")
    print(
        f"{len(table[absent & seen])} absent concepts are seen, {len(table[used & absent])} called"
    )
    print(f"used, {len(table[used & absent & alone])} of these by themselves")
    print(f"first of its network: {table[table['place'] == 1]['concept'].value_counts().to_dict()}")
    least = table[seen]["found in own"]
    print(f"found in own examples: mean {least.mean():.2f}, below half {int((least < 0.5).sum())}")
    if options.output:
        options.output.write_text(json.dumps(json.loads(table.to_json(orient="records")), indent=1))


if __name__ == "__main__":
    main()
