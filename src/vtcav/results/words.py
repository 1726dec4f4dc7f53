"""Numbers, names and verdicts as text, the same in figures, notebooks and reports."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


SIGNIFICANT = 0.05
"""The largest q-value that counts as significant."""

SIGNIFICANTLY, NS = "significant", "not significant"
NOT_TESTED, NOT_SEPARATED = "not tested", "not separated"
CLASS_NOT_RAISED = "does not raise this class"
"""Notes that hold one of these texts say why a value has no p-value."""

_NO_NAME = re.compile(
    r"(the|my|our|custom|simple|small|tiny|basic|base)?_?((conv|neural)?_?net(work)?|cnn|model|module|"
    r"sequential|functional|classifier|graph_?module|wrapper)?_?\d*",
    re.IGNORECASE,
)

_IN_MEMORY = re.compile(r"(?:image|array)\[(\d+)\]")

# These reorder the letters around them, which a file's name must not be able to do.
_REORDERING = {
    *"\u200e\u200f\u061c",
    *map(chr, range(0x202A, 0x202F)),
    *map(chr, range(0x2066, 0x206A)),
}


def clear(text: object) -> str:
    r"""Return a user's text safe to display: control and bidirectional letters are spelled out.

    Example:
        >>> print(clear("a\nb"), clear("x\u202eexe"), clear("caf\u00e9"))
        a\nb x\u202eexe café
    """
    return "".join(map(_letter, str(text)))


def _letter(letter: str) -> str:
    if letter in _REORDERING or unicodedata.category(letter) in {"Cc", "Cs", "Zl", "Zp"}:
        return letter.encode("unicode_escape").decode()
    return letter


def number(x: float) -> str:
    """Return a value with three decimals; 0 only for exactly 0.

    Example:
        >>> number(0.1237), number(0.0001), number(0)
        ('0.124', '<0.001', '0')
    """
    if x != 0 and abs(x) < 0.0005:
        return "<0.001" if x > 0 else ">-0.001"
    return f"{x:.3f}" if x else "0"


def value(x: float) -> str:
    """Return a number with three decimals; a dash where there is none.

    Example:
        >>> value(0.1237), value(float("nan"))
        ('0.124', '–')
    """
    return "–" if math.isnan(x) else number(x)


def equal_or_less(x: float) -> str:
    """Return a number with its sign of comparison, for sentences like "q < 0.001".

    Example:
        >>> equal_or_less(0.0321), equal_or_less(0.0001)
        ('= 0.032', '< 0.001')
    """
    text = value(x)
    return f"< {text[1:]}" if text.startswith("<") else f"= {text}"


def interval(low: float, high: float) -> str:
    """Return an interval as text; empty where there is none.

    Example:
        >>> interval(0.1, 0.25), interval(float("nan"), float("nan"))
        ('0.100 to 0.250', '')
    """
    return "" if math.isnan(low) or math.isnan(high) else f"{number(low)} to {number(high)}"


def verdict(q: float, *, separated: bool) -> str:
    """Return the verdict of the significance test on an attribution.

    Example:
        >>> verdict(0.04, separated=True), verdict(0.2, separated=True)
        ('significant', 'not significant')
        >>> verdict(float("nan"), separated=True), verdict(0.04, separated=False)
        ('not tested', 'not separated')
    """
    if not separated:
        return NOT_SEPARATED
    if math.isnan(q):
        return NOT_TESTED
    return SIGNIFICANTLY if q <= SIGNIFICANT else NS


def as_much(p: float, q: float, null_cavs: int, tests: int, note: str = "") -> str:
    """Return how many null CAVs reach an attribution, or why it was not tested.

    Args:
        p: Its p-value, (1 + count) / (1 + null CAVs); NaN where it was not tested.
        q: Its q-value.
        null_cavs: How many null CAVs it was tested against.
        tests: How many values q is adjusted for.
        note: Its note.

    Example:
        >>> as_much(24 / 501, 0.3, 500, 46)
        '23 of 500 random directions get as much; not significant after correcting for 46 values'
        >>> as_much(float("nan"), float("nan"), 500, 46, "rough; not separated: e+ <= e-")
        'not separated: e+ <= e-'
    """
    if math.isnan(p) or math.isnan(q):
        whys = NOT_SEPARATED, NOT_TESTED, CLASS_NOT_RAISED
        parts = [part for part in note.split("; ") if any(why in part for why in whys)]
        return "; ".join(parts) or NOT_TESTED
    text = _reached(p, p, null_cavs)
    if p <= SIGNIFICANT < q:
        text += f"; not significant after correcting for {count(tests, 'value')}"
    return text


def _reached(least: float, most: float, null_cavs: int) -> str:
    if not null_cavs:  # a result that does not say how many there were
        return f"p = {number(least)}" if least == most else f"p = {interval(least, most)}"
    low, high = (round(p * (1 + null_cavs)) - 1 for p in (least, most))
    times = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    get = "gets" if low == high == 1 else "get"
    return f"{times} of {null_cavs:,} random directions {get} as much"


def not_significant(table: pd.DataFrame, null_cavs: int, tests: int | None = None) -> str:
    """Return what "not significant" means for the values of a table; empty where none is.

    Args:
        table: Has p_value and q_value.
        null_cavs: How many null CAVs they were tested against.
        tests: How many values q is adjusted for; None for those of the table.

    Example:
        >>> import pandas as pd
        >>> not_significant(pd.DataFrame({"p_value": [0.4], "q_value": [0.4]}), 4)
        '1 value: 1 of 4 random directions gets as much'
    """
    short = table[table["q_value"] > SIGNIFICANT]["p_value"]
    tested = count(int(table["p_value"].notna().sum()) if tests is None else tests, "value")
    parts = []
    for p, end in (
        (short[short > SIGNIFICANT], ""),
        (short[short <= SIGNIFICANT], f", not significant after correcting for {tested}"),
    ):
        if len(p):
            reached = _reached(float(p.min()), float(p.max()), null_cavs)
            parts.append(f"{count(len(p), 'value')}: {reached}{end}")
    return "; ".join(parts)


def count(n: int, noun: str, many: str | None = None) -> str:
    """Return a count with its noun.

    Example:
        >>> count(1, "image"), count(3, "class", "classes")
        ('1 image', '3 classes')
    """
    return f"{n:,} {noun if n == 1 else many or noun + 's'}"


def counted_notes(notes: Iterable[str], what: str = "images", of: int | None = None) -> list[str]:
    """Return the distinct parts of notes, with their counts where not all notes have them.

    Args:
        notes: Notes, whose parts are joined by "; ".
        what: The plural of what has a note.
        of: How many there are, where those without a note are not listed.

    Example:
        >>> counted_notes(["odd; rough", "rough"])
        ['1 of 2 images: odd', 'rough']
    """
    whole = Counter(notes)  # of a million notes few are different
    counts: Counter[str] = Counter()
    for note, times in whole.items():
        for part in filter(None, note.split("; ")):
            counts[part] += times
    total = whole.total() if of is None else of
    return [part if n == total else f"{n} of {total} {what}: {part}" for part, n in counts.items()]


def listed(parts: Sequence[str]) -> str:
    """Return parts as a list in a sentence.

    Example:
        >>> listed(["a"]), listed(["a", "b", "c"])
        ('a', 'a, b and c')
    """
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def named_layers(layers: Sequence[str]) -> str:
    """Return layers as a sentence names them, for a bare "5" reads like a number.

    Example:
        >>> named_layers(["5"]), named_layers(["5", "8"])
        ("layer '5'", "layers '5' and '8'")
    """
    return f"layer{'s' * (len(layers) != 1)} {listed([repr(clear(layer)) for layer in layers])}"


def network_name(described: str) -> str:
    """Return the name of a network; empty where it says nothing, as the class "Net" does.

    Args:
        described: `Model.described`, which begins with the name of the network's class.

    Example:
        >>> network_name("ResNet (11,689,512 weights, 1000 classes)")
        'ResNet'
        >>> network_name("Net (9 weights)"), network_name("Keras 'model_1' (9 weights)")
        ('', '')
    """
    name = described.split(" (")[0].removeprefix("Keras ").strip("'\"")
    return "" if _NO_NAME.fullmatch(name) else name


def picture_name(name: str) -> str:
    """Return how a title names an image: by its file, in quotes, where it has one.

    Example:
        >>> picture_name("photos/cup.png"), picture_name("image[0]"), picture_name("array[3]")
        ('“cup.png”', 'the image', 'image 3')
    """
    if made := _IN_MEMORY.fullmatch(name):
        return f"image {made[1]}" if int(made[1]) else "the image"
    last = re.split(r"[\\/]", name.rstrip("\\/"))[-1]
    return f"“{clear(last or name)}”"


def short_names(names: Sequence[str]) -> list[str]:
    """Return the shortest ends of paths that are distinct, without what tells whose disk it was.

    Example:
        >>> short_names(["/home/ada/z/1.jpg", "/home/ada/h/1.jpg"])
        ['z/1.jpg', 'h/1.jpg']
        >>> short_names(["/home/ada/1.jpg", "2.jpg"])
        ['1.jpg', '2.jpg']
    """
    short: dict[str, str] = {}
    left = {name: name.replace("\\", "/").rstrip("/").split("/") for name in names}
    kept = 1
    while left:
        ends = {name: "/".join(parts[-kept:]) for name, parts in left.items()}
        times = Counter(ends.values())
        done = {n for n, end in ends.items() if times[end] == 1 or kept >= len(left[n])}
        short |= {name: ends[name] or name for name in done}
        left = {name: parts for name, parts in left.items() if name not in done}
        kept += 1
    return [short[name] for name in names]


def distinct_names(names: Iterable[str]) -> list[str]:
    """Return names in which repeated ones are numbered.

    Example:
        >>> distinct_names(["cat", "dog", "cat"])
        ['cat', 'dog', 'cat [2]']
    """
    seen: Counter[str] = Counter()
    labels = []
    for name in names:
        seen[name] += 1
        labels.append(name if seen[name] == 1 else f"{name} [{seen[name]}]")
    return labels


def notes_by_class(group: pd.DataFrame) -> str:
    """Return the notes of one concept's rows, with the classes where a note is not about all.

    Args:
        group: Rows of a table of attributions, with class_name and note.
    """
    about: dict[str, list[str]] = {}
    for name, note in zip(group["class_name"], group["note"], strict=True):
        for part in filter(None, dict.fromkeys(note.split("; "))):
            about.setdefault(part, []).append(name)
    return "; ".join(
        part if len(names) == len(group) else f"{part} ({', '.join(names)})"
        for part, names in about.items()
    )
