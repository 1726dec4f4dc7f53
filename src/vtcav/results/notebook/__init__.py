"""Displays of results in notebooks: compact HTML that carries all it needs, without scripts.

Text and background have the notebook's own colours, so that a display is readable in light and
dark. All that comes from a user is escaped, and long names, many rows and many pictures are cut: a
display stays below 300 kB.
"""
