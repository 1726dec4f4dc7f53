"""The figures of a study once all of it is known: one scale for all images, signs of trust."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vtcav.files.manifest import replace_file
from vtcav.results.figures.trust import judged

if TYPE_CHECKING:
    from vtcav.diagnostics.result import Diagnostics
    from vtcav.results.explanation import GlobalExplanation, LocalExplanation


def draw_again(
    study: Path,
    classes: Mapping[str, GlobalExplanation],
    images: Mapping[str, LocalExplanation],
    diagnostics: Diagnostics | None,
) -> None:
    """Draw the figures of saved explanations again, together.

    Args:
        study: The folder of the results.
        classes: Explanations of classes, by the folder in it that each is saved in.
        images: Those of images.
        diagnostics: Whose doubts become signs.

    Raises:
        ExplanationError: When one cannot be written.
    """
    from vtcav.results.figures.global_explanation import plot_global
    from vtcav.results.figures.local.figure import plot_local
    from vtcav.results.figures.page import save_figure
    from vtcav.results.figures.selection import Shown

    for folder, glob in classes.items():
        shown = Shown(judgements=judged(diagnostics, glob.provenance))

        def write_global(path: Path, glob: GlobalExplanation = glob, shown: Shown = shown) -> None:
            save_figure(lambda figure: plot_global(glob, figure, shown=shown), path)

        replace_file(study / folder, "global", "global explanation", "global.png", write_global)
    for folder, local in images.items():
        shown = Shown(
            judgements=judged(diagnostics, local.provenance), beside=tuple(images.values())
        )

        def write_local(path: Path, local: LocalExplanation = local, shown: Shown = shown) -> None:
            save_figure(lambda figure: plot_local(local, figure, shown=shown), path)

        replace_file(study / folder, "local", "local explanation", "local.png", write_local)
