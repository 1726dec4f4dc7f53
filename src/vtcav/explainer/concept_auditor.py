"""`ConceptAuditor`: what labelled images tell of concepts, and a network without them.

`VisualTCAV` adds explanations of images and classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vtcav.errors import CavError, ExplanationError
from vtcav.explainer.groups import Groups
from vtcav.explainer.learner import ConceptLearner
from vtcav.explainer.settings import CorrectionSettings, ErrorSettings, When
from vtcav.images.concepts import gather
from vtcav.images.listing import ImageSource
from vtcav.models.inspection.ambient import unaffected
from vtcav.parameters import as_list
from vtcav.results.error_analysis import ErrorAnalysis

if TYPE_CHECKING:
    from vtcav.explainer.correction.corrected_network import CorrectedNetwork


class ConceptAuditor(ConceptLearner):
    """A network with concepts, and labelled images of its classes; see `VisualTCAV`."""

    @unaffected
    def errors(
        self,
        images: ImageSource | Mapping[str, ImageSource],
        labels: Sequence[str | int] | None = None,
        *,
        limit: int | None = None,
        seed: int = 0,
        strict: bool = False,
        groups: Groups | None = None,
        pictures: int = ErrorSettings.pictures,
        run: str | Path | None = None,
        engine: Literal["local", "ray"] = "local",
        ray_options: Mapping[str, Any] | None = None,
    ) -> ErrorAnalysis:
        """Compare images that the network gets wrong with those it gets right, by their concepts.

        For every class, and every class that it is taken for, it is tested which concepts are
        present in the wrong images more or less than in the right ones. Presence is that of `rank`,
        of the layers together: forward passes alone, no gradients. A concept that goes with errors
        need not cause them; erasing it (`explain`, `explain_class`) tells.

        Args:
            images: A folder with one folder of images per class; a table (CSV, TSV, Parquet) of
                paths and labels; images by class; or, with labels, images in any form that `fit`
                takes.
            labels: The class of each image, by name or index.
            limit: At most this many images of each class, drawn at random with `seed`.
            seed: Seeds the draw.
            strict: Whether an unreadable image is an error.
            groups: Which images are alike (of one patient, one scanner), as for `explain_class`.
            pictures: How many wrong images of each finding are kept with their maps.
            run: A folder that keeps finished parts, as for `explain_class`.
            engine: As for `explain_class`.
            ray_options: As for `explain_class`.

        Returns:
            The table of findings, and some wrong images.

        Raises:
            ImageError: When images or labels cannot be read or do not fit each other.
            ModelError: For a class that the network does not have, and when it gives infinite
                values or NaN.
            CavError: Before `fit`, when the weights have changed since, and with CAVs that were
                learned before what the choice of layers needs was kept.
            ExplanationError: For a network that does not choose one class; else as for
                `explain_class`.

        Warns:
            SkippedImageWarning: When images are left out.
        """
        from vtcav.explainer.runs.errors import analyse_errors
        from vtcav.explainer.runs.labelled import labelled
        from vtcav.explainer.runs.ranking import RankRun
        from vtcav.explainer.runs.ray_engine import engine_of

        self.check_cavs()
        chosen = ErrorSettings(pictures)
        refs, classes = labelled(images, labels, self.model, limit=limit, seed=seed)
        how = RankRun(chosen.pictures, engine_of(engine, ray_options), run, self.progress)
        return analyse_errors(self.attributor, refs, classes, how, strict=strict, groups=groups)

    @unaffected
    def correct(
        self,
        concept: str | Sequence[str],
        layer: str | None = None,
        when: When = CorrectionSettings.when,
        images: ImageSource | Mapping[str, ImageSource] | None = None,
        labels: Sequence[str | int] | None = None,
        *,
        rounds: int = CorrectionSettings.rounds,
        anyway: bool = CorrectionSettings.anyway,
        attributions: bool = CorrectionSettings.attributions,
        examples: Mapping[str, ImageSource] | None = None,
        negatives: ImageSource | Mapping[str, ImageSource] | None = None,
        limit: int | None = None,
        seed: int = 0,
        groups: Groups | None = None,
    ) -> CorrectedNetwork:
        """Return a network that no longer uses a concept as this layer holds it.

        At the layer, feature maps are moved along the concept's pattern to the typical response of
        the negatives (docs/correction.md). The network may have other ways to the same information:
        the report, and `explain_class` of the corrected network, tell how much of the effect is
        left. The network itself is not changed.

        Args:
            concept: A concept that was learned, or several that are taken out together, such as
                all letters of a tag.
            layer: The layer; None takes the one that sees them best.
            when: "present" changes images that show the concept, where it is, and leaves all others
                as they are, to the last bit. "always" changes every image at every location.
            images: Labelled images to measure the change with, in the forms that `errors` takes.
                None measures nothing.
            labels: The class of each image, by name or index.
            rounds: How often, at most, what is left of the concept is learned again and taken out.
                It ends where the layer sees the concept no more. Rounds after the first need the
                examples: those that `fit` was given in this process, or `examples`.
            anyway: Whether to take out a concept that diagnostics advise not to use.
            attributions: Whether to compare the attributions of the true class, too, at this layer
                and those after it. That takes two integrals for each image and layer, where the
                rest of the report takes forward passes alone.
            examples: The examples of the concepts by name, as `fit` took them, where the CAVs were
                loaded.
            negatives: Their negatives, as `fit` took them.
            limit: At most this many images of each class, drawn at random with `seed`.
            seed: Seeds the draw.
            groups: Which of the images are alike (of one patient, one scanner), as for
                `explain_class`. Intervals of the report are then over groups.

        Returns:
            A module with the inputs and outputs of the network, and a `report`.

        Raises:
            CavError: Before `fit`, when the weights have changed since, and for a concept that is
                unknown, that the layer does not see, or that diagnostics advise not to use.
            ExplanationError: For a value out of range, and for attributions or groups without
                images.
            ImageError: When images or labels cannot be read or do not fit each other.
            LayerError: For a layer without CAVs.
            ModelError: For a network that cannot be copied, or a class that it does not have.

        Warns:
            SkippedImageWarning: When images are left out.
        """
        from vtcav.explainer.correction.correct import Labelled, correct_network
        from vtcav.explainer.groups import group_pairs
        from vtcav.explainer.runs.labelled import labelled
        from vtcav.results.tables.image_groups import ImageGroups

        self.check_cavs()
        settings = CorrectionSettings(layer, when, rounds, anyway, attributions)
        for name, asked in (("attributions", settings.attributions), ("groups", groups)):
            if asked and images is None:
                raise ExplanationError(
                    f"{name} are of labelled images: give images, or leave out {name}"
                )
        if settings.layer is not None:
            self.cavs.select([settings.layer])
        names = as_list("concept", concept, CavError)
        self.cavs.of_concepts(names)
        names = list(dict.fromkeys(names))
        own = None
        if images is not None:
            refs, classes = labelled(images, labels, self.model, limit=limit, seed=seed)
            known_groups = ImageGroups(group_pairs((ref.name for ref in refs), groups))
            own = Labelled(refs, classes, known_groups)
        known = self._examples
        if examples is not None:
            again = gather(examples, negatives, limit=limit, seed=seed)
            known = known | {concept.name: concept for concept in again}
        return correct_network(self.attributor, names, settings, known, own, progress=self.progress)
