"""The report in a real browser: from disk, without a network, every control used."""

import json
import re

import pytest

from tests.helpers.browser import axe_core, chromium
from tests.helpers.studies import CLASSES, small_study
from vtcav.report import build_report
from vtcav.results.words import clear, number

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

pytestmark = [
    pytest.mark.browser,
    # Playwright's driver leaves pipes to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def study():
    return small_study()


@pytest.fixture(scope="module")
def address(study, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    text = build_report(study.local, study.global_, study.diagnostics, title="A study")
    path.write_text(text, encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def browser():
    with chromium(playwright) as browser:
        yield browser


@pytest.fixture
def open_page(browser, address):
    """Open the page; at the end nothing may have gone wrong or have left it."""
    contexts, trouble, requests = [], [], []

    def open_page(hash_="", **options):
        options = {"viewport": {"width": 1280, "height": 900}, "offline": True, **options}
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("dialog", lambda dialog: trouble.append(f"dialog {dialog.message}"))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address + hash_)
        if options.get("java_script_enabled", True):
            page.wait_for_selector("#image:not([hidden])")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert trouble == []
    left = [url for url in requests if not url.startswith(("data:image/", address))]
    assert left == []


def _expect(page, selector, text):
    """Wait for a text; the page's own rules forbid waiting by a script that is a string."""
    playwright.expect(page.locator(selector)).to_have_text(text)


def _text(page, selector):
    return page.locator(selector).inner_text()


def _column(page, n):
    return page.locator(f"#numbers tbody tr:not([hidden]) > :nth-child({n})").all_inner_texts()


def test_filters_hold_for_charts_and_table(open_page, study):
    page = open_page()
    assert _text(page, "#shown") == "12 of 12 rows shown"
    page.select_option("#by-class", index=1)
    page.select_option("#by-layer", label="3")
    assert _text(page, "#shown") == "3 of 12 rows shown"
    assert page.locator(".panel:visible").count() == 1
    assert set(_column(page, 1)) == {clear(CLASSES[0])}
    page.select_option("#by-concept", label="cold")
    assert page.locator(".panel li:visible .name").all_inner_texts() == ["cold"]
    page.click("button[type=reset]")
    _expect(page, "#shown", "12 of 12 rows shown")
    page.fill("#find", "cold")
    assert set(_column(page, 3)) == {"cold"}
    page.fill("#find", "")
    page.check("#only")
    significant = sum((g.summary()["q_value"] <= 0.05).sum() for g in study.global_)
    assert len(_column(page, 1)) == significant
    if not significant:
        assert page.locator("#none").is_visible()


def test_charts_are_put_in_order(open_page):
    page = open_page()

    def names():
        return page.locator(".panel").first.locator(".name").all_inner_texts()

    given = names()
    page.select_option("#order", "name")
    assert names() == sorted(given, key=str.lower)
    page.select_option("#order", "mean")
    means = (
        page.locator(".panel")
        .first.locator("li")
        .evaluate_all("items => items.map((item) => Number(item.dataset.mean))")
    )
    assert means == sorted(means, reverse=True)
    page.select_option("#order", "given")
    assert names() == given


def test_headings_sort_both_ways_by_pointer_and_keyboard(open_page):
    page = open_page()
    head = page.locator("#numbers thead th").nth(4)

    def means():
        return page.locator("#numbers tbody td:nth-child(5)").evaluate_all(
            "cells => cells.map((cell) => Number(cell.dataset.v))"
        )

    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert means() == sorted(means(), reverse=True)
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert means() == sorted(means())
    page.locator("#numbers thead th").nth(2).locator("button").click()
    assert head.get_attribute("aria-sort") is None
    assert _column(page, 3) == sorted(_column(page, 3), key=str.lower)


def test_pointer_and_keys_read_the_exact_value(open_page, study):
    page = open_page("#image-1")
    local = study.local[1]
    page.select_option("#layer", label="1")
    page.select_option("#concept", label="cold")
    M = local.concept_map("1", "cold")
    box = page.locator("#overlay canvas").bounding_box()
    page.locator("#overlay").scroll_into_view_if_needed()
    box = page.locator("#overlay canvas").bounding_box()
    for row, column in ((0, 0), (2, 5), (7, 7)):
        x = box["x"] + (column + 0.5) * box["width"] / M.shape[1]
        y = box["y"] + (row + 0.5) * box["height"] / M.shape[0]
        page.mouse.move(x, y)
        found = _text(page, "#map-value")
        assert found == f"M = {number(float(M[row, column]))} (row {row + 1}, column {column + 1})"
    page.mouse.move(0, 0)
    page.focus("#overlay")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert _text(page, "#map-value") == f"M = {number(float(M[1, 1]))} (row 2, column 2)"
    page.keyboard.press("End")
    page.keyboard.press("ArrowDown")  # the edge holds
    assert "row 8, column 8" in _text(page, "#map-value")
    page.keyboard.press("m")
    assert f"M = {number(float(M.max()))} " in _text(page, "#map-value")
    page.keyboard.press("Escape")
    assert _text(page, "#map-value") == ""


def test_the_map_is_painted_in_the_colours_of_its_values(open_page, study):
    page = open_page("#image-0")
    page.select_option("#layer", label="1")
    page.select_option("#concept", label="cold")
    M = study.local[0].concept_map("1", "cold")
    painted = page.locator("#overlay canvas").evaluate(
        "c => [c.width, c.height, ...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
    )
    assert painted[:2] == [M.shape[1], M.shape[0]]
    light = [sum(painted[2 + 4 * i : 5 + 4 * i]) for i in range(M.size)]
    values = M.ravel()
    assert light[int(values.argmax())] == max(light)
    assert light[int(values.argmin())] == min(light)


def test_opacity_and_grey_act(open_page):
    page = open_page()
    page.focus("#opacity")
    page.keyboard.press("End")
    assert _text(page, "#opacity-value") == "100 %"
    opacity = "document.querySelector('#overlay canvas').style.opacity"
    assert page.evaluate(opacity) == "1"
    page.keyboard.press("Home")
    assert page.evaluate(opacity) == "0"
    assert "grey" in page.locator("#overlay img").get_attribute("class")
    page.uncheck("#grey")
    assert "grey" not in page.locator("#overlay img").get_attribute("class")


def test_images_are_found_and_stepped_through(open_page):
    page = open_page()
    first = _text(page, "#image-name")
    assert page.locator("#previous").is_disabled()
    page.click("#next")
    _expect(page, "#image-name", "1.png")
    page.select_option("#concept", label="cold")
    page.fill("#find-image", "2.png")
    assert page.locator("#image-list li:visible").count() == 1
    page.click("#image-list li:visible a")
    _expect(page, "#image-name", "2.png")
    chosen = "s => s.options[s.selectedIndex].text"
    assert page.locator("#concept").evaluate(chosen) == "cold", "the choice stays"
    assert page.url.endswith("#image-2")
    page.go_back()
    _expect(page, "#image-name", "1.png")
    page.fill("#find-image", "")
    page.click("#previous")
    _expect(page, "#image-name", first)


def test_attributions_of_the_chosen_are_shown(open_page, study):
    page = open_page("#image-1")
    page.select_option("#layer", label="3")
    page.select_option("#concept", label="cold")
    rows = study.local[1].attributions.query("layer == '3' and concept == 'cold'")
    numbers = page.locator("#bars .number").all_inner_texts()
    assert [text.split()[0] for text in numbers] == [number(a) for a in rows["attribution"]]
    page.click("#image-table summary")
    assert page.locator("#image-table tbody tr:visible").count() == len(study.local[1].attributions)


def test_colours_follow_the_system_and_the_switch(open_page):
    page = open_page(color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(20, 23, 27)"
    page.select_option("#theme", "light")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    page.reload()
    page.wait_for_selector("#image:not([hidden])")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    page.select_option("#theme", "dark")
    page.emulate_media(media="print")
    assert page.evaluate(ground) == "rgb(255, 255, 255)", "paper is white"


def test_on_paper_the_table_is_of_one_size_and_its_headings_are_no_buttons(open_page):
    page = open_page()
    page.emulate_media(media="print")
    # Chromium repeats headings on every sheet, and leaves the buttons in them out
    shown = "(e) => e.map((x) => getComputedStyle(x).display)"
    assert set(page.eval_on_selector_all("#numbers .sort", shown)) == {"contents"}
    sizes = "(e) => e.map((x) => getComputedStyle(x).fontSize)"
    assert set(page.eval_on_selector_all("#numbers td, #numbers .muted", sizes)) == {"8px"}


def test_text_is_copied_or_selected(open_page):
    page = open_page()
    for button in page.locator(".copy").all():
        button.click()
        playwright.expect(page.locator("#copied")).not_to_be_empty()
    said = _text(page, "#copied")
    assert said.startswith(("Copied", "Selected"))
    data = page.locator("#provenance-text").text_content()
    assert json.loads(data)["results"]


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_is_wider_than_the_window(open_page, width):
    page = open_page(viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_scripts_everything_but_the_images_is_there(open_page):
    page = open_page(java_script_enabled=False)
    assert "Scripts are off" in page.locator("noscript").inner_text()
    assert page.locator(".panel").count() == 4
    assert page.locator("#numbers tbody tr:visible").count() == 12
    assert not page.locator(".viewer").is_visible()
    assert not page.locator("#filters").is_visible()


def test_injected_scripts_do_not_run(browser, address):
    context = browser.new_context(offline=True)
    page = context.new_page()
    refused = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto(address)
    page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.hit = 1';"
        " document.body.append(s); }"
    )
    assert page.evaluate("window.hit") is None
    assert any("Content Security Policy" in text for text in refused)
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing_serious(open_page, scheme, width):
    page = open_page(color_scheme=scheme, viewport={"width": width, "height": 900})
    page.evaluate(axe_core())
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    found = page.evaluate("axe.run().then((r) => r.violations)")
    serious = [
        (v["id"], v["impact"], [re.sub(r"\s+", " ", n["html"])[:150] for n in v["nodes"][:3]])
        for v in found
        if v["impact"] in ("serious", "critical")
    ]
    assert serious == []
