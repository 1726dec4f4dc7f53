"""Runs and cache under fire: kills, shared caches, full disks, read-only disks.

Whatever happens, the tables that come out in the end have to be those of a run that nobody
disturbed, byte for byte, and what is left on disk has to be whole:

- **kills**: a run with resume (its concepts learned through a cache) is killed with SIGKILL at
  random moments and begun again. After every kill a copy of what it left is finished and compared,
  and the run itself is once more in the end;
- **studies**: `vtcav run` is killed or interrupted by Ctrl-C at random moments, in turn, and begun
  again; the same command goes on, and Ctrl-C ends with exit code 130 and one line;
- **commands**: every long command is killed or interrupted at random moments (`interrupted.py`);
- **scarcity**: `vtcav run` with few descriptors, little address space, small files; it is refused
  in a line, and the same command goes on when there is enough;
- **shared cache**: four processes learn overlapping concepts at once with one cache that is too
  small for all of them, so that they also remove each other's entries;
- **full disk**: cache, run folder, temporary files and a file of CAVs on a file system of a few
  kilobytes (of its own for root; for others a limit of the size of files);
- **read-only disk**: a cache with entries and one without.

    python benchmarks/robustness.py [kills] [seed]
"""

import hashlib
import json
import os
import platform
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

from interrupted import commands
from scarcity import all_tables, begun, pictures, scarcity, study_in

IMAGES, CONCEPTS, SIDE = 800, 5, 32


# -- the work ---------------------------------------------------------------------------------


def explainer(cache, concepts=range(CONCEPTS)):
    """Return a small network with some of the concepts learned."""
    import torch
    from torch import nn

    import vtcav

    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4)),
    )
    model = vtcav.Classifier(net, None, vtcav.Preprocess(SIDE), device="cpu")
    found = vtcav.VisualTCAV(model, ["1", "3"], 5, progress=False, cache=cache)
    sets = {f"c{k}": pictures(12 + k, k, 100 + 20 * k) for k in concepts}
    return found.fit(sets, pictures(60, 99), null_cavs=60, bootstraps=20)


def explained(cache, run, out):
    """Explain a class with resume and save the tables."""
    explainer(cache).explain_class(0, pictures(IMAGES, 7), run=run).save(out)


