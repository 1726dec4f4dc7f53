"""Whether discovery finds the tag of the controlled experiment, and nothing where there is none.

Networks on drawn scenes, whose tag agrees with the class in half of the training scenes (with
chance, 62 % show a tag), and networks trained without tags. Discovery sees fresh scenes of the same
kind. A found concept is the tag of a class if, at the layer that stability chooses, it has no flag,
its direction has a cosine of at least 0.7 with the tag's CAV (of matched or of generic examples),
and the peak of its map lies on the tag in at least 0.8 of the test scenes of the class. Concepts
found in images of noise must all have a flag.

A network that never saw letters has detectors of stripes, and a letter's strokes are as wide and as
far apart as these. Its concept "stripes" then looks like a tag to this check, although it is found
in scenes without any. What tells them apart is erasure: whether the score of the tag's own class
falls without what is found. "shortcut" says so of a tag by the check above.

    python benchmarks/discovery.py --seeds 81,82 [--without 81] [--weights FOLDER] [--add]
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from measuring import HERE, write
from safetensors.torch import load_file, save_file

import vtcav
from vtcav.evaluation.experiment.drawn_unit import DrawnExperiment, UnitSettings
from vtcav.evaluation.experiment.network import LAYERS, Training, build, draw_cue, train
from vtcav.evaluation.experiment.scenes import (
    CLASSES,
    PREPROCESS,
    draw_scenes,
    scene_seed,
    with_tags,
)
from vtcav.evaluation.experiment.tags import ABSENT
from vtcav.evaluation.metrics import at_resolution, localise
from vtcav.method.cav import direction

IMAGES, COSINE, POINTING = 300, 0.7, 0.8
ERASED = 80  # images


def drawn(seed, tags, count, own):
    """Return scenes as a network is trained on them, with or without tags."""
    labels = np.arange(count) % len(CLASSES)
    rng = np.random.default_rng([own, 3])
    letters = draw_cue(labels, 0.5, 4, rng) if tags else np.full(count, ABSENT)
    return with_tags(draw_scenes(labels, own, textures=draw_cue(labels, 0.9, 4, rng)), letters, own)


def network(seed, tags, weights):
    """Return a trained network, from the folder of weights where it is there."""
    kept = weights and weights / f"net-{seed}-{0.5 if tags else None}.safetensors"
    if kept and kept.exists():
        net = build(len(CLASSES), seed)
        net.load_state_dict(load_file(kept))
    else:
        scenes = drawn(seed, tags, Training().scenes, scene_seed(seed, "train"))
        net = train(scenes, len(CLASSES), seed, Training())
        if kept:
            save_file({k: v.contiguous() for k, v in net.state_dict().items()}, kept)
    return vtcav.Classifier(net.eval(), CLASSES, PREPROCESS)


def tag_directions(model, layer, seed):
    """Return the CAVs of each class's tag at a layer: matched and generic [4, 2, C]."""
    experiment = DrawnExperiment(UnitSettings())
    found = []
    for generic in (False, True):
        sets = experiment.concepts(seed, generic=generic)
        gaps = [
            {
                name: model.activations(experiment.input(pictures), [layer])[layer].mean((2, 3))
                for name, pictures in each.items()
                if name.startswith("tag")
            }
            for each in (sets.examples, sets.negatives)
        ]
        found.append(torch.stack([direction(gaps[0][n], gaps[1][n]) for n in gaps[0]]))
    return torch.stack(found, 1).numpy()


def judged(found, model, seed, layer):
    """Return for each concept of a layer the best of the tags: cosine and pointing game."""
    trial = DrawnExperiment(UnitSettings(test_images=25)).trial(seed)
    tags = tag_directions(model, layer, seed)
    F = model.activations(trial.x, [layer])[layer]
    rows = []
    for number in found.concepts.query("layer == @layer")["concept"]:
        v = found[number].v
        R = torch.einsum("c,nchw->nhw", torch.tensor(v), F).relu()
        R = (R / R.amax((1, 2), keepdim=True).clamp(min=1e-12)).numpy()
        for t in range(len(CLASSES)):
            own = np.flatnonzero(trial.labels == t)
            hits = [
                localise(R[i], at_resolution(trial.masks["tag"][i], R[i].shape)).pointing_game
                for i in own
            ]
            cosine = max(
                float(v @ u / np.linalg.norm(u) / max(np.linalg.norm(v), 1e-12)) for u in tags[t]
            )
            level = found.concepts.set_index("concept").loc[number, "level"]
            rows.append(
                {
                    "concept": int(number),
                    "tag": t,
                    "cosine": cosine,
                    "pointing": float(np.mean(hits)),
                    "level": level,
                }
            )
    return rows


