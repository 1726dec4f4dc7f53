"""How well the ways to fill in a region, and removal from feature maps, follow measured effects.

The controlled experiment in its quick mode. For every way: the mean rank correlation inside a
(seed, q, class, cue) of the drop with the measured effect, in logits and as a share, the mean error
and the slope of a class's share, and the error of an image's drop. Then a thing in the same place:
a square of noise that is nothing without its letter.

    python benchmarks/fills.py [--seeds 21] [--agreements 0 0.5 1]
"""

import argparse

import numpy as np
import pandas as pd
import torch
from measuring import write

import vtcav
from vtcav.evaluation.correlation import spearman
from vtcav.evaluation.experiment.drawn_unit import DrawnExperiment
from vtcav.evaluation.experiment.effects import causal_effects
from vtcav.evaluation.experiment.evaluate import default_settings
from vtcav.evaluation.experiment.scenes import draw_scenes, scene_seed, with_tags
from vtcav.evaluation.experiment.tags import TAG, paste
from vtcav.explainer.erasing.feature_removal import FeatureRemoval
from vtcav.method.erasure.fill import FILLS, filled
from vtcav.method.erasure.joined_map import SEEN

GROUP = ["seed", "q", "class", "cue"]
TRUE = "true masks, "
MAPS = "maps, "
SQUARE = "square"


def main():
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="*", default=[21])
    parser.add_argument("--agreements", type=float, nargs="*", default=[0.0, 0.5, 1.0])
    options = parser.parse_args()
    experiment, found, squares = DrawnExperiment(default_settings(quick=True)), [], []
    for seed in options.seeds:
        for q in options.agreements:
            model = experiment.trained(seed, q, "cpu", lambda: None)
            found += measured(experiment, model, seed, q)
            squares += square(experiment, model, seed, q)
            print(f"seed {seed}, q {q} done", flush=True)
    table = pd.DataFrame(found)
    scores = pd.DataFrame([{"way": way, **score(own)} for way, own in table.groupby("way")])
    print(scores.round(3).to_string(index=False))
    print(pd.DataFrame(squares).round(3).to_string(index=False))
    rows = [{"what": row["way"], "value": row["effect"], **row} for row in plain(scores)]
    squares = plain(pd.DataFrame(squares))
    rows += [{"what": f"square, {row['way']}", "value": row["share"], **row} for row in squares]
    write("fills", rows, seeds=options.seeds, agreements=options.agreements)


def measured(experiment, model, seed, q):
    """Yield the drop of every image's own cues in every way, beside the measured effect."""
    trial = experiment.trial(seed)
    z = {name: logits(model, experiment.input(x)) for name, x in trial.versions.items()}
    without = {cue: z[f"without_{cue}"] for cue in trial.cues}
    effects = causal_effects(z["whole"], without, z["without_both"], trial.labels)
    explainer, sets = learned(experiment, model), experiment.concepts(seed)
    explainer.fit(sets.examples, sets.negatives, null_cavs=0, bootstraps=0)
    drops = Drops(explainer, trial.x, trial.labels)
    for cue in trial.cues:
        own = [explainer.cavs.names.index(trial.concepts[cue][t]) for t in trial.labels]
        for way, (drop, seen) in drops.of(own, trial.masks[cue]).items():
            for i, t in enumerate(trial.labels):
                yield {
                    **dict(zip(GROUP, (seed, q, int(t), cue), strict=True)),
                    "way": way,
                    "drop": drop[i],
                    "seen": seen[i],
                    "reference_gap": drops.gap[i],
                    "effect": effects[cue].effect[i],
                    "share": effects[cue].shares[i],
                    "gap": effects[cue].gap[i],
                }


