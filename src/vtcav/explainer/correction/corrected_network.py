"""Corrected networks: modules with the inputs and outputs of a network, without its concepts."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from vtcav.errors import CavError, ModelError
from vtcav.explainer.correction.projections import ConceptRemoval, Direction
from vtcav.explainer.correction.report import CorrectionReport
from vtcav.files.manifest import load_manifest, reading, save_result
from vtcav.files.paths import given_path
from vtcav.files.schema import Saved, checked, checked_array
from vtcav.models.classifier import Classifier
from vtcav.models.inspection.fingerprint import fingerprint
from vtcav.models.inspection.layout import Layout, Order

if TYPE_CHECKING:
    from vtcav.models.base import Model

KIND = "correction"
_WHAT = "the correction"


class CorrectedNetwork(nn.Module):
    """A copy of a network that takes concepts out of the feature maps of a layer.

    `VisualTCAV.correct` makes it, and `load` reads what `save` wrote. It takes the inputs of the
    network and returns its outputs. Its `state_dict` holds that of the network under `network.`,
    and what is taken out under `removal.`.

    Args:
        network: The network, which is copied.
        layer: The layer.
        removal: What is taken out of its output.
        report: What that changes, and what it depends on.

    Attributes:
        network: The copy, in evaluation mode.
        layer: The layer.
        removal: What is taken out of its output.
        report: What that changes, and what it depends on.

    Raises:
        ModelError: For a network that cannot be copied.
    """

    def __init__(
        self, network: nn.Module, layer: str, removal: ConceptRemoval, report: CorrectionReport
    ) -> None:
        super().__init__()
        try:
            self.network = copy.deepcopy(network).eval()
        except Exception as error:  # whatever a module holds
            raise ModelError(
                f"the network cannot be copied ({error!r}), and it is not changed itself; give "
                "one that copy.deepcopy takes"
            ) from error
        weight = next(self.network.parameters(), None)
        self.layer, self.report = layer, report
        self.removal = removal if weight is None else removal.to(weight.device)
        self.network.get_submodule(layer).register_forward_hook(self.removal.corrected)
        self.eval()

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Return what the network returns, computed without the concepts."""
        return self.network(*inputs, **named)

    def uncorrected(self) -> AbstractContextManager[None]:
        """Compute as the network does inside the block."""
        return self.removal.switched_off()

    def save(self, folder: str | Path) -> Path:
        """Write the correction and its report, all or nothing; not the network's weights.

        The files are `correction.json` (what is taken out where, and the report; written last, with
        a hash of each other file), `correction.safetensors`, tables (.csv, .parquet) and
        `correction.png`. An earlier correction there is replaced.

        Raises:
            ExplanationError: When they cannot be written.
        """
        return save_result(folder, KIND, _WHAT, self._write)

    def _write(self, folder: Path) -> dict[str, Any]:
        from safetensors.torch import save_file

        tensors = {name: t.cpu().contiguous() for name, t in self.removal.named_buffers()}
        save_file(tensors, folder / "correction.safetensors")
        layout = asdict(self.removal.layout)
        return {
            "rounds": len(self.removal.rounds),
            "layout": layout | {"part": list(layout["part"])},
            "report": self.report.write(folder),
        }

    @classmethod
    def load(cls, folder: str | Path, network: nn.Module | Model) -> Self:
        """Read what `save` wrote, and correct the network that it was made for.

        Neither the concepts' examples nor their CAVs are needed.

        Args:
            folder: Where it was saved.
            network: The network, or a `Classifier` of it.

        Raises:
            CavError: For another network, or other weights.
            ExplanationError: When it is missing, incomplete, damaged or of another version.
            ModelError: For a network that cannot be copied.

        Example:
            >>> fixed = CorrectedNetwork.load("out", net)  # doctest: +SKIP
        """
        from safetensors.torch import load_file

        folder = given_path("folder", folder)
        manifest = load_manifest(folder, KIND, _WHAT)
        module = network.module if isinstance(network, Classifier) else network
        with reading(folder, _WHAT.removeprefix("the ")):
            report = CorrectionReport.read(folder, manifest["report"])
            tensors = load_file(folder / "correction.safetensors")
            saved = checked(_Saved, manifest)
            rounds = [_direction(tensors, i) for i in range(saved.rounds)]
            _check_rounds(rounds, report)
            removal = ConceptRemoval(rounds, report.when, Layout(**saved.layout.model_dump()))
        expected = report.provenance.model
        if not isinstance(module, nn.Module) or fingerprint(module) != expected["fingerprint"]:
            raise CavError(
                f"the correction in {str(folder)!r} was made for {expected['network']} "
                f"(fingerprint {expected['fingerprint'][:12]}), got another network, or other "
                "weights; load that network, or correct this one"
            )
        if report.layer not in dict(module.named_modules()):
            raise CavError(
                f"the correction in {str(folder)!r} is of the layer {report.layer[:200]!r}, which "
                "the network does not have; it was changed after it was saved"
            )
        return cls(module, report.layer, removal, report)


class _SavedLayout(Saved):
    order: Order
    prefix: NonNegativeInt
    grid: tuple[PositiveInt, ...] | None
    image: tuple[PositiveInt, ...] | None
    part: tuple[str | int, ...]


class _Saved(Saved):
    rounds: PositiveInt
    layout: _SavedLayout


def _direction(tensors: Mapping[str, Tensor], i: int) -> Direction:
    """Return the filters and patterns of a round.

    Raises:
        ValueError: When one is missing, of another shape, or not finite.
    """
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    K, C = checked_array(arrays, f"rounds.{i}.w", "float32", -1, -1).shape
    shapes = {"w": (K, C), "P": (K, C)}
    for name in Direction._fields:
        checked_array(arrays, f"rounds.{i}.{name}", "float32", *shapes.get(name, (K,)))
    return Direction(*(tensors[f"rounds.{i}.{name}"] for name in Direction._fields))


def _check_rounds(rounds: Sequence[Direction], report: CorrectionReport) -> None:
    """Refuse rounds of other concepts than the report's, or of other feature maps than the first.

    Raises:
        ValueError: When there is one.
    """
    for i, each in enumerate(rounds):
        K, C = each.w.shape
        if len(report.concepts) != K or rounds[0].w.shape[1] != C:
            raise ValueError(
                f"round {i} takes {K} concepts out of {C} channels, expected "
                f"{len(report.concepts)} of {rounds[0].w.shape[1]}"
            )
