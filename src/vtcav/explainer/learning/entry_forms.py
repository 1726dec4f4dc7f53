"""The forms of the cache's entries: names, kinds and shapes of their tensors, declared once."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

_RAW = {"values": ("f", "n", "J"), "place": ("f", "h", "w")}
_FORMS: Mapping[str, Mapping[str, tuple[str | int, ...]]] = {
    "look": {"used": ("i", "used"), "prints": ("u", "used", 16, 16)},
    "logits": {"logits": ("f", "outputs"), "std": ("f", "outputs")},
    "scored": {"logits": ("f", "some", "outputs")},
    "gap": {"gap": ("f", "n", "C")},
    "raw": _RAW,
    "response": _RAW,
    "places": {
        "w": ("f", "S", 3, "C"),
        "offset": ("f", "S", 3),
        "pattern": ("f", "S", "C"),
        "examples": ("f", "n", "S", 3),
        "negatives": ("f", "m", "S", 3),
    },
    "candidates": {"X": ("f", "images", "t", "C")},
    "background": {"X": ("f", "images", "t", "C")},
    "drawn": {"w": ("f", "J", "C")},
    "zeros": {"scores": ("f", "rows", "T"), "spread": ("f", "some"), "raised": ("b", "some")},
}
"""A letter for the kind (floating point, whole, bytes, truth values), then the shape. The same
name of a size is the same size, also of what asks for the entry. Of volumes d stands before h."""

_KINDS = {torch.int64: "i", torch.uint8: "u", torch.bool: "b"}
_KINDS |= {torch.float32: "f", torch.float64: "f"}


def misfit(
    kind: str,
    tensors: Mapping[str, Tensor],
    sizes: Mapping[str, int],
    dtype: torch.dtype | None = None,
) -> str:
    """Return why tensors are no entry of a kind; empty where they are.

    Args:
        kind: The kind of entry.
        tensors: Its tensors.
        sizes: Known sizes by their names in the declaration.
        dtype: That of the layer's maps, which pooled activations have as well.

    Example:
        >>> misfit("gap", {"gap": torch.zeros(5, 8)}, {"n": 5, "C": 8})
        ''
        >>> misfit("gap", {"gap": torch.zeros(5, 8)}, {"n": 6})
        "'gap' has shape [5, 8]"
    """
    form, known = _FORMS[kind], dict(sizes)
    if set(form) != set(tensors):
        return f"expected {sorted(form)}, got {sorted(tensors)}"
    for name, (letter, *shape) in form.items():
        tensor = tensors[name]
        if "d" in sizes and "h" in shape:
            shape.insert(shape.index("h"), "d")
        found = _KINDS.get(tensor.dtype, "")
        if found != letter or (kind == "gap" and dtype not in (None, tensor.dtype)):
            return f"{name!r} is {tensor.dtype}"
        if tensor.dim() != len(shape) or any(
            size != (known.setdefault(wanted, size) if isinstance(wanted, str) else wanted)
            for size, wanted in zip(tensor.shape, shape, strict=True)
        ):
            return f"{name!r} has shape {list(tensor.shape)}"
        if letter == "f" and not bool(tensor.isfinite().all()):
            return f"{name!r} holds numbers that are not finite"
    if kind == "zeros" and known["rows"] not in (1, known["some"]):
        return f"'scores' has {known['rows']} rows for {known['some']} images"
    return ""
