"""Parts of a study file that speak of the network and the method: read, types checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from vtcav.errors import VtcavError
from vtcav.images.preprocess import Preprocess
from vtcav.method.variants import VARIANTS
from vtcav.models.heads.options import PRECISIONS
from vtcav.study.spec import ModelSpec, Options, TopOrNames
from vtcav.study.yaml_nodes import Entry

__all__ = ["given_in", "read_model", "read_options", "read_top", "unique"]

_SHORTCUTS: dict[str, tuple[str, ...]] = {"precision": PRECISIONS}
_TASKS = ("auto", "classes", "labels", "regression")


def read_model(entry: Entry, exists: Callable[[Entry, str], None]) -> ModelSpec:
    """Return the network, given as a name or a mapping; `exists` refuses a path that does not."""
    what = "the name of a network, such as demo or timm:convnext_atto"
    if not entry.is_mapping:
        return ModelSpec(entry.text(what))
    given = entry.keyed([part.name for part in fields(ModelSpec)], ["name"])
    values: dict[str, Any] = {"name": given["name"].text(what)}
    if weights := given_in(given, "weights"):
        values["weights"] = weights.text("the path of a file of weights, or random")
        if values["weights"] != "random":
            exists(weights, values["weights"])
    if names := given_in(given, "class_names"):
        if names.is_list:
            values["class_names"] = tuple(e.name("a class name") for e in names.items(""))
        else:
            values["class_names"] = names.text("a list of class names, or the path of a file")
            exists(names, values["class_names"])
    if binary := given_in(given, "binary"):
        values["binary"] = binary.boolean()
    if task := given_in(given, "task"):
        values["task"] = task.choice(_TASKS)
    if device := given_in(given, "device"):
        values["device"] = device.text("a device: auto, cpu, cuda, mps")
    if layouts := given_in(given, "layouts"):
        named = layouts.named("a mapping from layers to layouts, such as NHWC")
        values["layouts"] = {name: e.text("a layout") for name, e in named.items()}
    if preprocess := given_in(given, "preprocess"):
        values["preprocess"] = _preprocess(preprocess)
    return ModelSpec(**values)


def read_options(given: Mapping[str, Entry]) -> Options:
    """Return the settings of the method from their entries."""
    values: dict[str, Any] = {}
    for name, entry in given.items():
        if name == "steps":
            values[name] = _steps(entry)
        elif name == "tolerance":
            values[name] = _tolerance(entry)
        elif name in ("limit", "batch_size"):
            values[name] = None if entry.is_null else entry.whole(1)
        elif name == "strict":
            values[name] = entry.boolean()
        elif name == "top":
            values[name] = read_top(entry)
        elif name == "variant":
            values[name] = entry.choice(VARIANTS)
        elif name in _SHORTCUTS:
            values[name] = None if entry.is_null else entry.choice(_SHORTCUTS[name])
        else:
            values[name] = entry.whole(1 if name == "min_examples" else 0)
    return Options(**values)


def given_in(given: Mapping[str, Entry], name: str) -> Entry | None:
    """Return an entry that says anything."""
    entry = given.get(name)
    return None if entry is None or entry.is_null else entry


def unique(entries: list[Entry], among: tuple[str, ...] | None = None) -> list[str]:
    """Return names of a list, each once, all of them among some words where these are given."""
    found: list[str] = []
    for entry in entries:
        name = entry.choice(among) if among else entry.name("a name")
        if name in found:
            entry.refuse(f"{name!r} is listed twice; remove one")
        found.append(name)
    return found


def _steps(entry: Entry) -> Any:
    if entry.is_whole:
        return entry.whole(1)
    if entry.came() != "the text 'adaptive'":
        entry.fail("adaptive, or a whole number of at least 1 without quotes")
    return "adaptive"


def _tolerance(entry: Entry) -> float:
    value = entry.number("a number between 0 and 1")
    if not 0 < value < 1:
        entry.fail("a number between 0 and 1")
    return value


def read_top(entry: Entry) -> TopOrNames:
    """Return a number of most probable classes, or classes by name."""
    if entry.is_list:
        return tuple(unique(entry.items("a list of classes")))
    if not entry.is_whole:
        entry.fail("a number of most probable classes, or a list of classes")
    return entry.whole(1)


def _preprocess(entry: Entry) -> Preprocess:
    given = entry.keyed([part.name for part in fields(Preprocess)], ["size"])
    values: dict[str, Any] = {}
    for name, part in given.items():
        if name in ("resize", "interpolation"):
            values[name] = part.text("a word")
        elif name == "size" and part.is_null:
            values[name] = None
        elif name in ("size", "fill"):
            least = 0 if name == "fill" else 1
            values[name] = (
                [e.whole(least) for e in part.items("")] if part.is_list else part.whole(least)
            )
        else:
            values[name] = [e.number() for e in part.items("")] if part.is_list else part.number()
    try:
        return Preprocess(**values)
    except (VtcavError, TypeError) as error:
        entry.refuse(str(error))
