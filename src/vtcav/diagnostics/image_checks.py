"""The same image in two places where it should be in one: checks in plain sentences."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from vtcav.diagnostics import levels
from vtcav.diagnostics.duplicates import Copies
from vtcav.diagnostics.levels import BAD, FINE, LOOK, Finding, count, percent

__all__ = ["copy_checks", "copy_checks_of_set", "leakage_check", "shared_examples_check"]

_SHARE = "a share of the images at hand, no interval"


def copy_checks(concept: str, copies: Copies, examples: int, negatives: int) -> list[Finding]:
    """Return copies among a concept's examples, and between them and its negatives.

    Args:
        concept: The concept.
        copies: What was found.
        examples: Which of the sets its examples are.
        negatives: Which its negatives are.
    """
    shared = copies.found(examples, negatives)
    if examples == negatives:  # one set for both
        shared = np.ones_like(shared)
    n = len(shared)
    text = (
        "No example is among the negatives"
        if not shared.any()
        else f"{count(int(shared.sum()), 'example')} of {n} are among the negatives too, exactly "
        "or nearly: there they are called the opposite of what they are called here"
    )
    return [
        copy_checks_of_set(concept, copies, examples, "examples"),
        _finding(
            concept, "shared with negatives", shared, copies.plain[copies.rows(examples)], text
        ),
    ]


def copy_checks_of_set(concept: str, copies: Copies, s: int, noun: str) -> Finding:
    """Return the copies within one set of images.

    Args:
        concept: Whose set it is; empty where it is everyone's.
        copies: What was found.
        s: Which of the sets.
        noun: What the images are: "examples", "negatives", "images to explain".
    """
    rows = copies.rows(s)
    again, n = copies.earlier[rows], len(copies.sets[s])
    text = (
        f"All {n} {noun} are different pictures"
        if not again.any()
        else f"{int(again.sum())} of {n} {noun} are copies of others, exactly or nearly: there are "
        f"{count(n - int(again.sum()), 'different picture')}, and the numbers look surer than "
        "they are"
    )
    return _finding(concept, "duplicates", again, copies.plain[rows], text)


def shared_examples_check(
    concept: str, copies: Copies, examples: int, others: dict[str, int]
) -> list[Finding]:
    """Return the examples that are another concept's too; nothing where there is no other.

    Args:
        concept: The concept.
        copies: What was found.
        examples: Which of the sets its examples are.
        others: The other concepts' sets by name.
    """
    if not others:
        return []
    found = {name: copies.found(examples, s) for name, s in others.items()}
    most = max(found, key=lambda name: int(found[name].sum()))
    shared = found[most]
    text = (
        "No example is another concept's too"
        if not shared.any()
        else f"{count(int(shared.sum()), 'example')} of {len(shared)} are examples of {most!r} "
        "too, exactly or nearly: the two directions share them"
    )
    plain = copies.plain[copies.rows(examples)]
    return [_finding(concept, "shared with concepts", shared, plain, text)]


def leakage_check(
    concept: str, copies: Copies, examples: int, negatives: int, images: int
) -> Finding:
    """Return the images to explain that a concept was learned from.

    Args:
        concept: The concept.
        copies: What was found.
        examples: Which of the sets its examples are.
        negatives: Which its negatives are.
        images: Which the images to explain are.
    """
    among = copies.found(images, examples), copies.found(images, negatives)
    leaked = among[0] | among[1]
    text = (
        "None of the images to explain was used to learn the concept"
        if not leaked.any()
        else f"{count(int(leaked.sum()), 'image')} of {len(leaked)} to explain were used to learn "
        f"the concept, exactly or nearly ({int(among[0].sum())} as examples, {int(among[1].sum())} "
        "as negatives): on them the concept was fitted, not tested"
    )
    return _finding(concept, "leakage", leaked, copies.plain[copies.rows(images)], text)


def _finding(
    concept: str,
    check: str,
    found: NDArray[np.bool_],
    plain: NDArray[np.bool_],
    text: str,
) -> Finding:
    """Return a finding on the share of images that were found elsewhere."""
    value, unseen = float(found.mean()), float(plain.mean())
    level = FINE if not found.any() else LOOK if value < levels.COPIES_USABLE else BAD
    if unseen > 0:
        text += (
            f"; in {percent(unseen)} of the pictures there is too little to see for finding near "
            "copies"
        )
        level = LOOK if level == FINE and unseen >= levels.COPIES_USABLE else level
    return Finding("", concept, check, value, math.nan, math.nan, level, text + ".", _SHARE)
