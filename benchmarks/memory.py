"""Peak memory by the number of images: it must not grow with them.

Each size runs in a process of its own: learning one concept from N / 2 examples and N / 2
negatives (with null and bootstrap CAVs), explaining a class of N images, with two concepts at
three layers, ranking N images, and finding concepts in N images. Pictures are files of their own.
They and the network are small on purpose: what is kept of each image weighs more beside them.

    python benchmarks/memory.py            # 500 and 5,000 examples, 1,000 and 20,000 images
    python benchmarks/memory.py 100 400 100 400
"""

import json
import platform
import resource
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SIDE = 64
LAYERS = ["1", "3", "5"]


def draw(folder, count):
    """Write pictures."""
    import numpy as np
    from PIL import Image

    folder.mkdir()

    def one(i):
        rng = np.random.default_rng(i)
        tile = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(tile).resize((SIDE, SIDE)).save(folder / f"{i:06d}.jpg", quality=70)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(count)))


def explainer():
    """Return an explainer of a small network."""
    import torch
    from torch import nn

    import vtcav

    torch.manual_seed(0)
    widths = [3, 32, 64, 128]
    convolutions = [
        part
        for i in range(3)
        for part in (nn.Conv2d(widths[i], widths[i + 1], 3, stride=2, padding=1), nn.ReLU())
    ]
    net = nn.Sequential(
        *convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 10)
    )
    model = vtcav.Classifier(net, None, vtcav.Preprocess(SIDE), device="cpu")
    return vtcav.VisualTCAV(model, LAYERS, 2, progress=False)


def learn(folder, count):
    """Learn a concept from half of the images against the other half."""
    files = sorted(folder.iterdir())[:count]
    explainer().fit({"even": files[::2]}, files[1::2])


def explain(folder, count):
    """Explain a class of many images."""
    files = sorted(folder.iterdir())[:count]
    concepts = {"a": files[:20], "b": files[20:40]}
    fitted = explainer().fit(concepts, files[40:100], null_cavs=100, bootstraps=50)
    rows = fitted.explain_class(0, files).attributions
    assert len(rows) == count * 6


def rank(folder, count):
    """Rank many images by a concept that the network sees."""
    import numpy as np

    files = sorted(folder.iterdir())[:count]
    red = np.zeros((40, SIDE, SIDE, 3), np.uint8)
    red[..., 0] = 200
    fitted = explainer().fit({"red": red}, files[40:100], null_cavs=0, bootstraps=0)
    assert len(fitted.rank(files, "red").table) == count


def discover(folder, count):
    """Find concepts that nobody named in many images."""
    files = sorted(folder.iterdir())[:count]
    assert explainer().discover(files, k=6).images == count


def peak():
    """Return the most memory that this process held, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def measured(what, folder, count):
    """Return the peak of a process of its own."""
    command = [sys.executable, __file__, "--one", what, str(folder), str(count)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main(few=500, many=5000, some=1000, most=20000):
    """Measure, print and write beside this file."""
    results = {"machine": f"{platform.machine()}, {platform.system()}", "peak_MB": {}, "ratio": {}}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "images"
        # a process that has grown hands its peak on to its children
        subprocess.run(
            [sys.executable, __file__, "--one", "draw", str(folder), str(max(many, most))],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        for what, counts in (
            ("learn", (few, many)),
            ("explain", (some, most)),
            ("rank", (some, most)),
            ("discover", (some, most)),
        ):
            peaks = {str(count): round(measured(what, folder, count), 1) for count in counts}
            results["peak_MB"][what] = peaks
            results["ratio"][what] = round(peaks[str(counts[1])] / peaks[str(counts[0])], 3)
    text = json.dumps(results, indent=1)
    print(text)
    if (few, many, some, most) == (500, 5000, 1000, 20000):
        (Path(__file__).parent / "memory.json").write_text(text + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        known = (draw, learn, explain, rank, discover)
        work = {each.__name__: each for each in known}[sys.argv[2]]
        work(Path(sys.argv[3]), int(sys.argv[4]))
        print(peak())
    else:
        main(*map(int, sys.argv[1:]))
