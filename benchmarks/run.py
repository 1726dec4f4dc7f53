"""Run the benchmarks, print their table, and write results.json and docs/performance.md.

Each is a script of its own, run in a process of its own, and writes NAME.json beside it. A script
that is not there, or that fails, is named in the table; the others go on.

    python benchmarks/run.py              # small sizes, about a quarter of an hour when idle
    python benchmarks/run.py --full       # the sizes of the targets: hours
    python benchmarks/run.py --only startup overhead
    python benchmarks/run.py --gpu        # those that run on a GPU, and a table of their own
    python benchmarks/run.py --table      # only the table, from the files of earlier runs
"""

import argparse
import datetime
import json
import re
import subprocess
import sys
import time
from pathlib import Path

from measuring import machine

import vtcav

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "performance.md"
BEGIN, END = "<!-- results: benchmarks/run.py -->", "<!-- end of results -->"
BEGIN_GPU, END_GPU = "<!-- on a GPU: benchmarks/run.py --gpu -->", "<!-- end of GPU results -->"

# name: options of a small run, options of a full one
SCRIPTS = {
    "startup": ([], []),
    "overhead": ([], ["--full"]),
    "erasure": (["--images", "10"], []),
    "against_captum": ([], ["--images", "4"]),
    "evaluations": ([], []),
    "local_explanation": (["1"], ["5"]),
    "significance": (["2", "10", "2"], []),
    "memory": (["200", "1000", "200", "1000"], []),
    "million": (["--copies"], ["--copies", "10000", "1000000"]),
    "robustness": (["3"], []),
    "ray_workers": (["256", "1"], ["512", "3"]),
}

# rows of one kind, which the page tells in one, from the least to the most, or not at all;
# results.json has each
KINDS = {
    r"Captum's time over vtcav's, .*": "Captum's time over vtcav's, first to last layer",
    r"evaluations of the adaptive rule at .*|.* is at most its estimate.*|.*, 50 steps.*": "",
    r"learning and a local explanation .*": "",
    r"robustness: .*": "robustness (kills, few resources, a shared cache, full disks)",
    r"(.*), over (?:one|the) bare pass(?:es)? .*": r"\1, over bare passes, also with channels last",
    r"(images a second on a GPU, .*), precision=.*": r"\1, in float32, bf16 and fp16",
}

# the same on a GPU, where nothing takes long: each writes NAME_gpu.json
ON_GPU = {
    "gpu": [],
    "overhead": ["--device", "cuda", "--images", "50"],
    "against_captum": ["--device", "cuda", "--images", "4"],
    "evaluations": ["--device", "cuda"],
}


def rows_of(name, found):
    """Return the rows of a benchmark's file, [{"what", "value", "target"}]."""
    if "rows" in found:
        return found["rows"]
    if name == "significance":
        what = f"{found['resampled_cavs']} null and bootstrap CAVs, over none (explain_class)"
        value = found["processor"]["ratio"]["median"]
        return [{"what": what, "value": value, "target": "at most 1.15"}]
    if name == "local_explanation":
        value = found["ratio_to_bare_passes"]["together"]["median"]
        what = "learning and a local explanation (EfficientNet-Lite0), over the bare passes"
        return [{"what": what, "value": value, "target": None}]
    if name == "memory":
        return [
            {
                "what": f"peak memory to {what}, {'/'.join(reversed(peaks))} images",
                "value": found["ratio"][what],
                "target": "at most 1.1",
            }
            for what, peaks in found["peak_MB"].items()
        ]
    return [
        {"what": f"{name}: {what}", "value": "passed" if value["passed"] else "FAILED"}
        for what, value in found.items()
        if isinstance(value, dict) and "passed" in value
    ]


def run(name, options):
    """Run a script and say why it failed, or return None."""
    script = HERE / f"{name}.py"
    if not script.exists():
        return "not there"
    print(f"-- {name} {' '.join(options)}", flush=True)
    start = time.perf_counter()
    code = subprocess.run([sys.executable, str(script), *options], cwd=HERE.parent).returncode
    print(f"-- {name}: {time.perf_counter() - start:.0f} s", flush=True)
    return f"failed with exit code {code}" if code else None