def tables(out):
    """Return the SHA-256 of every table."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(out).iterdir())
        if path.suffix in (".csv", ".parquet")
    }


def bank(found):
    """Return the SHA-256 of the file of a bank."""
    with tempfile.TemporaryDirectory() as place:
        found.cavs.save(Path(place) / "bank")
        return hashlib.sha256((Path(place) / "bank").read_bytes()).hexdigest()


def learning(cache, seed, expected, rounds, failures):
    """Learn some concepts again and again; put what goes wrong into `failures`."""
    chance = random.Random(seed)
    warnings.simplefilter("error")
    try:
        for _ in range(rounds):
            some = tuple(sorted(chance.sample(range(CONCEPTS), 3)))
            if bank(explainer(cache, some)) != expected[some]:
                failures.put(f"other CAVs of {some}")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is reported
        failures.put(f"{type(error).__name__}: {error}")


# -- what is done to it -----------------------------------------------------------------------


def kills(place, wanted, seed, expected, context):
    """Kill runs and begin them again."""
    chance = random.Random(seed)
    done, same, rounds, kept, half = 0, 0, 0, [], 0
    while done < wanted:
        rounds += 1
        run, out = place / f"run{rounds}", place / f"out{rounds}"
        while done < wanted and not (out / "global.json").exists():
            process = context.Process(target=explained, args=(place / "cache", run, out))
            before, start = parts(run), time.monotonic()
            process.start()
            if done % 2:  # half of them anywhere, the others while they explain
                process.join(chance.uniform(0.1, 3))
            else:
                while process.is_alive() and parts(run) == before:
                    time.sleep(0.005)
                process.join(chance.uniform(0, (time.monotonic() - start) / 4))
            if process.exitcode is None:
                process.kill()
                process.join()
                done += 1
                kept.append(parts(run))
                copy = place / f"copy{done}"
                if run.exists():
                    shutil.copytree(run, copy)
                explained(place / "cache", copy, place / f"finished{done}")
                same += tables(place / f"finished{done}") == expected
                half += len(list(copy.glob(".*part*")))
            elif process.exitcode:
                raise SystemExit("a run that was begun again failed")
        explained(place / "cache", run, out)
        same += tables(out) == expected
        half += len(list(run.glob(".*part*")))
    found = damaged(place / "cache")
    return {
        "kills": done,
        "runs": rounds,
        "comparisons": done + rounds,
        "with_the_same_tables": same,
        "parts_kept_when_killed": " ".join(map(str, kept)),
        "damaged_entries": len(found),
        "half_written_in_finished_runs": half,
        "passed": same == done + rounds and not found and not half,
    }


def studies(place, wanted, seed):
    """Kill and interrupt `vtcav run`, and begin it again."""
    chance, place = random.Random(seed), study_in(place / "study")
    start = time.monotonic()
    assert begun(place, "expected").wait() == 0
    whole, done, codes = time.monotonic() - start, 0, []
    while done < wanted:
        process = begun(place, "out")
        try:
            process.wait(chance.uniform(0.3, 1) * whole)
        except subprocess.TimeoutExpired:
            done += 1
            process.send_signal(signal.SIGINT if done % 2 else signal.SIGKILL)
            said = process.communicate()[1].strip()
            codes.append([process.returncode, said.count(b"Traceback")])
            if b"Traceback" in said:
                print(said.decode(errors="replace"), file=sys.stderr)
        else:
            process.communicate()
            shutil.rmtree(place / "out")
    assert begun(place, "out").wait() == 0
    # 0: the work was done when it was interrupted
    good = ([130, 0], [0, 0], [-signal.SIGINT, 0], [-signal.SIGKILL, 0])
    clean = all(code in good for code in codes)
    same = all_tables(place / "out") == all_tables(place / "expected")
    left = [str(path.relative_to(place)) for path in (place / "out").rglob(".vtcav-*")]
    return {
        "interruptions": done,
        "exit_codes_and_tracebacks": codes,
        "same_tables": same,
        "left_over": left,
        "passed": same and clean and not left,
    }


def parts(run):
    """Return how many parts of a run are finished."""
    return len(list(run.glob("part-*.json")))


def damaged(folder):
    """Return what is wrong with entries of a cache."""
    from vtcav.files.cache import Cache

    return Cache(folder).damaged()


def shared(place, seed, context, processes=4, rounds=6):
    """Let processes learn at once with a cache that is too small for all."""
    from itertools import combinations

    from vtcav.files.cache import Cache

    expected = {some: bank(explainer(False, some)) for some in combinations(range(CONCEPTS), 3)}
    failures = context.Queue()
    cache = Cache(place / "shared", 150_000)
    working = [
        context.Process(target=learning, args=(cache, seed + i, expected, rounds, failures))
        for i in range(processes)
    ]
    for process in working:
        process.start()
    for process in working:
        process.join()
    found = [failures.get() for _ in range(failures.qsize())]
    found += [f"exit code {p.exitcode}" for p in working if p.exitcode]
    return {
        "processes": processes,
        "banks": processes * rounds,
        "failures": found,
        "damaged_entries": len(cache.damaged()),
        "bytes_left": sum(entry.size for entry in cache.entries()),
        "passed": not found and not cache.damaged(),
    }


def full_disk(place, expected, expected_bank):
    """Work where nothing fits."""
    with small_disk(place / "small", 64) as (disk, kind):
        found, told = warned(lambda: explainer(disk / "cache"))
        cache = bank_is(found, expected_bank) and told == ["cannot write to the cache"]
        before = os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = tempfile.tempdir = str(disk)
        try:
            aside = bank_is(explainer(False), expected_bank, place)
        finally:
            tempfile.tempdir = None
            os.environ.pop("TMPDIR") if before is None else os.environ.update(TMPDIR=before)
        shutil.rmtree(disk / "cache", ignore_errors=True)
        saved = refused(lambda: found.cavs.save(disk / "cavs.safetensors"))
        whole = not list(disk.glob("*cavs*"))
        said = refused(lambda: explained(False, disk / "run", place / "never"))
        moved = place / "moved"
        shutil.copytree(disk / "run", moved)
    kept = len(list(moved.glob("part-*.json")))
    explained(False, moved, place / "full")
    return {
        "disk": kind,
        "cache_same_cavs_one_warning": cache,
        "temporary_files_same_cavs": aside,
        "cavs_said": saved.replace(str(disk), "DISK"),
        "no_half_file_of_cavs": whole,
        "run_said": said.replace(str(disk), "DISK"),
        "parts_kept": kept,
        "run_same_tables_elsewhere": tables(place / "full") == expected,
        "passed": cache
        and aside
        and whole
        and saved.startswith("CavError")
        and said.startswith("ExplanationError")
        and tables(place / "full") == expected,
    }


def read_only(place, expected_bank):
    """Use a cache that cannot be written."""
    with small_disk(place / "ro", 4096) as (disk, kind):
        explainer(disk / "cache", range(2))
        with unwritable(disk, kind):
            _, quiet = warned(lambda: explainer(disk / "cache", range(2)))
            found, told = warned(lambda: explainer(disk / "cache"))
            passed = bank_is(found, expected_bank, place) and not quiet
    return {
        "disk": kind,
        "warnings_where_all_is_there": quiet,
        "warnings_where_some_is_missing": told,
        "passed": passed and told == ["cannot write to the cache"],
    }


def refused(work):
    """Return the first sentence of the error that work raises."""
    import vtcav

    try:
        work()
    except vtcav.VtcavError as error:
        return f"{type(error).__name__}: {error}".split(". ")[0]
    return "nothing"


def warned(work):
    """Return what work returns, and the beginnings of its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = work()
    return result, [str(w.message).split(" '")[0] for w in caught]


