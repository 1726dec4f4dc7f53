"""The run of a study: learn, diagnose, explain, compare, and write all results."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd

from vtcav.diagnostics.result import Diagnostics
from vtcav.explainer.correction.corrected_network import CorrectedNetwork
from vtcav.explainer.runs.identity import bank_digest
from vtcav.explainer.runs.run_folder import opened
from vtcav.explainer.settings import ExplainerSettings, FitSettings
from vtcav.explainer.versus.result import Versus
from vtcav.explainer.visual_tcav import VisualTCAV
from vtcav.files.cache import Cache
from vtcav.files.cache_location import cache_of
from vtcav.files.hashing import file_hash
from vtcav.files.manifest import load_manifest, records, save_result
from vtcav.files.paths import given_path
from vtcav.images.listing import collect
from vtcav.images.progress import check_progress
from vtcav.results.bank.cav_bank import CavBank
from vtcav.results.discovery.discovery import Discovery
from vtcav.results.error_analysis import ErrorAnalysis
from vtcav.results.explanation import GlobalExplanation, LocalExplanation
from vtcav.results.limits import LimitOutcome, outcomes
from vtcav.results.words import count
from vtcav.study.checkpoints import Steps, content, identity, listed, whole_path
from vtcav.study.figures import draw_again
from vtcav.study.junit import junit_xml
from vtcav.study.prepare import Prepared, groups_in, labelled_images, prepare
from vtcav.study.second_network import Side, between, check_second, finished, named, with_network
from vtcav.study.sentences import findings_of, said_of
from vtcav.study.sources import paths
from vtcav.study.spec import FORMATS
from vtcav.study.study import Study
from vtcav.study.summary_table import distrusted, study_table, write_tables
from vtcav.study.unfinished import Attempts
from vtcav.study.yaml_file import StudyError

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
    """Carry out a study: learn, diagnose, explain, and write tables, figures and the report.

    Finished steps are kept: the same study resumes after an interruption and gives the same
    tables. Classes and photographs may be added between runs. During the run the working directory
    of the process is the folder of the study file, which its paths are relative to.

    Args:
        study: The study.
        output: The folder of the results, in place of the study's own.
        progress: Whether to show progress bars; None where someone may be watching.
        say: Receives a line before every step.
        cache: The cache of learning, as `VisualTCAV` takes it.

    Returns:
        The folder: `summary` (every number, in the study's formats), `report.html`, `study.yaml`
        (as it was carried out), `study.json` (provenance; written last), `cavs.safetensors`,
        `diagnostics/`, `classes/NAME/`, `images/NAME/`, `discovery/`, `errors/`, `correction/`,
        `versus/`, `comparison/`, and `run/` (finished steps).

    Raises:
        StudyError: When a step fails or a setting does not fit the network; the message names
            file, line and key. `UnfinishedError` where all that does not need the step is done.
        ExplanationError: When the folder holds results of other settings, is in use or cannot be
            written.
        VtcavError: When the work fails otherwise.
    """
    progress = check_progress(progress)
    folder = study.base / study.output if output is None else given_path("output", output)
    whole = whole_path(folder)
    cache = cache_of(cache, unset=False) or False
    study.check_output(whole)
    with contextlib.chdir(study.base):
        prepared = prepare(study, progress, say, cache)
        if study.versus is not None:
            check_second(prepared, study.versus.network, progress)
        with opened(whole / "run", identity(study, prepared.explainer)):
            attempts = _Run(prepared, whole, progress, say).all()
    attempts.check(folder)
    return folder


class _Run:
    """The steps of a study, in order."""

    def __init__(
        self, prepared: Prepared, folder: Path, progress: bool | None, say: Callable[[str], None]
    ) -> None:
        self.prepared = prepared
        self.study = prepared.study
        self.explainer = prepared.explainer
        self.folder = folder
        self.progress = progress
        self.say = say
        self.steps = Steps(prepared.study, folder, say)
        self.learned = ""

    def all(self) -> Attempts:
        """Take every step that is not finished, then write the summary; return which failed."""
        attempts = Attempts(self.say)
        self._refuse_strangers()
        self._learn()
        diagnostics = self._diagnose()
        classes = {folder: self._class(folder) for folder in self.prepared.classes}
        images = {folder: self._image(folder) for folder in self.prepared.images}
        self._draw(classes, {folder: local for folder, (_, local) in images.items()}, diagnostics)
        attempts.take("discovery", self._discover)
        findings = findings_of(
            attempts.take("errors", self._errors),
            attempts.take("correction", self._correct),
            attempts.take("versus", lambda: self._versus(classes)),
        )
        if self.study.peers:
            attempts.take("comparison", self._compare)
        limits = list(self._limits(classes, diagnostics))
        said: dict[str, Any] = {
            **said_of(classes.values(), dict(images.values()), self.explainer.provenance({})),
            "findings": findings,
            "not_done": attempts.not_done,
        }
        self._write(study_table(classes, images, diagnostics), limits, said)
        if self.study.report:
            from vtcav.report import write_report

            self.say("Writing the report")
            write_report(self.folder)
        return attempts

    def _refuse_strangers(self) -> None:
        """Refuse results that the study does not ask for, as the report would show them too."""
        asked = [f"classes/{folder}" for folder in self.prepared.classes]
        asked += [f"images/{folder}" for folder in self.prepared.images]
        study = self.study
        steps = {
            "diagnostics": study.diagnostics,
            "comparison": study.peers or None,
            "discovery": study.discover,
            "errors": study.errors,
            "correction": study.correct,
            "versus": study.versus,
        }
        asked += [name for name, spec in steps.items() if spec is not None]
        for pattern in (*steps, "classes/[!.]*", "images/[!.]*"):
            for path in sorted(self.folder.glob(pattern)):
                if path.is_dir() and path.relative_to(self.folder).as_posix() not in asked:
                    message = (
                        f"there are results in {str(path)!r} that the study does not ask for; "
                        "choose another folder, or delete that one"
                    )
                    raise StudyError(self.study.located("output", message))

    def _learn(self) -> None:
        """Learn the concepts, or load the CAVs that were learned before."""
        study = self.study
        title = f"Learning {count(len(study.names), 'concept')}: {', '.join(study.names)}"
        # `opened` has checked that the whole folder has the same settings
        bank = self.steps.take(
            "cavs.safetensors", "concepts", title, "", CavBank.load, lambda: self._fit().cavs
        )
        settings = study.options.part(ExplainerSettings)
        model, layers = self.explainer.model, self.explainer.layers
        self.explainer = VisualTCAV(model, layers, **settings, cavs=bank, progress=self.progress)
        self.learned = bank_digest(bank)

    def _fit(self) -> VisualTCAV:
        concepts, texts = self.study.concepts, self.study.texts
        contrast = {name: spec.negatives for name, spec in concepts.items()}
        if texts is not None and texts.negatives is not None:
            contrast |= dict.fromkeys(texts.concepts, texts.negatives)
        # concepts that are given the same object share one set
        sets = {source: paths(source) for source in set(contrast.values())}
        one = len(sets) == 1 and len(contrast) == len(self.study.names)
        return self.explainer.fit(
            {name: paths(spec.examples) for name, spec in concepts.items()} or None,
            next(iter(sets.values()))
            if one
            else {name: sets[source] for name, source in contrast.items()},
            **({} if texts is None else texts.arguments()),
            **self.study.options.part(FitSettings),
        )

    def _diagnose(self) -> Diagnostics | None:
        spec = self.study.diagnostics
        if spec is None:
            return None
        refs = [ref for one in self.prepared.classes.values() for ref in one.refs]
        refs += [one.ref for one in self.prepared.images.values()]
        other = None if spec.other_negatives is None else paths(spec.other_negatives)
        depends = [self.learned, asdict(spec), content(refs)]
        depends += [] if other is None else [content(collect(other))]
        return self.steps.take(
            "diagnostics",
            "diagnostics",
            "Diagnosing how far the concepts can be trusted",
            depends,
            Diagnostics.load,
            lambda: self.explainer.diagnostics(
                refs or None, other, seed=self.study.options.seed, resamples=spec.resamples
            ),
        )

    def _class(self, folder: str) -> GlobalExplanation:
        one, options = self.prepared.classes[folder], self.study.options
        name = self.explainer.model.class_names[one.index]
        return self.steps.take(
            f"classes/{folder}",
            f"classes.{one.key}",
            f"Explaining the class {name!r} with {count(len(one.refs), 'image')}",
            [self.learned, one.index, content(one.refs), *groups_in(self.study, one.refs)],
            GlobalExplanation.load,
            lambda: self.explainer.explain_class(
                one.index,
                paths(self.study.classes[one.key]),
                limit=options.limit,
                seed=options.seed,
                strict=options.strict,
                groups=self.study.groups,
                run=self.folder / "run" / "classes" / folder,
            ),
        )

    def _image(self, folder: str) -> tuple[str, LocalExplanation]:
        one = self.prepared.images[folder]
        return one.name, self.steps.take(
            f"images/{folder}",
            f"images.{one.name}",
            f"Explaining the photograph {one.name!r}",
            [self.learned, one.classes, content([one.ref])],
            LocalExplanation.load,
            lambda: self.explainer.explain(one.ref, classes=one.classes),
        )

    def _draw(
        self,
        classes: Mapping[str, GlobalExplanation],
        images: Mapping[str, LocalExplanation],
        diagnostics: Diagnostics | None,
    ) -> None:
        """Draw the figures with all that is known now: one scale, and the doubts."""
        globs = {f"classes/{name}": glob for name, glob in classes.items()}
        locals_ = {f"images/{name}": local for name, local in images.items()}
        names = [*globs, *locals_, *["diagnostics"] * (diagnostics is not None)]
        if diagnostics is not None or len(images) > 1:
            self.steps.draw(names, lambda: draw_again(self.folder, globs, locals_, diagnostics))

    def _discover(self) -> None:
        """Find concepts that nobody named, and write their page."""
        spec, options = self.study.discover, self.study.options
        if spec is None:
            return
        refs = listed(spec.images, options.limit, options.seed)

        def find() -> Discovery:
            assert spec is not None
            found = self.explainer.discover(
                refs, k=spec.k, seed=options.seed, strict=options.strict
            )
            if not spec.attributed:
                return found
            return found.attributed(spec.attributed, erased=spec.erased)

        found = self.steps.take(
            "discovery",
            "discover",
            f"Finding concepts that nobody named in {count(len(refs), 'image')}",
            [self.learned, asdict(spec), content(refs)],
            Discovery.load,
            find,
        )
        if self.study.report:
            from vtcav.report.discovery import write_discovery

            write_discovery(found, self.folder / "discovery" / "discovery.html")

    def _errors(self) -> ErrorAnalysis | None:
        """Compare images that the network gets wrong with those it gets right."""
        spec, options = self.study.errors, self.study.options
        if spec is None:
            return None
        refs, classes = labelled_images(self.study, self.explainer.model, "errors", spec.images)
        return self.steps.take(
            "errors",
            "errors",
            f"Comparing wrong predictions with right ones, {count(len(refs), 'image')}",
            [self.learned, asdict(spec), classes, content(refs), *groups_in(self.study, refs)],
            ErrorAnalysis.load,
            lambda: self.explainer.errors(
                refs,
                classes,
                pictures=spec.pictures,
                strict=options.strict,
                groups=self.study.groups,
            ),
        )

    def _correct(self) -> CorrectedNetwork | None:
        """Take concepts out of the network, and measure what that changes."""
        spec, options = self.study.correct, self.study.options
        if spec is None:
            return None
        refs, classes = labelled_images(self.study, self.explainer.model, "correct", spec.images)
        known = self.study.concepts  # of texts no examples are kept
        given = {name: known[name] for name in spec.concepts if name in known}
        return self.steps.take(
            "correction",
            "correct",
            f"Taking {', '.join(spec.concepts)} out of the network",
            [self.learned, asdict(spec), classes, content(refs), *groups_in(self.study, refs)],
            lambda folder: CorrectedNetwork.load(folder, self.explainer.model),
            lambda: self.explainer.correct(
                spec.concepts,
                spec.layer,
                spec.when,
                refs,
                classes,
                rounds=spec.rounds,
                anyway=spec.anyway,
                attributions=spec.attributions,
                examples={name: paths(sources.examples) for name, sources in given.items()},
                negatives={name: paths(sources.negatives) for name, sources in given.items()},
                limit=options.limit,
                seed=options.seed,
                groups=self.study.groups,
            ),
        )

    def _versus(self, classes: Mapping[str, GlobalExplanation]) -> Versus | None:
        """Explain the classes with a second network, and compare the two."""
        spec = self.study.versus
        if spec is None:
            return None
        other = replace(with_network(self.study, spec.network), base=Path(), lines={})
        keys = {one.key: folder for folder, one in self.prepared.classes.items()}
        found = {key: classes[folder] for key, folder in keys.items()}
        refs = {found[one.key].class_name: one.refs for one in self.prepared.classes.values()}

        def compare() -> Versus:
            assert spec is not None
            folder = self.folder / "versus" / "b"
            with named(spec.network):
                run_study(other, folder, progress=self.progress, say=self.say)
            own = Side(self.explainer, found, refs)
            names = (str(self.study.model.weights or self.study.model.name), spec.network)
            second = finished(other, folder, self.progress)
            return between([own], [second], spec.margin, names)

        file = Path(spec.network)
        depends = [asdict(spec), file_hash(file) if file.is_file() else ""]
        return self.steps.take(
            "versus",
            "versus",
            f"Comparing with the network {spec.network}",
            [self.learned, *depends, *(content(one) for one in refs.values())],
            Versus.load,
            compare,
        )

    def _compare(self) -> None:
        from vtcav.evaluation.compare.compute import compare
        from vtcav.evaluation.compare.result import KIND

        study, classes = self.study, self.prepared.classes.values()
        self.steps.take(
            "comparison",
            "peers",
            f"Comparing with {', '.join(study.peers)}",
            [self.learned, list(study.peers), *(content(one.refs) for one in classes)],
            lambda folder: load_manifest(folder, KIND, "comparison"),
            lambda: compare(
                self.explainer,
                {one.index: list(one.refs) for one in classes},
                methods=study.peers,
                seed=study.options.seed,
                batch_size=study.options.images,
                strict=study.options.strict,
                progress=self.progress,
            ),
        )

    def _limits(
        self, classes: Mapping[str, GlobalExplanation], diagnostics: Diagnostics | None
    ) -> Iterator[LimitOutcome]:
        """Yield whether the classes keep to the study's limits."""
        trust = {} if diagnostics is None else distrusted(diagnostics)
        for folder, glob in classes.items():
            # a class is named in limits as in the study
            key = self.prepared.classes[folder].key
            limits = {
                concept: limit
                for concept, limit in self.study.limits.items()
                if limit.classes is None or key in limit.classes
            }
            yield from outcomes(limits, glob, trust)

    def _write(
        self,
        table: pd.DataFrame,
        limits: Sequence[LimitOutcome],
        said: Mapping[str, Any],
    ) -> None:
        """Write the summary table, the study as it was carried out, and its provenance."""
        study = self.study.resolved(self.explainer.layers)

        def write(folder: Path) -> dict[str, Any]:
            write_tables(folder / "summary", table, study.formats)
            if limits:
                (folder / "limits.xml").write_text(junit_xml(limits), encoding="utf-8")
            (folder / "study.yaml").write_text(_HEADER + study.to_yaml(), encoding="utf-8")
            return {
                "study": study.to_dict(),
                "classes": {
                    folder: {"class_index": one.index, "images": len(one.refs)}
                    for folder, one in self.prepared.classes.items()
                },
                "images": {
                    folder: {"name": one.name, "file": study.images[one.name].file}
                    for folder, one in self.prepared.images.items()
                },
                "skipped": [asdict(skip) for skip in self.prepared.skipped],
                "cavs_sha256": file_hash(self.folder / "cavs.safetensors"),
                **said,
                "summary": records(table),
                "limits": records(pd.DataFrame(limit.to_dict() for limit in limits)),
                "provenance": self.explainer.provenance({}).to_dict(),
            }

        save_result(self.folder, "study", "the study", write)
        for other in set(FORMATS) - set(study.formats):  # of an earlier run
            (self.folder / f"summary.{other}").unlink(missing_ok=True)
        if not limits:
            (self.folder / "limits.xml").unlink(missing_ok=True)
