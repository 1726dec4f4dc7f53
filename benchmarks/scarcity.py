"""A small study, run as a process with too little of what a system gives.

`robustness.py` runs it, and interrupts it.
"""

import hashlib
import resource
import shutil
import subprocess
import sys

MODEL = """
import torch, vtcav
def build():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 2))
    return vtcav.Classifier(net, ["a", "b"], vtcav.Preprocess(32), device="cpu")
"""
STUDY = """
model: python:mymodel:build
layers: ["1"]
concepts: {some: some}
negatives: rest
classes: {a: seen, b: rest}
options: {null_cavs: 20, bootstraps: 10, steps: 20}
report: false
output: out
"""
SCARCE = {
    "descriptors": (resource.RLIMIT_NOFILE, (8, 12, 16, 20, 28, 40)),
    "bytes of address space": (resource.RLIMIT_AS, (10**9, 2 * 10**9, 3 * 10**9, 4 * 10**9)),
    "bytes of a file": (resource.RLIMIT_FSIZE, (100, 2_000, 8_000, 30_000)),
}


def pictures(count, seed, high=256):
    """Draw pictures of blocks, uint8 [count, 32, 32, 3]."""
    import numpy as np

    tiles = np.random.default_rng(seed).integers(0, high, (count, 8, 8, 3))
    return tiles.repeat(4, 1).repeat(4, 2).astype(np.uint8)


def study_in(place):
    """Make a folder with a study, its images and its network."""
    from PIL import Image

    place.mkdir()
    for number, (name, count) in enumerate((("some", 10), ("rest", 30), ("seen", 150))):
        (place / name).mkdir()
        for i, pixels in enumerate(pictures(count, number)):
            Image.fromarray(pixels).save(place / name / f"{i}.png")
    (place / "mymodel.py").write_text(MODEL)
    (place / "study.yaml").write_text(STUDY)
    return place


def begun(place, output, limit=None):
    """Begin the study; `limit` is a resource and how much of it there is."""
    command = [sys.executable, "-m", "vtcav", "run", "study.yaml", "-o", output, "--no-cache"]
    return subprocess.Popen(
        command,
        cwd=place,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=None if limit is None else lambda: resource.setrlimit(limit[0], [limit[1]] * 2),
    )


def scarcity(place):
    """Run a study with too little of something, then the same command with enough.

    With too little it ends whole, or is refused in a line; a system that has no memory left may
    also kill it. Then it goes on to the tables of a run that lacked nothing.
    """
    place = study_in(place / "scarce")
    assert begun(place, "expected").wait() == 0
    expected, ends, wrong = all_tables(place / "expected"), {}, []
    for what, (kind, amounts) in SCARCE.items():
        for amount in amounts:
            case = f"{amount} {what}"
            process = begun(place, "out", (kind, amount))
            said = process.communicate()[1].decode(errors="replace").strip()
            ends[case] = f"{process.returncode}: {said.splitlines()[-1][:200] if said else ''}"
            killed = process.returncode < 0 and kind == resource.RLIMIT_AS
            if process.returncode not in (0, 1) and not killed:
                wrong.append(f"{case}: exit code {process.returncode}")
            if "Traceback" in said and "vtcav/cli" in said:
                wrong.append(f"{case}: a traceback")
            if process.returncode == 0 and all_tables(place / "out") != expected:
                wrong.append(f"{case}: other tables")
            if begun(place, "out").wait() or all_tables(place / "out") != expected:
                wrong.append(f"{case}: does not go on to the same tables")
            left = [path.name for path in (place / "out").rglob(".vtcav-*")]
            wrong += [f"{case}: {name} is left over" for name in left]
            shutil.rmtree(place / "out")
    return {"ends": ends, "wrong": wrong, "passed": not wrong}


def all_tables(out):
    """Return the SHA-256 of every table in a folder, at any depth."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*.csv"))
    }
