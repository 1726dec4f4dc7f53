"""Carrying out a study: learn, diagnose, explain, compare, and write everything."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtcav.diagnostics.result import Diagnostics
from vtcav.explainer.runs.assembly import bank_digest
from vtcav.explainer.runs.run_folder import opened
from vtcav.explainer.settings import FitSettings
from vtcav.files.cache_location import cache_of
from vtcav.files.hashing import file_hash
from vtcav.files.manifest import records, save_result
from vtcav.images.listing import collect
from vtcav.models.heads.batch_size import IMAGES
from vtcav.results.bank import CavBank
from vtcav.results.explanation import GlobalExplanation, LocalExplanation
from vtcav.study.checkpoints import Steps, content, identity
from vtcav.study.prepare import Prepared, explainer_of, prepare
from vtcav.study.spec import FORMATS, paths
from vtcav.study.study import Study
from vtcav.study.summary_table import study_table, write_tables
from vtcav.study.yaml_file import StudyError

if TYPE_CHECKING:
    import pandas as pd

    from vtcav.files.cache import Cache

__all__ = ["run_study"]

_HEADER = (
    "# The study as it was carried out, with every default filled in. Paths are relative to the\n"
    "# folder of the study file that it was made from.\n"
)


def run_study(
    study: Study,
    output: str | Path | None = None,
    *,
    progress: bool | None = None,
    say: Callable[[str], None] = lambda text: None,
    cache: bool | str | Path | Cache | None = None,
) -> Path:
    """Carry out a study: learn, diagnose, explain, and write tables, figures and the page.

    What is finished is kept, step by step: the same study goes on where it was cut off, and gives
    the same tables. Classes and photographs may be added between runs. While it runs, the working
    directory of the process is the study's folder, which its paths are relative to.

    Args:
        study: What to do.
        output: The folder of the results, in place of the study's own.
        progress: Whether to show progress bars; None where someone may be watching.
        say: Told what is being done.
        cache: Where learning keeps what it computes, as `VisualTCAV` takes it.

    Returns:
        The folder: `summary` (every number, in the study's formats), `report.html`, `study.yaml`
        (as carried out), `study.json` (provenance; written last), `cavs.safetensors`,
        `diagnostics/`, `classes/NAME/`, `images/NAME/`, `comparison/`, and `run/` (what is done).

    Raises:
        StudyError: For what the study asks and cannot be, naming file, line and key.
        ExplanationError: When the folder holds results of other settings, is in use or cannot be
            written.
        VtcavError: When the work fails otherwise.
    """
    folder = study.base / study.output if output is None else Path(output)
    whole = folder.resolve()
    cache = cache_of(cache, unset=False) or False
    study.check_output(whole)
    with contextlib.chdir(study.base):
        prepared = prepare(study, progress, say, cache)
        with opened(whole / "run", identity(study, prepared.explainer)):
            _Run(prepared, whole, progress, say).all()
    return folder


class _Run:
    """The steps of a study, one after the other."""

    def __init__(
        self, prepared: Prepared, folder: Path, progress: bool | None, say: Callable[[str], None]
    ) -> None:
        self.prepared = prepared
        self.study = prepared.study
        self.explainer = prepared.explainer
        self.folder = folder
        self.progress = progress
        self.say = say
        self.steps = Steps(folder / "run" / "done.json", say)
        self.learned = ""

    def all(self) -> None:
        """Do what is not done yet, then write what puts everything together."""
        self._refuse_strangers()
        self._learn()
        diagnostics = self._diagnose()
        classes = {folder: self._class(folder) for folder in self.prepared.classes}
        images = {folder: self._image(folder) for folder in self.prepared.images}
        if self.study.peers:
            self._compare()
        self._write(study_table(classes, images, diagnostics))
        if self.study.report:
            self._report()

    def _refuse_strangers(self) -> None:
        """Refuse results that are none of the study's: the page would show them too."""
        known: list[tuple[str, Collection[str]]] = [
            ("classes", self.prepared.classes),
            ("images", self.prepared.images),
        ]
        found = [
            path
            for kind, names in known
            for path in sorted((self.folder / kind).glob("[!.]*"))
            if path.is_dir() and path.name not in names
        ]
        asked = {"diagnostics": self.study.diagnostics is not None, "comparison": self.study.peers}
        found += [self.folder / name for name, wanted in asked.items() if not wanted]
        for path in found:
            if path.exists():
                message = (
                    f"there are results in {str(path)!r} of what the study does not ask for; "
                    "choose another folder, or delete that one"
                )
                raise StudyError(self.study.located("output", message))

    def _learn(self) -> None:
        """Learn the concepts, or take up the CAVs that were learned before."""
        path = self.folder / "cavs.safetensors"
        names = ", ".join(self.study.concepts)
        # that the settings are the same is checked for the whole folder
        bank = self.steps.take(
            "cavs",
            f"Learning {len(self.study.concepts)} concepts: {names}",
            "",
            partial(CavBank.load, path),
            partial(self._fit, path),
        )
        self.explainer = explainer_of(
            self.study,
            self.explainer.model,
            self.explainer.layers,
            cavs=bank,
            progress=self.progress,
        )
        self.learned = bank_digest(bank)

    def _fit(self, path: Path) -> CavBank:
        concepts = self.study.concepts
        # concepts that are given the same object share one set
        sets = {source: paths(source) for source in {c.negatives for c in concepts.values()}}
        negatives = {name: sets[spec.negatives] for name, spec in concepts.items()}
        with self.study.at("concepts"):
            self.explainer.fit(
                {name: paths(spec.examples) for name, spec in concepts.items()},
                negatives if len(sets) > 1 else next(iter(sets.values())),
                **self.study.options.part(FitSettings),
            )
        self.explainer.cavs.save(path)
        # the numbers of a run that is taken up again come from the file too
        return CavBank.load(path)

    def _diagnose(self) -> Diagnostics | None:
        spec = self.study.diagnostics
        if spec is None:
            return None
        refs = [ref for one in self.prepared.classes.values() for ref in one.refs]
        names = self.prepared.images.values()
        refs += [ref for name in names for ref in collect(Path(self.study.images[name].file))]
        other = None if spec.other_negatives is None else paths(spec.other_negatives)
        folder = self.folder / "diagnostics"

        def make() -> Diagnostics:
            with self.study.at("diagnostics"):
                found = self.explainer.diagnostics(
                    refs or None,
                    other,
                    seed=self.study.options.seed,
                    resamples=spec.resamples,
                )
            found.save(folder)
            return Diagnostics.load(folder)

        depends = [self.learned, asdict(spec), content(refs)]
        depends += [] if other is None else [content(collect(other))]
        title = "Finding out how far the concepts can be trusted"
        return self.steps.take(
            "diagnostics", title, depends, partial(Diagnostics.load, folder), make
        )

    def _class(self, folder: str) -> GlobalExplanation:
        one = self.prepared.classes[folder]
        name = self.explainer.model.class_names[one.index]
        place = self.folder / "classes" / folder

        def make() -> GlobalExplanation:
            with self.study.at(f"classes.{one.key}"):
                found = self.explainer.explain_class(
                    one.index,
                    paths(self.study.classes[one.key]),
                    limit=self.study.options.limit,
                    seed=self.study.options.seed,
                    strict=self.study.options.strict,
                    run=self.folder / "run" / "classes" / folder,
                )
            found.save(place)
            return GlobalExplanation.load(place)

        return self.steps.take(
            f"classes/{folder}",
            f"Explaining the class {name!r} with {len(one.refs)} images",
            [self.learned, one.index, content(one.refs)],
            partial(GlobalExplanation.load, place),
            make,
        )

    def _image(self, folder: str) -> tuple[str, LocalExplanation]:
        name = self.prepared.images[folder]
        file = Path(self.study.images[name].file)
        place = self.folder / "images" / folder
        wanted = self.prepared.wanted[name]

        def make() -> LocalExplanation:
            with self.study.at(f"images.{name}"):
                found = self.explainer.explain(file, classes=wanted)
            found.save(place)
            return LocalExplanation.load(place)

        return name, self.steps.take(
            f"images/{folder}",
            f"Explaining the photograph {name!r}",
            [self.learned, wanted, content(collect(file))],
            partial(LocalExplanation.load, place),
            make,
        )

    def _compare(self) -> None:
        from vtcav.evaluation.compare.compute import compare

        place = self.folder / "comparison"
        options = self.study.options
        by_class = {one.index: list(one.refs) for one in self.prepared.classes.values()}

        def make() -> None:
            with self.study.at("peers"):
                found = compare(
                    self.explainer,
                    by_class,
                    methods=self.study.peers,
                    seed=options.seed,
                    batch_size=options.batch_size or IMAGES,
                    strict=options.strict,
                    progress=self.progress,
                )
            found.save(place)

        depends: list[Any] = [self.learned, list(self.study.peers)]
        depends += [content(one.refs) for one in self.prepared.classes.values()]
        title = f"Comparing with {', '.join(self.study.peers)}"
        self.steps.take("comparison", title, depends, partial(_check_comparison, place), make)

    def _write(self, table: pd.DataFrame) -> None:
        """Write the table of everything, the study as carried out, and its provenance."""
        study = self.study.resolved(self.explainer.layers)

        def write(folder: Path) -> dict[str, Any]:
            write_tables(folder / "summary", table, study.formats)
            (folder / "study.yaml").write_text(_HEADER + study.to_yaml(), encoding="utf-8")
            return {
                "study": study.to_dict(),
                "classes": {
                    folder: {"class_index": one.index, "images": len(one.refs)}
                    for folder, one in self.prepared.classes.items()
                },
                "images": {
                    folder: {"name": name, "file": study.images[name].file}
                    for folder, name in self.prepared.images.items()
                },
                "skipped": [asdict(skip) for skip in self.prepared.skipped],
                "cavs_sha256": file_hash(self.folder / "cavs.safetensors"),
                "summary": records(table),
                "provenance": self.explainer.provenance({}).to_dict(),
            }

        save_result(self.folder, "study", "the study", write)
        for other in set(FORMATS) - set(study.formats):  # of an earlier run
            (self.folder / f"summary.{other}").unlink(missing_ok=True)

    def _report(self) -> None:
        from vtcav.report import write_report

        self.say("Writing the report")
        write_report(self.folder)


def _check_comparison(folder: Path) -> None:
    """Check that a comparison is there and intact."""
    from vtcav.evaluation.compare.result import KIND
    from vtcav.files.manifest import load_manifest

    load_manifest(folder, KIND, "comparison")
