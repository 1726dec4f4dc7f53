"""Every long command, killed and interrupted at random moments: `robustness.py` runs it.

What a command writes appears whole or not at all, the same command goes on, and its tables are
those of a command that nobody disturbed, to the byte.
"""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from scarcity import all_tables, pictures, study_in

_NETWORK = "--model python:mymodel:build --layers 1 --no-cache --seed 3"
_CONCEPTS = "--concepts concepts --negatives rest --min-examples 5"
_COMMANDS = {
    "diagnose": f"diagnose {_NETWORK} {_CONCEPTS}",
    "explain": f"explain seen/0.png {_NETWORK} {_CONCEPTS} --classes a,b --null-cavs 30",
    "explain-class": f"explain-class a --images seen {_NETWORK} {_CONCEPTS} --null-cavs 30 --csv",
    "find": f"find red --images seen {_NETWORK} {_CONCEPTS}",
    "discover": f"discover --images seen --k 3 {_NETWORK} {_CONCEPTS}",
    "errors": f"errors --images labelled {_NETWORK} {_CONCEPTS}",
    "correct": f"correct red --anyway --images labelled {_NETWORK} {_CONCEPTS}",
    "compare": f"compare --images labelled {_NETWORK} {_CONCEPTS} --null-cavs 10",
    "localise": f"localise --images seen --masks masks {_NETWORK} {_CONCEPTS}",
    "run": "run study.yaml --no-cache",
    "versus": "versus python:mymodel:build python:mymodel:other --study study.yaml",
    "evaluate": f"evaluate --pairs seen --masks masks --class a {_NETWORK} {_CONCEPTS}",
}
_GOOD = ([130, 0], [0, 0], [-signal.SIGINT, 0], [-signal.SIGKILL, 0])
"""Exit codes and tracebacks; 0: the work was done when it was interrupted."""


def commands(place, chance, times=2, names=tuple(_COMMANDS)):
    """Interrupt every command and begin it again.

    Args:
        place: A folder to make.
        chance: Random numbers.
        times: How often each is interrupted; every other time it is killed.
        names: The commands.
    """
    place, results = _study(place), {}
    for name in names:
        start = time.monotonic()
        code, said = _ended(place, name, "expected")
        if code:
            results[name] = {"wrong": [f"exit code {code}: {said[-300:]}"]}
            continue
        whole = time.monotonic() - start
        results[name] = _interrupted(place, name, whole, chance, times)
        shutil.rmtree(place / "expected")
    return {
        "commands": results,
        "interruptions": sum(len(found.get("ends", ())) for found in results.values()),
        "passed": not any(found["wrong"] for found in results.values()),
    }


def _interrupted(place, name, whole, chance, times):
    """Return how a command ended each time that it was interrupted, and what is wrong."""
    ends, wrong = [], []
    expected = _tables(place / "expected")
    if not expected:
        wrong.append("it writes no tables")
    for turn in range(times):
        at = chance.uniform(0.3, 1) * whole
        process = _begun(place, name, "out")
        try:
            process.wait(at)
        except subprocess.TimeoutExpired:
            process.send_signal((signal.SIGINT, signal.SIGKILL)[turn % 2])
        said = process.communicate()[1].decode(errors="replace")
        ends.append([process.returncode, said.count("Traceback")])
        if ends[-1] not in _GOOD:
            wrong.append(f"after {at:.1f} s: {said[-300:]}")
        code, said = _ended(place, name, "out")
        if code:
            wrong.append(f"the same command does not go on: {said[-300:]}")
        elif _tables(place / "out") != expected:
            wrong.append(f"other tables, interrupted after {at:.1f} of {whole:.1f} s")
        wrong += [f"{left.name} is left over" for left in (place / "out").rglob(".vtcav-*")]
        shutil.rmtree(place / "out", ignore_errors=True)
    return {"seconds": round(whole, 1), "ends": ends, "wrong": wrong}


def _tables(out):
    """Return every table of a folder; the time that discovery took is no result."""
    timed = "discovery_layers.csv"
    found = {name: digest for name, digest in all_tables(out).items() if name != timed}
    for path in out.glob(timed):
        found[timed] = [line.rpartition(",")[0] for line in path.read_text().splitlines()]
    return found


def _begun(place, name, output):
    command = [sys.executable, "-m", "vtcav", *_COMMANDS[name].split(), "-o", output]
    return subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _ended(place, name, output):
    process = _begun(place, name, output)
    said = process.communicate()[1].decode(errors="replace")
    return process.returncode, said


def _study(place):
    """Make a folder with a study, concepts, masks, labelled images and two networks."""
    from PIL import Image

    place = study_in(Path(place))
    code = (place / "mymodel.py").read_text()
    (place / "mymodel.py").write_text(
        code + code.replace("build", "other").replace("manual_seed(0)", "manual_seed(1)")
    )
    for folder in ("masks", "concepts/red"):
        (place / folder).mkdir(parents=True)
    for i, pixels in enumerate(pictures(20, 7)):
        Image.fromarray(_reddened(pixels)).save(place / "concepts" / "red" / f"{i}.png")
    for path in (place / "seen").iterdir():
        mask = Image.new("L", (32, 32))
        mask.paste(255, (4, 4, 20, 20))
        mask.save(place / "masks" / path.name)
    for label, seed in (("a", 5), ("b", 6)):
        (place / "labelled" / label).mkdir(parents=True)
        for i, pixels in enumerate(pictures(60, seed)):
            pixels[:16] = _reddened(pixels[:16]) if label == "a" else pixels[:16]
            Image.fromarray(pixels).save(place / "labelled" / label / f"{i}.png")
    return place


def _reddened(pixels):
    """Return pixels that are red and little else."""
    red = pixels // 8
    red[..., 0] = 255
    return red
