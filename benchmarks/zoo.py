"""Which layers of the networks that people have can be explained, and how each is resumed.

For every network of the zoo (tests/zoo.py; small versions with random weights, which have the
structure of the large ones): how many modules give maps, how many of these can be explained, and
how the network after each is run. Prints a line for each network; --write puts a table with a row
for each library into docs/models.md.

    python -m benchmarks.zoo --write
"""

import argparse
import importlib
import warnings
from collections import Counter, defaultdict
from pathlib import Path
from types import SimpleNamespace

import torch
from tests.helpers.torchvision_ops import define_missing_operators
from tests.helpers.zoo import CASES, MORE, build

import vtcav
from vtcav.errors import LayerError
from vtcav.models.heads.resumed import WAYS

PAGE = Path(__file__).parent.parent / "docs" / "models.md"
BEGIN, END = "<!-- zoo: benchmarks/zoo.py -->", "<!-- end of zoo -->"


def main():
    """Measure every network and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    write = parser.parse_args().write
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    define_missing_operators()
    libraries = SimpleNamespace(
        torchvision=importlib.import_module("torchvision.models"),
        timm=importlib.import_module("timm"),
        transformers=importlib.import_module("transformers"),
    )
    lines = ["| networks | modules with maps | explained |", "|---|---:|---:|"]
    names, totals = defaultdict(list), defaultdict(Counter)
    for row in [*CASES, *MORE]:
        found = measure(row, libraries)
        print(described(f"{row.library}: {row.name}", found, WAYS), flush=True)
        names[row.library].append(row.name)
        totals[row.library] += found
    lines += [described(f"{each}: {', '.join(names[each])}", totals[each]) for each in names]
    lines.append(described("all", sum(totals.values(), Counter())))
    print("\n".join(lines))
    if write:
        text = PAGE.read_text("utf-8")
        before, rest = text.split(BEGIN)
        after = rest.split(END)[1]
        table = "\n".join(lines)
        PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", "utf-8")


def measure(row, libraries):
    """Return a network's counts."""
    net = build(row, libraries).eval()
    model = vtcav.Classifier(net, None, vtcav.Preprocess(row.size))
    found = Counter()
    for layer in model.layers():
        try:
            found[model.head(layer.name).resume] += 1
        except LayerError:
            found["refused by numbers"] += 1
    found["maps"] = len({call.name for call in model._layers.layouts})
    return found


def described(name, found, ways=()):
    """Return a line of the table; `ways` of resuming are counted, too."""
    explained = sum(found[way] for way in WAYS)
    counts = " | ".join(str(n) for n in (found["maps"], explained, *(found[way] for way in ways)))
    return f"| {name} | {counts} |"


if __name__ == "__main__":
    main()
