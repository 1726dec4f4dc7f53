"""The named variants of the method: the paper's definition, and what differs from it."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from vtcav.parameters import Words, check

__all__ = ["PAPER", "TITLES", "VARIANTS", "Variant", "check_variant", "method_of", "suffix"]

Variant: TypeAlias = Literal["paper", "filter"]
"""How a concept is found in an image: by the paper's direction v, or by a filter w."""

VARIANTS: tuple[Variant, ...] = get_args(Variant)
PAPER: Variant = "paper"
TITLES = {"paper": "Visual-TCAV", "filter": "Visual-TCAV, filter map"}
"""What each is called in figures."""


def check_variant(variant: object) -> Variant:
    """Return the name of a variant, or refuse another.

    Raises:
        ExplanationError: Naming those there are.

    Example:
        >>> check_variant("filter")
        'filter'
    """
    known: Variant = check("variant", variant, Words(*VARIANTS))
    return known


def method_of(variant: Variant) -> str:
    """Return the name of a variant in tables of methods.

    Example:
        >>> method_of("paper"), method_of("filter")
        ('visual_tcav', 'visual_tcav_filter')
    """
    return "visual_tcav" if variant == PAPER else f"visual_tcav_{variant}"


def suffix(variant: Variant) -> str:
    """Return what titles add for a variant; nothing for the paper's definition.

    Example:
        >>> suffix("paper"), suffix("filter")
        ('', ' (variant: filter map)')
    """
    return "" if variant == PAPER else f" (variant: {variant} map)"
