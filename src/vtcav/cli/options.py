"""What commands share: options, and the way from arguments to objects."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vtcav.cli.terminal import print_line
from vtcav.errors import ExplanationError
from vtcav.method.variants import VARIANTS
from vtcav.models.heads.options import PRECISIONS

if TYPE_CHECKING:
    from vtcav.explainer.visual_tcav import VisualTCAV
    from vtcav.models.base import Model

__all__ = [
    "MODEL_HELP",
    "UsageError",
    "add_cache",
    "add_common",
    "add_loading",
    "add_model",
    "add_output",
    "add_quadrature",
    "add_resampling",
    "add_sources",
    "check_sources",
    "class_of",
    "load",
    "make_folder",
    "names",
    "output_path",
    "positive",
    "prepared",
    "say",
    "shown",
]

MODEL_HELP = (
    "demo, torchvision:NAME, timm:NAME, hf:NAME_OR_FOLDER, keras:FILE, or python:MODULE:CALLABLE "
    "(a function that returns a Classifier or a module)"
)


class UsageError(Exception):
    """Options that do not go together."""


# -- options ----------------------------------------------------------------------------------


def add_common(command: argparse.ArgumentParser) -> None:
    """Add the options of every command."""
    command.add_argument("--device", default="auto", help="auto (default), cpu, cuda, mps")
    command.add_argument(
        "--seed", type=int, default=0, help="seeds every random choice (default 0)"
    )
    command.add_argument("--json", action="store_true", help="print JSON on standard output")
    command.add_argument("--quiet", action="store_true", help="show no progress")
    command.add_argument("--debug", action="store_true", help="show tracebacks")


def add_model(command: argparse.ArgumentParser) -> None:
    """Add which network, and which of its layers."""
    command.add_argument("--model", required=True, help=MODEL_HELP)
    add_loading(command)
    command.add_argument("--layers", type=names, help="layers with commas (default: recommended)")


def add_loading(command: argparse.ArgumentParser) -> None:
    """Add how the network is loaded."""
    command.add_argument("--binary", action="store_true", help="the network has a single logit")
    command.add_argument(
        "--weights",
        metavar="FILE",
        help="a checkpoint (safetensors or a state dict); random: untrained, to try the mechanics",
    )
    command.add_argument("--class-names", metavar="FILE", help="class names: one per line, or JSON")


def add_sources(command: argparse.ArgumentParser) -> None:
    """Add where network and concepts come from, and how images are read."""
    add_model(command)
    command.add_argument(
        "--concepts", type=Path, help="a folder with one folder of example images per concept"
    )
    command.add_argument(
        "--negatives",
        type=Path,
        help=(
            "a folder of images that do not show the concepts; or one folder per concept, named "
            "like it"
        ),
    )
    command.add_argument("--cavs", type=Path, help="learned concepts, instead of --concepts")
    command.add_argument(
        "--variant",
        choices=VARIANTS,
        help=(
            "what finds a concept: paper (default), the direction of the definition; filter, "
            "Fisher's discriminant; with --cavs that of the file"
        ),
    )
    command.add_argument("--limit", type=positive, help="at most this many images of each folder")
    command.add_argument("--batch-size", type=positive, help="default: what fits into memory")
    command.add_argument(
        "--strict", action="store_true", help="make an unreadable image an error, not a warning"
    )
    add_cache(command)


def add_cache(command: argparse.ArgumentParser) -> None:
    """Add where what is learned is kept for the next time."""
    group = command.add_mutually_exclusive_group()
    group.add_argument(
        "--cache",
        metavar="DIR",
        help="keeps what learning computes, for the next time (default: see vtcav cache)",
    )
    group.add_argument(
        "--no-cache", dest="cache", action="store_false", help="compute all anew and keep nothing"
    )
    command.set_defaults(cache=None)


def add_quadrature(command: argparse.ArgumentParser) -> None:
    """Add how the integral is taken."""
    command.add_argument(
        "--steps",
        type=_steps,
        default="adaptive",
        help="adaptive (default), or the number of trapezoid steps (the paper: 50)",
    )
    command.add_argument(
        "--tolerance", type=float, default=0.01, help="relative error of adaptive (default 0.01)"
    )
    command.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="gradients in mixed precision: faster; the error is measured",
    )


def add_resampling(command: argparse.ArgumentParser) -> None:
    """Add how many CAVs significance and intervals rest on."""
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


def add_output(command: argparse.ArgumentParser, what: str) -> None:
    """Add the folder for the results."""
    command.add_argument("-o", "--output", type=Path, help=f"folder for {what}")


# -- from arguments to objects ----------------------------------------------------------------


def load(arguments: argparse.Namespace) -> Model:
    """Return the network."""
    from vtcav.models.registry import load_model

    return load_model(
        arguments.model,
        arguments.class_names,
        binary=arguments.binary,
        device=arguments.device,
        weights=arguments.weights,
    )


def check_sources(arguments: argparse.Namespace) -> None:
    """Refuse concepts from nowhere or from two places.

    Raises:
        UsageError: Saying what to give.
    """
    if (arguments.cavs is None) == (arguments.concepts is None):
        raise UsageError("give either --concepts DIR with --negatives DIR, or --cavs FILE")
    if arguments.concepts is not None and arguments.negatives is None:
        raise UsageError("--concepts needs --negatives DIR to contrast them with")


def prepared(arguments: argparse.Namespace, model: Model, **fit: int) -> VisualTCAV:
    """Return an explainer with its concepts learned or loaded.

    Args:
        arguments: With the options of `add_sources`, and perhaps those of `add_quadrature` and
            `add_resampling`.
        model: The network.
        fit: `null_cavs` and `bootstraps`, for commands without these options.
    """
    from vtcav.explainer.visual_tcav import VisualTCAV
    from vtcav.files.cache_location import cache_of
    from vtcav.images.concepts import concept_folders, negative_folders
    from vtcav.results.bank import CavBank

    if arguments.output is not None:
        make_folder(arguments.output)
    bank = CavBank.load(arguments.cavs) if arguments.cavs is not None else None
    given = vars(arguments)
    explainer = VisualTCAV(
        model,
        arguments.layers,
        given.get("steps", "adaptive"),
        tolerance=given.get("tolerance", 0.01),
        cavs=bank,
        variant=given.get("variant"),
        batch_size=arguments.batch_size,
        precision=given.get("precision"),
        progress=shown(arguments),
        cache=cache_of(arguments.cache, unset=True) or False,
    )
    if bank is None:
        fit = {key: given[key] for key in ("null_cavs", "bootstraps") if key in given} | fit
        concepts = concept_folders(arguments.concepts, besides=arguments.negatives)
        explainer.fit(
            concepts,
            negative_folders(arguments.negatives, concepts),
            limit=arguments.limit,
            seed=arguments.seed,
            strict=arguments.strict,
            **fit,
        )
        if arguments.output is not None:
            explainer.cavs.save(arguments.output / "cavs.safetensors")
    return explainer


def make_folder(path: Path) -> None:
    """Make the folder for the results before the work begins.

    Raises:
        ExplanationError: When that cannot be.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExplanationError(f"cannot write to the folder {str(path)!r}: {error}") from error


def output_path(output: Path | None) -> str | None:
    """Return the whole path of the results' folder, for JSON."""
    return None if output is None else str(output.resolve())


def shown(arguments: argparse.Namespace) -> bool | None:
    """Return whether to show progress; None where someone may be watching."""
    return False if arguments.quiet or arguments.json else None


def say(arguments: argparse.Namespace) -> Callable[[str], None]:
    """Return what tells a person how far the work is."""
    return (lambda text: None) if arguments.json or arguments.quiet else print_line


# -- from texts to values ---------------------------------------------------------------------


def names(text: str) -> list[str]:
    """Return names that are separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def class_of(text: str) -> str | int:
    """Return a class by name, or by its index from "index:N"."""
    number = text.removeprefix("index:")
    return int(number) if number != text and number.isdecimal() else text


def positive(text: str) -> int:
    """Return a whole number of at least 1."""
    return _at_least(1, text)


def _natural(text: str) -> int:
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    number = int(text)
    if number < least:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text}")
    return number


def _steps(text: str) -> int | str:
    return text if text == "adaptive" else positive(text)
