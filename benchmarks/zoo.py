"""Which layers of the networks that people have can be explained, and how each is resumed.

For every network of the zoo (tests/zoo.py; small versions with random weights, which have the
structure of the large ones): how many modules give maps, how many of these can be explained, and
how the network after each is run. Prints a Markdown table; --write puts it into docs/models.md.

    python -m benchmarks.zoo --write
"""

import argparse
import importlib
import warnings
from collections import Counter
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
    head = "| network | layouts | modules with maps | explained | single | expanded | replay | "
    lines = [head + "without running the part below |", "|---|---|" + "---:|" * 6]
    total = Counter()
    for row in [*CASES, *MORE]:
        line, found = measure(row, libraries)
        print(line, flush=True)
        lines.append(line)
        total += found
    lines.append(described("all", "", total))
    print(lines[-1])
    if write:
        text = PAGE.read_text("utf-8")
        before, rest = text.split(BEGIN)
        after = rest.split(END)[1]
        table = "\n".join(lines)
        PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", "utf-8")


def measure(row, libraries):
    """Return a network's line of the table, and its counts."""
    net = build(row, libraries).eval()
    model = vtcav.Classifier(net, None, vtcav.Preprocess(row.size))
    found = Counter()
    for layer in model.layers():
        try:
            found[model.head(layer.name).resume] += 1
        except LayerError:
            found["refused by numbers"] += 1
    found["maps"] = len({call.name for call in model._layers.layouts})
    kinds = dict.fromkeys(layer.layout.partition("(")[0] for layer in model.layers())
    return described(f"{row.library}: {row.name}", ", ".join(kinds), found), found


def described(name, layouts, found):
    """Return a line of the table."""
    explained = sum(found[way] for way in WAYS)
    counts = " | ".join(str(n) for n in (found["maps"], explained, *(found[way] for way in WAYS)))
    share = 1 - found["replay"] / explained
    return f"| {name} | {layouts} | {counts} | {share:.0%} |"


if __name__ == "__main__":
    main()
