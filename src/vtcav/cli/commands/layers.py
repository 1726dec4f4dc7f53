"""`vtcav layers`: list the layers of a network that can be explained.

List the layers that can be explained, in order, with kind, shape and layout.

Example:
  vtcav layers python:mymodel:build --json
"""

from __future__ import annotations

from dataclasses import asdict

from vtcav.cli.options import MODEL_HELP, Arguments, Parser
from vtcav.cli.terminal import print_frame, print_json


def add_options(command: Parser) -> None:
    """Add the options."""
    command.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    command.add_loading()
    command.add_common()


def run(arguments: Arguments) -> None:
    """Carry out the command."""
    import pandas as pd

    model = arguments.load()
    rows = [asdict(layer) for layer in model.layers()]
    if arguments.json:
        print_json(rows)
        return
    volumes = any(len(row["shape"]) > 3 for row in rows)
    for row in rows:
        row["shape"] = " x ".join(map(str, row["shape"]))
        row["recommended"] = "yes" if row["recommended"] else ""
    title = f"{model.described}; logits: {model.logits_source}"
    sides = "C x d x h x w" if volumes else "C x h x w"
    columns = f"name: layer, kind, shape: {sides}, layout, recommended"
    print_frame(title, pd.DataFrame(rows), columns)
