"""Options that commands share, and the objects that are made from them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from vtcav.cli.terminal import print_json, print_line
from vtcav.errors import ExplanationError, VtcavError
from vtcav.explainer.settings import ExplainerSettings, FitSettings, IntegralSettings
from vtcav.files.home import expanded
from vtcav.models.settings import LoadSettings
from vtcav.parameters import Constraint, Settings, Whole, parameters

if TYPE_CHECKING:
    from vtcav.explainer.visual_tcav import VisualTCAV
    from vtcav.models.base import Model

__all__ = [
    "IMAGES_HELP",
    "MODEL_HELP",
    "UsageError",
    "add_cache",
    "add_command",
    "add_common",
    "add_explainer",
    "add_loading",
    "add_model",
    "add_output",
    "add_settings",
    "add_shared",
    "answer",
    "chosen",
    "class_of",
    "load",
    "load_checked",
    "names",
    "numbers",
    "positive",
    "prepared",
    "present",
    "say",
    "shown",
]

S = TypeVar("S", bound=Settings)
MODEL_HELP = parameters(LoadSettings)["name"].meaning
# Parameters of networks whose options have other names: --output is the folder of the results.
_OPTIONS = {"name": "model", "output": "model_output"}
IMAGES_HELP = "a folder, glob, URI or Parquet file"


class UsageError(Exception):
    """The options do not go together."""


# -- commands and options ---------------------------------------------------------------------


def add_command(commands: Any, module: ModuleType) -> None:
    """Add the command that a module describes.

    Args:
        commands: The subparsers to add to.
        module: Its docstring is "`vtcav NAME`: a line of help.", a description, and examples; its
            `add_options` takes the command's parser, and its `run` the parsed arguments.
    """
    head, _, rest = (module.__doc__ or "").partition("\n\n")
    name, _, line = head.partition("`: ")
    description, _, examples = rest.partition("\nExample")
    command = commands.add_parser(
        name.removeprefix("`vtcav "),
        help=line.removesuffix("."),
        description=description.strip(),
        epilog=f"example{examples.rstrip()}",
    )
    command.set_defaults(run=module.run)
    module.add_options(command)


def add_settings(
    command: argparse.ArgumentParser, settings: type[Settings], *only: str, **defaults: Any
) -> None:
    """Add an option for every parameter of a settings class.

    Args:
        command: The parser of the command.
        settings: The class.
        only: The names of the parameters; all by default.
        defaults: Defaults that differ from those of the class.
    """
    for name, declared in parameters(settings).items():
        if name not in (only or parameters(settings)) or declared.default is MISSING:
            continue
        option = f"--{_OPTIONS.get(name, name).replace('_', '-')}"
        default = defaults.get(name, declared.default)
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
    command.add_argument("--layers", type=names, help="layers: a,b (default: recommended)")


def add_loading(command: argparse.ArgumentParser) -> None:
    """Add how the network is loaded."""
    add_settings(command, LoadSettings, *(parameters(LoadSettings).keys() - {"device"}))


def add_explainer(
    command: argparse.ArgumentParser, results: str, *, integral: bool = False, draws: bool = False
) -> None:
    """Add the options of a command that learns or loads concepts, and keeps its results.

    Args:
        command: The parser of the command.
        results: The results in words, for the help of `--output`.
        integral: Whether the command integrates gradients.
        draws: Whether it computes p-values and intervals.
    """
    add_model(command)
    command.add_argument(
        "--concepts", help="a folder or URI with one folder of example images per concept"
    )
    command.add_argument(
        "--negatives",
        help=(
            f"images that do not show the concepts: {IMAGES_HELP}; or a folder with one folder per "
            "concept, named like it"
        ),
    )
    command.add_argument("--cavs", type=Path, help="saved CAVs, instead of --concepts")
    add_settings(command, ExplainerSettings, "variant", "batch_size")
    add_settings(command, FitSettings, "limit", "min_examples", "strict")
    command.set_defaults(variant=None)  # with --cavs, that of the file
    add_cache(command)
    if integral:
        add_settings(command, IntegralSettings, "steps", "tolerance", "precision")
    if draws:
        add_settings(command, FitSettings, "null_cavs", "bootstraps")
    add_output(command, f"folder for {results}")
    add_common(command)


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


def add_output(command: argparse.ArgumentParser, meaning: str, **more: Any) -> None:
    """Add the folder or file for the results; `more` as `add_argument` takes it."""
    command.add_argument("-o", "--output", type=_output_folder, help=meaning, **more)


def _output_folder(text: str) -> Path:
    """Return the path of results, whose name must be one that the encodings can hold.

    A leading ``~/`` that the shell left stands for the home folder.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError("expected the name of a folder, got an empty text")
    try:
        text.encode()
        os.fsencode(text)
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(
            f"the name {text!r} has letters that the encoding {sys.getfilesystemencoding()} "
            "does not know; choose another name"
        ) from None
    return expanded(text)


