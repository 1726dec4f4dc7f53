"""Networks: feature maps of layers, heads after them, and scores; loading one by name."""
