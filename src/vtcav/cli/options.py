"""Options that commands share, and the objects that are made from them.

`Parser` declares options, most of them generated from settings. `Arguments` makes a network, an
explainer and the output from their values.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, TypeVar

from vtcav.cli.terminal import print_json, print_line
from vtcav.errors import ConceptError, ExplanationError, VtcavError, why
from vtcav.explainer.settings import (
    ErasureSettings,
    ExplainerSettings,
    FitSettings,
    IntegralSettings,
)
from vtcav.files.paths import expanded
from vtcav.models.settings import LoadSettings
from vtcav.parameters import Constraint, Settings, Whole, parameters

if TYPE_CHECKING:
    from vtcav.explainer.visual_tcav import VisualTCAV
    from vtcav.models.base import Model


S = TypeVar("S", bound=Settings)
Accept: TypeAlias = Callable[[str], Any]
MODEL_HELP = parameters(LoadSettings)["name"].meaning
# Parameters of networks whose options have other names: --output is the folder of the results.
_OPTIONS = {"name": "model", "output": "model_output"}
IMAGES_HELP = "a folder, glob, URI or Parquet file"
USAGE = 2
"""The exit code for wrong usage."""


class UsageError(Exception):
    """The options do not go together."""


class Parser(argparse.ArgumentParser):
    """A parser that reports an error in one line and says where to find help."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            **settings, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )

    def error(self, message: str) -> NoReturn:
        """Print an error and end the program."""
        self.exit(USAGE, f"vtcav: {message}\n  see: {self.prog} --help\n")

    def option(
        self, name: str, meaning: str, accept: Accept = str, *, group: Any = None, **more: Any
    ) -> None:
        """Add an option.

        Args:
            name: The option.
            meaning: Its help; the default is appended unless the help tells it.
            accept: Turns the text into a value.
            group: The group that it belongs to, from `add_argument_group`.
            more: Further arguments of `add_argument`.
        """
        if more.get("default") is not None and "default" not in meaning:
            meaning += f" (default: {more['default']})"
        (group or self).add_argument(name, type=accept, help=meaning, **more)

    def flag(self, name: str, meaning: str) -> None:
        """Add an option without a value, which is false by default."""
        self.add_argument(name, action="store_true", help=meaning)

    def add_settings(self, settings: type[Settings], *only: str, **defaults: Any) -> None:
        """Add an option for every parameter of a settings class.

        Args:
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
                self.flag(option, declared.meaning)
                continue
            meaning = declared.meaning + (f" (default: {declared.none})" if default is None else "")
            words, metavar = declared.constraint.words or None, declared.constraint.metavar or None
            accept = str if words else argument(declared.constraint)
            self.option(option, meaning, accept, default=default, choices=words, metavar=metavar)

    def add_shared(self, *, quiet: str = "show no progress") -> None:
        """Add the options of every command."""
        self.flag("--json", "print JSON on standard output")
        if quiet:
            self.flag("--quiet", quiet)
        self.flag("--debug", "show tracebacks")

    def add_common(self) -> None:
        """Add the options of every command that computes."""
        self.add_settings(LoadSettings, "device")
        self.add_settings(FitSettings, "seed")
        self.add_shared()

    def add_model(self) -> None:
        """Add the network and its layers."""
        self.option("--model", MODEL_HELP, required=True)
        self.add_loading()
        self.option("--layers", "layers: a,b (default: recommended)", names)

    def add_loading(self) -> None:
        """Add how the network is loaded."""
        self.add_settings(LoadSettings, *(parameters(LoadSettings).keys() - {"device"}))

    def add_explainer(self, results: str, *, integral: bool = False, draws: bool = False) -> None:
        """Add the options of a command that learns or loads concepts, and keeps its results.

        Args:
            results: The results in words, for the help of `--output`.
            integral: Whether the command integrates gradients.
            draws: Whether it computes p-values and intervals.
        """
        self.add_model()
        self.add_concepts("limit", "min_examples", "strict")
        if integral:
            self.add_settings(IntegralSettings, "steps", "tolerance", "precision")
            self.add_settings(ErasureSettings)
        if draws:
            self.add_settings(FitSettings, "null_cavs", "bootstraps")
        self.add_output(f"folder for {results}")
        self.add_common()

    def add_concepts(self, *fit: str) -> None:
        """Add how concepts are learned or loaded, with some parameters of `FitSettings`."""
        self.option("--concepts", "a folder or URI with one folder of examples per concept")
        negatives = "images that show none of the concepts, or a folder with one folder per concept"
        self.option("--negatives", negatives)
        self.option("--cavs", "saved CAVs, instead of --concepts", expanded)
        self._add_texts()
        self.add_settings(ExplainerSettings, "variant", "batch_size")
        self.add_settings(FitSettings, *fit)
        self.set_defaults(variant=None)  # with --cavs, that of the file
        self.add_cache()

    def _add_texts(self) -> None:
        group = self.add_argument_group("concepts from words")
        text = "a concept as a text; several of one name are of one meaning"
        more: dict[str, Any] = {"action": "append", "metavar": "NAME=TEXT", "group": group}
        self.option("--text", text, _named_text, **more)
        model = "a folder with CLIP or SigLIP (default: the network, if it is one)"
        self.option("--text-model", model, group=group, metavar="DIR")
        probe = "pictures of which some show each text"
        self.option("--probe", probe, group=group, metavar="IMAGES")

    def add_run(self) -> None:
        """Add how many images are computed: in parts that are kept, here or on a cluster."""
        parts = "finished parts, to resume from (default: OUT/run until all is saved)"
        self.option("--run", parts, expanded, dest="run_folder", metavar="DIR")
        self.flag("--no-resume", "do not keep finished parts")
        self.option("--engine", "where to run", choices=("local", "ray"), default="local")
        self.option("--address", "the Ray cluster (default: one of its own)")
        self.option("--workers", "how many Ray actors to use", positive)

    def add_groups(self) -> None:
        """Add which images are alike."""
        self.option("--groups", "images that are alike: a pattern in their names, or TABLE:COLUMN")

    def add_cache(self) -> None:
        """Add where learning keeps what it computes."""
        group = self.add_mutually_exclusive_group()
        meaning = "the cache of learning (default: see vtcav cache)"
        self.option("--cache", meaning, group=group, metavar="DIR")
        group.add_argument(
            "--no-cache", dest="cache", action="store_false", help="do not read or write the cache"
        )
        self.set_defaults(cache=None)

    def add_output(self, meaning: str, **more: Any) -> None:
        """Add the folder or file for the results; `more` as `add_argument` takes it."""
        self.add_argument("-o", "--output", type=_output_folder, help=meaning, **more)


class Arguments(argparse.Namespace):
    """The values of a command's options."""

    def settings(self, settings: type[S], **more: Any) -> S:
        """Return settings from the options that a command has; others have their defaults."""
        options = {name: _OPTIONS.get(name, name) for name in parameters(settings)}
        given = {name: getattr(self, option, None) for name, option in options.items()} | more
        return settings(**{name: value for name, value in given.items() if value is not None})

    def load(self) -> Model:
        """Return the network."""
        from vtcav.models.registry import load_network

        return load_network(self.settings(LoadSettings))

    def load_checked(self, *images: str | None, concepts: bool = True) -> Model:
        """Return the network of a command with the options of `Parser.add_explainer`.

        Sources of concepts and images are checked first, before the minutes that learning may take.

        Args:
            images: Sources of images; None for one that is not given.
            concepts: Whether the command needs concepts.

        Raises:
            UsageError: For concepts from nowhere or from two places.
            ImageError: For images that do not exist.
        """
        from vtcav.images.listing import collect

        if concepts and (self.cavs is None) == (self.concepts is None and not self.text):
            raise UsageError(
                "give either --concepts DIR with --negatives DIR, or --cavs FILE; or words with "
                "--text NAME=TEXT and --probe DIR"
            )
        if bool(self.text) != bool(self.probe) or (self.text_model and not self.text):
            raise UsageError("--text NAME=TEXT, --probe DIR and --text-model DIR go together")
        if self.concepts is not None and self.negatives is None:
            raise UsageError("--concepts needs --negatives DIR to contrast them with")
        for source in (*images, self.probe):
            if source is not None:
                collect(source)
        return self.load()

    def check_run(self) -> None:
        """Check the options of `Parser.add_run`.

        Raises:
            UsageError: For options of Ray without Ray.
        """
        if self.engine != "ray" and (self.address or self.workers):
            raise UsageError("--address and --workers need --engine ray")

    @property
    def _own_run(self) -> Path | None:
        """The folder of finished parts that is removed once the results are saved."""
        if self.run_folder or self.output is None or self.no_resume:
            return None
        own: Path = self.output / "run"
        return own

    @property
    def running(self) -> dict[str, Any]:
        """How many images are computed, as `explain_class` and `rank` take it."""
        given = self.chosen("address", "workers").items()
        options = {name: value for name, value in given if value is not None}
        return {
            "run": self.run_folder or self._own_run,
            "engine": self.engine,
            "ray_options": options if self.engine == "ray" else None,
        }

    def end_run(self) -> None:
        """Remove the finished parts, once the results are saved."""
        if self._own_run is not None:
            shutil.rmtree(self._own_run, ignore_errors=True)

    def prepared(self, model: Model, only: str | None = None, **fit: int) -> VisualTCAV:
        """Return an explainer with its concepts learned or loaded, where there are some.

        The command has the options of `Parser.add_explainer`.

        Args:
            model: The network.
            only: The one concept to learn; None learns all.
            fit: Settings of `FitSettings` that the command has no options for.

        Raises:
            ConceptError: When there is no folder of the one concept.
            ExplanationError: When the folder for the results cannot be made.
        """
        from vtcav.explainer.visual_tcav import VisualTCAV
        from vtcav.files.cache_location import cache_of
        from vtcav.images.concepts import concept_folders, negative_folders
        from vtcav.results.bank.cav_bank import CavBank

        output = self.output
        if output is not None:
            try:
                output.mkdir(parents=True, exist_ok=True)  # before the work begins
            except OSError as error:
                message = f"cannot write to the folder {str(output)!r}: {why(error)}"
                raise ExplanationError(message) from error
        explainer = VisualTCAV(
            model,
            self.layers,
            **vars(self.settings(ExplainerSettings)) | {"variant": self.variant},
            cavs=None if self.cavs is None else CavBank.load(self.cavs),
            progress=self.shown(),
            cache=cache_of(self.cache, unset=True) or False,
        )
        if self.concepts is None and not self.text:
            return explainer
        texts = _by_name(self.text or ())
        concepts = concept_folders(self.concepts, besides=self.negatives) if self.concepts else {}
        if only is not None:
            known_name(only, {**concepts, **texts})
            concepts = {name: folder for name, folder in concepts.items() if name == only}
            texts = {name: words for name, words in texts.items() if name == only}
        negatives = negative_folders(self.negatives, concepts) if concepts else self.negatives
        words = {"texts": texts, "images": self.probe, "text_model": self.text_model}
        explainer.fit(
            concepts or None,
            negatives,
            **(words if texts else {}),
            **vars(self.settings(FitSettings, **fit)),
        )
        if output is not None:
            explainer.cavs.save(output / "cavs.safetensors")
        return explainer

    def present(self, result: Any, data: Mapping[str, Any], show: Callable[[Any], None]) -> None:
        """Save a result if a folder is given, and print it.

        Args:
            result: The result, which has a method `save`.
            data: The result as JSON; tables become lists of rows.
            show: Prints the tables of the result.
        """
        output = self.output
        if output is not None:
            result.save(output)
        if self.json:
            print_json({**data, "output": None if output is None else str(output.resolve())})
            return
        show(result)
        if output is None:
            print_line("Nothing was written; -o FOLDER keeps tables, maps and the figure.")
        else:
            print_line(f"Written to {output.resolve()}")

    def answer(self, data: Any, *lines: str) -> None:
        """Print data as JSON if that is asked for, else the lines."""
        if self.json:
            print_json(data)
        elif lines:
            print_line("\n".join(lines))

    def chosen(self, *names: str) -> dict[str, Any]:
        """Return some of the arguments by name, for a function that calls them the same."""
        return {name: getattr(self, name) for name in names}

    def shown(self) -> bool | None:
        """Return whether to show progress; None where someone may be watching."""
        return False if self.quiet or self.json else None

    def say(self, text: str) -> None:
        """Report the progress of the work, unless it is to be quiet."""
        if not self.json and not self.quiet:
            print_line(text)


# -- from texts to values ---------------------------------------------------------------------


def argument(constraint: Constraint) -> Accept:
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


def _named_text(text: str) -> tuple[str, str]:
    """Return the name and the text of a concept as words, NAME=TEXT."""
    name, _, words = text.partition("=")
    if not name.strip() or not words.strip():
        raise argparse.ArgumentTypeError(f"expected NAME=TEXT, got {text!r}")
    return name.strip(), words.strip()


def _by_name(texts: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, words in texts:
        found.setdefault(name, []).append(words)
    return found


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


def known_name(concept: str, folders: Mapping[str, Any]) -> str:
    """Return the name of a concept that has a folder.

    Raises:
        ConceptError: When it has none.
    """
    if concept not in folders:
        raise ConceptError(
            f"there is no folder of the concept {concept!r}; there are "
            f"{', '.join(map(repr, folders))}"
        )
    return concept


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
