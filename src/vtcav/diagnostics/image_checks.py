"""Checks on images that are in two sets, or twice in one, in plain sentences."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from vtcav.diagnostics.duplicates import Copies
from vtcav.diagnostics.levels import FINE, LIMITS, LOOK, Finding, percent
from vtcav.results.words import count

# Of photographs saved again 97 to 100 of 100 near copies agree in every part, of photographs with
# and without a thing of a fifth to a half of their height 30 to 81 (see docs/trust.md).
_SAVED_AGAIN = 0.95


def negatives_check(concept: str, copies: Copies, examples: int, negatives: int) -> Finding:
    """Return the examples that have a copy among the negatives.

    Args:
        concept: The concept.
        copies: Copies among all sets of images.
        examples: Number of the set of its examples.
        negatives: Number of the set of its negatives.
    """
    check, shared = "shared with negatives", copies.found(examples, negatives)
    if examples == negatives:  # one set for both
        shared = np.ones_like(shared)
    exact = copies.exact[copies.rows(examples), negatives]
    near = copies.alike[copies.rows(examples), negatives] & ~exact
    if examples != negatives and near.mean() > 0.5:
        return _matched(concept, check, near, int(exact.sum()), float(shared[near].mean()))
    texts = (
        "No example is among the negatives",
        f"{_some(shared, 'examples', 'is', 'are')} among the negatives too, "
        "exactly or nearly: they count for the concept and against it",
    )
    return _finding(concept, check, copies, examples, shared, texts)


def _matched(
    concept: str, check: str, near: NDArray[np.bool_], same: int, throughout: float
) -> Finding:
    """Return the finding on examples whose counterparts without the concept are negatives.

    Args:
        concept: The concept.
        check: The check.
        near: Whether each example has a near copy among the negatives [n].
        same: How many examples are negatives themselves.
        throughout: The share of the near copies that agree in every part of the picture.
    """
    n, value, level = len(near), float(near.mean()), FINE
    text = (
        f"Matched pairs: {int(near.sum())} of {n} examples have a near copy among the negatives, "
        "as a photograph with and without the concept has; what they share cancels out"
    )
    if same:
        level = LIMITS.copies.level(same / n)
        text += f"; but {same} are negatives themselves: they count for the concept and against it"
    elif throughout >= _SAVED_AGAIN:
        level = LOOK
        text += (
            "; but they agree in every part of the picture: if they are the same photographs, "
            "saved again, they count for the concept and against it"
        )
    return _share(concept, check, value, level, text)


def copies_check(concept: str, copies: Copies, s: int, noun: str) -> Finding:
    """Return the copies within one set of images.

    Args:
        concept: The concept that the set belongs to; empty where it is everyone's.
        copies: Copies among all sets of images.
        s: Number of the set.
        noun: The images in a word: "examples", "negatives", "images to explain".
    """
    again, n = copies.earlier[copies.rows(s)], len(copies.sets[s])
    texts = (
        f"All {n} {noun} are different pictures",
        f"{_some(again, noun, 'is a copy', 'are copies')} of others, exactly or nearly: there are "
        f"{count(n - int(again.sum()), 'different picture')}, and the numbers look more certain "
        "than they are",
    )
    return _finding(concept, "duplicates", copies, s, again, texts)


def concepts_check(concept: str, copies: Copies, examples: int, others: dict[str, int]) -> Finding:
    """Return the examples that are examples of another concept, too.

    Args:
        concept: The concept.
        copies: Copies among all sets of images.
        examples: Number of the set of its examples.
        others: Numbers of the other concepts' sets, by name; at least one.
    """
    one_set = [name for name, s in others.items() if s == examples]
    if one_set:
        text = (
            f"Its emblems come from the same images as those of {', '.join(map(repr, one_set))}; "
            "that is right only where all of the images show each of these concepts"
        )
        return _share(concept, "shared with concepts", 1.0, LOOK, text)
    found = {name: copies.found(examples, s) for name, s in others.items()}
    most = max(found, key=lambda name: int(found[name].sum()))
    shared = found[most]
    texts = (
        "No example also belongs to another concept",
        f"{_some(shared, 'examples', 'belongs', 'belong')} to {most!r} too, exactly or nearly, as "
        "those drawn into the same photographs do: the two directions share them",
    )
    return _finding(concept, "shared with concepts", copies, examples, shared, texts)


def leakage_check(
    concept: str, copies: Copies, examples: int, negatives: int, images: int
) -> Finding:
    """Return the images to explain that a concept was learned from.

    Args:
        concept: The concept.
        copies: Copies among all sets of images.
        examples: Number of the set of its examples.
        negatives: Number of the set of its negatives.
        images: Number of the set of the images to explain.
    """
    among = copies.found(images, examples), copies.found(images, negatives)
    leaked = among[0] | among[1]
    texts = (
        "None of the images to explain was used to learn the concept",
        f"{count(int(leaked.sum()), 'image')} of {len(leaked)} to explain were used to learn "
        f"the concept, exactly or nearly ({int(among[0].sum())} as examples, {int(among[1].sum())} "
        "as negatives): on them the concept was fitted, not tested",
    )
    return _finding(concept, "leakage", copies, images, leaked, texts)


def _finding(
    concept: str,
    check: str,
    copies: Copies,
    s: int,
    found: NDArray[np.bool_],
    texts: tuple[str, str],
) -> Finding:
    """Return a finding on the images of set `s` that were found elsewhere.

    Args:
        concept: The concept.
        check: The check.
        copies: Copies among all sets of images.
        s: Number of the set.
        found: Whether each image of it was found [n].
        texts: The sentence where there is none, and where there are some.
    """
    value, unseen = float(found.mean()), float(copies.plain[copies.rows(s)].mean())
    level, text = LIMITS.copies.level(value), texts[bool(found.any())]
    if unseen > 0:
        text += f"; {percent(unseen)} of the pictures have too little detail to find near copies"
        level = LOOK if level == FINE and unseen >= LIMITS.copies.usable else level
    return _share(concept, check, value, level, text)


def _some(found: NDArray[np.bool_], noun: str, one: str, several: str) -> str:
    """Return how many of some images are something, with the verb for one or for several."""
    n = int(found.sum())
    return f"{n} of {len(found)} {noun} {one if n == 1 else several}"


def _share(concept: str, check: str, value: float, level: str, text: str) -> Finding:
    note = "a share of the images at hand, no interval"
    return Finding("", concept, check, value, math.nan, math.nan, level, f"{text}.", note)
