"""The explanation of one class, to be computed for many images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, get_type_hints

from torch import Tensor

from vtcav.explainer.erasing.allotment import Allotment
from vtcav.explainer.runs.part import BatchComputer, BatchRows, Task
from vtcav.results.provenance import Provenance
from vtcav.results.rows import Row


@dataclass(frozen=True)
class ClassTask(Task):
    """The explanation of one class.

    Attributes:
        class_index: The class.
        images: The number of images of the class.
    """

    class_index: int
    images: int = 1

    kind: ClassVar = "explain_class"
    columns: ClassVar = {**get_type_hints(Row), "probability": float, "predicted_class": str}
    gradients: ClassVar = True

    @property
    def title(self) -> str:
        """What is being done."""
        return f"explaining {self.attributor.model.class_names[self.class_index]}"

    def provenance(self) -> Provenance:
        """Return what the numbers depend on."""
        return self.attributor.provenance({"class": self.class_index}, measured=False)

    def part(self, images: int) -> BatchComputer:
        """Return what computes the batches of a part."""
        allotment = Allotment.of_part(self.attributor.erasure.placebos, images, self.images)

        def compute(names: Sequence[str], digests: Sequence[str], x: Tensor) -> BatchRows:
            return BatchRows(
                *self.attributor.class_rows(names, digests, x, self.class_index, allotment)
            )

        return compute
