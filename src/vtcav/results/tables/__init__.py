"""Tables of explanations: their shapes, the rows of images, and what is told of a class."""
