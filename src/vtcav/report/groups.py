"""The section of the report on groups of images: whether a concept counts alike in all of them."""

from __future__ import annotations

import base64
from io import BytesIO

from vtcav.report.sections import Section, shown_table
from vtcav.results.explanation import GlobalExplanation
from vtcav.results.reading import group_sentences
from vtcav.results.words import clear, count

_TESTS = {
    "layer": "layer", "concept": "concept", "groups": "groups", "n": "images", "p_value": "p",
    "q_value": "q", "note": "note",
}  # fmt: skip
_MEANS = {
    "group": "group", "layer": "layer", "concept": "concept", "n": "images", "mean": "mean",
    "ci_low": "from", "ci_high": "to",
}  # fmt: skip
_READ = (
    "“From” and “to” are a 95 % interval of a group's mean. Rows of the layers together are the "
    "fall of the logit when the concept is erased, all others attributions. Groups of one image "
    "are not tested."
)


def group_section(explained: GlobalExplanation, number: int) -> Section:
    """Return the section on the groups of a class's images.

    Args:
        explained: The class; its images come in groups.
        number: Tells the sections of several classes apart.
    """
    from vtcav.results.figures.groups import plot_groups
    from vtcav.results.figures.page import save_figure

    tests, means, drawn = explained.group_tests(), explained.by_group(), BytesIO()
    save_figure(lambda figure: plot_groups(explained, figure), drawn, dpi=110)
    groups = count(means["group"].nunique(), "group")
    return Section(
        id=f"groups-{number}",
        title=f"Groups of “{clear(explained.class_name)}”",
        described=f"{groups} of {count(len(explained.groups), 'image')}",
        sentences=group_sentences(tests, means, explained.class_name)
        or ["No concept is shown to count differently between the groups."],
        read=_READ,
        tables=[
            shown_table("Tests", _TESTS, tests, "global_group_tests.csv"),
            shown_table("Means", _MEANS, means, "global_groups.csv"),
        ],
        picture=f"data:image/png;base64,{base64.b64encode(drawn.getvalue()).decode()}",
        provenances=[],
    )
