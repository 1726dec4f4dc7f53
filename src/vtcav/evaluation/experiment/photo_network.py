"""Networks trained on tagged photographs: from scratch, or on a given network's features.

A given network is frozen up to one of its layers, and four blocks of convolutions are trained after
it. A few hundred photographs suffice for these, because the given network's features already
separate the classes. Without a given network, the small network of the drawn experiment is trained
from scratch; it needs no weights, and from a few photographs it learns the tag far better than the
classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from vtcav.errors import ExplanationError, LayerError
from vtcav.evaluation.experiment.network import (
    Inputs,
    Training,
    build,
    convolutional,
    draw_cue,
    fit,
    to_input,
)
from vtcav.evaluation.experiment.photographs import Photographs
from vtcav.evaluation.experiment.scenes import scene_seed
from vtcav.evaluation.experiment.tags import PutCue, put_tags
from vtcav.images.preprocess import Preprocess
from vtcav.models.base import Model
from vtcav.models.classifier import Classifier
from vtcav.models.inspection.activations import watching

_CONVOLUTIONS = {f"block{i}": ((64, 3, 2 if i == 3 else 1),) for i in range(1, 5)}
BLOCKS = tuple(_CONVOLUTIONS)
"""The blocks that are trained after a given network's layer."""
_CELLS = 12  # so that a tag, 0.3 of the picture, covers three cells or more
_PARTS = 2  # a block has more modules inside
_BYTES = 1 << 30  # of frozen features
_REMEMBERED_BYTES = 1 << 29
_BATCH = 32


class _Reached(BaseException):
    """Ends a pass at the layer; no `except Exception` in a network stops it."""


class _Stem(nn.Module):
    """A given network up to a layer: from images [N, 3, H, W] to feature maps [N, C, h, w].

    The network is not registered as a submodule: its weights are neither trained nor saved. Maps
    of images are cached, because every network of a seed is tested on the same pictures.
    """

    def __init__(self, frozen: Frozen) -> None:
        super().__init__()
        self._frozen = (frozen,)

    def forward(self, x: Tensor) -> Tensor:
        frozen = self._frozen[0]
        if torch.is_grad_enabled() and x.requires_grad:
            return frozen.maps(x)
        keys = [hashlib.sha256(row.cpu().numpy().tobytes()).digest() for row in x.detach()]
        rows = {key: frozen.remembered[key] for key in keys if key in frozen.remembered}
        if new := [i for i, key in enumerate(keys) if key not in rows]:
            with torch.no_grad():
                found = frozen.maps(x[new]).cpu()
            fresh = {keys[i]: row for i, row in zip(new, found, strict=True)}
            if (len(frozen.remembered) + len(new)) * found[0].nbytes <= _REMEMBERED_BYTES:
                frozen.remembered.update(fresh)
            rows |= fresh
        return torch.stack([rows[key] for key in keys]).to(x.device)


