"""`VisualTCAV`: learn concepts from images, then explain images with them.

`learning` has steps 1 to 3, `attributor` steps 4 to 9 for a batch of images, and `runs` repeats
these over many images.
"""
