"""A volume in the report and in a notebook, slice by slice, in a real browser."""

import re

import pytest

import vtcav
from tests.helpers.browser import axe_core, chromium
from tests.helpers.volumes import PREPROCESS, cube_net, cubes, pictures
from vtcav.images.volumes import slice_between, strongest_slice
from vtcav.report import build_report

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def local():
    model = vtcav.Classifier(cube_net(), ["cube", "noise", "rest"], PREPROCESS)
    explainer = vtcav.VisualTCAV(model, ["1", "4"], progress=False)
    concept, negatives = pictures(cubes(8, 1)[0]), pictures(cubes(10, 2, cube=False)[0])
    explainer.fit({"bright": concept, "dark": negatives[:5]}, negatives, null_cavs=20)
    return explainer.explain(pictures(cubes(1, 7)[0])[0], classes=["cube", "noise"])


@pytest.fixture(scope="module")
def browser():
    with chromium(playwright) as browser:
        yield browser


@pytest.fixture
def opened(browser, tmp_path):
    trouble, pages = [], []

    def opened(text, width=1280):
        (tmp_path / "page.html").write_text(text, encoding="utf-8")
        page = browser.new_page(viewport={"width": width, "height": 900})
        pages.append(page)
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.goto((tmp_path / "page.html").as_uri())
        return page

    yield opened
    for page in pages:
        page.close()
    assert trouble == []


def test_the_report_begins_at_the_strongest_slice_and_goes_to_others_by_keys(opened, local):
    page = opened(build_report([local]))
    page.wait_for_selector("#image:not([hidden])")
    page.select_option("#layer", label="4")
    page.select_option("#concept", label="bright")
    M = local.concept_map("4", "bright")
    k = slice_between(strongest_slice(M), len(M), 12)
    value = page.locator("#slice-value")
    playwright.expect(value).to_have_text(f"{k} of 0 to 11")
    assert f"largest M there: {M[strongest_slice(M)].max():.3f}" in page.inner_text("#map-caption")
    first = page.locator("#original .photo").get_attribute("src")
    page.focus("#slice")
    page.keyboard.press("ArrowRight")
    playwright.expect(value).to_have_text(f"{k + 1} of 0 to 11")
    assert page.locator("#original .photo").get_attribute("src") != first
    z = slice_between(k + 1, 12, len(M))
    page.focus("#overlay")
    page.keyboard.press("Home")
    shown = re.sub(r"M (= )?", "", page.inner_text("#map-value").split(" (")[0])
    assert float(shown.strip("< ")) == pytest.approx(float(M[z, 0, 0]), abs=1e-3)
    page.keyboard.press("PageDown")
    playwright.expect(value).to_have_text(f"{k} of 0 to 11")
    page.keyboard.press("PageDown")
    page.keyboard.press("m")
    playwright.expect(value).to_have_text(f"{k} of 0 to 11")
    assert page.inner_text("#map-value").startswith(f"M = {M.max():.3f}")
    assert page.locator("#outline").is_visible()
    page.evaluate(axe_core())
    assert page.evaluate("axe.run('#image').then(found => found.violations.map(v => v.id))") == []


def test_the_page_fits_a_telephone(opened, local):
    page = opened(build_report([local]), width=390)
    page.wait_for_selector("#image:not([hidden])")
    assert page.locator("#slice").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_notebook_shows_slices_without_scripts(opened, local):
    page = opened(f"<!doctype html><html lang=en><title>x</title><body>{local._repr_html_()}")
    viewers = page.locator(".vtcav-slices")
    assert viewers.count() == 4
    last = viewers.last
    M = local.concept_map("4", "bright")
    k = slice_between(strongest_slice(M), len(M), 12)
    caption = page.locator("form figcaption").all_inner_texts()
    assert caption[0] == "the volume"
    chosen = viewers.nth(caption.index("bright at layer 4"))
    name = f"slice {k} of 0 to 11"
    playwright.expect(chosen.locator("img:visible")).to_have_attribute(
        "alt", f"bright at layer 4, {name}"
    )
    chosen.locator("input:checked").focus()
    page.keyboard.press("ArrowRight")
    playwright.expect(chosen.locator("img:visible")).to_have_attribute(
        "alt", f"bright at layer 4, slice {k + 1} of 0 to 11"
    )
    assert last.locator("input").count() == 12
