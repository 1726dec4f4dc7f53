"""A class of a million images: time, files, memory, and what the result takes to look at.

A trivial network with three layers and six concepts, and tiny pictures that are drawn when they are
read, so that what is measured is the run around the network. Each size runs in a process of its
own, which keeps its parts in a folder and then reads the result.

    python benchmarks/million.py                       # 10,000 and 100,000 images
    python benchmarks/million.py 10000 1000000         # the size of the target: an hour
    python benchmarks/million.py --copies 10000 1000000     # the same tables in less time
    python benchmarks/million.py --fill convolution 10000    # with erasure

With `--copies` the network computes the first batch only, and later images have its numbers under
their own names.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

SIDE = 8
LAYERS = ["1", "3", "5"]


def small_explainer(fill):
    """Return an explainer of a trivial network with six concepts."""
    import numpy as np
    import torch
    from torch import nn

    import vtcav

    torch.manual_seed(0)
    torch.set_num_threads(1)
    widths = [3, 4, 4, 4]
    convolutions = [
        part
        for i in range(3)
        for part in (nn.Conv2d(widths[i], widths[i + 1], 3, padding=1), nn.ReLU())
    ]
    net = nn.Sequential(
        *convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 3)
    )
    model = vtcav.Classifier(net, ["cat", "dog", "fox"], vtcav.Preprocess(SIDE), device="cpu")
    made = vtcav.VisualTCAV(model, LAYERS, 2, fill=fill, batch_size=64, progress=False)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (60, SIDE, SIDE, 3), dtype=np.uint8)
    concepts = {}
    for k in range(6):
        own = noise[:12] // 2
        own[..., k % 3] += 127 if k < 3 else 60
        concepts[f"concept {k}"] = own
    return made.fit(concepts, noise[12:], null_cavs=100, bootstraps=10)


def pictures(count):
    """Return references to pictures that are drawn when they are read."""
    import numpy as np

    from vtcav.images.references import ImageRef

    @dataclass(frozen=True, eq=False, kw_only=True, slots=True)
    class Drawn(ImageRef):
        row: int

        def fetch(self):
            rng = np.random.default_rng(self.row)
            return ImageRef(self.name, rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))

    return [Drawn(f"drawn[{i}]", row=i) for i in range(count)]


def copied(attributor):
    """Have an attributor compute one batch, and give its numbers to the images of the others."""
    compute, known = attributor.class_rows, {}

    def class_rows(names, *rest):
        if not known:
            known["rows"], known["effects"], known["sums"] = compute(names, *rest)
            known["each"] = len(known["rows"]) // len(names)
        rows = [
            (name, *row[1:])
            for n, name in enumerate(names)
            for row in known["rows"][n * known["each"] : (n + 1) * known["each"]]
        ]
        return rows, known["effects"], known["sums"]

    attributor.class_rows = class_rows


def peak():
    """Return the most memory that this process held, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def size_of(folder):
    """Return the number of files in a folder and their size in MB."""
    sizes = [path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()]
    return {"files": len(sizes), "MB": round(sum(sizes) / 1e6, 1)}


def one(count, place, fill, copies):
    """Run one size, and print what it took."""
    found = {}

    def step(name, work):
        start, used = time.perf_counter(), time.process_time()
        result = work()
        found[name] = {
            "seconds": round(time.perf_counter() - start, 3),
            "processor": round(time.process_time() - used, 3),
            "peak_MB": round(peak()),
        }
        print(name, found[name], file=sys.stderr, flush=True)
        return result

    explainer = step("learn", lambda: small_explainer(fill))
    if copies:
        copied(explainer.attributor)
    refs = step("list", lambda: pictures(count))
    run, out = Path(place) / "run", Path(place) / "out"
    glob = step("run", lambda: explainer.explain_class("cat", refs, run=run))
    found["run"] |= size_of(run)
    step("repr", lambda: repr(glob))
    step("summary", glob.summary)
    step("html", glob._repr_html_)
    step("save", lambda: glob.save(out))
    found["save"] |= size_of(out)
    step("again", lambda: type(glob).load(out))
    print(json.dumps(found))


def measured(count, fill, copies):
    """Return what one size takes, in a process of its own."""
    place = tempfile.mkdtemp(dir=Path.cwd())
    try:
        command = [sys.executable, __file__, "--one", place, "--fill", fill or "", str(count)]
        command += ["--copies"] * copies
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    finally:
        shutil.rmtree(place)
    return json.loads(output.splitlines()[-1])


def report(found, fill, copies):
    """Print and write what the sizes took."""
    from measuring import write

    few, many = min(found), max(found)
    peaks = {
        count: max(step["peak_MB"] for step in steps.values()) for count, steps in found.items()
    }
    last = found[many]
    what = f"{many:,} images" + " (copies of a batch)" * copies
    measures = (
        ("peak memory", round(peaks[many] / peaks[few], 2), f"at most 1.5, over {few:,} images"),
        ("files of the run", last["run"]["files"], "at most 1,000"),
        ("`repr`, s", last["repr"]["seconds"], "under 0.1"),
        ("`summary`, s", last["summary"]["seconds"], "under 60"),
    )
    rows = [
        {"what": f"{name}, {what}", "value": value, "target": target}
        for name, value, target in measures
    ]
    write("million", rows, fill=fill, copies=copies, layers=LAYERS, steps=found)


def main():
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("counts", nargs="*", type=int, default=[10_000, 100_000])
    parser.add_argument("--fill", default="", help="how regions are filled in; none by default")
    parser.add_argument("--copies", action="store_true", help="compute the first batch only")
    parser.add_argument("--one", metavar="FOLDER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    fill = arguments.fill or None
    if arguments.one:
        one(arguments.counts[0], arguments.one, fill, arguments.copies)
        return
    found = {count: measured(count, fill, arguments.copies) for count in arguments.counts}
    report(found, fill, arguments.copies)


if __name__ == "__main__":
    main()