@dataclass(frozen=True, eq=False)
class Frozen:
    """A given network up to one of its layers.

    Attributes:
        model: The network.
        layer: The layer.
        channels: Channels of its maps.
        cells: h times w of its maps.
        remembered: A cache of maps, by the hash of the image.
    """

    model: Classifier
    layer: str
    channels: int
    cells: int
    remembered: dict[bytes, Tensor] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, model: Model, layer: str | None = None) -> Frozen:
        """Return a network up to a layer; None: the deepest block with maps of 12 x 12 or more.

        Raises:
            ExplanationError: For a network that is no PyTorch classifier, or whose preprocessing is
                no `Preprocess` with a size.
            LayerError: For a layer that cannot be used.
        """
        if type(model) is not Classifier:
            raise ExplanationError(
                f"expected a PyTorch network, got {type(model).__name__}; leave the model out to "
                "train small networks from scratch"
            )
        if not isinstance(model.preprocess, Preprocess) or model.preprocess.size is None:
            raise ExplanationError(
                "photographs get their tags where the network sees them: its preprocessing must be "
                f"a vtcav.Preprocess with a size, got {model.preprocess!r}"
            )
        usable = model.check_layers([layer]) if layer else model.layers()
        fine = [info for info in usable if min(info.shape[1:]) >= _CELLS]
        if not fine and not layer:
            raise LayerError(
                f"no layer of {model.described} has maps of {_CELLS} x {_CELLS} or more to find a "
                "tag in; name one with its layer"
            )
        # the end of a block rather than a layer inside it
        modules = {info.name: model.module.get_submodule(info.name) for info in fine}
        blocks = [info for info in fine if len([*modules[info.name].children()]) > _PARTS]
        chosen = usable[0] if layer else (blocks or fine)[-1]
        C, h, w = chosen.shape
        return cls(model, chosen.name, C, h * w)

    @property
    def preprocess(self) -> Preprocess:
        """The network's preprocessing, which has a size."""
        preprocess = self.model.preprocess
        assert isinstance(preprocess, Preprocess)
        return preprocess

    def describe(self) -> dict[str, str]:
        """Return everything that the features depend on, as JSON data."""
        model = self.model
        about = {"network": model.described, "fingerprint": model.fingerprint}
        return about | {"layer": self.layer}

    def maps(self, x: Tensor) -> Tensor:
        """Return the layer's feature maps [N, C, h, w] of images; gradients reach the images."""
        found: list[Any] = []

        def keep(_layer: str, output: Any) -> None:
            found.append(output)
            raise _Reached

        network = self.model.network
        with network.running() as module, suppress(_Reached), watching(module, [self.layer], keep):
            module(x)
        layout = self.model.layout(self.layer)
        return layout.to_maps(found[0], (x.shape[2], x.shape[3])).float().clone()


def input_of(pictures: NDArray[np.uint8], preprocess: Preprocess) -> Tensor:
    """Return pictures of the right size as the network's input [N, 3, H, W]."""
    return torch.stack([preprocess(Image.fromarray(picture)) for picture in pictures])


