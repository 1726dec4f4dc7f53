"""How the documentation site is built: `make docs`, or `sphinx-build -W docs site`.

Nothing is fetched, neither here nor by the pages: formulas become MathML, styles and scripts are
files of the site.
"""

import os
import re
import sys
from fnmatch import filter as matching
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
# the kernels of the tutorials: two busy processes slow each other down many times over
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import vtcav  # noqa: E402  (after what it must find in the environment)

project = "vtcav"
author = "The vtcav developers"
copyright = "The vtcav developers, Apache-2.0"  # noqa: A001  (the name that Sphinx asks for)
version = release = vtcav.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "myst_nb",  # brings myst_parser
    "mathml",
    "accessible",
]
root_doc = "index"
exclude_patterns = ["_build"]

# -- Markdown ---------------------------------------------------------------------------------

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

# -- tutorials --------------------------------------------------------------------------------

nb_execution_mode = "force"
nb_execution_cache_path = str(HERE.parent / "build" / "notebooks")
nb_execution_timeout = 180
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
nb_output_stderr = "remove"

# -- reference --------------------------------------------------------------------------------

default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_class_signature = "separated"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

# -- pages ------------------------------------------------------------------------------------

html_theme = "furo"
html_title = f"vtcav {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_sphinx = False
pygments_style = "a11y-high-contrast-light"
highlight_language = "none"  # a block says what it is; commands are no Python
pygments_dark_style = "github-dark"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#8a3b00",
        "color-brand-content": "#8a3b00",
        "color-brand-visited": "#6a3d7c",
    },
    "dark_css_variables": {
        "color-brand-primary": "#ffb077",
        "color-brand-content": "#ffb077",
        "color-brand-visited": "#d0a6e3",
    },
}

# -- what Sphinx does not do by itself --------------------------------------------------------


def leave_out_absent(app, docname: str, source: list[str]) -> None:
    """Take patterns without a page out of the table of contents, where Sphinx would warn."""
    if docname == root_doc:
        pages = app.project.docnames
        lines = source[0].splitlines()
        pattern = re.compile(r"[\w-]+\*")
        kept = [x for x in lines if not pattern.fullmatch(x) or matching(pages, x)]
        source[0] = "\n".join(kept)


def show_as_meant(
    app, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Show |F| and fenced blocks of a docstring as they stand."""
    shown, fenced = [], False
    for line in lines:
        if line.lstrip().startswith("```"):
            fenced = not fenced
            shown += ["", ".. code-block:: text", ""] if fenced else [""]
        elif fenced:
            shown.append("   " + line)
        else:
            shown.append(re.sub(r"(?<![`\\])\|(\w+)\|", r"\|\1\|", line))
    lines[:] = shown


def setup(app) -> None:
    app.connect("source-read", leave_out_absent)
    app.connect("autodoc-process-docstring", show_as_meant)
