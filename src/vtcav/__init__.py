"""Visual-TCAV: where an image classifier sees a concept, and how much it counts for each class.

Method: De Santis, Campi, Bianchi, Brambilla, "Visual-TCAV: Concept-based Attribution and Saliency
Maps for Post-hoc Explainability in Image Classification", arXiv 2411.05698.

Importing this package loads neither torch nor matplotlib; they load with the first use.
"""

from importlib import import_module
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
        VtcavError,
    )
    from vtcav.explainer.runs.run_folder import DamagedPartWarning
    from vtcav.explainer.visual_tcav import VisualTCAV
    from vtcav.files.cache import Cache, CacheWarning
    from vtcav.images.preprocess import Preprocess
    from vtcav.images.references import SkippedImageWarning
    from vtcav.models.classifier import Classifier
    from vtcav.models.registry import load_model
    from vtcav.results.bank import CavBank
    from vtcav.results.explanation import GlobalExplanation, LocalExplanation
    from vtcav.study import Study, StudyError, run_study

_HOMES = {
    "Cache": "vtcav.files.cache",
    "CacheWarning": "vtcav.files.cache",
    "CavBank": "vtcav.results.bank",
    "CavError": "vtcav.errors",
    "Classifier": "vtcav.models.classifier",
    "ConceptError": "vtcav.errors",
    "DamagedPartWarning": "vtcav.explainer.runs.run_folder",
    "DatasetError": "vtcav.errors",
    "Diagnostics": "vtcav.diagnostics.result",
    "ExplanationError": "vtcav.errors",
    "ExtraError": "vtcav.errors",
    "GlobalExplanation": "vtcav.results.explanation",
    "ImageError": "vtcav.errors",
    "LayerError": "vtcav.errors",
    "LocalExplanation": "vtcav.results.explanation",
    "ModelError": "vtcav.errors",
    "Preprocess": "vtcav.images.preprocess",
    "SkippedImageWarning": "vtcav.images.references",
    "Study": "vtcav.study",
    "StudyError": "vtcav.study",
    "VisualTCAV": "vtcav.explainer.visual_tcav",
    "VtcavError": "vtcav.errors",
    "load_model": "vtcav.models.registry",
    "run_study": "vtcav.study",
}

_MODULES = {
    "datasets": "vtcav.datasets",
    "explorer": "vtcav.explorer",
    "textures": "vtcav.datasets.textures",
}

__all__ = [
    "Cache",
    "CacheWarning",
    "CavBank",
    "CavError",
    "Classifier",
    "ConceptError",
    "DamagedPartWarning",
    "DatasetError",
    "Diagnostics",
    "ExplanationError",
    "ExtraError",
    "GlobalExplanation",
    "ImageError",
    "LayerError",
    "LocalExplanation",
    "ModelError",
    "Preprocess",
    "SkippedImageWarning",
    "Study",
    "StudyError",
    "VisualTCAV",
    "VtcavError",
    "__version__",
    "load_model",
    "run_study",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("vtcav")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _MODULES:
        return import_module(_MODULES[name])
    raise AttributeError(f"module 'vtcav' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES])
