"""Mutators that know the form of data: JSON, bytes, arrays and tables, changed by a seed.

Each takes a `random.Random` first and returns new data, never the old changed.
"""

import contextlib
import copy
import io
import json

import numpy as np
import pandas as pd

DEEP = "@deep@"
"""A text that `json_bytes` replaces by lists 100,000 deep, which `json.dumps` cannot write."""

STRANGE = (
    *(None, True, False, 0, 1, -1, 0.5, -1e-300, 1e308, 2**31, 2**32, 2**63, 2**64, 10**30),
    *(float("nan"), float("inf"), float("-inf")),
    *("", "0", "nan", "null", "../../x", "/etc/passwd", "\0", "\r", "\ud800", "=1+1", "x" * 50_000),
    *([], {}, [[]], [None], {"": None}, {"a": {"b": []}}, list(range(1000)), DEEP),
)
"""JSON data of every kind, to stand where another is expected."""


def mutated_json(random, data, times=None):
    """Return JSON data with one to three parts changed."""
    data = copy.deepcopy(data)
    for _ in range(times or random.choice((1, 1, 1, 2, 3))):
        spots = list(_spots(data))
        if not spots:
            return random.choice(STRANGE)
        data = _changed(random, data, *random.choice(spots))
    return data


def _spots(data, depth=0):
    """Yield (container, key) of all parts; long lists are known by a few of their items."""
    if isinstance(data, dict):
        items = list(data.items())
    elif isinstance(data, list):
        items = list(enumerate(data))[:3] + list(enumerate(data))[-1:]
    else:
        return
    for key, value in items:
        # what stands deep is far more numerous: each level gets a share
        yield from [(data, key)] * max(1, 4 - depth)
        yield from _spots(value, depth + 1)


def _changed(random, data, container, key):
    value = container[key]
    kind = random.randrange(9)
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, list):
        container.insert(random.randrange(len(container) + 1), copy.deepcopy(value))
    elif kind == 1:
        container[str(key) + random.choice(("s", " ", "\0"))] = container.pop(key)
    elif kind == 2:
        container[key] = [value]
    elif kind == 3 and isinstance(value, list | str):
        container[key] = value[: len(value) // 2]
    elif kind == 4 and isinstance(value, int | float) and not isinstance(value, bool):
        container[key] = random.choice((-value, value + 1, value * 2**32, value / 3, str(value)))
    elif kind == 5 and isinstance(container, dict) and len(container) > 1:
        other = random.choice(sorted(container, key=str))
        container[key], container[other] = container[other], value
    else:
        container[key] = copy.deepcopy(random.choice(STRANGE))
    return data


def json_bytes(data):
    """Return JSON data as bytes, also with what no JSON has: NaN, and lists 100,000 deep."""
    text = json.dumps(data)
    return text.replace(f'"{DEEP}"', "[" * 100_000 + "]" * 100_000).encode("utf-8", "replace")


def mutated_bytes(random, data, times=None):
    """Return bytes cut off, flipped, overwritten, doubled, moved or with huge numbers in them."""
    data = bytearray(data)
    for _ in range(times or random.choice((1, 1, 2, 4, 16))):
        if not data:
            return bytes(random.randbytes(random.randrange(64)))
        # headers are short and matter most
        reach = len(data) if random.random() < 0.6 else min(len(data), 256)
        at = random.randrange(reach)
        size = min(len(data) - at, random.choice((1, 2, 4, 8, 64, 1024)))
        kind = random.randrange(9)
        if kind == 0:
            del data[at:]
        elif kind == 1:
            data[at] ^= 1 << random.randrange(8)
        elif kind == 2:
            data[at : at + size] = random.randbytes(size)
        elif kind == 3:
            data[at : at + size] = bytes([random.choice((0, 255))]) * size
        elif kind == 4:
            del data[at : at + size]
        elif kind == 5:
            data[at:at] = random.randbytes(size)
        elif kind == 6:
            other = random.randrange(len(data))
            data[at : at + size] = data[other : other + size]
        elif kind == 7:
            number = random.choice((0, 1, 2**15, 2**31 - 1, 2**32 - 1, 2**63 - 1))
            width = random.choice((2, 4, 8))
            order = random.choice(("little", "big"))
            data[at : at + width] = (number % 2 ** (8 * width)).to_bytes(width, order)
        else:
            data += data[at : at + size]
    return bytes(data)


def mutated_array(random, array):
    """Return an array of another shape or kind, or with numbers that are none."""
    array = np.array(array)
    kind = random.randrange(9)
    if kind == 0 and array.dtype.kind == "f" and array.size:
        array.reshape(-1)[random.randrange(array.size)] = random.choice((np.nan, np.inf, -np.inf))
    elif kind == 1:
        array = array.astype(random.choice(("f8", "f2", "i8", "u1", "?", "c8", "S4", "U3")))
    elif kind == 2:
        array = array[None]
    elif kind == 3 and array.ndim:
        array = array[0] if len(array) else array[None]
    elif kind == 4 and array.ndim:
        array = array[:-1]
    elif kind == 5 and array.ndim:
        array = np.concatenate([array, array])
    elif kind == 6 and array.ndim:
        array = array[..., :0]
    elif kind == 7 and array.ndim > 1:
        array = array.swapaxes(0, -1)
    else:
        array = array * 0 - 1 if array.dtype.kind in "fi" else np.zeros((2, 2), array.dtype)
    return np.ascontiguousarray(array)


def mutated_dict(random, data, mutate):
    """Return a mapping with one value mutated, dropped, renamed or put in another's place."""
    data = dict(data)
    if not data:
        return {"x": np.zeros(2)}
    name = random.choice(sorted(data))
    kind = random.randrange(6)
    if kind == 0:
        del data[name]
    elif kind == 1:
        data[random.choice(("", "x", name + "/x", name[:-1]))] = data.pop(name)
    elif kind == 2:
        data[name] = data[random.choice(sorted(data))]
    else:
        data[name] = mutate(random, data[name])
    return data


def mutated_table(random, table):
    """Return a table with columns gone, renamed or of another kind, or with other rows."""
    table = table.copy()
    name = random.choice(list(table)) if len(table.columns) else "x"
    kind = random.randrange(9)
    if kind == 0:
        return table.drop(columns=name, errors="ignore")
    if kind == 1:
        return table.rename(columns={name: random.choice((name + "s", "image", "", "layer"))})
    if kind == 2:
        return table.iloc[: len(table) // 2]
    if kind == 3:
        return pd.concat([table, table.iloc[:1]], ignore_index=True)
    if kind == 4:
        return table.iloc[:0]
    if kind == 5:
        return table.sample(frac=1, random_state=random.randrange(2**31))
    if kind == 6:
        return table.assign(**{name: table[name].astype(str)})
    values = (None, np.nan, np.inf, -np.inf, -1.0, 2.0, 1e300, "", "nan", "x", "\r", True, 2**40)
    if kind == 7 or table.empty:
        return table.assign(**{name: random.choice(values)})
    column = table[name].astype(object)
    column.iloc[random.randrange(len(column))] = random.choice(values)
    table[name] = column
    return table


def table_bytes(table):
    """Return a table as Parquet; where no column can hold its values, they become texts."""
    for frame in (table, table.astype(str)):
        data = io.BytesIO()
        with contextlib.suppress(ValueError, TypeError, OSError, OverflowError):
            frame.to_parquet(data)
            return data.getvalue()
    return b"PAR1"
