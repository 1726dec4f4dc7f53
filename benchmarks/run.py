"""Run the benchmarks, print their table, and write results.json and docs/performance.md.

Each is a script of its own, run in a process of its own, and writes NAME.json beside it. A script
that is not there, or that fails, is named in the table; the others go on.

    python benchmarks/run.py              # small sizes, about a quarter of an hour when idle
    python benchmarks/run.py --full       # the sizes of the targets: hours
    python benchmarks/run.py --only startup overhead
    python benchmarks/run.py --table      # only the table, from the files of earlier runs
"""

import argparse
import datetime
import json
import subprocess
import sys
import time
from pathlib import Path

from measuring import machine

import vtcav

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "performance.md"
BEGIN, END = "<!-- results: benchmarks/run.py -->", "<!-- end of results -->"

# name: options of a small run, options of a full one
SCRIPTS = {
    "startup": ([], []),
    "overhead": ([], ["--full"]),
    "against_captum": ([], ["--images", "4"]),
    "evaluations": ([], []),
    "compile": (["1"], []),
    "local_explanation": (["1"], ["5"]),
    "significance": (["2", "10", "2"], []),
    "memory": (["200", "1000", "200", "1000"], []),
    "robustness": (["3"], []),
    "ray_workers": (["256", "1"], ["512", "3"]),
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


def lines_of(results):
    """Return the table in Markdown."""
    lines = ["| | measured | target |", "|---|---:|---|"]
    for name, entry in results["benchmarks"].items():
        if "error" in entry:
            lines.append(f"| {name} | {entry['error']} | |")
        for row in entry.get("rows", ()):
            extra = f" (values differ by {row['relative_l1']})" if "relative_l1" in row else ""
            lines.append(f"| {row['what']}{extra} | {row['value']} | {row.get('target') or ''} |")
    return lines


def main():
    """Run, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="the sizes of the targets")
    parser.add_argument("--only", nargs="+", choices=SCRIPTS, default=list(SCRIPTS))
    parser.add_argument("--table", action="store_true", help="from files of earlier runs")
    arguments = parser.parse_args()
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
    where = (
        f"{here['processor']}, {here['processors']} processors, {here['gpu'] or 'no GPU'}, torch "
        f"{here['torch']}, {results['date']}."
    )
    text = PAGE.read_text("utf-8")
    before, rest = text.split(BEGIN)
    table = "\n".join(lines)
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n\n{where}\n{END}{rest.split(END)[1]}", "utf-8")
    if any("error" in entry for entry in results["benchmarks"].values()):
        sys.exit("some benchmarks are missing or failed; the table names them")


if __name__ == "__main__":
    main()
