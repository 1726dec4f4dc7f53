"""The identity of a run: everything that its numbers depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from vtcav.explainer.runs.part import Chunk, Task
from vtcav.files.hashing import json_hash, text_hash
from vtcav.images.references import ImageRef
from vtcav.images.signature import signature
from vtcav.method.cav import Cavs
from vtcav.models.behaviour import behaviour
from vtcav.results.bank.cav_bank import CavBank


def identity(
    task: Task, refs: Sequence[ImageRef], chunks: Sequence[Chunk], device: str
) -> dict[str, Any]:
    """Return what the parts of a run depend on, as JSON data.

    The content of the images is not included: each part records that of its own images.
    """
    attributor = task.attributor
    data = task.provenance().to_dict()
    model, names = attributor.model, attributor.model.class_names
    return {
        "kind": task.kind,
        # A patch release of Python changes no number.
        "versions": {name: v for name, v in data["versions"].items() if name != "python"},
        "model": {
            # The repr of a callable may hold its memory address; its behaviour counts, below.
            **{k: v for k, v in data["model"].items() if k not in ("preprocess", "assumed")},
            "device": device,
            "classes": json_hash(names),
            "probabilities": getattr(model, "task", "auto"),
            # The fingerprint knows the weights, but not the code.
            "behaviour": behaviour(
                model, [layer.name for layer in attributor.layers], gradients=task.gradients
            ),
            "preprocess_behaves": text_hash(repr(signature(model.preprocess))),
        },
        "layers": [dict(layer) for layer in data["layers"]],
        "concepts": list(attributor.cavs.names),
        "cavs": bank_digest(attributor.cavs),
        "settings": data["settings"],
        "images": {
            "listed": len(refs),
            "names": json_hash([ref.name for ref in refs]),
            "in_a_part": len(chunks[0].refs),
        },
    }


def bank_digest(bank: CavBank) -> str:
    """Return the SHA-256 of everything in a bank that explanations depend on."""
    digest = hashlib.sha256()
    known = [bank.names, bank.contrast, bank.resampling.to_dict(), [s.digests for s in bank.sets]]
    digest.update(json.dumps(known).encode())
    for layer, cavs in bank.layers.items():
        digest.update(json.dumps(layer).encode())
        for part in (cavs, cavs.resampled):
            digest.update(b"-" if part is None else _cavs_bytes(part))
        for tensor in () if cavs.places is None else vars(cavs.places).values():
            digest.update(tensor.cpu().numpy().tobytes())
    for images in bank.sets:
        digest.update(images.logits.numpy().tobytes() + images.logits_std.numpy().tobytes())
    return digest.hexdigest()


def _cavs_bytes(cavs: Cavs) -> bytes:
    return b"".join(
        f"{list(t.shape)}".encode() + t.cpu().numpy().tobytes() for t in cavs.by_name().values()
    )
