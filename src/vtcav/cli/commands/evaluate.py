"""`vtcav evaluate`: compare attributions with measured causal effects.

Run or resume the controlled experiment: train networks on drawn images (--images: photographs),
measure which of two cues they use, and compare with what methods say. With --pairs, measure what a
thing does in photographs with and without it; with --masks it is filled in.
Needs the extra vtcav[evaluation].

Examples:
  vtcav evaluate -o evaluation --seeds 0,1,2
  vtcav evaluate --images photographs --model demo -o evaluation --quick
  vtcav evaluate --pairs with without --model demo --concepts concepts --negatives random -o out
  vtcav evaluate --pairs with --masks masks --model demo --cavs cavs.safetensors -o out
"""

from __future__ import annotations

from vtcav.cli.commands.localise import mask_value
from vtcav.cli.options import Arguments, Parser, UsageError, class_of, names, numbers, positive
from vtcav.cli.terminal import print_frame, print_line, print_table
from vtcav.files.manifest import records
from vtcav.files.paths import expanded

_PAIRS = (
    "layer, concept, attribution, spearman: rho, spearman_low: rho low, spearman_high: rho high, "
    "note"
)


def add_options(command: Parser) -> None:
    """Add the options."""
    command.add_output("folder of the run", required=True)
    command.flag("--quick", "one seed, three networks, a few minutes")
    command.option(
        "--seeds",
        "comma-separated seeds (default: three from --seed on, 0,1,2; quick: --seed alone)",
        numbers,
    )
    images = "your own photographs, a folder per class, instead of drawn images; they get tags"
    command.option("--images", images, expanded, metavar="DIR")
    command.option(
        "--limit", "at most this many photographs of each class (default 400, quick: 120)", positive
    )
    command.option("--model", "train on the features of this network (default: on the pixels)")
    command.add_loading()
    pairs = (
        "two folders of the same photographs, with and without a thing, under the same names; or "
        "one, and --masks"
    )
    command.add_argument(
        "--pairs", nargs="+", type=expanded, metavar=("WITH", "WITHOUT"), help=pairs
    )
    masks = "with --pairs WITH, a folder of masks of the thing, named like the photographs"
    command.option("--masks", masks, expanded, metavar="DIR")
    meaning = "the thing's values in a mask, as for localise (default: masks of 0 and one other)"
    command.option("--value", meaning, mask_value)
    meaning = "with --pairs, the thing may be all over a picture, as a scanner's noise"
    command.add_argument("--everywhere", action="store_true", help=meaning)
    meaning = "with --pairs, the class by name or index:N (default: the predicted one)"
    command.option("--class", meaning, class_of, dest="class_name")
    command.option("--layers", "with --pairs, layers: a,b (default: recommended)", names)
    command.add_concepts("min_examples", "strict")
    command.option(
        "--layer", "the layer of --model with the features (default: the deepest of 12 x 12)"
    )
    command.add_common()


def run(arguments: Arguments) -> None:
    """Carry out the command."""
    if arguments.pairs is not None:
        return _run_pairs(arguments)
    if arguments.masks is not None:
        raise UsageError("--masks are of the photographs of --pairs WITH")
    from vtcav.evaluation.experiment.evaluate import evaluate
    from vtcav.evaluation.experiment.report import headlines

    if arguments.images is None and (arguments.model or arguments.layer or arguments.limit):
        raise UsageError("--model, --layer and --limit need photographs: --images DIR")
    first = arguments.seed
    found = evaluate(
        arguments.output,
        **arguments.chosen("quick", "images", "layer", "limit", "device"),
        seeds=arguments.seeds or [first + n for n in range(1 if arguments.quick else 3)],
        model=None if arguments.model is None else arguments.load(),
        progress=arguments.shown(),
    )
    page, maps = str(found.page.resolve()), found.summary["localisation"]
    if not arguments.json:
        for title, table in headlines(found.summary).items():
            title, header = f"Agreement with the measured effects. {title}", list(table.columns)
            print_table(title, header, table.to_numpy().tolist(), header[1:])
    lines = [f"Pointing game {maps['pointing_game']:.2f}: {maps['of']}", f"Done. Open {page}"]
    return arguments.answer({**found.summary, "report": page}, *lines)


def _run_pairs(arguments: Arguments) -> None:
    """Measure pairs of photographs."""
    from vtcav.evaluation.pairs.compute import measure_pairs

    if len(arguments.pairs) != (2 if arguments.masks is None else 1):
        raise UsageError("expected --pairs WITH WITHOUT, or --pairs WITH --masks DIR")
    if arguments.model is None:
        raise UsageError("--pairs needs the network whose scores are measured: --model")
    if not (arguments.concepts or arguments.text or arguments.cavs):
        raise UsageError(
            "--pairs needs the concepts: --concepts DIR with --negatives DIR, or --cavs"
        )
    model = arguments.load_checked(*arguments.pairs)
    explainer = arguments.prepared(model, null_cavs=0, bootstraps=0)
    images, *others = arguments.pairs
    found = measure_pairs(
        explainer,
        images,
        others[0] if others else None,
        arguments.class_name,
        **arguments.chosen("masks", "value", "everywhere", "limit", "seed"),
    )
    found.save(arguments.output)
    summary = found.summary()
    if not arguments.json:
        print_line(found.sentence)
        print_frame("Rank correlation (rho) of attributions and measured effects", summary, _PAIRS)
        for skip in found.skipped:
            print_line(f"Left out: {skip.name}: {skip.reason}")
    where = str(arguments.output.resolve())
    [effect] = records(found.effect())
    said = {"sentence": found.sentence, "effect": effect}
    data = {**said, "summary": summary, "table": found.table, "output": where}
    arguments.answer(data, f"Written to {where}")
