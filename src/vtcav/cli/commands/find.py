r"""`vtcav find`: find the images of a folder that show a concept.

Put images in the order in which they show a concept, as a table and as a page with concept maps.
The same call is answered from the table while options and files are as they were.

Example:
  vtcav find striped --images photographs --model demo \
      --concepts concepts --negatives random -o out
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcav.cli.answered import Asked
from vtcav.cli.options import IMAGES_HELP, Arguments, Parser
from vtcav.cli.terminal import print_frame, print_line
from vtcav.explainer.settings import RankSettings
from vtcav.files.manifest import read_table
from vtcav.files.paths import is_file

if TYPE_CHECKING:
    import pandas as pd

_KIND, _PAGE = "ranking", "ranking.html"
_SOURCES = "images", "concepts", "negatives"
# no number depends on these
_ASIDE = {
    *("run", "output", "json", "quiet", "debug", "again", "cache", "words", "parser"),
    *("run_folder", "no_resume", "engine", "address", "workers"),
}
_PRINTED = 20


def add_options(command: Parser) -> None:
    """Add the options."""
    command.add_argument("concept", metavar="CONCEPT", help="the name of the concept")
    command.option("--images", f"the images: {IMAGES_HELP}", required=True)
    command.add_settings(RankSettings)
    command.flag("--again", "compute anew, also where the answer is known")
    command.add_run()
    command.add_explainer("table, page and figure")


def run(arguments: Arguments) -> None:
    """Carry out the command."""
    arguments.check_run()
    output: Path | None = arguments.output
    options = {name: value for name, value in vars(arguments).items() if name not in _ASIDE}
    asked = Asked(options, _SOURCES)
    known = None if output is None or arguments.again else asked.answer(output, _KIND)
    if output is not None and known is not None and is_file(output / _PAGE):
        found, computed = known
        _present(arguments, found, read_table(output / "ranking_table"), computed)
        return
    if output is not None and not arguments.again and (changed := asked.changed(output, _KIND)):
        arguments.say(f"Computed anew, as these have changed: {', '.join(changed)}")
    model = arguments.load_checked(arguments.images)
    # an order needs neither integrals nor tests
    explainer = arguments.prepared(model, arguments.concept, null_cavs=0, bootstraps=0)
    ranking = explainer.rank(
        arguments.images,
        arguments.concept,
        **arguments.chosen("layer", "pictures", "limit", "seed", "strict"),
        **arguments.running,
    )
    if output is not None:
        from vtcav.report.ranking import write_ranking

        ranking.save(output)
        write_ranking(ranking, output / _PAGE)
        asked.keep(output, _KIND)
        arguments.end_run()
    _present(arguments, ranking.summary(), ranking.table)


def _present(
    arguments: Arguments, found: dict[str, Any], table: pd.DataFrame, computed: str = ""
) -> None:
    """Print the answer.

    Args:
        arguments: The command's.
        found: The summary of the ranking.
        table: Its rows.
        computed: When it was computed, where that was by an earlier call.
    """
    output = arguments.output
    page = None if output is None else str((output / _PAGE).resolve())
    if arguments.json:
        names = ("concept", "layer", "images", "present", "empty", "skipped", "caution")
        data = {name: found[name] for name in names}
        data |= {"table": table, "computed": computed or None, "page": page}
        arguments.answer(data | {"output": None if output is None else str(output.resolve())})
        return
    first = table[table["presence"].notna()].head(_PRINTED)
    if found["caution"]:
        print_line(f"Caution: {found['caution']}")
    print_frame(
        f"{found['concept']}, {found['place']}: {found['described']}",
        first.assign(position=range(1, len(first) + 1)),
        "position, image, presence, area, predicted_class: predicted, probability, note",
    )
    if (more := found["images"] - len(first)) > 0:
        print_line(f"{more} more images in the table.")
    for skip in found["skipped"]:
        print_line(f"cannot be read: {skip['name']}: {skip['reason']}")
    if computed:
        print_line(f"Answered from the table of {computed}, without the network; --again computes.")
    if output is None:
        print_line("Nothing was written; -o FOLDER keeps table, page and figure.")
    else:
        print_line(f"Page: {page}")
