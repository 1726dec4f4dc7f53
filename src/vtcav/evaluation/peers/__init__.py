"""Methods to compare with: TCAV, saliency maps and a concept bottleneck."""
