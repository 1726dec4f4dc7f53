"""Visual-TCAV: where an image classifier sees a concept, and how much it counts for each class.

Method: De Santis, Campi, Bianchi, Brambilla, "Visual-TCAV: Concept-based Attribution and Saliency
Maps for Post-hoc Explainability in Image Classification", arXiv 2411.05698.

Importing this package loads neither torch nor matplotlib; they load with the first use.
"""

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str

    from vtcav.diagnostics.result import Diagnostics
    from vtcav.errors import (
        CavError,
        ConceptError,
        DatasetError,
        ExplanationError,
        ExtraError,
        ImageError,
        LayerError,
        ModelError,
        PathError,
        SystemLimitError,
        VtcavError,
    )
    from vtcav.explainer.runs.run_folder import DamagedPartWarning
    from vtcav.explainer.visual_tcav import VisualTCAV
    from vtcav.files.cache import Cache, CacheWarning
    from vtcav.images.preprocess import Preprocess
    from vtcav.images.references import SkippedImageWarning
    from vtcav.models.classifier import Classifier
    from vtcav.models.joint_model import JointModel
    from vtcav.models.registry import load_model
    from vtcav.models.second_input import SecondInput
    from vtcav.results.bank.cav_bank import CavBank
    from vtcav.results.discovery.discovery import Discovery
    from vtcav.results.error_analysis import ErrorAnalysis
    from vtcav.results.explanation import GlobalExplanation, LocalExplanation
    from vtcav.results.ranking import Ranking
    from vtcav.study import Study, StudyError, run_study

_HOMES = {
    name: f"vtcav.{module}"
    for module, names in {
        "diagnostics.result": "Diagnostics",
        "errors": "CavError ConceptError DatasetError ExplanationError ExtraError ImageError"
        " LayerError ModelError PathError SystemLimitError VtcavError",
        "explainer.correction.corrected_network": "CorrectedNetwork",
        "explainer.versus.result": "Versus",
        "explainer.versus.versus": "versus",
        "explainer.runs.run_folder": "DamagedPartWarning",
        "explainer.visual_tcav": "VisualTCAV",
        "files.cache": "Cache CacheWarning",
        "images.preprocess": "Preprocess",
        "images.references": "SkippedImageWarning",
        "models.classifier": "Classifier",
        "models.joint_model": "JointModel",
        "models.registry": "load_model",
        "models.second_input": "SecondInput",
        "results.bank": "CavBank",
        "results.discovery.discovery": "Discovery",
        "results.error_analysis": "ErrorAnalysis",
        "results.explanation": "GlobalExplanation LocalExplanation",
        "results.ranking": "Ranking",
        "study": "Study StudyError run_study",
    }.items()
    for name in names.split()
}

_MODULES = {
    "datasets": "vtcav.datasets",
    "demo": "vtcav.datasets.demo_photographs",
    "explorer": "vtcav.explorer",
    "scores": "vtcav.models.scores",
    "textures": "vtcav.datasets.textures",
}

# Old modules whose content is now under another name. Those of the same name are looked for.
_RENAMES = """
cache=files.cache cav=results.bank,method.cav concepts=images.concepts engines=explainer.runs
evidence=results.image_set
export=results.tables.shapes filter_map=method.discriminant_map integration=method.integral
learning=explainer.learning plotting=results.figures precision=models.heads.mixed_precision
quadrature=method.integral.trapezoid runs=explainer.runs saved=files.manifest scratch=files.spill
shortcuts=models.settings shown=images.input_box storage=files.atomic tables=results.tables.shapes
diagnostics.place=diagnostics.location diagnostics.trust=diagnostics.levels
evaluation.comparison=evaluation.compare.result evaluation.command=cli.commands.evaluate
evaluation.concept_removal=evaluation.removal.curves,method.concept_part
evaluation.insertion=evaluation.removal.compute evaluation.masks=images.masks
evaluation.insertion_result=evaluation.removal.result
evaluation.localisation_result=evaluation.localisation.result
evaluation.method_names=evaluation.compare.methods
evaluation.network=evaluation.experiment.network models.from_hf=models.sources.from_huggingface
models.head=models.heads.resumed models.layers=models.inspection.usable_layers
models.output=models.inspection.logits models.pytorch=models.classifier
models.stages=models.inspection.stages study.names=files.safe_names
"""
_RENAMED = dict(entry.split("=") for entry in _RENAMES.split())

__all__ = [
    "Cache",
    "CacheWarning",
    "CavBank",
    "CavError",
    "Classifier",
    "ConceptError",
    "CorrectedNetwork",
    "DamagedPartWarning",
    "DatasetError",
    "Diagnostics",
    "Discovery",
    "ErrorAnalysis",
    "ExplanationError",
    "ExtraError",
    "GlobalExplanation",
    "ImageError",
    "JointModel",
    "LayerError",
    "LocalExplanation",
    "ModelError",
    "PathError",
    "Preprocess",
    "Ranking",
    "SecondInput",
    "SkippedImageWarning",
    "Study",
    "StudyError",
    "SystemLimitError",
    "Versus",
    "VisualTCAV",
    "VtcavError",
    "__version__",
    "load_model",
    "run_study",
    "versus",
]


class _OldNames:
    """Finds modules that had a short name before, and says where the content of others is."""

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        package, _, old = name.partition(".")
        if package != "vtcav":
            return None
        if old in _MODULES:
            loader: Any = self  # its base class would cost 30 ms to import
            return ModuleSpec(name, loader)
        if homes := _new_homes(old):
            raise ModuleNotFoundError(f"No module named {name!r}: it is now {homes}", name=name)
        return None

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to `exec_module`."""

    def exec_module(self, module: ModuleType) -> None:
        old = module.__name__.partition(".")[2]
        sys.modules[module.__name__] = import_module(_MODULES[old])


def _new_homes(old: str) -> str:
    """Return the modules that have the content of an old one; empty for what never was."""
    if old in _RENAMED:
        homes = _RENAMED[old].split(",")
    else:
        root, stem = Path(__file__).parent, old.rpartition(".")[2].lstrip("_")
        files = [*root.rglob(f"{stem}.py"), *(f.parent for f in root.rglob(f"{stem}/__init__.py"))]
        homes = [".".join(file.relative_to(root).with_suffix("").parts) for file in sorted(files)]
    return " or ".join(f"vtcav.{home}" for home in homes if home)


# Last, so that it is asked only for what nothing else finds.
sys.meta_path.append(_OldNames())


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("vtcav")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _MODULES:
        return import_module(_MODULES[name])
    homes = _new_homes(name)
    raise AttributeError(
        f"module 'vtcav' has no attribute {name!r}" + (f": it is now {homes}" if homes else "")
    )


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES])
