"""The parts of a `Preprocess`: its values checked, and the geometry of resizing."""
