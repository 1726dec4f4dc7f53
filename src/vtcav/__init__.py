"""Visual-TCAV: where an image classifier sees a concept, and how much it counts for each class.

Method: De Santis, Campi, Bianchi, Brambilla, "Visual-TCAV: Concept-based Attribution and Saliency
Maps for Post-hoc Explainability in Image Classification", arXiv 2411.05698.

Importing this package loads neither torch nor matplotlib; they load with the first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vtcav.cache import Cache, CacheWarning
    from vtcav.cav import CavBank
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
    from vtcav.explainer import VisualTCAV
    from vtcav.explanation import GlobalExplanation, LocalExplanation
    from vtcav.images import SkippedImageWarning
    from vtcav.models.pytorch import Classifier
    from vtcav.models.registry import load_model
    from vtcav.preprocess import Preprocess
    from vtcav.runs.folder import DamagedPartWarning
    from vtcav.study import Study, StudyError, run_study

__version__ = "0.1.0"

_HOMES = {
    "Cache": "vtcav.cache",
    "CacheWarning": "vtcav.cache",
    "CavBank": "vtcav.cav",
    "CavError": "vtcav.errors",
    "Classifier": "vtcav.models.pytorch",
    "ConceptError": "vtcav.errors",
    "DamagedPartWarning": "vtcav.runs.folder",
    "DatasetError": "vtcav.errors",
    "Diagnostics": "vtcav.diagnostics.result",
    "ExplanationError": "vtcav.errors",
    "ExtraError": "vtcav.errors",
    "GlobalExplanation": "vtcav.explanation",
    "ImageError": "vtcav.errors",
    "LayerError": "vtcav.errors",
    "LocalExplanation": "vtcav.explanation",
    "ModelError": "vtcav.errors",
    "Preprocess": "vtcav.preprocess",
    "SkippedImageWarning": "vtcav.images",
    "Study": "vtcav.study",
    "StudyError": "vtcav.study",
    "VisualTCAV": "vtcav.explainer",
    "VtcavError": "vtcav.errors",
    "load_model": "vtcav.models.registry",
    "run_study": "vtcav.study",
}

_MODULES = ("datasets", "explorer", "tensorboard", "textures")

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
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _MODULES:
        return import_module(f"vtcav.{name}")
    raise AttributeError(f"module 'vtcav' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES])
