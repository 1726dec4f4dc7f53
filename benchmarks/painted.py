"""Erasure of textures that are painted on the objects of photographs: does it follow their effects?

The controlled experiment on photographs, with stripes on the object in place of a tag: the
direction of the stripes belongs to the class. The object is what OpenCV's GrabCut separates from
the border of the photograph. Networks are trained on the features of EfficientNet-Lite0.

    python benchmarks/painted.py PHOTOGRAPHS WORK 141 [--q 0 0.25 0.5 0.75 1] [--pictures FILE]

PHOTOGRAPHS has a folder for each class; WORK keeps finished networks.
"""

import argparse
import hashlib
import json
import warnings
from pathlib import Path

import cv2
import numpy as np
import torch
from measuring import machine
from PIL import Image

import vtcav
from vtcav.evaluation.experiment.photo_network import Frozen
from vtcav.evaluation.experiment.photo_unit import PhotoExperiment, PhotoSettings
from vtcav.evaluation.experiment.photographs import read_photographs
from vtcav.evaluation.experiment.result import collect_tables
from vtcav.evaluation.experiment.store import load_unit, save_unit, unit_folder
from vtcav.evaluation.experiment.tags import ABSENT

METHODS = (
    *("visual_tcav", "visual_tcav_places", "erasure", "erasure_drop"),
    *("erasure_drop_generic", "true_masks", "true_masks_drop"),
)
BORDER = 0.1
"""The share of a side that is taken for background at each border."""
AREAS = 0.05, 0.6
"""The smallest and the largest share of a photograph that an object covers."""
ANGLE = 60
"""Degrees between the stripes of two of the three classes."""
PERIODS, CONTRASTS, JITTER = (10, 16), (35, 60), 10
"""Of stripes: pixels of 224, grey levels up and down, degrees to either side."""

_objects = {}


def object_mask(picture):
    """Return where the object of a photograph is, bool [H, W]: an ellipse where none is found."""
    key = hashlib.sha256(picture.tobytes()).digest()
    if key not in _objects:
        _objects[key] = _separated(picture)
    return _objects[key]


def _separated(picture):
    height, width = picture.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    y, x = round(BORDER * height), round(BORDER * width)
    cv2.setRNGSeed(0)
    box = (x, y, width - 2 * x, height - 2 * y)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(np.ascontiguousarray(picture), mask, box, *models, 4, cv2.GC_INIT_WITH_RECT)
    front = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    front = cv2.morphologyEx(front, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    _, parts, facts, _ = cv2.connectedComponentsWithStats(front)
    if len(facts) > 1:
        found = parts == 1 + facts[1:, cv2.CC_STAT_AREA].argmax()
        if AREAS[0] <= found.mean() <= AREAS[1]:
            return found
    rows, columns = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return rows**2 + columns**2 < 0.5**2


def paint(pictures, letters, seed):
    """Put stripes on the objects of photographs; angle, period, phase and tint come from the seed.

    Returns:
        The pictures, and masks of what is painted, bool [N, H, W].
    """
    count, height, width = pictures.shape[:3]
    rng = np.random.default_rng([seed, 3])
    turn, phase = rng.uniform(-JITTER, JITTER, count), rng.uniform(0, 2 * np.pi, count)
    period = rng.uniform(*PERIODS, count) * min(height, width) / 224
    contrast, tint = rng.uniform(*CONTRASTS, count), rng.uniform(0.5, 1, (count, 3))
    rows, columns = np.mgrid[:height, :width]
    painted, masks = pictures.copy(), np.zeros((count, height, width), bool)
    for i in np.flatnonzero(np.asarray(letters) != ABSENT):
        angle = np.deg2rad(ANGLE * letters[i] + turn[i])
        across = rows * np.cos(angle) - columns * np.sin(angle)
        wave = np.clip(2 * np.sin(2 * np.pi * across / period[i] + phase[i]), -1, 1)
        masks[i] = object_mask(pictures[i])
        stripes = pictures[i] + contrast[i] * wave[..., None] * tint[i]
        painted[i] = np.where(masks[i][..., None], stripes.round().clip(0, 255), pictures[i])
    return painted, masks


def experiment_on(folder, seed):
    """Return the experiment on the photographs of a seed."""
    frozen = Frozen.of(vtcav.load_model("demo", device="cpu"), None)
    photographs = read_photographs(folder, frozen.preprocess, limit=60, seed=seed)
    settings = PhotoSettings(test_images=20, methods=METHODS)
    return PhotoExperiment(photographs, frozen, frozen.preprocess, settings, paint)


def units(experiment, seed, shares, folder):
    """Return the units of a seed by (seed, q), stored or computed now."""
    found = {}
    for q in shares:
        own = unit_folder(folder, seed, q)
        unit = load_unit(own)
        if unit is None:
            unit = experiment.run(seed, q)
            save_unit(own, unit)
        print(f"seed {seed}, q = {q:g}: {unit.facts['accuracy']}", flush=True)
        found[seed, q] = unit
    return found


def numbers(tables):
    """Return the agreement by method: image by image over all layers, and class means."""
    found = {}
    for method, own in tables["local"].groupby("method", sort=False):
        effect = own.groupby("layer")["within_effect"].apply(lambda c: c.fillna(0).mean())
        share = own.groupby("layer")["within_share"].apply(lambda c: c.fillna(0).mean())
        found[method] = {
            "images, effect": effect.to_dict(),
            "images, share": share.to_dict(),
            "undefined": float(own["undefined"].sum() / own["groups"].sum()),
        }
    for method, own in tables["points"].groupby("method", sort=False):
        means = {}
        for layer, rows in own.groupby("layer", sort=False):
            known = rows.dropna(subset=["value", "effect"])
            means[layer] = {
                "n": len(known),
                "of": len(rows),
                "effect": float(known["value"].corr(known["effect"], method="spearman")),
                "share": float(known["value"].corr(known["share"], method="spearman")),
            }
        found.setdefault(method, {})["class means"] = means
    return found


def main():
    """Measure, print and write beside this file."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photographs", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("seed", type=int)
    parser.add_argument("--q", type=float, nargs="+", default=[0.0, 0.25, 0.5, 0.75, 1.0])
    parser.add_argument("--pictures", type=Path, help="draw some test photographs, and end")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    experiment = experiment_on(options.photographs, options.seed)
    if options.pictures:
        versions = experiment.trial(options.seed, 4).versions
        rows = [np.concatenate(list(versions[name]), 1) for name in ("without_tag", "whole")]
        Image.fromarray(np.concatenate(rows)).save(options.pictures)
        return
    torch.set_num_threads(1)
    found = units(experiment, options.seed, options.q, options.work)
    result = {
        "machine": machine(),
        "seed": options.seed,
        "photographs": experiment.photographs.to_dict()["classes"],
        "accuracy": {q: unit.facts["accuracy"] for (_, q), unit in found.items()},
        "methods": numbers(collect_tables(found)),
    }
    print(json.dumps(result, indent=1))
    options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
