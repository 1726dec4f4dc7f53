"""The named variants of the method: the paper's definition and its alternatives."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from vtcav.parameters import Words, check

Variant: TypeAlias = Literal["paper", "filter", "places"]
"""How a concept is found in an image: by the paper's direction v, by a linear discriminant w of
pooled activations, or by one of single locations."""

VARIANTS: tuple[Variant, ...] = get_args(Variant)
PAPER: Variant = "paper"
FILTER: Variant = "filter"
PLACES: Variant = "places"
_MAPS = {"filter": "filter map", "places": "place map"}


def check_variant(variant: object) -> Variant:
    """Return the name of a variant.

    Raises:
        ExplanationError: For an unknown variant; the message names all variants.

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
    """Return the suffix of titles for a variant; empty for the paper's definition.

    Example:
        >>> suffix("paper"), suffix("places")
        ('', ' (variant: place map)')
    """
    return "" if variant == PAPER else f" (variant: {_MAPS[variant]})"
