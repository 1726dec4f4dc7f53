"""`VisualTCAV`: learn concepts from images, then explain images with them.

`learning` has steps 1 to 3, `attributor` steps 4 to 9 for a batch of images, and `runs` repeats
these over many images.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vtcav.explainer.visual_tcav import VisualTCAV

__all__ = ["VisualTCAV"]


def __getattr__(name: str) -> Any:
    if name == "VisualTCAV":
        from vtcav.explainer.visual_tcav import VisualTCAV

        return VisualTCAV
    raise AttributeError(f"module 'vtcav.explainer' has no attribute {name!r}")
