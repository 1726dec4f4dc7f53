"""The controlled experiment: attributions against measured causal effects."""
