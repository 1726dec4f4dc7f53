"""`vtcav report`: make one HTML file from the results in a folder.

Make a report on the explanations and diagnostics that are saved in a folder and its subfolders:
one HTML file that needs no network.

Examples:
  vtcav report out
  vtcav report out -o zebra.html
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vtcav.cli import options
from vtcav.cli.terminal import print_json, print_line

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command."""
    command = options.add_command(commands, "report", __doc__, _run)
    command.add_argument("folder", type=Path, metavar="FOLDER", help="the folder of the results")
    command.add_argument(
        "-o",
        "--output",
        type=options.output_folder,
        metavar="FILE",
        help="default: report.html in the folder",
    )
    command.add_argument("--title", help="title of the page (default: the name of the folder)")
    options.add_shared(command, quiet="")


def _run(arguments: argparse.Namespace) -> None:
    from vtcav.report import write_report

    page = write_report(arguments.folder, arguments.output, title=arguments.title).resolve()
    if arguments.json:
        print_json({"report": str(page), "bytes": page.stat().st_size})
    else:
        print_line(f"Report: {page} ({page.stat().st_size / 1e6:.1f} MB)")