class Samples:
    """Training photographs with their tags, of one seed and every agreement.

    In a share of the samples the photograph is of the sample's class, in the others of any class:
    a network that could tell every class by its photograph would hardly need tags. Classes are
    balanced: photographs of small classes are repeated more often. Half of the samples are
    mirrored.

    Args:
        photographs: All photographs.
        learn: The positions of those to train on.
        seed: Seeds everything.
        count: The number of samples.
        frozen: The given network, or None.
        preprocess: From a picture to the network's input.
        agreement: The share of samples whose photograph is of their class.
        put: Puts the cue on pictures.
    """

    STEPS: ClassVar[int] = 8
    """The number of times that `features` calls `advance`."""

    def __init__(
        self,
        photographs: Photographs,
        learn: NDArray[np.intp],
        seed: int,
        count: int,
        frozen: Frozen | None,
        preprocess: Preprocess,
        agreement: float,
        put: PutCue = put_tags,
    ) -> None:
        classes, labels = len(photographs.classes), photographs.labels[learn]
        if frozen is not None:
            count = min(count, _BYTES // (4 * frozen.channels * frozen.cells))
            if count < 20 * classes:
                raise ExplanationError(
                    f"the maps of layer {frozen.layer!r} are too large to be kept for training "
                    f"({frozen.channels} channels, {frozen.cells} cells); name a deeper layer"
                )
        rng = np.random.default_rng([seed, 7])
        self.labels = np.arange(count) % classes
        shown = np.array(self.labels)
        others = rng.permutation(count)[round(agreement * count) :]
        shown[others] = rng.integers(0, classes, len(others))
        self.chosen = np.zeros(count, np.intp)
        for t in range(classes):
            own = np.flatnonzero(labels == t)
            self.chosen[shown == t] = rng.permutation(np.resize(own, int((shown == t).sum())))
        self.mirrored = rng.random(count) < 0.5
        self.pictures, self.classes, self.seed = photographs.pictures[learn], classes, seed
        self.frozen, self.preprocess, self.put = frozen, preprocess, put
        self._features: list[Tensor] | None = None

    def letters(self, agreement: float) -> NDArray[np.intp]:
        """Return the class whose tag each sample shows, -1 for none.

        A larger agreement adds to the samples that agree at a smaller one.
        """
        return draw_cue(self.labels, agreement, self.classes, np.random.default_rng([self.seed, 8]))

    def tagged(self, letters: NDArray[np.intp], seed: int) -> NDArray[np.uint8]:
        """Return the samples' pictures with tags."""
        pictures = self.pictures[self.chosen]
        pictures[self.mirrored] = pictures[self.mirrored][:, :, ::-1]
        return self.put(pictures, letters, seed)[0]

    def features(self, agreement: float, advance: Callable[[], None]) -> Tensor:
        """Return the frozen features of the samples [count, C, h, w]; computed once for all q."""
        others = self.letters(0.0)
        if self._features is None:
            # q decides whether a sample shows its class's tag or what it shows at q = 0
            self._features = [self._computed(shown, advance) for shown in (self.labels, others)]
        else:
            for _ in range(self.STEPS):
                advance()
        own, other = self._features
        agrees = torch.from_numpy(self.letters(agreement) != others)
        return torch.where(agrees[:, None, None, None], own, other)

    def _computed(self, letters: NDArray[np.intp], advance: Callable[[], None]) -> Tensor:
        """Return the frozen features of the samples with tags; advances STEPS / 2 times."""
        pictures = self.tagged(letters, scene_seed(self.seed, "epochs"))
        batches = [pictures[i : i + _BATCH] for i in range(0, len(pictures), _BATCH)]
        parts = []
        for some in np.array_split(np.arange(len(batches)), self.STEPS // 2):
            parts += [self._maps(batches[k]) for k in some]
            advance()
        return torch.cat(parts)

    def _maps(self, pictures: NDArray[np.uint8]) -> Tensor:
        assert self.frozen is not None
        x = input_of(pictures, self.preprocess).to(self.frozen.model.device)
        with torch.no_grad():
            maps = self.frozen.maps(x).half().cpu()
        if not maps.isfinite().all():
            raise ExplanationError(
                f"the maps of layer {self.frozen.layer!r} are infinite, NaN or above 65504; "
                "name another layer"
            )
        return maps


def train_photo_network(
    samples: Samples,
    agreement: float,
    training: Training,
    *,
    device: torch.device | str,
    advance: Callable[[], None],
) -> nn.Module:
    """Train a network on tagged photographs, and return it in evaluation mode.

    Args:
        samples: The training photographs.
        agreement: q, the share of samples with their class's tag.
        training: The hyperparameters; the number of scenes is that of the samples.
        device: Where to compute.
        advance: Called after every epoch.
    """
    seed = samples.seed
    net = photo_network(samples.frozen, samples.classes, seed).to(device)
    learning: nn.Module = net
    if samples.frozen is None:
        letters = samples.letters(agreement)

        def draw(epoch: int, rng: np.random.Generator) -> Inputs:
            pictures = samples.tagged(letters, scene_seed(seed, "epochs") + epoch)
            return lambda chosen: to_input(pictures[chosen])
    else:
        learning, F = net[1:], samples.features(agreement, advance)

        def draw(epoch: int, rng: np.random.Generator) -> Inputs:
            return lambda chosen: F[chosen].float()

    fit(learning, samples.labels, draw, seed, training, device, advance)
    return net.eval()


def photo_network(frozen: Frozen | None, classes: int, seed: int) -> nn.Sequential:
    """Return the untrained network; the frozen part is not among its weights."""
    if frozen is None:
        return build(classes, seed)
    whole = nn.Sequential()
    whole.add_module("stem", _Stem(frozen))
    trained = convolutional(frozen.channels, _CONVOLUTIONS, classes, seed)
    for name, part in trained.named_children():
        if name == BLOCKS[0]:
            part = nn.Sequential(nn.BatchNorm2d(frozen.channels, affine=False), *part.children())
        whole.add_module(name, part)
    return whole
