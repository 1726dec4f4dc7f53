"""`vtcav report`: make one HTML file from the results in a folder.

Make one HTML file of the results that are saved in a folder and its subfolders.

Example:
  vtcav report out -o zebra.html
"""

from __future__ import annotations

from vtcav.cli.options import Arguments, Parser
from vtcav.files.paths import expanded


def add_options(command: Parser) -> None:
    """Add the options."""
    command.add_argument(
        "folder", type=expanded, metavar="FOLDER", help="the folder of the results"
    )
    command.add_output("default: report.html in the folder", metavar="FILE")
    command.option("--title", "title of the page (default: the study's, or network and classes)")
    command.add_shared(quiet="")


def run(arguments: Arguments) -> None:
    """Carry out the command."""
    from vtcav.report import write_report

    page = write_report(arguments.folder, arguments.output, title=arguments.title).resolve()
    size = page.stat().st_size
    data = {"report": str(page), "bytes": size}
    arguments.answer(data, f"Report: {page} ({size / 1e6:.1f} MB)")
