"""Methods that `compare` knows, and the units of their values."""

from typing import NamedTuple

from vtcav.method.variants import PAPER, VARIANTS, method_of


class _Method(NamedTuple):
    """A method: its name in figures, the name of its values there, and their unit."""

    title: str
    value: str
    unit: str


VARIANT_OF = {method_of(name): name for name in VARIANTS if name != PAPER}
"""The variants of Visual-TCAV by their names in tables."""
OURS = ("visual_tcav", *VARIANT_OF)
"""Visual-TCAV and its variants."""

_SHARE = "share of the best class's logit difference, 0 to 1"
_IN_REGION = "share of the map's mass inside the region, 0 to 1"
_POSITIVE = "share of the map's positive mass inside the region, 0 to 1"
_ERASED = "drop as a share of the logit difference from the negatives"
_DROP = "drop of the class's logit without the concept's region, in logits"
_OWN = "drop of the class's logit without the region's own part, in logits"
_COUNT = "share of images whose score increases along the CAV, 0 to 1"
_MAGNITUDE = "share of all sensitivity that is positive, 0 to 1"
_DERIVATIVE = "mean derivative of the logit along the CAV, in logits per unit of activation"
_WEIGHTED = "weight times centred concept score, in logits of the bottleneck"

_ALL = {
    "visual_tcav": _Method("Visual-TCAV", "attribution", _SHARE),
    "visual_tcav_filter": _Method("Visual-TCAV, filter map", "attribution", _SHARE),
    "visual_tcav_places": _Method("Visual-TCAV, place map", "attribution", _SHARE),
    "erasure": _Method("erasure", "share", _ERASED),
    "erasure_drop": _Method("erasure", "drop", _DROP),
    "erasure_own": _Method("erasure, own parts", "drop", _OWN),
    "tcav": _Method("TCAV", "sign count", _COUNT),
    "tcav_magnitude": _Method("TCAV", "magnitude", _MAGNITUDE),
    "tcav_derivative": _Method("TCAV", "mean derivative", _DERIVATIVE),
    "saliency": _Method("gradient saliency", "share in region", _IN_REGION),
    "integrated_gradients": _Method("integrated gradients", "share in region", _POSITIVE),
    "grad_cam": _Method("Grad-CAM", "share in region", _IN_REGION),
    "bottleneck": _Method("concept bottleneck", "weight x score", _WEIGHTED),
}

METHODS = tuple(name for name in _ALL if name not in VARIANT_OF)
"""All methods, in the order of the tables."""
ERASURE = ("erasure", "erasure_drop", "erasure_own")
TCAV = ("tcav", "tcav_magnitude", "tcav_derivative")
INPUT_MAPS = ("saliency", "integrated_gradients")
MAPS = (*INPUT_MAPS, "grad_cam")
UNITS = {name: method.unit for name, method in _ALL.items()}
"""The unit of each method's values. Units differ: compare orders, not sizes."""
TITLES = {name: (method.title, method.value) for name, method in _ALL.items()}
"""The name of each method in figures, and of its values."""
