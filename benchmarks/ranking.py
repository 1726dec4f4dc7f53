"""How well an order by presence finds the images of a concept: average precision.

Networks of the controlled experiment are trained on scenes with tags (q = 0.5). 2,000 new scenes of
all classes are ranked by each of the four tags; half of the scenes have a tag, one of the four
letters. Two questions: the letter among scenes without tags, and the letter among all scenes, where
the other letters are the hard ones. Examples and negatives are generic, as most users have them.

    python benchmarks/ranking.py                      # three networks; trains them first
    python benchmarks/ranking.py WEIGHTS 81 82        # keeps and takes weights in a folder
"""

import json
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sklearn.metrics import average_precision_score

import vtcav
from vtcav.evaluation.experiment.concept_sets import concept_name
from vtcav.evaluation.experiment.drawn_unit import DrawnExperiment, UnitSettings
from vtcav.evaluation.experiment.network import LAYERS
from vtcav.evaluation.experiment.scenes import LETTERS, draw_scenes, scene_seed, with_tags

AGREEMENT, IMAGES = 0.5, 2000


def network(experiment, seed, weights):
    """Return the network of a seed, trained or from its file."""
    file = weights / f"net-{seed}-{AGREEMENT}.safetensors"
    if not file.exists():
        model = experiment.trained(seed, AGREEMENT, "cpu", lambda: None)
        save_file({k: v.contiguous() for k, v in model.module.state_dict().items()}, file)
    return experiment.restored(seed, load_file(file))


def precisions(ranking, letters, wanted):
    """Return the average precision of a ranking: among scenes without tags, among all."""
    numbers = ranking.table["image"].str.extract(r"(\d+)")[0].astype(int).to_numpy()
    there, presence = letters[numbers] == wanted, ranking.table["presence"].to_numpy()
    alone = there | (letters[numbers] == -1)
    return (
        average_precision_score(there[alone], presence[alone]),
        average_precision_score(there, presence),
    )


def main(weights, seeds):
    """Measure, print and write beside this file."""
    warnings.simplefilter("ignore")
    experiment, found = DrawnExperiment(UnitSettings()), []
    for seed in seeds:
        model, rng = network(experiment, seed, weights), np.random.default_rng(seed + 7)
        own = scene_seed(seed, "test")
        letters = np.where(rng.random(IMAGES) < 0.5, rng.integers(0, 4, IMAGES), -1)
        images = with_tags(draw_scenes(np.arange(IMAGES) % 4, own), letters, own).images()
        sets = experiment.concepts(seed, generic=True)
        names = [concept_name("tag", k) for k in range(len(LETTERS))]
        explainer = vtcav.VisualTCAV(model, list(LAYERS), progress=False)
        examples, negatives = (
            {name: own[name] for name in names} for own in (sets.examples, sets.negatives)
        )
        explainer.fit(examples, negatives, null_cavs=0, bootstraps=0)
        for k, name in enumerate(names):
            for way, layer in (
                ("layers together", None),
                ("paper, best layer", explainer.best_layer(name)),
            ):
                ranking = explainer.rank(images, name, layer, pictures=0)
                pair = precisions(ranking, letters, k)
                row = {"seed": seed, "concept": name, "way": way, "layer": ranking.layer}
                row |= {"among untagged": round(pair[0], 3), "among all": round(pair[1], 3)}
                found.append(row)
                print(row, flush=True)
    for way in dict.fromkeys(row["way"] for row in found):
        for question in ("among untagged", "among all"):
            values = [row[question] for row in found if row["way"] == way]
            print(f"{way}, {question}: mean {np.mean(values):.3f}, least {min(values):.3f}")
    (Path(__file__).parent / "ranking.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    given = [int(seed) for seed in sys.argv[2:]] or [81, 82, 83]
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]), given)
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder), given)
