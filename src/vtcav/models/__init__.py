"""Networks: feature maps of layers, heads after them, scores; and how to load one by name."""
