"""`vtcav layers`: list the layers of a network that can be explained.

List the layers that can be explained, in order, with kind, shape and layout.

Examples:
  vtcav layers demo
  vtcav layers python:mymodel:build --json
"""

from __future__ import annotations

import argparse
from typing import Any

from vtcav.cli import options
from vtcav.cli.terminal import print_json, print_table

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command."""
    command = options.add_command(commands, "layers", __doc__, _run)
    command.add_argument("model", metavar="MODEL", help=options.MODEL_HELP)
    options.add_loading(command)
    options.add_common(command)


def _run(arguments: argparse.Namespace) -> None:
    model = options.load(arguments)
    layers = model.layers()
    if arguments.json:
        print_json(
            [
                {
                    "name": layer.name,
                    "kind": layer.kind,
                    "shape": list(layer.shape),
                    "layout": layer.layout,
                    "recommended": layer.recommended,
                }
                for layer in layers
            ]
        )
        return
    print_table(
        f"{model.described}; logits: {model.logits_source}",
        ["layer", "kind", "C x h x w", "layout", "recommended"],
        [
            [
                layer.name,
                layer.kind,
                " x ".join(map(str, layer.shape)),
                layer.layout,
                "yes" if layer.recommended else "",
            ]
            for layer in layers
        ],
    )