# -- from arguments to objects ----------------------------------------------------------------


def _settings_of(settings: type[S], arguments: argparse.Namespace, **more: Any) -> S:
    """Return settings from the options that a command has; others have their defaults."""
    options = {name: _OPTIONS.get(name, name) for name in parameters(settings)}
    given = {name: getattr(arguments, option, None) for name, option in options.items()} | more
    return settings(**{name: value for name, value in given.items() if value is not None})


def load(arguments: argparse.Namespace) -> Model:
    """Return the network."""
    from vtcav.models.registry import load_network

    return load_network(_settings_of(LoadSettings, arguments))


def load_checked(arguments: argparse.Namespace, *images: str | None) -> Model:
    """Return the network of a command with the options of `add_explainer`.

    Sources of concepts and images are checked first, before the minutes that learning may take.

    Args:
        arguments: The arguments.
        images: Sources of images; None for one that is not given.

    Raises:
        UsageError: For concepts from nowhere or from two places.
        ImageError: For images that do not exist.
    """
    from vtcav.images.listing import collect

    if (arguments.cavs is None) == (arguments.concepts is None):
        raise UsageError("give either --concepts DIR with --negatives DIR, or --cavs FILE")
    if arguments.concepts is not None and arguments.negatives is None:
        raise UsageError("--concepts needs --negatives DIR to contrast them with")
    for source in images:
        if source is not None:
            collect(source)
    return load(arguments)


def prepared(arguments: argparse.Namespace, model: Model, **fit: int) -> VisualTCAV:
    """Return an explainer with its concepts learned or loaded.

    Args:
        arguments: With the options of `add_explainer`.
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
        **vars(_settings_of(ExplainerSettings, arguments)) | {"variant": arguments.variant},
        cavs=None if arguments.cavs is None else CavBank.load(arguments.cavs),
        progress=shown(arguments),
        cache=cache_of(arguments.cache, unset=True) or False,
    )
    if arguments.cavs is None:
        concepts = concept_folders(arguments.concepts, besides=arguments.negatives)
        negatives = negative_folders(arguments.negatives, concepts)
        explainer.fit(concepts, negatives, **vars(_settings_of(FitSettings, arguments, **fit)))
        if output is not None:
            explainer.cavs.save(output / "cavs.safetensors")
    return explainer


# -- from results to output -------------------------------------------------------------------


def present(
    arguments: argparse.Namespace, result: Any, data: Mapping[str, Any], show: Callable[[Any], None]
) -> None:
    """Save a result if a folder is given, and print it.

    Args:
        arguments: With `output` and `json`.
        result: The result, which has a method `save`.
        data: The result as JSON; tables become lists of rows.
        show: Prints the tables of the result.
    """
    output = arguments.output
    if output is not None:
        result.save(output)
    if arguments.json:
        print_json({**data, "output": None if output is None else str(output.resolve())})
        return
    show(result)
    if output is None:
        print_line("Nothing was written; -o FOLDER keeps tables, maps and the figure.")
    else:
        print_line(f"Written to {output.resolve()}")


def answer(arguments: argparse.Namespace, data: Any, *lines: str) -> None:
    """Print data as JSON if that is asked for, else the lines."""
    if arguments.json:
        print_json(data)
    elif lines:
        print_line("\n".join(lines))


def chosen(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return some of the arguments by name, for a function that calls them the same."""
    return {name: getattr(arguments, name) for name in names}


def shown(arguments: argparse.Namespace) -> bool | None:
    """Return whether to show progress; None where someone may be watching."""
    return False if arguments.quiet or arguments.json else None


def say(arguments: argparse.Namespace) -> Callable[[str], None]:
    """Return a function that reports the progress of the work, unless it is to be quiet."""
    return (lambda text: None) if arguments.json or arguments.quiet else print_line


# -- from texts to values ---------------------------------------------------------------------


def names(text: str) -> list[str]:
    """Return comma-separated names."""
    return [name.strip() for name in text.split(",") if name.strip()]


def numbers(text: str, otherwise: str = "") -> list[int]:
    """Return comma-separated numbers; an error also names the other values that are possible."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        message = f"expected comma-separated numbers{otherwise}, got {text!r}"
        raise argparse.ArgumentTypeError(message) from None


def class_of(text: str) -> str | int:
    """Return a class by name, or by its index from "index:N"."""
    number = text.removeprefix("index:")
    return int(number) if number != text and number.isdecimal() else text
