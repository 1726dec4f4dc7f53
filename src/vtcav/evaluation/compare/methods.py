"""Methods that `compare` knows, and the unit of each one's values."""

__all__ = ["FILTER", "INPUT_MAPS", "MAPS", "METHODS", "TCAV", "TITLES", "UNITS"]

METHODS = (
    "visual_tcav",
    "tcav",
    "tcav_magnitude",
    "saliency",
    "integrated_gradients",
    "grad_cam",
    "bottleneck",
)
"""All methods, in the order of the tables."""

FILTER = "visual_tcav_filter"
"""The name in tables of the variant of Visual-TCAV with filter maps."""

TCAV = ("tcav", "tcav_magnitude")
INPUT_MAPS = ("saliency", "integrated_gradients")
MAPS = (*INPUT_MAPS, "grad_cam")

UNITS = {
    **dict.fromkeys(("visual_tcav", FILTER), "share of the best class's logit difference, 0 to 1"),
    "tcav": "share of images whose score rises along the CAV, 0 to 1",
    "tcav_magnitude": "share of all sensitivity that is positive, 0 to 1",
    "saliency": "share of the map's mass inside the region, 0 to 1",
    "integrated_gradients": "share of the map's positive mass inside the region, 0 to 1",
    "grad_cam": "share of the map's mass inside the region, 0 to 1",
    "bottleneck": "weight times centred concept score, in logits of the bottleneck",
}
"""The unit of each method's values. Units differ: compare orders, not sizes."""

TITLES = {
    "visual_tcav": ("Visual-TCAV", "attribution"),
    FILTER: ("Visual-TCAV, filter map", "attribution"),
    "tcav": ("TCAV", "sign count"),
    "tcav_magnitude": ("TCAV", "magnitude"),
    "saliency": ("gradient saliency", "share in region"),
    "integrated_gradients": ("integrated gradients", "share in region"),
    "grad_cam": ("Grad-CAM", "share in region"),
    "bottleneck": ("concept bottleneck", "weight x score"),
}
"""The name of each method in figures, and of its values."""
