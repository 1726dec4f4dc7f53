"""Methods to compare with: TCAV, linear CAVs, saliency and concept bottlenecks."""