def is_tag(row):
    """Return whether a row of `judged` says that a concept is a tag."""
    return row["cosine"] >= COSINE and row["pointing"] >= POINTING and row["level"] == "fine"


def verdicts(found, layer, tagged):
    """Return for each concept that is a tag what erasing it says of the tag's own class."""
    if not tagged:
        return []
    told = found.attributed(ERASED, [layer], null_cavs=20, erased=True).attributions
    told = told.set_index(["concept", "class_index"])
    rows = []
    for row in tagged:
        key = row["concept"], row["tag"]
        if key in told.index:
            own = told.loc[key]
            verdict = {
                "verdict": own["verdict"],
                "share": None if np.isnan(own["share"]) else own["share"],
            }
            rows.append({"concept": key[0], "tag": key[1], **verdict})
    return rows


def one(seed, tags, weights):
    """Return what discovery finds in one network."""
    model = network(seed, tags, weights)
    pictures = drawn(seed, tags, IMAGES, scene_seed(seed, "concepts") + 500).images()
    begun = time.process_time()
    found = vtcav.VisualTCAV(model, LAYERS, progress=False).discover(pictures)
    seconds = time.process_time() - begun
    layer = found.best_layer
    rows = judged(found, model, seed, layer)
    tagged = [row for row in rows if is_tag(row)]
    erased = verdicts(found, layer, tagged)
    best = max(rows, key=lambda row: (is_tag(row), row["cosine"]))
    return {
        "seed": seed,
        "tags": tags,
        "layer": layer,
        "fine": found.summary.set_index("layer")["fine"].to_dict(),
        "k": found.summary.set_index("layer")["k"].to_dict(),
        "found": bool(tagged),
        "tags_found": sorted({row["tag"] for row in tagged}),
        "tag_concepts": sorted({row["concept"] for row in tagged}),
        "best": best,
        "shortcut": any(row["verdict"] == "used" for row in erased),
        "erased": erased,
        "seconds": round(seconds, 1),
    }


def noise(seed, weights):
    """Return how many concepts of noise images have no flag."""
    model = network(seed, True, weights)
    pictures = np.random.default_rng(seed).integers(0, 256, (IMAGES, 64, 64, 3)).astype(np.uint8)
    table = vtcav.VisualTCAV(model, LAYERS, progress=False).discover(pictures).concepts
    return {"seed": seed, "concepts": len(table), "fine": int((table["level"] == "fine").sum())}


def main():
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="81,82,83,84,85,86,87,88,89,90")
    parser.add_argument("--without", default="81,82,83,84,85,86,87,88,89,90")
    parser.add_argument("--noise", default="81,82,83")
    parser.add_argument("--weights", type=Path, help="a folder to keep trained networks in")
    parser.add_argument("--add", action="store_true", help="keep the rows of other seeds")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    def seeds(text):
        return [int(part) for part in text.split(",") if part]

    rows = []
    for seed in seeds(arguments.seeds):
        found = one(seed, True, arguments.weights)
        what = f"seed {seed}, with tags: a concept is the tag"
        rows.append({"what": what, "value": found["found"], "target": "True", **found})
        what = f"seed {seed}, with tags: and the class uses it"
        rows.append({"what": what, "value": found["shortcut"], "target": "True"})
        print(rows[-1], flush=True)
    for seed in seeds(arguments.without):
        found = one(seed, False, arguments.weights)
        what = f"seed {seed}, without tags: a concept is the tag"
        rows.append({"what": what, "value": found["found"], "target": "False", **found})
        what = f"seed {seed}, without tags: and the class uses it"
        rows.append({"what": what, "value": found["shortcut"], "target": "False"})
        print(rows[-1], flush=True)
    for seed in seeds(arguments.noise):
        found = noise(seed, arguments.weights)
        what = f"seed {seed}: concepts of noise without a flag"
        rows.append({"what": what, "value": found["fine"], "target": "0", **found})
        print(rows[-1], flush=True)
    if arguments.add:
        known = json.loads((HERE / "discovery.json").read_text("utf-8"))["rows"]
        new = {row["what"] for row in rows}
        rows = [row for row in known if row["what"] not in new] + rows
    write("discovery", rows)


if __name__ == "__main__":
    main()
