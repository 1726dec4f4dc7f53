"""The methods that `compare` knows, and what a value of each is."""

__all__ = ["FILTER", "METHODS", "UNITS"]

FILTER = "visual_tcav_filter"
"""The name of Visual-TCAV's variant with filter maps in tables."""

UNITS = {
    "visual_tcav": "share of the best class's rise, 0 to 1",
    "tcav": "share of images whose score rises along the CAV, 0 to 1",
    "tcav_magnitude": "share of all sensitivity that is positive, 0 to 1",
    "saliency": "share of the map's mass inside the region, 0 to 1",
    "integrated_gradients": "share of the map's positive mass inside the region, 0 to 1",
    "grad_cam": "share of the map's mass inside the region, 0 to 1",
    "bottleneck": "weight times centred concept score, in logits of the bottleneck",
}
"""What a value of each method is. They differ: compare orders, not sizes."""

METHODS = tuple(UNITS)
"""All methods, in the order of the tables."""

UNITS[FILTER] = UNITS["visual_tcav"]
