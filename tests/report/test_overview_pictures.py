"""The picture beside the first verdict: the image that shows best what the verdict says."""

import pytest

from vtcav.report.classes import ErasedPart
from vtcav.report.overview import Overview
from vtcav.report.page import environment
from vtcav.report.pairs import PairsPart
from vtcav.results.verdicts import Verdict


@pytest.mark.parametrize(
    ("size", "image", "caption"),
    [
        (0.4, "most.png", "the score falls furthest"),
        (-0.4, "least.png", "the score rises furthest"),
    ],
)
def test_it_is_where_the_score_moves_furthest_as_the_verdict_says(size, image, caption):
    verdict = Verdict("ruler", "used", "Without 'ruler' ...", size)
    images = tuple((name, "-1 %", "data:,", "data:,") for name in ("most.png", "least.png"))
    pairs = PairsPart([], [], [], erased=False)
    shown = Overview([], [verdict], ErasedPart(verdict, images), pairs, [], [], [], [], [])
    page = environment().get_template("overview.html.jinja").render(overview=shown, limits=[])
    figure = page[page.index("<figure") : page.index("</figure>")]
    assert image in figure
    assert caption in figure
