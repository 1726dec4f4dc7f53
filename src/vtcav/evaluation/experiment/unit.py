"""One unit of the experiment: a network trained at one agreement q, its truth and its explanations.

```
scenes -> network -> effects of taking tag and texture out        (the truth)
                  -> Visual-TCAV and its peers on the same images  (what is held against it)
                  -> concept maps against the true masks
```
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from vtcav.concept_map import concept_map, raw_map
from vtcav.evaluation.concept_sets import concept_name, draw_concept_sets
from vtcav.evaluation.effects import CUES, Effects, causal_effects
from vtcav.evaluation.experiment.values import class_means, image_values
from vtcav.evaluation.filter_map import FILTER, FilterMaps, fit_filters
from vtcav.evaluation.metrics import at_resolution, localise
from vtcav.evaluation.network import LAYERS, Training, build, draw_cue, logits, to_input, train
from vtcav.evaluation.scenes import CLASSES, SIDE, Scenes, draw_scenes, scene_seed, with_tags
from vtcav.layer_analysis import NOT_SEPARATED

if TYPE_CHECKING:
    from vtcav.explainer import VisualTCAV

__all__ = [
    "UnitResult",
    "UnitSettings",
    "draw_test_scenes",
    "run_unit",
    "sample_maps",
    "unit_steps",
]


@dataclass(frozen=True)
class UnitSettings:
    """What a unit's numbers depend on, beside its seed and agreement.

    Attributes:
        training: How the network is trained.
        texture_agreement: Share of training scenes whose texture is the class's. Below 1, or the
            network would hardly need tags.
        examples: Examples of each concept, and as many negatives.
        test_images: Test images of each class.
        methods: The methods compared, Visual-TCAV first; `FILTER` is its variant whose map is
            drawn by a filter (`vtcav.evaluation.filter_map`).
        tcav_runs: CAVs of each concept for TCAV.
    """

    training: Training = field(default_factory=Training)
    texture_agreement: float = 0.9
    examples: int = 80
    test_images: int = 40
    methods: tuple[str, ...] = ("visual_tcav",)
    tcav_runs: int = 10


@dataclass(frozen=True, eq=False)
class UnitResult:
    """What a unit found.

    Attributes:
        classes: One row per class, cue, method and layer: value, share, effect, gap, ...
        images: The same per image.
        maps: One row per image, cue and layer: the metrics of the concept map, and a note.
        facts: Accuracies with and without the cues, and other single numbers.
        weights: Of the trained network.
    """

    classes: pd.DataFrame
    images: pd.DataFrame
    maps: pd.DataFrame
    facts: dict[str, Any]
    weights: dict[str, torch.Tensor]


def unit_steps(settings: UnitSettings) -> int:
    """Return how often `run_unit` says that it advanced."""
    return settings.training.epochs + 3


def draw_test_scenes(per_class: int, seed: int) -> Scenes:
    """Return test scenes of all classes in turn, each with its class's tag."""
    labels = np.arange(per_class * len(CLASSES)) % len(CLASSES)
    own = scene_seed(seed, "test")
    return with_tags(draw_scenes(labels, own), labels, own)


def run_unit(
    seed: int,
    agreement: float,
    settings: UnitSettings,
    *,
    device: torch.device | str = "cpu",
    advance: Callable[[], None] = lambda: None,
) -> UnitResult:
    """Train a network, measure the truth, and hold the methods against it.

    Args:
        seed: Seeds everything.
        agreement: q, the share of training scenes whose tag is the class's, in [0, 1].
        settings: The rest.
        device: Where to compute.
        advance: Called after every epoch and every later step.
    """
    net = _trained(seed, agreement, settings, device, advance)
    test = draw_test_scenes(settings.test_images, seed)
    effects, facts = _truth(net, test)
    advance()
    explainer, filters = _explainer(net, settings, seed)
    images = image_values(
        explainer, filters, test, effects, settings.methods, settings.tcav_runs, seed
    )
    advance()
    maps = _map_table(explainer, filters, test)
    advance()
    keys = {"seed": seed, "q": agreement}
    weights = {name: tensor.cpu().contiguous() for name, tensor in net.state_dict().items()}
    return UnitResult(
        classes=_keyed(class_means(images, effects, test), keys),
        images=_keyed(images, keys),
        maps=_keyed(maps, keys),
        facts=facts,
        weights=weights,
    )


