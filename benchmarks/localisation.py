"""How often the highest point of a concept map lies on the concept, for every variant of the map.

The controlled experiment in its quick mode: tags in networks that use them (q of at least 50 %),
and textures in networks that use these (q of at most 50 %). A map of zeros counts as a miss; how
many there are is told beside it. Photographs: letters on a tag and drawn
textures, pasted at random places, in EfficientNet-Lite0 with ImageNet weights; concepts are learned
on some photographs and looked for on others.

    python benchmarks/localisation.py [--seeds 21 22] [--photographs DIR]
"""

import argparse

import numpy as np
import pandas as pd
import torch
from measuring import write
from PIL import Image

import vtcav
from vtcav.datasets import demo_photographs, textures
from vtcav.evaluation.experiment.drawn_unit import DrawnExperiment
from vtcav.evaluation.experiment.evaluate import default_settings
from vtcav.evaluation.experiment.tags import put_tags
from vtcav.evaluation.metrics import at_resolution, localise
from vtcav.images.listing import collect
from vtcav.method.variants import PLACES, VARIANTS

TOGETHER = "layers together"
USED = {"tag": (0.5, 1.0), "texture": (0.0, 0.5)}
LETTERS = (0, 1, 2)
TEXTURES = ("striped", "dotted", "chequered")
SIDE = 224
MOST = 120  # photographs


def main():
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="*", default=[21, 22])
    parser.add_argument("--photographs", help="a folder; default: crops of scikit-image's")
    options = parser.parse_args()
    found = [*drawn(options.seeds), *on_photographs(options.photographs)]
    table = pd.DataFrame(found)
    keys = ["images", "cue", "method", "layer"]
    table["zero"] = table["hit"].isna()
    table["hit"] = table["hit"].fillna(0.0)
    means = table.groupby(keys, sort=False).agg(
        hit=("hit", "mean"), zero=("zero", "mean"), maps=("hit", "size")
    )
    for value in ("hit", "zero"):
        print(value, means[value].unstack("layer").round(2).to_string(), sep="\n")
    rows = [
        {"what": ", ".join(key), "value": round(hit, 3), "zero": round(zero, 3), "maps": int(maps)}
        for key, (hit, zero, maps) in zip(means.index, means.to_numpy(), strict=True)
    ]
    write("localisation", rows, seeds=options.seeds, folder=bool(options.photographs))


def drawn(seeds):
    """Yield whether each map of the experiment points at its cue."""
    experiment = DrawnExperiment(default_settings(quick=True))
    for seed in seeds:
        trial, sets = experiment.trial(seed), experiment.concepts(seed)
        for q in sorted({q for used in USED.values() for q in used}):
            model = experiment.trained(seed, q, "cpu", lambda: None)
            explainers = fitted(model, list(experiment.layers), sets.examples, sets.negatives)
            names = explainers[0].cavs.names
            for method, layer, maps in maps_of(explainers, trial.x):
                for cue in (cue for cue, used in USED.items() if q in used):
                    for i, t in enumerate(trial.labels):
                        own = names.index(trial.concepts[cue][t])
                        hit = points(maps[i, own], trial.masks[cue][i])
                        yield row("experiment", cue, method, layer, hit)
            print(f"seed {seed}, q {q} done", flush=True)


def on_photographs(folder):
    """Yield whether each map points at what was pasted onto a photograph."""
    if folder:
        refs = collect(folder)
        order = np.random.default_rng(0).permutation(len(refs))[:MOST]
        pictures = np.stack([square(refs[i].load()) for i in order])
    else:
        pictures = demo_photographs.negatives(0)[:, 16:240, 16:240]
    part = 7 * len(pictures) // 10  # 12 crops of each of ten photographs: of seven of them
    learn, test = pictures[:part], pictures[part:]
    pasted = {f"letter {n}": letter(n) for n in LETTERS}
    pasted |= {name: texture(name) for name in TEXTURES}
    examples = {name: paste(learn, seed)[0] for seed, (name, paste) in enumerate(pasted.items())}
    negatives = {}
    for seed, name in enumerate(pasted):
        # half of them show another thing of the kind
        other = next(n for n in pasted if kind(n) == kind(name) and n != name)
        negatives[name] = np.concatenate([learn[::2], pasted[other](learn, 100 + seed)[0][1::2]])
    model = vtcav.load_model("demo")
    layers = [f"_blocks.{n}" for n in (2, 4, 6, 9, 12, 15)]
    explainers = fitted(model, layers, examples, negatives)
    for seed, (name, paste) in enumerate(pasted.items()):
        shown, masks = paste(test, 200 + seed)
        x = torch.stack([model.preprocess(Image.fromarray(picture)) for picture in shown])
        for method, layer, maps in maps_of(explainers, x):
            for i, mask in enumerate(masks):
                hit = points(maps[i, explainers[0].cavs.names.index(name)], mask)
                yield row("photographs", kind(name), method, layer, hit)


def fitted(model, layers, examples, negatives):
    """Return an explainer of every variant."""
    explainers = [
        vtcav.VisualTCAV(
            model, layers, variant=v, fill="convolution" if v == PLACES else None, progress=False
        )
        for v in VARIANTS
    ]
    for explainer in explainers:
        explainer.fit(examples, negatives, null_cavs=0, bootstraps=0)
    return explainers


def maps_of(explainers, x):
    """Yield the maps of every variant at every layer [N, K, h, w]."""
    for explainer in explainers:
        images = explainer.attributor.forward([str(i) for i in range(len(x))], x)
        for layer in explainer.layers:
            maps = explainer.cavs.layers[layer].maps(images.maps[layer])
            yield explainer.variant, layer, maps.cpu().numpy()
    yield explainer.variant, TOGETHER, explainer.attributor.eraser.together(images).cpu().numpy()


def points(M, mask):
    """Return whether a map points at a mask; NaN for a map of zeros."""
    return localise(M, at_resolution(mask, M.shape)).pointing_game


def row(images, cue, method, layer, hit):
    """Return a row of the table."""
    return {"images": images, "cue": cue, "method": method, "layer": layer, "hit": hit}


def kind(name):
    """Return whether a concept is a letter or a texture."""
    return "letter" if name.startswith("letter") else "texture"


def letter(n):
    """Return what pastes a tag with a letter onto pictures."""
    return lambda pictures, seed: put_tags(pictures, np.full(len(pictures), n), seed)


def texture(name):
    """Return what pastes an ellipse of a texture onto pictures."""

    def paste(pictures, seed):
        rng = np.random.default_rng(seed)
        drawn = textures.draw(name, len(pictures), seed=seed, size=SIDE)
        y, x = np.mgrid[:SIDE, :SIDE]
        radius = rng.uniform(0.16, 0.24, (2, len(pictures), 1, 1)) * SIDE
        centre = rng.uniform(radius, SIDE - radius)
        masks = ((y - centre[0]) / radius[0]) ** 2 + ((x - centre[1]) / radius[1]) ** 2 < 1
        return np.where(masks[..., None], drawn, pictures), masks

    return paste


def square(picture):
    """Return the middle of a picture, uint8 [224, 224, 3]."""
    short = min(picture.size)
    left, top = (picture.width - short) // 2, (picture.height - short) // 2
    cut = picture.convert("RGB").crop((left, top, left + short, top + short))
    return np.asarray(cut.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


if __name__ == "__main__":
    main()
