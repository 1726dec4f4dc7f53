"""What erasure adds to learning and to `explain_class`, in one run.

EfficientNet-Lite0, its first three recommended layers; six drawn textures, each a patch in crops of
photographs, and images that show all of them. 20 placebos and the adaptive rule, as they come. The
two sides of a ratio take turns. (Erasure takes the same passes whatever the steps of the integral,
so that it adds the larger a share, the fewer these are.)

    python benchmarks/erasure.py [--images 50] [--repeats 1]
"""

import argparse

import numpy as np
from measuring import in_turn, with_steady_memory, write

import vtcav
from vtcav.datasets import demo_photographs, textures

SIDE, PATCH = 224, 64


def with_patches(pictures, patches, seed):
    """Return copies of pictures [n, H, W, 3], each with a patch of every kind at random places."""
    rng = np.random.default_rng(seed)
    shown = pictures.copy()
    for n, picture in enumerate(shown):
        cells = rng.permutation(9)[: len(patches)]
        for cell, kind in zip(cells, patches, strict=True):
            i, j = (int(place) * (SIDE - PATCH) // 2 for place in divmod(int(cell), 3))
            picture[i : i + PATCH, j : j + PATCH] = kind[n % len(kind)]
    return shown


def main():
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=50, help="to explain; default 50")
    parser.add_argument("--repeats", type=int, default=1, help="default 1")
    arguments = parser.parse_args()
    model = vtcav.load_model("demo", device="cpu")
    layers = vtcav.VisualTCAV(model).layers[:3]
    crops = demo_photographs.negatives(0)
    crops = np.stack([crop[:SIDE, :SIDE] for crop in crops if min(crop.shape[:2]) >= SIDE])
    patches = {name: textures.draw(name, 30, seed=0)[:, :PATCH, :PATCH] for name in textures.NAMES}
    negatives, plain = crops[:60], np.resize(crops[60:], (30, *crops.shape[1:]))
    concepts = {name: with_patches(plain, [kind], 1) for name, kind in patches.items()}
    images = with_patches(
        np.resize(crops[60:], (arguments.images, *crops.shape[1:])), list(patches.values()), 2
    )
    explainers = {
        fill: vtcav.VisualTCAV(model, layers, fill=fill, progress=False)
        for fill in (None, "convolution")
    }

    def learn(fill):
        explainers[fill].fit(concepts, negatives)

    def explain(fill):
        explainers[fill].explain_class(0, images)

    rows = []
    for what, work in (
        ("learning 6 concepts", learn),
        (f"explain_class of {arguments.images} images", explain),
    ):
        found = in_turn(lambda w=work: w("convolution"), lambda w=work: w(None), arguments.repeats)
        target = "at most 1.25" if work is explain and arguments.images >= 50 else None
        rows.append({"what": f"{what}, with erasure over without", **found, "target": target})
    shown = explainers["convolution"].explain_class(0, images[:10]).class_effects()["present"]
    write("erasure", rows, "cpu", images=arguments.images, layers=layers, present=list(shown))


if __name__ == "__main__":
    with_steady_memory()
    main()
