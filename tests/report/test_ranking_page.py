"""The page of a ranking: one file that fetches nothing, with names as text and every group."""

import dataclasses
import html
import re

import numpy as np
import pytest

from tests.helpers.colours import explainer_of, model, patches
from vtcav.errors import ExplanationError
from vtcav.images.references import Skipped
from vtcav.report import write_ranking
from vtcav.results.ranking import in_order

NASTY = '<script>alert("x")</script>.png'


@pytest.fixture(scope="module")
def ranking():
    explainer = explainer_of(model())
    explainer.progress = False
    images = np.concatenate([patches(0, 20, 5)[0], patches(2, 20, 6)[0]])
    return explainer.rank(images, "red", pictures=8)


@pytest.fixture
def page(ranking, tmp_path):
    lost = tuple(Skipped(f"{i}.png", "the file is empty") for i in range(120))
    lost = (Skipped(NASTY, "no picture"), *lost)
    changed = dataclasses.replace(
        ranking,
        concept="<b>red</b>",
        caution="no image <i>responds</i>",
        skipped=lost,
        _rows=in_order(ranking.table, lost),
    )
    return write_ranking(changed, tmp_path / "deep" / "page.html").read_text("utf-8")


def test_one_file_that_fetches_nothing(page):
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1]
    assert "default-src 'none'" in html.unescape(policy)
    assert page.count("<script>") == 1


def test_names_are_text(page):
    assert NASTY not in page
    assert "&lt;script&gt;alert" in page
    assert "<b>red</b>" not in page
    assert "no image &lt;i&gt;responds" in page


def test_the_groups_and_what_could_not_be_read(page, ranking):
    heads = re.findall(r"<h2[^>]*>([^<]+)", page)
    assert heads[1:5] == [
        *("The first", "Spread evenly over the rest", "The last"),
        "Images that could not be read",
    ]
    assert [int(n) for n in re.findall(r"<figcaption><b>(\d+)</b>", page)] == [
        one.position for one in ranking.shown
    ]
    assert "121 images could not be read and have no place in the order" in page
    assert "21 more stand at the end of the table" in page
    assert "<polyline" in page


def test_few_images_are_one_group(ranking, tmp_path):
    few = dataclasses.replace(ranking, shown=ranking.shown[:3])
    page = write_ranking(few, tmp_path / "page.html").read_text("utf-8")
    assert "In order</h2>" in page
    assert "could not be read" not in page
    none = dataclasses.replace(ranking, shown=())
    assert "<figure class" not in write_ranking(none, tmp_path / "none.html").read_text("utf-8")


def test_a_page_that_cannot_be_written_says_so(ranking, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExplanationError, match="cannot write the page"):
        write_ranking(ranking, tmp_path / "file" / "page.html")
