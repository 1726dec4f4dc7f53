"""Files of weights: safetensors and torch.save, damaged, of other networks, and other formats."""

import io

import numpy as np
import torch

from tests.fuzz.mutators import mutated_array, mutated_bytes, mutated_dict
from tests.fuzz.safetensors import packed, storable
from tests.fuzz.trial import Kind, Trial
from tests.helpers.small import small_net
from vtcav.models.sources.checkpoints import build_with_weights

_OTHERS = {
    "x.csv": b"a,b\n1,2\n",
    "x.gguf": b"GGUF\x03\x00\x00\x00" + b"\xff" * 64,
    "x.onnx": b"\x08\x07\x12\x07pytorch" + bytes(99),
    "x.pt": b"",
    "x.bin": b"\x80\x02}q\x00.",
    "x.pth": b"PK\x05\x06" + bytes(18),
    "x.ckpt": b"\x89HDF\r\n\x1a\n" + bytes(99),
    "x.npz": b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n",
}


class Checkpoints(Kind):
    """Read into a network that they fit, or refused."""

    name = "checkpoint"

    def __init__(self, folder):
        super().__init__(folder)
        self.state = {name: value.numpy() for name, value in small_net().state_dict().items()}

    def trial(self, random):
        kind = random.randrange(6)
        arrays = storable(mutated_dict(random, self.state, mutated_array))
        if kind < 2:
            name, data = "x.safetensors", packed(arrays if kind else self.state)
        elif kind < 5:
            name, data = random.choice(("x.pt", "x.pth", "x.bin")), _saved(random, arrays)
        else:
            name, data = random.choice(sorted(_OTHERS.items()))
        if kind in (0, 2, 5):
            data = mutated_bytes(random, data)
        path = self.folder / name
        path.write_bytes(data)
        return Trial(f"{name}, {kind}", lambda: self.use(path), (name,))

    def use(self, path):
        module = build_with_weights(lambda count: small_net(count or 3), path, None)
        for value in module.state_dict().values():
            assert isinstance(value, torch.Tensor)


def _saved(random, arrays):
    state = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    content = random.choice((
        state, {"state_dict": state}, {"model": {"module": state}}, {"ema": state, "model": state},
        list(state.values()), next(iter(state.values()), None), {}, None, 3, "x", {"a": {"b": 1}},
        {1: torch.zeros(2)}, {name: value.half() for name, value in state.items()},
        {name: value.to_sparse() if value.dim() else value for name, value in state.items()},
    ))  # fmt: skip
    data = io.BytesIO()
    torch.save(content, data, _use_new_zipfile_serialization=random.random() < 0.7)
    return data.getvalue()
