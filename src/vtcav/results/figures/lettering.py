"""Lettering of figures: the width of text, and names cut to fit.

Lengths are inches, sizes of letters are points.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache

from matplotlib import font_manager
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

SMALL = 7.0
LINE = 1.35
"""Height of a line, in sizes of its letters."""
LINE_HEIGHT = SMALL * LINE / 72

# DejaVu Sans comes with matplotlib; the others have the letters that it lacks.
_FALLBACKS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "WenQuanYi Micro Hei",
    "Arial Unicode MS",
)
_BREAK = re.compile(r"(?<=\s)|(?<=[_/.-])(?=[^\W\d])")
_BOUNDARY = re.compile(r"(?<=[\s_/.-])")
_UNKNOWN = "\u25a1"  # a white square
# Letters drawn with hinting come out a little wider than their outlines.
_SLACK = 1.06


@cache
def font_families() -> tuple[str, ...]:
    """Return the installed fonts that figures are lettered with, the preferred first."""
    installed = set(font_manager.get_font_names())
    return ("DejaVu Sans", *(name for name in _FALLBACKS if name in installed))


@cache
def _font(size: float, bold: bool) -> FontProperties:
    return FontProperties(
        family=list(font_families()), size=size, weight="bold" if bold else "normal"
    )


@lru_cache(4096)
def text_width(text: str, size: float = SMALL, *, bold: bool = False) -> float:
    """Return the width of one line of text, in inches."""
    width, _, _ = text_to_path.get_text_width_height_descent(text, _font(size, bold), False)
    return float(width) / 72 * _SLACK


@cache
def _glyph(letter: str) -> str:
    """Return a letter, or a square where no font has it."""
    if not letter.isprintable():
        return " "
    fonts = (font_manager.findfont(FontProperties(family=[name])) for name in font_families())
    known = any(font_manager.get_font(font).get_char_index(ord(letter)) for font in fonts)
    return letter if known else _UNKNOWN


def _clean(text: str) -> str:
    """Return a name as one line, with a square for every letter that no font has."""
    return " ".join("".join(map(_glyph, text)).split())


def font_notes(names: Iterable[str]) -> list[str]:
    """Return the footnote on letters that cannot be drawn; none where all names can be."""
    if all(_UNKNOWN not in _clean(name) for name in names):
        return []
    return [f"{_UNKNOWN} stands for a letter that no installed font has (Noto Sans CJK has most)."]


def shorten(text: str, width: float, size: float = SMALL, *, bold: bool = False) -> str:
    """Return a name that fits a width in inches; where it is too long, its middle is left out.

    Not its end, because names of classes and layers often differ in their last letters.

    Example:
        >>> shorten("block 13", 1), shorten("features.13.block.2.expansion", 1)
        ('block 13', 'features.13…nsion')
    """
    text = _clean(text)
    if text_width(text, size, bold=bold) <= width:
        return text
    lengths = range(2, len(text))
    kept = 1 + bisect_right(
        lengths, width, key=lambda kept: text_width(_cut(text, kept), size, bold=bold)
    )
    return _cut(text, kept)


def _cut(text: str, kept: int) -> str:
    end = kept // 3
    return f"{text[: kept - end].rstrip()}…{text[len(text) - end :].lstrip()}"


def wrap(
    text: str, width: float, size: float = SMALL, *, most: int = 99, bold: bool = False
) -> list[str]:
    """Return a text as at most `most` lines that fit a width in inches."""
    pieces = _BREAK.split(_clean(text))
    lines: list[str] = []
    line = ""
    for i, piece in enumerate(pieces):
        if line and text_width((line + piece).rstrip(), size, bold=bold) > width:
            if len(lines) == most - 1:
                line += "".join(pieces[i:])
                break
            lines.append(line)
            line = ""
        line += piece
    return [shorten(line, width, size, bold=bold) for line in (*lines, line)]


def labels(names: Sequence[str], numbers: Sequence[int], width: float) -> list[str]:
    """Return names that fit a width; those that would look alike begin with their number."""
    short = [shorten(name, width) for name in names]
    return [
        label if short.count(label) == 1 else shorten(f"[{n}] {name}", width)
        for label, name, n in zip(short, names, numbers, strict=True)
    ]


def wrap_apart(
    names: Sequence[str], width: float, size: float = SMALL, *, most: int = 99, bold: bool = False
) -> list[list[str]]:
    """Return names as `wrap` does, but so that no two of them look alike.

    What all names begin and end with is left out where it must be, and as a last resort names
    begin with their number.

    Example:
        >>> wrap_apart(["encoder.stages.3.mlp.fc2", "encoder.stages.4.mlp.fc2"], 0.7, most=1)
        [['…3.mlp.fc2'], ['…4.mlp.fc2']]
    """
    for way in (list, _without_start, _without_ends, _numbered):
        lines = [wrap(name, width, size, most=most, bold=bold) for name in way(names)]
        if len(set(map(tuple, lines))) == len(set(names)):
            break
    return lines


def _without_start(names: Sequence[str]) -> list[str]:
    """Return names without the parts that all begin with."""
    return _without(names, _common(names), 0)


def _without_ends(names: Sequence[str]) -> list[str]:
    """Return names without the parts that all begin and end with."""
    return _without(names, _common(names), _common(names, -1))


def _common(names: Sequence[str], step: int = 1) -> int:
    """Return how many parts all names begin with, or with -1 end with; each keeps one."""
    split = [_BOUNDARY.split(name)[::step] for name in names]
    shortest = min(map(len, split)) - 1
    return next((k for k in range(shortest) if len({parts[k] for parts in split}) > 1), shortest)


def _without(names: Sequence[str], first: int, last: int) -> list[str]:
    split = [_BOUNDARY.split(name) for name in names]
    last = min(last, min(map(len, split)) - first - 1)
    return [
        f"{'…' * bool(first)}{''.join(parts[first : len(parts) - last]).rstrip('_/.- ')}"
        f"{'…' * bool(last)}"
        for parts in split
    ]


def _numbered(names: Sequence[str]) -> list[str]:
    return [f"[{k}] {name}" for k, name in enumerate(names, 1)]


def row_labels(
    rows: Sequence[Sequence[str]], width: float, size: float = SMALL, *, bold: bool = False
) -> list[str]:
    """Return a label of one line for each row of parts, whose long parts are shortened apart.

    Args:
        rows: The parts of each label, as many for every row: names, and what stands between.
        width: In inches.
        size: Of the letters, in points.
        bold: Whether the letters are bold.

    Example:
        >>> names = ["a ruler that lies beside the skin", "a ruler that lies on the skin"]
        >>> row_labels([("“", name, "” in ", "naevus") for name in names], 1.7)
        ['“…beside the skin” in naevus', '“…on the skin” in naevus']
    """
    columns = [list(dict.fromkeys(column)) for column in zip(*rows, strict=True)]
    needs = [max(text_width(part, size, bold=bold) for part in column) for column in columns]
    left, cut = width, [dict(zip(column, column, strict=True)) for column in columns]
    order = sorted(range(len(columns)), key=needs.__getitem__)
    for done, k in enumerate(order):
        room = left / (len(order) - done)
        if needs[k] > room:
            lines = wrap_apart(columns[k], room, size, most=1, bold=bold)
            cut[k] = {part: line[0] for part, line in zip(columns[k], lines, strict=True)}
        left -= min(needs[k], room)
    return ["".join(cut[k][part] for k, part in enumerate(row)) for row in rows]


def basename(name: str) -> str:
    """Return the last part of a path, on any system."""
    return re.split(r"[\\/]", name.rstrip("\\/"))[-1] or name
