"""The outputs of preprocessings, checked."""

from __future__ import annotations


def fault_of(output: object, *, volume: bool = False) -> str:
    """Return what is wrong with a preprocessing's output and what to do; empty if nothing is."""
    import torch

    if not isinstance(output, torch.Tensor):
        if "pixel_values" in dir(output) or (isinstance(output, dict) and "pixel_values" in output):
            return f'{described_type(output)}; return its ["pixel_values"][0] as a tensor'
        return f"{described_type(output)}; convert it to a torch tensor"
    came, shape = described_type(output), output.shape
    if output.ndim == 4 + volume and shape[0] == 1:
        return f"{came}; drop the batch dimension: return x[0]"
    if output.ndim != 3 + volume or 0 in shape:
        of = "slices, a height" if volume else "a height"
        return f"{came}; return one tensor with a channel, {of} and a width"
    if shape[0] > 4 and shape[2] in (1, 3):
        return f"{came}; put the channels first: return x.permute(2, 0, 1)"
    if not output.is_floating_point():
        return f"{came}; convert it: return x.float() / 255, then normalise"
    if not output.isfinite().all():
        return f"{came} with values that are not finite; does it divide by zero?"
    return ""


def described_type(value: object) -> str:
    """Return the type of a value, with shape and dtype where it has them."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    name = f"{type(value).__module__}.{type(value).__name__}".removeprefix("builtins.")
    return name if shape is None else f"{name} of shape {list(shape)} and {dtype}"