def kind_of(what):
    """Return what the page calls a row, which is its own name where it is of no kind."""
    for pattern, kind in KINDS.items():
        if found := re.fullmatch(pattern, what):
            return found.expand(kind)
    return what


def by_kind(rows):
    """Return the rows with all of one kind as one."""
    kinds = {}
    for row in rows:
        kinds.setdefault(kind_of(row["what"]), []).append(row)
    return [row_of(what, rows) for what, rows in kinds.items() if what]


def row_of(what, rows):
    """Return one row of those of a kind."""
    if any("relative_l1" in row for row in rows):
        what += f" (values differ by {max((row['relative_l1'] for row in rows), key=float)})"
    values = [row["value"] for row in rows]
    if "FAILED" in values:
        value = "FAILED"
    elif min(values) == max(values):
        value = values[0]
    else:
        value = f"{min(values)} to {max(values)}"
    return {"what": what, "value": value, "target": rows[0].get("target")}


def lines_of(results):
    """Return the table in Markdown."""
    lines = ["| | measured | target |", "|---|---:|---|"]
    for name, entry in results["benchmarks"].items():
        if "error" in entry:
            lines.append(f"| {name} | {entry['error']} | |")
        for row in by_kind(entry.get("rows", ())):
            lines.append(f"| {row['what']} | {row['value']} | {row.get('target') or ''} |")
    return lines


def put(lines, machine, date, begin, end):
    """Put a table into the page."""
    where = (
        f"{machine['processor']}, {machine['processors']} processors, "
        f"{machine['gpu'] or 'no GPU'}, torch {machine['torch']}, {date}."
    )
    before, rest = PAGE.read_text("utf-8").split(begin)
    table = "\n".join(lines)
    PAGE.write_text(f"{before}{begin}\n{table}\n\n{where}\n{end}{rest.split(end)[1]}", "utf-8")


def on_a_gpu(table):
    """Run what runs on a GPU, and write its table."""
    found, date = {}, datetime.datetime.now(datetime.UTC).date().isoformat()
    for name, options in ON_GPU.items():
        error = None if table else run(name, options)
        file = HERE / ("gpu.json" if name == "gpu" else f"{name}_gpu.json")
        if error is None and file.exists():
            found[name] = json.loads(file.read_text("utf-8"))
        else:
            found[name] = {"error": error or "not measured yet"}
    lines = lines_of({"benchmarks": found})
    print("\n".join(lines))
    machine = next(entry["machine"] for entry in found.values() if "machine" in entry)
    put(lines, machine, date, BEGIN_GPU, END_GPU)


def main():
    """Run, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="the sizes of the targets")
    parser.add_argument("--only", nargs="+", choices=SCRIPTS, default=list(SCRIPTS))
    parser.add_argument("--table", action="store_true", help="from files of earlier runs")
    parser.add_argument("--gpu", action="store_true", help="those that run on a GPU")
    arguments = parser.parse_args()
    if arguments.gpu:
        on_a_gpu(arguments.table)
        return
    file = HERE / "results.json"
    known = json.loads(file.read_text("utf-8"))["benchmarks"] if file.exists() else {}
    for name in arguments.only:
        error = None if arguments.table else run(name, SCRIPTS[name][arguments.full])
        found = HERE / f"{name}.json"
        if error is None and found.exists():
            data = json.loads(found.read_text("utf-8"))
            known[name] = {"rows": rows_of(name, data), "size": "full" if arguments.full else ""}
        else:
            known[name] = {"error": error or "not measured yet"}
    here = machine()
    results = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "vtcav": vtcav.__version__,
        "machine": here,
        "benchmarks": {name: known[name] for name in SCRIPTS if name in known},
    }
    file.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    lines = lines_of(results)
    print("\n".join(lines))
    put(lines, here, results["date"], BEGIN, END)
    if any("error" in entry for entry in results["benchmarks"].values()):
        sys.exit("some benchmarks are missing or failed; the table names them")


if __name__ == "__main__":
    main()
