"""What a correction does to networks whose cues are known: the controlled experiment.

All four tags are taken out of a network that was trained with them, at several layers. Removing tag
and texture from test scenes measures their effects before and after. As a control the same is done
along patterns with permuted channels, with the filters that find these as well.

    python benchmarks/correction.py WEIGHTS 71 72 --q 0.75 1 --layers block4,block5 --rounds 1,2,3

With --photographs (a folder per class) tags are put on photographs, and networks are trained on the
features of EfficientNet-Lite0; there is no texture.
"""

import argparse
import json
import warnings
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

import vtcav
from vtcav.errors import CavError
from vtcav.evaluation.experiment.drawn_unit import DrawnExperiment, UnitSettings
from vtcav.evaluation.experiment.photo_network import Frozen
from vtcav.evaluation.experiment.photo_unit import PhotoExperiment, PhotoSettings
from vtcav.evaluation.experiment.photographs import read_photographs
from vtcav.explainer.correction.corrected_network import CorrectedNetwork
from vtcav.explainer.correction.projections import ConceptRemoval, Direction
from vtcav.method.erasure.place_filter import Background, outer_products
from vtcav.method.projection import joint_patterns

EACH = 100
"""Test scenes of each class."""


def of_photographs(folder, seed):
    """Return the experiment on photographs of the first seed's draw."""
    frozen = Frozen.of(vtcav.load_model("demo", device="cpu"), None)
    photographs = read_photographs(folder, frozen.preprocess, limit=60, seed=seed)
    settings = PhotoSettings(test_images=20)
    return PhotoExperiment(photographs, frozen, frozen.preprocess, settings)


def network(experiment, seed, q, folder):
    """Return the network of a seed, trained or from its file."""
    file = folder / f"net-{seed}-{q}.pt"
    if not file.exists():
        model = experiment.trained(seed, q, "cpu", lambda: None)
        torch.save(model.module.state_dict(), file)
    return experiment.restored(seed, torch.load(file, weights_only=True))


def measured(net, inputs, labels):
    """Return effects of both cues, accuracies and logits of every version of the scenes."""
    with torch.no_grad():
        z = {k: torch.cat([net(b) for b in x.split(64)]).double() for k, x in inputs.items()}
    own = {k: v[torch.arange(len(labels)), labels] for k, v in z.items()}
    cues = [cue for cue in ("tag", "texture") if f"without_{cue}" in own]
    row = {cue: float((own["whole"] - own[f"without_{cue}"]).mean()) for cue in cues}
    return row | {k: float((v.argmax(1) == labels).double().mean()) for k, v in z.items()}, z


def control(direction, F, seed):
    """Return patterns with permuted channels, and the filters that find these as well."""
    mean = F.mean((0, 2, 3))
    locations = F.shape[0] * F.shape[2] * F.shape[3]
    background = Background.of(locations, mean, outer_products(F, mean))
    order = torch.randperm(len(mean), generator=torch.Generator().manual_seed(seed))
    d = direction.P[:, order]
    w = background.filters(mean + d)
    everywhere = torch.full((len(w),), -torch.inf)
    return Direction(w, w @ mean, joint_patterns(w, d).to(w), everywhere, everywhere)


def corrections(explainer, tags, negatives, layer, when, rounds):
    """Yield the number of rounds and the network corrected in so many."""
    fixed = explainer.correct(tags, layer, when, rounds=max(rounds), anyway=True)
    own, module = fixed.removal, explainer.model.module
    for count in rounds:
        if count <= len(own.directions):
            removal = ConceptRemoval(own.directions[:count], when, own.layout)
            report = replace(fixed.report, seen=fixed.report.seen[:count])
            yield str(count), CorrectedNetwork(module, layer, removal, report)
    if when == "always":
        F = explainer.model.activations(negatives, [layer])[layer]
        random = [control(direction, F, i) for i, direction in enumerate(own.directions)]
        removal = ConceptRemoval(random, when, own.layout)
        yield "control", CorrectedNetwork(module, layer, removal, fixed.report)


def rows(experiment, seed, q, options):
    """Yield the rows of a network."""
    model = network(experiment, seed, q, options.weights)
    trial, sets = experiment.trial(seed, EACH), experiment.concepts(seed)
    tags = list(trial.concepts["tag"])
    explainer = vtcav.VisualTCAV(model, options.layers, placebos=0, progress=False, batch_size=64)
    chosen = [{name: found[name] for name in tags} for found in (sets.examples, sets.negatives)]
    explainer.fit(*chosen, null_cavs=0, bootstraps=0)
    inputs = {name: experiment.input(pictures) for name, pictures in trial.versions.items()}
    labels = torch.tensor(trial.labels)
    negatives = experiment.input(sets.negatives[tags[0]])
    before, z0 = measured(model.module, inputs, labels)
    key, cues = {"seed": seed, "q": q}, list(trial.cues)
    yield key | {"layer": "", "when": "", "rounds": "", **before}
    for layer in options.layers:
        for when in options.when:
            try:
                for count, fixed in corrections(
                    explainer, tags, negatives, layer, when, options.rounds
                ):
                    after, z = measured(fixed, inputs, labels)
                    same = (z["without_tag"] == z0["without_tag"]).all(1).double().mean()
                    changed = {f"{cue}_change": after[cue] / before[cue] - 1 for cue in cues}
                    how = {"layer": layer, "when": when, "rounds": count, "same": float(same)}
                    yield key | how | changed | after
            except CavError as error:
                print(seed, q, layer, str(error)[:90], flush=True)


def main():
    """Measure, print and write beside this file."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser()
    parser.add_argument("weights", type=Path)
    parser.add_argument("seeds", type=int, nargs="+")
    parser.add_argument("--q", type=float, nargs="+", default=[0.75, 1.0])
    parser.add_argument("--layers", type=lambda t: t.split(","), default=["block4", "block5"])
    parser.add_argument("--when", type=lambda t: t.split(","), default=["present", "always"])
    parser.add_argument(
        "--rounds", type=lambda t: [int(n) for n in t.split(",")], default=[1, 2, 3]
    )
    parser.add_argument("--photographs", type=Path, help="a folder per class")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    options.weights.mkdir(exist_ok=True)
    found = []
    if options.photographs is None:
        experiment = DrawnExperiment(UnitSettings())
    else:
        experiment = of_photographs(options.photographs, options.seeds[0])
    for seed in options.seeds:
        for q in options.q:
            for row in rows(experiment, seed, q, options):
                found.append(row)
                print(
                    {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()},
                    flush=True,
                )
    table = pd.DataFrame(found)
    print(table.round(3).to_string(index=False))
    if options.output:
        options.output.write_text(json.dumps(json.loads(table.to_json(orient="records")), indent=1))


if __name__ == "__main__":
    main()