def bank_is(found, expected, place=None):
    """Whether the CAVs are the expected ones; their file is written where there is room."""
    path = Path(place or "/tmp") / f"bank-{os.getpid()}"
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit[1], limit[1]))
    try:
        found.cavs.save(path)
        return hashlib.sha256(path.read_bytes()).hexdigest() == expected
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        path.unlink(missing_ok=True)


@contextmanager
def small_disk(folder, kilobytes):
    """Yield a folder on a file system of this size, or one where files cannot be larger."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        size = 4000 if kilobytes < 1000 else limit[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit[1]))
        try:
            yield folder, "limit of the size of files"
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    else:
        try:
            yield folder, "file system of its own"
        finally:
            subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def unwritable(folder, kind):
    """Make a folder read-only."""
    if kind == "file system of its own":
        again = ["mount", "-o", "remount,{}", str(folder)]
        subprocess.run([part.format("ro") for part in again], check=True)
        yield
        subprocess.run([part.format("rw") for part in again], check=True)
    else:
        (folder / "cache").chmod(0o500)
        yield
        (folder / "cache").chmod(0o700)


def main(wanted=30, seed=0):
    """Do all of it, print and write beside this file."""
    # begun in the background it may ignore Ctrl-C, and what it begins would do so, too
    signal.signal(signal.SIGINT, signal.default_int_handler)
    context = get_context("forkserver")
    context.set_forkserver_preload(
        ["torch", "vtcav.explainer.visual_tcav", "vtcav.explainer.runs.image_table"]
    )
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        explained(False, None, place / "expected")
        expected, expected_bank = tables(place / "expected"), bank(explainer(False))
        results = {
            "machine": f"{platform.machine()}, {platform.system()}",
            "seed": seed,
            "kills": kills(place, wanted, seed, expected, context),
            "studies": studies(place, max(2, wanted // 3), seed),
            "commands": commands(place / "commands", random.Random(seed)),
            "scarcity": scarcity(place),
            "shared_cache": shared(place, seed, context),
            "full_disk": full_disk(place, expected, expected_bank),
            "read_only": read_only(place, expected_bank),
        }
    results["seconds"] = round(time.monotonic() - start)
    text = json.dumps(results, indent=1)
    print(text)
    if wanted >= 30:
        (Path(__file__).parent / "robustness.json").write_text(text + "\n")
    passed = all(part["passed"] for part in results.values() if isinstance(part, dict))
    raise SystemExit(0 if passed else 1)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
