"""Safetensors files taken apart and put together, also so that no library would write them."""

import json
import struct

import numpy as np

_KINDS = {
    "F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1",
    "U64": "u8", "U32": "u4", "U16": "u2", "U8": "u1", "BOOL": "?", "C64": "c8",
}  # fmt: skip
_NAMES = {np.dtype(kind): name for name, kind in _KINDS.items()}


def unpacked(data, key):
    """Return the arrays of a file by name, and the JSON data under a key of its metadata."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    metadata = header.pop("__metadata__", {})
    body = data[8 + size :]
    arrays = {
        name: np.frombuffer(body[slice(*entry["data_offsets"])], _KINDS[entry["dtype"]]).reshape(
            entry["shape"]
        )
        for name, entry in header.items()
    }
    return arrays, json.loads(metadata[key]) if key in metadata and key != "format" else None


def storable(arrays):
    """Return arrays of kinds that such files have: texts become their bytes."""
    return {
        name: array if array.dtype in _NAMES else np.frombuffer(array.tobytes(), np.uint8)
        for name, array in arrays.items()
    }


def packed(arrays, metadata=None):
    """Return a file of arrays, with metadata of bytes by name."""
    header, body = {}, b""
    if metadata:
        header["__metadata__"] = {
            name: value.decode("utf-8", "replace") for name, value in metadata.items()
        }
    for name, array in arrays.items():
        flat = array.tobytes()
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": array.shape,
            "data_offsets": [len(body), len(body) + len(flat)],
        }
        body += flat
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body
