"""What a notebook shows of a result: compact HTML that carries all it needs, without scripts.

Colours of text and ground are the notebook's own, so that it is readable in light and dark. All
that comes from a user is escaped, and long names, many rows and many pictures are cut: a display
stays below 300 kB.
"""

from vtcav.results.notebook.display import Display, cell, rows_of
from vtcav.results.notebook.pictures import examples, overlay, picture

__all__ = ["Display", "cell", "examples", "overlay", "picture", "rows_of"]
