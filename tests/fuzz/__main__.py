"""The long run: `python -m tests.fuzz [--tries N] [--seed N] [--kinds a,b] [--only NUMBER]`.

Each kind runs in a process of its own, so that a killed one or a hang is an outcome like others.
"""

import argparse
import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from tests.fuzz.forked import Forks
from tests.fuzz.kinds import KINDS
from tests.fuzz.trial import REFUSED, RIGHT, outcome, trial_of
from vtcav.files import apart

_SILENT = 120.0  # seconds without a word after which a process hangs
_STARTING = 600.0  # the same before the first try
_SHOWN = 12  # faults of a kind that are printed


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--tries", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--only", type=int, help="one try in this process, with its traceback")
    parser.add_argument("--output", type=Path, help="a file for the numbers, as JSON")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--worker", nargs=2, type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker is not None:
        return work(asked.kinds, asked.seed, *asked.worker)
    if asked.only is not None:
        return alone(asked.kinds, asked.seed, asked.only)
    names = [name for name in asked.kinds.split(",") if all(map(find_spec, KINDS[name].needs))]
    names.sort(key=lambda name: KINDS[name].share)  # what takes long begins first
    with ThreadPoolExecutor(asked.processes) as pool:
        found = pool.map(lambda name: tried(name, asked.seed, asked.tries), names)
        results = dict(zip(names, found, strict=True))
    bad = report(results, asked.seed)
    if asked.output:
        asked.output.parent.mkdir(parents=True, exist_ok=True)
        asked.output.write_text(json.dumps({"seed": asked.seed, "kinds": results}, indent=1) + "\n")
    return bool(bad)


def work(name, seed, first, last):
    """Make the tries of a process, and tell each outcome in a line."""
    # of network libraries that print; the lines are this process's alone
    lines, sys.stdout = sys.stdout, sys.stderr
    tempfile.tempdir = in_memory()  # of every try, and of what vtcav writes aside
    apart.finished = Forks(apart.finished).finished
    with tempfile.TemporaryDirectory() as folder:
        kind = KINDS[name](Path(folder))
        for number in range(first, last):
            print(json.dumps([number, None, ""]), file=lines, flush=True)
            trial = trial_of(kind, seed, number)
            print(json.dumps([number, outcome(trial), trial.what]), file=lines, flush=True)


def in_memory():
    """Return a folder in memory, where the system has one: files are made by the thousand."""
    folder = Path("/dev/shm")
    usable = folder.is_dir() and os.access(folder, os.W_OK)
    return str(folder) if usable and shutil.disk_usage(folder).free > 2 << 30 else None


def alone(name, seed, number):
    """Make one try and let its exception through."""
    with tempfile.TemporaryDirectory() as folder:
        trial = trial_of(KINDS[name](Path(folder)), seed, number)
        print(trial.what)
        print(trial.use())


def tried(name, seed, tries):
    """Make all tries of a kind, in a new process after each that is killed or hangs."""
    start, first = time.monotonic(), 0
    counts, faults = Counter(), []

    def count(found, what):
        counts[found if found in (RIGHT, REFUSED) else "wrong"] += 1
        if found not in (RIGHT, REFUSED):
            faults.append([first, found, what])

    while first < tries:
        ended, told = "the process ended", False
        for number, found, what in _lines(name, seed, first, tries):
            if number is None:
                ended = found
            elif found is not None:
                told, first = True, number
                count(found, what)
                first += 1
        if first < tries:
            if not (told or first):
                raise SystemExit(f"{name}: {ended}")
            count(ended, "")
            first += 1
    took = round(time.monotonic() - start)
    return {"tries": sum(counts.values()), **counts, "seconds": took, "faults": faults}


def _lines(name, seed, first, last):
    """Yield what a process tells; at the end (None, how it ended, "") where it is not done."""
    command = [sys.executable, "-m", "tests.fuzz", "--kinds", name, "--seed", str(seed)]
    command += ["--worker", str(first), str(last)]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
        with process, selectors.DefaultSelector() as waiting:
            waiting.register(process.stdout, selectors.EVENT_READ)
            patience = _STARTING
            while waiting.select(patience):
                if not (line := process.stdout.readline()):
                    break
                patience = _SILENT
                yield json.loads(line)
            else:
                process.kill()
                yield None, f"hangs for {patience:g} s", ""
                return
        if process.returncode:
            errors.seek(0)
            tail = errors.read().decode(errors="replace").strip().splitlines()[-1:]
            yield None, f"the process ended with {process.returncode}: {' '.join(tail)[:200]}", ""


def report(results, seed):
    """Print the numbers and the first faults; return how many faults there are."""
    print(f"seed {seed}")
    print(f"{'kind':14}{'tries':>8}{RIGHT:>8}{REFUSED:>9}{'wrong':>7}{'seconds':>9}")
    for name, found in results.items():
        numbers = [found["tries"], *(found.get(key, 0) for key in (RIGHT, REFUSED, "wrong"))]
        print(f"{name:14}{numbers[0]:8}{numbers[1]:8}{numbers[2]:9}{numbers[3]:7}", end="")
        print(f"{found['seconds']:9}")
    for name, found in results.items():
        alike = Counter(fault.partition(": ")[0] for _, fault, _ in found["faults"])
        for fault, count in alike.most_common(_SHOWN):
            number, text, what = next(f for f in found["faults"] if f[1].startswith(fault))
            print(f"{name} --only {number} ({count} times): {text} [{what}]")
    return sum(len(found["faults"]) for found in results.values())


if __name__ == "__main__":
    raise SystemExit(main())
