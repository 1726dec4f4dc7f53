"""What Sphinx and its theme leave out, and a keyboard or a screen reader needs."""

import re
from pathlib import Path

from sphinx.application import Sphinx

REPLACED = {
    # a heading of no level
    '<p class="caption" role="heading">': '<p class="caption" role="heading" aria-level="2">',
    # a long line is scrolled to, also without a mouse
    "<pre>": '<pre tabindex="0">',
    '<div class="math">': '<div class="math" tabindex="0">',
    '<aside class="sidebar-drawer">': '<aside class="sidebar-drawer" aria-label="all pages">',
    '<aside class="toc-drawer">': '<aside class="toc-drawer" aria-label="on this page">',
    '<aside class="toc-drawer no-toc">': '<aside class="toc-drawer no-toc" aria-label="none">',
    '<div class="table-wrapper ': '<div tabindex="0" role="group" aria-label="table" '
    'class="table-wrapper ',
    # the corner of a table heads nothing
    '<th class="head"><p></p></th>': '<td class="head"></td>',
    "<th></th>": "<td></td>",
}
PARAMETERS = re.compile(r'<dl>\n((?:<dd><em class="sig-param">.*</dd>\n)+)</dl>\n')
"""A long signature: a list of definitions of nothing, inside a term."""


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def mend(app: Sphinx, exception: Exception | None) -> None:
    """Write the pages again."""
    if exception is None and app.builder.format == "html":
        for page in Path(app.outdir).rglob("*.html"):
            text = page.read_text(encoding="utf-8")
            for found, better in REPLACED.items():
                text = text.replace(found, better)
            text = PARAMETERS.sub(spans, text)
            page.write_text(text, encoding="utf-8")


def spans(found: re.Match[str]) -> str:
    lines = found[1].replace("<dd>", '<span class="sig-line">').replace("</dd>", "</span>")
    return f"{lines}\n"