class Drops:
    """The drops of images in every way.

    Args:
        explainer: With its concepts learned.
        x: The images [N, 3, H, W].
        labels: Their classes [N].
    """

    def __init__(self, explainer, x, labels):
        self.explainer, self.x, self.labels = explainer, x, labels
        self.names = [str(i) for i in range(len(x))]
        attributor = explainer.attributor
        images = attributor.forward(self.names, x)
        self.H = attributor.eraser.regions(images).H
        removal = FeatureRemoval(explainer.model, explainer.cavs, attributor.erasure, 32)
        effects = pd.DataFrame(removal.rows(images, range(images.z.shape[1])))
        self.maps = effects.set_index(["layer", "image", "concept", "class_index"]).sort_index()
        self.before = images.z.double().numpy()[np.arange(len(x)), labels]
        reference = effects.groupby("class_index")["reference"].first().to_numpy()
        self.gap = self.before - reference[labels]
        seen = [cavs.places.seen for cavs in list(explainer.cavs.layers.values())[1:-1]]
        self.seen = torch.stack(seen).amax(0).numpy()

    def of(self, own, masks=None):
        """Return, by way, the drops of each image's own concept [N], and its AUC [N]."""
        n, found = np.arange(len(own)), {}
        for fill in FILLS:
            found[fill] = self.filled(self.H[n, own], fill), self.seen[own]
            if masks is not None:
                G = torch.from_numpy(masks).float()
                found[TRUE + fill] = self.filled(G, fill), np.ones(len(own))
        names = self.explainer.cavs.names
        for layer in self.explainer.layers:
            keys = [
                (layer, self.names[i], names[k], t)
                for i, (k, t) in enumerate(zip(own, self.labels.tolist(), strict=True))
            ]
            rows = self.maps.loc[keys]
            found[MAPS + layer] = rows["drop"].to_numpy(), rows["seen"].to_numpy()
        return found

    def filled(self, H, fill):
        """Return the drops of regions [N, H, W] that are filled in."""
        z = logits(self.explainer.model, filled(self.x, H, fill))
        return self.before - z[np.arange(len(z)), self.labels]


def square(experiment, model, seed, q):
    """Yield the share that a square of noise gets where it carries a letter, in every way."""
    trial, sets = experiment.trial(seed), experiment.concepts(seed)
    own = scene_seed(seed, "test")
    scenes = with_tags(draw_scenes(trial.labels, own), trial.labels, own)
    z = {name: logits(model, experiment.input(x)) for name, x in trial.versions.items()}
    z["square"] = logits(model, experiment.input(with_square(scenes, seed)))
    z = {name: each[np.arange(len(each)), trial.labels].mean() for name, each in z.items()}
    gap = z["whole"] - z["without_both"]
    pair = []
    for n in (400, 401):  # seeds that no other concept has
        labels = np.random.default_rng([seed, n]).integers(0, 4, 80)
        own = scene_seed(seed, "concepts") + n
        pair.append(with_tags(draw_scenes(labels, own), np.zeros(80, int), own))
    examples = sets.examples | {SQUARE: with_square(pair[0], seed + 1)}
    negatives = sets.negatives | {SQUARE: pair[1].images(tag=False)}
    explainer = learned(experiment, model)
    explainer.fit(examples, negatives, null_cavs=0, bootstraps=0)
    drops = Drops(explainer, trial.x, trial.labels)
    found = drops.of([explainer.cavs.names.index(SQUARE)] * len(trial.labels))
    yield {"q": q, "way": "measured", "share": (z["square"] - z["without_tag"]) / gap, "seen": 1.0}
    for way, (drop, seen) in found.items():
        yield {"q": q, "way": way, "share": float(drop.mean() / gap), "seen": float(seen[0])}


def with_square(scenes, seed):
    """Return pictures with squares of noise, without letters, where their tags are."""
    pictures, n = scenes.images(tag=False), len(scenes)
    light = np.random.default_rng([seed, 8]).integers(60, 256, (n, TAG, TAG, 3), np.uint8)
    paste(pictures, light, scenes.corners, np.zeros(n, int))
    return pictures


def learned(experiment, model):
    """Return an explainer that fills in and removes from feature maps."""
    layers = list(experiment.layers)
    return vtcav.VisualTCAV(model, layers, 24, features=True, batch_size=32, progress=False)


def logits(model, x):
    """Return logits [N, T] of inputs."""
    with torch.no_grad():
        return torch.cat([model.logits(part) for part in x.split(64)]).double().numpy()


def score(rows):
    """Return the agreement of a way's drops with measured effects, where concepts are seen."""
    seen = rows[rows["seen"] >= SEEN]
    inside = {"effect": [], "share": []}
    for _, own in seen.groupby(GROUP):
        inside["effect"].append(spearman(own["drop"], own["effect"]).value)
        inside["share"].append(spearman(own["drop"] / own["reference_gap"], own["share"]).value)
    means = seen.groupby(GROUP)[["drop", "reference_gap", "effect", "gap"]].mean()
    value, truth = means["drop"] / means["reference_gap"], means["effect"] / means["gap"]
    return {
        **{name: np.nanmean(values) for name, values in inside.items()},
        "mean_error": (value - truth).abs().mean(),
        "slope": value @ truth / (truth @ truth),
        "error_in_logits": (seen["drop"] - seen["effect"]).abs().mean(),
        "seen": len(means) / rows.groupby(GROUP).ngroups,
    }


def plain(table):
    """Return rows of plain numbers; a missing one is None."""
    rounded = table.round(4).astype(object)
    return rounded.where(rounded.notna(), None).to_dict("records")


if __name__ == "__main__":
    main()
