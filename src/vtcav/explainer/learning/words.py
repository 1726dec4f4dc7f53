"""Concepts from words: directions of texts, from an image-text model and probe images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from vtcav.errors import ConceptError, brief, warn
from vtcav.explainer.learning.drawn_cavs import seed_of
from vtcav.explainer.learning.example_passes import Pass, first_passes, passes_shown
from vtcav.explainer.settings import FitSettings
from vtcav.images.batches import Batches
from vtcav.images.concepts import Concept, ImageSet, check_enough, gather
from vtcav.images.listing import ImageSource, collect
from vtcav.images.preprocess import Preprocess
from vtcav.images.references import ImageRef
from vtcav.method.alignment import (
    Ridge,
    held_out,
    r2,
    r2_interval,
    redrawn_directions,
    text_direction,
)
from vtcav.models.base import Model
from vtcav.models.joint_model import JointModel, unit
from vtcav.models.sources.joint_towers import load_joint_model
from vtcav.parameters import Between, check
from vtcav.results.bank import CavBank
from vtcav.results.bank.layer_cavs import TextAlignment
from vtcav.results.words import count

_FEWEST = 20  # probe images, of which each fold of the regression leaves out a fifth
_SAME = 1e-6  # of vectors of length 1


@dataclass(frozen=True, eq=False)
class Texts:
    """Texts to make concepts of, and what they are understood with.

    Attributes:
        texts: For each concept its text, or several of one meaning.
        images: The probe images.
        model: The image-text model.
        neutral: The texts that each text is compared with.
        share: The share of the probe images, those most similar to a text, that are its examples.
        own: Whether the explained network is this model's vision tower, so that similarities are
            its own scores and no regression is needed.
    """

    texts: Mapping[str, Sequence[str]]
    images: ImageSource
    model: JointModel
    neutral: Sequence[str]
    share: float
    own: bool

    @classmethod
    def of(
        cls,
        model: Model,
        texts: Mapping[str, str | Sequence[str]],
        images: ImageSource | None,
        text_model: Any,
        neutral: Sequence[str],
        share: float,
    ) -> Texts:
        """Return the words of a call, checked.

        Args:
            model: The network to explain.
            texts: As the attribute, or a single text.
            images: As the attribute.
            text_model: A model, a folder, or None for the network's own.
            neutral: As the attribute.
            share: As the attribute.

        Raises:
            ConceptError: For texts, neutral texts, a share or images that cannot be used.
            ModelError: For an image-text model that cannot be loaded.
        """
        if images is None:
            raise ConceptError(
                "expected probe images for the texts, got none; pass images=FOLDER with some "
                "hundred pictures of the kind to explain, of which some show the concepts"
            )
        if text_model is None and model.joint is None:
            raise ConceptError(
                "expected text_model=FOLDER, an image-text model such as CLIP in a local folder, "
                "to understand the texts with; vtcav downloads nothing. Get one once, for example "
                "with: hf download openai/clip-vit-base-patch32 --local-dir clip"
            )
        share = check("share", share, Between(0, 1), error=ConceptError)
        checked = {name: _texts(f"concept {name!r}", text) for name, text in texts.items()}
        own = text_model is None
        joint = model.joint if text_model is None else load_joint_model(text_model, model.device)
        assert joint is not None
        return cls(checked, images, joint, _texts("neutral", neutral), share, own)

    def directions(self) -> Tensor:
        """Return each text's embedding less the mean of the neutral texts [K, D].

        Raises:
            ConceptError: For a text that the model does not tell from the neutral ones.
        """
        neutral = self.model.embed_texts(self.neutral).mean(0)
        found = []
        for name, texts in self.texts.items():
            t = self.model.embed_texts(texts).mean(0) - neutral
            if float(t.norm()) < _SAME:
                raise ConceptError(
                    f"the text of {name!r} is the same as the neutral texts to "
                    f"{self.model.described}; choose another text, or other neutral ones"
                )
            found.append(t)
        return torch.stack(found)

    def origin(self, name: str) -> str:
        """Return in words where the direction of a concept comes from."""
        text = " / ".join(map(repr, self.texts[name]))
        neutral = count(len(self.neutral), "neutral text")
        return f"the text {text} against {neutral}, by {self.model.described}"


@dataclass(frozen=True, eq=False)
class WordConcepts:
    """Texts as concepts with given directions.

    Attributes:
        concepts: The concepts.
        alignment: How well each layer knows them.
        settings: What they depend on beside the settings of `fit`.
    """

    concepts: list[Concept]
    alignment: Mapping[str, TextAlignment]
    settings: Mapping[str, Any]

    def noted(self, bank: CavBank) -> CavBank:
        """Return the bank that was learned from the concepts, with what is known of them."""
        layers = {
            name: replace(cavs, texts=self.alignment[name]) for name, cavs in bank.layers.items()
        }
        return replace(bank, layers=layers, settings={**bank.settings, "texts": self.settings})


def word_concepts(
    run: Pass,
    words: Texts,
    negatives: ImageSource | Mapping[str, ImageSource] | None,
    fit: FitSettings,
    *,
    shown: bool | None = None,
) -> WordConcepts:
    """Return words as concepts: directions, and examples among the probe images.

    Args:
        run: The network, the layers, and the images per pass.
        words: The words.
        negatives: Images that do not show the concepts; None takes the other probe images.
        fit: How images are drawn, and how many there must be.
        shown: Whether to show a progress bar.

    Raises:
        ConceptError: For too few probe images.
        ImageError: When no image can be read.
        ModelError: When a network gives infinite values or NaN.
    """
    T = words.directions()
    probe = ImageSet("probe images", tuple(collect(words.images, limit=fit.limit, seed=fit.seed)))
    with passes_shown([probe], shown) as progress:
        learned = first_passes(replace(run, erasure=False), [probe], fit, progress)[probe]
    check_enough("probe images", len(learned.used), max(_FEWEST, 2 * fit.min_examples))
    E = _embeddings(words.model, run, learned.used)
    cosines = unit(E)
    concepts = _with_images(words, learned.used, cosines @ T.T, negatives, fit)
    # a linear relation is one of embeddings as they are; a network's own scores are of cosines
    E = cosines if words.own else E
    layers = {
        layer: _at_layer(layer, learned.gap[layer].cpu(), E, T, concepts, fit, own=words.own)
        for layer in run.layers
    }
    concepts = [
        replace(
            concept,
            directions={layer: found.v[k] for layer, found in layers.items()},
            redrawn={layer: found.redrawn[k] for layer, found in layers.items()},
            origin=words.origin(concept.name),
            texts=tuple(words.texts[concept.name]),
        )
        for k, concept in enumerate(concepts)
    ]
    settings = {
        "texts": {name: list(texts) for name, texts in words.texts.items()},
        "neutral": list(words.neutral),
        "model": words.model.described,
        "regression": not words.own,
        "share": words.share,
        "probe": len(learned.used),
        "penalties": {layer: found.penalty for layer, found in layers.items()},
    }
    return WordConcepts(concepts, {name: each.alignment for name, each in layers.items()}, settings)


@dataclass(frozen=True, eq=False)
class _AtLayer:
    """Directions [K, C] of texts at a layer, those of redrawn images [K, B, C], and how well."""

    v: Tensor
    redrawn: Tensor
    alignment: TextAlignment
    penalty: float | None


def _at_layer(
    layer: str,
    G: Tensor,
    E: Tensor,
    T: Tensor,
    concepts: Sequence[Concept],
    fit: FitSettings,
    *,
    own: bool,
) -> _AtLayer:
    """Return the directions of texts T [K, D] at a layer, from embeddings E [n, D]."""
    ridge, alignment = None, TextAlignment.none(len(T))
    if not own:
        ridge = Ridge.fit(G, E)
        predicted, mean = held_out(G, E, fit.seed)
        whole = r2(E, predicted, mean)
        rows = []
        for concept, t in zip(concepts, T, strict=True):
            three = E @ t, predicted @ t, mean @ t
            rows.append((r2(*three), *r2_interval(*three, fit.seed), whole))
            _warn_unknown(layer, concept.name, rows[-1])
        alignment = TextAlignment.of(rows)
    v, redrawn = [], []
    for concept, t in zip(concepts, T, strict=True):
        seed = seed_of("text", fit.seed, len(G), concept.name)
        v.append(text_direction(G, E @ t, ridge))
        redrawn.append(redrawn_directions(G, E @ t, ridge, fit.bootstraps, seed))
    penalty = None if ridge is None else ridge.penalty
    return _AtLayer(torch.stack(v).float(), torch.stack(redrawn).float(), alignment, penalty)


def _warn_unknown(layer: str, name: str, row: tuple[float, float, float, float]) -> None:
    value, low, high, _ = row
    if TextAlignment.of([row]).level(0) == "do not use":
        warn(
            f"layer {layer!r} is not shown to know what the text of {name!r} means: R2 {value:.2f} "
            f"({low:.2f} to {high:.2f}) on held-out probe images. Do not use this concept there; "
            "take another layer, more probe images, or images of which some show it"
        )


def _embeddings(model: JointModel, run: Pass, refs: Sequence[ImageRef]) -> Tensor:
    """Return the embeddings of images [n, D]."""
    preprocess, shown = model.preprocess, run.model.preprocess
    if isinstance(preprocess, Preprocess) and isinstance(shown, Preprocess) and shown.window:
        # it sees pictures of many bits as the network does
        preprocess = replace(preprocess, window=shown.window)
    batches = Batches(refs, preprocess, run.batch_size, strict=True)
    return torch.cat([model.embed_images(batch.x) for batch in batches])


def _with_images(
    words: Texts,
    refs: Sequence[ImageRef],
    S: Tensor,
    negatives: ImageSource | Mapping[str, ImageSource] | None,
    fit: FitSettings,
) -> list[Concept]:
    """Return concepts with their examples: the images of highest similarity S [n, K]."""
    n = max(fit.min_examples, round(words.share * len(refs)))
    order = S.argsort(dim=0, descending=True, stable=True)
    chosen = {name: order[:, k].tolist() for k, name in enumerate(words.texts)}
    examples = {name: [refs[i] for i in sorted(rows[:n])] for name, rows in chosen.items()}
    others: Any = negatives
    if negatives is None:
        others = {name: [refs[i] for i in sorted(rows[n:])] for name, rows in chosen.items()}
    return gather(examples, others, min_examples=fit.min_examples)


def _texts(of: str, given: str | Sequence[str]) -> list[str]:
    """Return one text or several as a list, checked."""
    texts = [given] if isinstance(given, str) else list(given)
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ConceptError(f"expected {of} to have one text or several, got {brief(given)}")
    return texts
