"""What each extra brings: packages and megabytes on this machine, and their licences.

    python benchmarks/supply.py

counts what is installed beside it. The licences are those that `pip-licenses` reads from the
packages' metadata; `make supply` also writes a bill of materials with `cyclonedx-py`.
"""

import json
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

NAME = "vtcav"


def needed(name, extra="", seen=None):
    """Return the names of all packages that a package or one of its extras needs."""
    seen = set() if seen is None else seen
    for line in distribution(name).requires or ():
        found = re.match(r"([\w.-]+)(?:\[([\w,-]+)\])?[^;]*(?:;(.*))?", line)
        other, extras, marker = found[1], found[2] or "", found[3] or ""
        if marker and not _holds(marker, extra):
            continue
        other = re.sub(r"[-_.]+", "-", other).lower()
        try:
            distribution(other)
        except PackageNotFoundError:
            continue
        for each in {"", *extras.split(",")}:
            if (other, each) not in seen:
                seen.add((other, each))
                needed(other, each, seen)
    return {name for name, _ in seen}


def _holds(marker, extra):
    from packaging.markers import Marker

    return Marker(marker).evaluate({"extra": extra})


def megabytes(name):
    """Return the size of the files of a package, in MB."""
    whole = 0
    for file in distribution(name).files or ():
        path = Path(file.locate())
        whole += path.stat().st_size if path.is_file() else 0
    return whole / 1e6


def main():
    """Print a table of the extras, and the licences of all packages."""
    base = needed(NAME)
    extras = sorted(distribution(NAME).metadata.get_all("Provides-Extra") or ())
    print("| extra | packages | MB |\n|---|---|---|")
    print(f"| none | {len(base)} | {sum(map(megabytes, base)):.0f} |")
    every = set(base)
    for extra in extras:
        more = needed(NAME, extra) - base
        every |= more
        print(f"| `{extra}` | {len(more)} | {sum(map(megabytes, more)):.0f} |")
    command = ["pip-licenses", f"--python={sys.executable}", "--format=json", "--from=mixed"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    counts = {}
    for entry in found:
        if re.sub(r"[-_.]+", "-", entry["Name"]).lower() in every:
            licence = " ".join(entry["License"].split())
            counts.setdefault(licence if len(licence) < 60 else licence[:57] + "...", []).append(
                entry["Name"]
            )
    print("\n| licence | packages |\n|---|---|")
    for licence, names in sorted(counts.items(), key=lambda item: -len(item[1])):
        print(f"| {licence} | {', '.join(sorted(names))} |")


if __name__ == "__main__":
    main()