def _keyed(table: pd.DataFrame, keys: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame({**{k: [v] * len(table) for k, v in keys.items()}, **table})


def _trained(
    seed: int,
    agreement: float,
    settings: UnitSettings,
    device: torch.device | str,
    advance: Callable[[], None],
) -> nn.Module:
    labels = np.arange(settings.training.scenes) % len(CLASSES)
    own = scene_seed(seed, "train")
    rng = np.random.default_rng([own, 3])
    letters = draw_cue(labels, agreement, len(CLASSES), rng)
    textures = draw_cue(labels, settings.texture_agreement, len(CLASSES), rng)
    scenes = with_tags(draw_scenes(labels, own, textures=textures), letters, own)
    return train(scenes, len(CLASSES), seed, settings.training, device=device, advance=advance)


def _truth(net: nn.Module, test: Scenes) -> tuple[dict[str, Effects], dict[str, Any]]:
    """Return the effects by cue, and how well the network classifies each version."""
    versions = {
        "whole": test.images(),
        "tag": test.images(tag=False),
        "texture": test.images(texture=False),
        "neither": test.images(tag=False, texture=False),
    }
    z = {name: logits(net, pictures) for name, pictures in versions.items()}
    effects = causal_effects(z["whole"], {cue: z[cue] for cue in CUES}, z["neither"], test.labels)
    names = {"whole": "whole", "tag": "without_tag", "texture": "without_texture"}
    names["neither"] = "without_both"
    right = {names[key]: float((z[key].argmax(1) == test.labels).mean()) for key in z}
    return effects, {"accuracy": right, "mean_gap": float(effects["tag"].gap.mean())}


def _explainer(
    net: nn.Module, settings: UnitSettings, seed: int
) -> tuple[VisualTCAV, FilterMaps | None]:
    """Return the fitted explainer, and the filters where the variant is wanted."""
    from vtcav import Classifier, Preprocess, VisualTCAV

    model = Classifier(net, CLASSES, Preprocess(SIDE, mean=0.5, std=0.5))
    explainer = VisualTCAV(model, list(LAYERS), batch_size=32, progress=False)
    sets = draw_concept_sets(settings.examples, seed)
    explainer.fit(sets.examples, sets.negatives)
    if FILTER not in settings.methods:
        return explainer, None
    examples, negatives = (
        {name: to_input(pictures) for name, pictures in part.items()}
        for part in (sets.examples, sets.negatives)
    )
    return explainer, fit_filters(explainer, examples, negatives)


def sample_maps(
    weights: dict[str, torch.Tensor], settings: UnitSettings, seed: int
) -> tuple[Scenes, dict[str, dict[str, np.ndarray[Any, Any]]]]:
    """Return a test image of each class, and its own cues' maps by layer and cue [N, h, w].

    Args:
        weights: Of a unit's network.
        settings: Of the unit.
        seed: Of the unit.
    """
    net = build(len(CLASSES), seed)
    net.load_state_dict(weights)
    explainer, _ = _explainer(net.eval(), replace(settings, methods=()), seed)
    scenes = draw_test_scenes(1, seed)
    found = {}
    names = explainer.cavs.names
    maps = explainer.model.activations(to_input(scenes.images()), explainer.layers)
    for layer, F in maps.items():
        cavs = explainer.cavs.layers[layer]
        M = concept_map(raw_map(F, cavs.v), cavs.e_pos, cavs.e_neg).numpy()
        found[layer] = {
            cue: np.stack(
                [M[i, names.index(concept_name(cue, t))] for i, t in enumerate(scenes.labels)]
            )
            for cue in CUES
        }
    return scenes, found


def _map_table(explainer: VisualTCAV, filters: FilterMaps | None, test: Scenes) -> pd.DataFrame:
    """Return how well the map of each image's own tag and texture agrees with the true mask."""
    rows = []
    maps = explainer.model.activations(to_input(test.images()), explainer.layers)
    for layer, F in maps.items():
        cavs = explainer.cavs.layers[layer]
        v, e_pos, e_neg = (t.to(F.device) for t in (cavs.v, cavs.e_pos, cavs.e_neg))
        M = concept_map(raw_map(F, v), e_pos, e_neg)
        drawn = {"visual_tcav": (M, cavs.separated.numpy())}
        if filters is not None:
            drawn[FILTER] = (filters.maps(layer, F), filters.separated(layer))
        names = explainer.cavs.names
        for method, (M, separated) in drawn.items():
            key = {"method": method, "layer": layer}
            rows += [key | row for row in _map_rows(M.cpu().numpy(), separated, names, test)]
    return pd.DataFrame(rows)


def _map_rows(
    M: np.ndarray[Any, Any], separated: np.ndarray[Any, Any], names: Sequence[str], test: Scenes
) -> Iterator[dict[str, Any]]:
    """Yield the metrics of the maps of each image's own cues; M is [N, K, h, w]."""
    truth = {"tag": test.tag_mask, "texture": test.texture_mask}
    for i, t in enumerate(test.labels.tolist()):
        for cue in CUES:
            k = names.index(concept_name(cue, t))
            found = localise(M[i, k], at_resolution(truth[cue][i], M.shape[2:])).to_dict()
            if not separated[k]:
                found["note"] = NOT_SEPARATED
            yield {"class_index": t, "class_name": CLASSES[t], "cue": cue, "image": i, **found}
