"""Options that commands share, and the objects that are made from them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vtcav.cli.terminal import print_json, print_line, print_saved
from vtcav.errors import ExplanationError, VtcavError
from vtcav.explainer.settings import ExplainerSettings, FitSettings, IntegralSettings
from vtcav.models.settings import LoadSettings
from vtcav.parameters import Constraint, Settings, Whole, parameters

if TYPE_CHECKING:
    from vtcav.explainer.visual_tcav import VisualTCAV
    from vtcav.models.base import Model

__all__ = [
    "MODEL_HELP",
    "UsageError",
    "add_cache",
    "add_command",
    "add_common",
    "add_loading",
    "add_model",
    "add_output",
    "add_quadrature",
    "add_resampling",
    "add_settings",
    "add_shared",
    "add_sources",
    "argument",
    "check_sources",
    "class_of",
    "load",
    "names",
    "output_folder",
    "positive",
    "prepared",
    "present",
    "say",
    "settings_of",
    "shown",
]

S = TypeVar("S", bound=Settings)
MODEL_HELP = parameters(LoadSettings)["name"].meaning


class UsageError(Exception):
    """Options that do not go together."""


# -- commands and options ---------------------------------------------------------------------


def add_command(
    commands: Any, name: str, text: str | None, run: Callable[[argparse.Namespace], None]
) -> argparse.ArgumentParser:
    """Add a command.

    Args:
        commands: The commands that there are.
        name: The name.
        text: The docstring of its module: "`vtcav NAME`: what it does in a line.", then what it
            does, and its examples.
        run: Carries it out.
    """
    head, _, rest = (text or "").partition("\n\n")
    description, _, examples = rest.partition("\nExample")
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=head.partition(": ")[2].removesuffix("."),
        description=description.strip(),
        epilog=f"example{examples.rstrip()}",
    )
    command.set_defaults(run=run)
    return command


def add_settings(
    command: argparse.ArgumentParser, settings: type[Settings], *only: str, **defaults: Any
) -> None:
    """Add an option for every parameter of a settings class.

    Args:
        command: The command.
        settings: The class.
        only: The names of the parameters; all by default.
        defaults: Defaults that differ from those of the class.
    """
    for name, declared in parameters(settings).items():
        if name not in (only or parameters(settings)) or declared.default is MISSING:
            continue
        option, default = f"--{name.replace('_', '-')}", defaults.get(name, declared.default)
        if default is False:
            command.add_argument(option, action="store_true", help=declared.meaning)
            continue
        constraint = declared.constraint
        command.add_argument(
            option,
            default=default,
            metavar=constraint.metavar or None,
            help=f"{declared.meaning} (default: {declared.none if default is None else default})",
            **{"choices": constraint.words} if constraint.words else {"type": argument(constraint)},
        )


def argument(constraint: Constraint) -> Callable[[str], Any]:
    """Return the function that `argparse` parses a text with."""

    def parse(text: str) -> Any:
        try:
            return constraint.accept(constraint.parse(text))
        except VtcavError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
        except (ValueError, TypeError):
            message = f"expected {constraint.expected}, got {text!r}"
            raise argparse.ArgumentTypeError(message) from None

    return parse


positive = argument(Whole(1))


def add_shared(command: argparse.ArgumentParser, *, quiet: str = "show no progress") -> None:
    """Add the options of every command."""
    command.add_argument("--json", action="store_true", help="print JSON on standard output")
    if quiet:
        command.add_argument("--quiet", action="store_true", help=quiet)
    command.add_argument("--debug", action="store_true", help="show tracebacks")


def add_common(command: argparse.ArgumentParser) -> None:
    """Add the options of every command that computes."""
    add_settings(command, LoadSettings, "device")
    add_settings(command, FitSettings, "seed")
    add_shared(command)


def add_model(command: argparse.ArgumentParser) -> None:
    """Add the network and its layers."""
    command.add_argument("--model", required=True, help=MODEL_HELP)
    add_loading(command)
    command.add_argument("--layers", type=names, help="layers with commas (default: recommended)")


def add_loading(command: argparse.ArgumentParser) -> None:
    """Add how the network is loaded."""
    known = [name for name in parameters(LoadSettings) if name not in ("device", "output")]
    add_settings(command, LoadSettings, *known)
    output = parameters(LoadSettings)["output"]  # not --output, which is the results' folder
    command.add_argument(
        "--model-output",
        metavar="KEY",
        type=argument(output.constraint),
        help=f"{output.meaning} (default: {output.none})",
    )


def add_sources(command: argparse.ArgumentParser) -> None:
    """Add the network, the concepts, and how their images are read."""
    add_model(command)
    command.add_argument(
        "--concepts", help="a folder or URI with one folder of example images per concept"
    )
    command.add_argument(
        "--negatives",
        help=(
            "images that do not show the concepts: a folder, glob, URI or Parquet file; or a "
            "folder with one folder per concept, named like it"
        ),
    )
    command.add_argument("--cavs", type=Path, help="saved CAVs, instead of --concepts")
    add_settings(command, ExplainerSettings, "variant", "batch_size")
    add_settings(command, FitSettings, "limit", "min_examples", "strict")
    command.set_defaults(variant=None)  # with --cavs, that of the file
    add_cache(command)


def add_cache(command: argparse.ArgumentParser) -> None:
    """Add where learning keeps what it computes."""
    group = command.add_mutually_exclusive_group()
    group.add_argument(
        "--cache",
        metavar="DIR",
        help="the folder of the cache of learning (default: see vtcav cache)",
    )
    group.add_argument(
        "--no-cache", dest="cache", action="store_false", help="neither read nor write the cache"
    )
    command.set_defaults(cache=None)


def add_quadrature(command: argparse.ArgumentParser) -> None:
    """Add how the integral is taken."""
    add_settings(command, IntegralSettings, "steps", "tolerance", "precision")


def add_resampling(command: argparse.ArgumentParser) -> None:
    """Add how many CAVs significance and intervals rest on."""
    add_settings(command, FitSettings, "null_cavs", "bootstraps")


def add_output(command: argparse.ArgumentParser, what: str) -> None:
    """Add the folder of the results."""
    command.add_argument("-o", "--output", type=output_folder, help=f"folder for {what}")


def output_folder(text: str) -> Path:
    """Return the path of results, whose name must be one that the encodings can hold."""
    try:
        text.encode()
        os.fsencode(text)
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(
            f"the name {text!r} has letters that the encoding {sys.getfilesystemencoding()} "
            "does not know; choose another name"
        ) from None
    return Path(text)


# -- from arguments to objects ----------------------------------------------------------------


def settings_of(settings: type[S], arguments: argparse.Namespace, **more: Any) -> S:
    """Return settings from the options that a command has; others have their defaults."""
    given = {name: getattr(arguments, name, None) for name in parameters(settings)} | more
    return settings(**{name: value for name, value in given.items() if value is not None})


def load(arguments: argparse.Namespace) -> Model:
    """Return the network."""
    from vtcav.models.registry import load_network

    output = getattr(arguments, "model_output", None)
    return load_network(settings_of(LoadSettings, arguments, name=arguments.model, output=output))


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
        fit: Settings of `FitSettings` that the command has no options for.

    Raises:
        ExplanationError: When the folder for the results cannot be made.
    """
    from vtcav.explainer.visual_tcav import VisualTCAV
    from vtcav.files.cache_location import cache_of
    from vtcav.images.concepts import concept_folders, negative_folders
    from vtcav.results.bank import CavBank

    output = arguments.output
    if output is not None:
        try:
            output.mkdir(parents=True, exist_ok=True)  # before the work begins
        except OSError as error:
            message = f"cannot write to the folder {str(output)!r}: {error}"
            raise ExplanationError(message) from error
    explainer = VisualTCAV(
        model,
        arguments.layers,
        **vars(settings_of(ExplainerSettings, arguments)) | {"variant": arguments.variant},
        cavs=None if arguments.cavs is None else CavBank.load(arguments.cavs),
        progress=shown(arguments),
        cache=cache_of(arguments.cache, unset=True) or False,
    )
    if arguments.cavs is None:
        concepts = concept_folders(arguments.concepts, besides=arguments.negatives)
        negatives = negative_folders(arguments.negatives, concepts)
        explainer.fit(concepts, negatives, **vars(settings_of(FitSettings, arguments, **fit)))
        if output is not None:
            explainer.cavs.save(output / "cavs.safetensors")
    return explainer


def present(
    arguments: argparse.Namespace,
    result: Any,
    data: Callable[[], Mapping[str, Any]],
    show: Callable[[], None],
) -> None:
    """Save a result where a folder is given, and print it.

    Args:
        arguments: With `output` and `json`.
        result: Saves itself.
        data: Returns the result as JSON.
        show: Prints its tables.
    """
    output = arguments.output
    if output is not None:
        result.save(output)
    if arguments.json:
        print_json({**data(), "output": None if output is None else str(output.resolve())})
    else:
        show()
        print_saved(output)


def shown(arguments: argparse.Namespace) -> bool | None:
    """Return whether to show progress; None where someone may be watching."""
    return False if arguments.quiet or arguments.json else None


def say(arguments: argparse.Namespace) -> Callable[[str], None]:
    """Return a function that tells a person how far the work is."""
    return (lambda text: None) if arguments.json or arguments.quiet else print_line


# -- from texts to values ---------------------------------------------------------------------


def names(text: str) -> list[str]:
    """Return names that are separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def class_of(text: str) -> str | int:
    """Return a class by name, or by its index from "index:N"."""
    number = text.removeprefix("index:")
    return int(number) if number != text and number.isdecimal() else text
