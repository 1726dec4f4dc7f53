"""Explanations of many images in parts, resumable, in this process or on a Ray cluster."""
