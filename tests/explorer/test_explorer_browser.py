"""The explorer in a real browser, end to end: photos, patches, maps, undo, save, reload."""

import re
import shlex
import stat
import threading
import time

import numpy as np
import pytest
from torch import nn

import vtcav
from tests.helpers.browser import axe_core, chromium
from tests.helpers.explorers import bomb, encoded, photo, served, small_session
from tests.helpers.marked import SIDE, net, scenes
from tests.helpers.small import pictures, small_model
from vtcav.explorer import findings
from vtcav.explorer.scheduling import SupersededError
from vtcav.explorer.schemas import ConceptSpec

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("uvicorn", reason="uvicorn is not installed")

pytestmark = [
    pytest.mark.browser,
    # Playwright's driver leaves pipes to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def session():
    return small_session(samples={"blobs": photo(), "second": photo(7)})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("explored") / "out"


@pytest.fixture(scope="module")
def address(session, folder):
    with served(session, folder) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with chromium(playwright) as browser:
        yield browser


@pytest.fixture
def open_page(browser, address, session):
    """Open the page without concepts; nothing may go wrong, and no request may leave it."""
    contexts, trouble, requests = [], [], []
    session.work.concepts = []

    def open_page(*, intro=False, allowed="", **options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda m: _expected(m.text, allowed) or trouble.append(m.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("dialog", lambda dialog: trouble.append(f"dialog {dialog.message}"))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address)
        page.wait_for_selector("html.ready")
        if not intro:
            page.click("#intro-close")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert trouble == []
    own = address.split("?")[0]
    assert [url for url in requests if not url.startswith((own, "data:"))] == []


def _expected(text, allowed):
    """Whether a message is the tests' own doing: reading a canvas, or an error that is provoked."""
    return "willReadFrequently" in text or (allowed and re.search(allowed, text))


def cut(page, box, pane=0):
    """Drag a rectangle, in shares of the photo; waits for the numbers."""
    before = page.get_attribute("html", "data-done")
    drag(page, box, pane)
    settled(page, before)


def drag(page, box, pane=0):
    """Drag a rectangle, in shares of the photo."""
    area = page.locator(".stage .photo").nth(pane).bounding_box()
    x, y = (lambda s: area["x"] + s * area["width"]), (lambda s: area["y"] + s * area["height"])
    page.mouse.move(x(box[0]), y(box[1]))
    page.mouse.down()
    page.mouse.move(x((box[0] + box[2]) / 2), y((box[1] + box[3]) / 2))
    page.mouse.move(x(box[2]), y(box[3]))
    page.mouse.up()


def settled(page, before):
    """Wait until a later question than `before` is answered."""
    wanted = "html[data-done]" if before is None else f"html[data-done]:not([data-done='{before}'])"
    page.wait_for_selector(wanted, state="attached")


def doing(page, act):
    """Do something that asks for a new map, and wait for it."""
    before = page.get_attribute("html", "data-done")
    act()
    settled(page, before)


def three_patches(page, name="spots"):
    page.click("#new")
    page.fill("#name", name)
    page.press("#name", "Tab")
    page.click("text=example E")
    for i in range(3):
        cut(page, (0.15 + 0.2 * i, 0.2, 0.4 + 0.2 * i, 0.6))


def numbers(page):
    return page.locator("#bars .number").all_inner_texts()


PIXELS = """c => [c.width, c.height,
    ...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"""


def painted(page, pane=0):
    return page.locator(".stage .map").nth(pane).evaluate(PIXELS)


def shows_what_the_library_says(session, first_map, first):
    (spec,) = session.work.concepts
    assert spec.name == "spots"
    key = session.pictures.listed()[0].key
    top = session.look(key).top(3)
    found = session.explain(key, spec, session.names[0], top)
    shown = [re.match(r"[<\d.]+", text).group() for text in first]
    expected = ["0" if r.attribution == 0 else f"{r.attribution:.3f}" for r in found.rows]
    assert shown == expected
    assert first_map[:2] == [8, 8]
    light = np.array(first_map[2:]).reshape(-1, 4)[:, :3].sum(1)
    assert light[found.M.argmax()] == light.max()
    assert light[found.M.argmin()] == light.min()


def saves_both_kinds(page, folder):
    page.click("#save")
    page.click("#save-do")
    page.wait_for_selector("#save-result:not([hidden])")
    assert str(folder / "concepts" / "spots") in page.locator("#save-where").inner_text()
    assert "add 2 more" in page.locator("#save-command").inner_text()
    page.check("input[value=cavs]")
    page.click("#save-do")
    page.wait_for_selector("#save-result:not([hidden])")
    command = page.locator("#save-command").inner_text()
    assert shlex.split(command)[-4:-2] == ["--cavs", str(folder / "spots.safetensors")]
    page.click("#save-do")
    page.wait_for_selector("#save-trouble:not([hidden])")
    assert page.locator("#save-do").inner_text() == "Replace"
    page.click("#save-do")
    page.wait_for_selector("#save-result:not([hidden])")
    page.click("#save-close")
    bank = vtcav.CavBank.load(folder / "spots.safetensors")
    assert (len(bank.concepts[0].examples), len(bank.concepts[0].negatives)) == (3, 31)


def test_a_concept_from_three_patches(open_page, session, folder):
    page = open_page(allowed="409 .Conflict")  # saving twice
    assert "No examples yet" in page.locator(".no-map").inner_text()
    three_patches(page)
    assert page.locator("#examples li").count() == 3
    assert page.locator(".stage .patch").count() == 3
    assert page.locator(".map").is_visible()
    first_map, first = painted(page), numbers(page)
    assert len(set(first_map)) > 10
    assert len(first) == 3
    shows_what_the_library_says(session, first_map, first)
    # few examples prove little, and that is said
    assert "3 examples show an idea and prove nothing" in page.locator("#trust").inner_text()
    assert "do not use" in page.locator("#trust .level").inner_text()
    # undo and redo
    doing(page, lambda: page.keyboard.press("Control+z"))
    assert page.locator("#examples li").count() == 2
    assert painted(page) != first_map
    doing(page, lambda: page.click("#redo"))
    assert page.locator("#examples li").count() == 3
    assert painted(page) == first_map
    assert numbers(page) == first
    # a counter-example
    page.click("text=counter-example C")
    cut(page, (0.7, 0.6, 0.95, 0.95))
    assert page.locator("#negatives li").count() == 1
    assert page.locator("#negatives-count").inner_text() == "(31)"
    saves_both_kinds(page, folder)
    # loaded again, everything is there
    page.reload()
    page.wait_for_selector("html[data-done]", state="attached")
    assert page.locator("#examples li").count() == 3
    assert page.input_value("#name") == "spots"
    assert page.locator(".map").is_visible()


def test_a_region_is_erased_by_hand(open_page, session):
    page = open_page()
    page.click("text=Erase X")
    area = page.locator(".stage .photo").bounding_box()
    with page.expect_request("**/api/erase") as asked:
        page.mouse.move(area["x"] + 0.3 * area["width"], area["y"] + 0.2 * area["height"])
        page.mouse.down()
        page.mouse.move(area["x"] + 0.6 * area["width"], area["y"] + 0.7 * area["height"])
        page.mouse.up()
    page.wait_for_selector("html[data-erased]", state="attached")
    body = asked.value.post_data_json
    explainer = vtcav.VisualTCAV(session.model, ["1", "3"])
    expected = explainer.erase(
        photo(), body["box"], body["classes"], negatives=pictures(30, seed=3)
    )
    assert page.locator("#erased-said p").all_inner_texts()[:3] == expected.sentences()
    assert page.locator("#erased-said img").count() == 2
    assert page.locator(".stage .patch.erase").count() == 1
    size = page.locator("#erased-said img").last.evaluate("i => [i.naturalWidth, i.naturalHeight]")
    assert size == [16, 16]
    page.click("#erased-close")
    assert not page.locator("#erased").is_visible()
    assert page.locator(".stage .patch.erase").count() == 0


IN_VIEW = """() => {
  const { top, bottom } = document.getElementById("erased").getBoundingClientRect();
  return bottom <= innerHeight + 1 || Math.abs(top) <= 1;
}"""


@pytest.mark.parametrize(("motion", "behavior"), [("reduce", "auto"), ("no-preference", "smooth")])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_answer_of_erasing_comes_into_view(open_page, width, motion, behavior):
    size = {"width": width, "height": 900}
    page = open_page(viewport=size, reduced_motion=motion)
    page.evaluate(
        """() => {
          const own = Element.prototype.scrollIntoView;
          Element.prototype.scrollIntoView = function (how) {
            document.documentElement.dataset.scrolled = how.behavior;
            own.call(this, how);
          };
        }"""
    )
    page.check("input[value=erase]", force=True)
    drag(page, (0.3, 0.2, 0.6, 0.7))
    page.wait_for_selector("html[data-erased]", state="attached")
    page.wait_for_function("document.activeElement.id === 'erased-title'")
    page.wait_for_function(IN_VIEW)
    assert page.get_attribute("html", "data-scrolled") == behavior
    page.click("#erased-close")
    assert page.evaluate("document.activeElement.className").startswith("stage")


def test_all_bars_have_one_scale_with_its_ends(open_page):
    page = open_page()
    page.click("#new")
    page.click("text=example E")
    cut(page, (0.15, 0.2, 0.4, 0.6))
    assert "1 example shows an idea and proves nothing" in page.locator("#trust").inner_text()
    said = page.locator("#bars-scale").inner_text()
    end = float(re.match(r"All bars run from 0 to ([\d.]+)\. 1 would be the whole", said)[1])
    axes = page.locator("#bars .axis").all_inner_texts()
    assert [text.split() for text in axes] == [["0", f"{end:g}"]] * 3
    values = [float(re.match(r"[\d.]+", text.replace("<", ""))[0]) for text in numbers(page)]
    assert max(values) <= end
    widths = page.locator("#bars .strip svg").evaluate_all(
        "all => all.map((svg) => Number(svg.querySelector('.fill')?.getAttribute('width') ?? 0))"
    )
    assert widths == pytest.approx([312 * x / end for x in values], abs=1)


def test_a_concept_says_how_far_the_score_falls_without_it(open_page):
    page = open_page()
    three_patches(page)
    # an earlier answer, of fewer patches, may come first
    page.locator("#said", has_text="From 5 examples on").wait_for()
    for i in range(2):
        cut(page, (0.1 + 0.3 * i, 0.4, 0.5 + 0.3 * i, 0.9))
    page.wait_for_selector("#said .said")
    said = page.locator("#said").inner_text()
    assert re.search("Without 'spots' the score|is not seen|is nowhere in this image", said)


def test_uploads_are_looked_at_and_explained(open_page, tmp_path):
    page = open_page()
    (tmp_path / "<b>cat.png").write_bytes(encoded(photo(11)))
    page.set_input_files("#photo-files", tmp_path / "<b>cat.png")
    page.wait_for_selector("#photo-list [aria-pressed=true] span:text('<b>cat')")
    page.get_by_text("The network’s predictions for <b>cat.png").wait_for()
    three_patches(page, "<script>alert(1)</script>")
    assert page.locator("#concept-list").inner_text().startswith("<script>alert(1)</script>")
    for i in range(2):
        (tmp_path / f"{i}.png").write_bytes(encoded(photo(20 + i)))
    files = [tmp_path / "0.png", tmp_path / "1.png"]
    doing(page, lambda: page.set_input_files("#examples-files", files))
    assert page.locator("#examples li").count() == 5
    assert page.get_by_role("button", name="Remove the photo <b>cat.png").is_visible()
    page.get_by_role("button", name="Remove the photo <b>cat.png").click()
    assert "is used by a concept" in page.locator("#notices").inner_text()


def test_bad_uploads_are_told(open_page, tmp_path):
    page = open_page(allowed="400 .Bad Request")
    for name, data in (("a.svg", b"<svg/>"), ("b.png", bomb()), ("c.png", encoded(photo())[:300])):
        (tmp_path / name).write_bytes(data)
    page.set_input_files("#photo-files", [tmp_path / n for n in ("a.svg", "b.png", "c.png")])
    page.wait_for_selector("#notices .notice >> nth=2")
    said = page.locator("#notices").inner_text()
    assert "a.svg: it is not a picture" in said
    assert "b.png: it has 30000 x 30000 pixels" in said
    assert "c.png: " in said
    before = page.locator("#photo-list li").count()
    assert before == len({*page.locator("#photo-list .pick").all_inner_texts()})


def test_the_map_is_on_the_input_where_its_place_is_not_known(browser, folder):
    own = small_session(model=small_model(preprocess=lambda p: vtcav.Preprocess(16)(p)))
    with served(own, folder) as address:
        page = browser.new_page()
        page.goto(address)
        page.wait_for_selector("html.ready")
        page.click("#intro-close")
        page.click("text=example E")
        cut(page, (0.1, 0.1, 0.5, 0.5))
        assert not page.locator(".map").is_visible()
        assert "on the network’s input" in page.locator("figcaption").inner_text()
        page.click("text=Look L")
        assert page.locator(".map").is_visible()
        assert "api/inputs/" in page.locator(".stage .photo").get_attribute("src")
        area = page.locator(".stage").bounding_box()
        assert area["width"] == pytest.approx(area["height"], rel=0.01)
        page.close()


def test_a_name_in_use_or_none_is_refused(open_page):
    page = open_page()
    three_patches(page, "one")
    page.click("#new")
    page.fill("#name", "two")
    page.press("#name", "Tab")
    for name, trouble in (
        (" one ", "There is a concept “one” already: take another name."),
        ("", "Type a name first."),
    ):
        page.fill("#name", name)
        assert page.inner_text("#name-trouble") == trouble
        page.press("#name", "Tab")
        assert page.input_value("#name") == "two"
    page.fill("#name", "three")
    assert page.is_hidden("#name-trouble")
    page.press("#name", "Tab")
    assert page.input_value("#name") == "three"


def test_two_concepts_side_by_side(open_page):
    page = open_page()
    three_patches(page, "one")
    page.click("#new")
    page.fill("#name", "two")
    page.press("#name", "Tab")
    cut(page, (0.5, 0.5, 0.9, 0.9))
    doing(page, lambda: page.select_option("#compare", label="one"))
    assert page.locator(".stage").count() == 2
    assert painted(page, 0) != painted(page, 1)
    captions = page.locator("#stages figcaption").all_inner_texts()
    assert [text.split(",")[0] for text in captions] == ["two", "one"]
    assert len(numbers(page)) == 6
    page.click("text=Look L")
    area = page.locator(".stage .map").first.bounding_box()
    page.mouse.move(area["x"] + area["width"] / 2, area["y"] + area["height"] / 2)
    assert re.fullmatch(r"two: M .*; one: M .*", page.locator("#value").inner_text())
    page.click("#delete")
    assert page.locator(".stage").count() == 1


def test_layers_classes_and_appearance(open_page):
    page = open_page()
    three_patches(page)
    page.click("text=Look L")
    doing(page, lambda: page.select_option("#layer", "3"))
    assert painted(page)[:2] == [4, 4]
    name = page.locator("#bars h3").first.inner_text().split()[0]
    doing(page, lambda: page.get_by_role("button", name=f"Remove the class {name}").click())
    assert page.locator("#bars .class").count() == 2

    def put_back():
        page.fill("#class", name)
        page.press("#class", "Enter")

    doing(page, put_back)
    assert page.locator("#bars .class").count() == 3
    page.fill("#class", "unicorn")
    page.press("#class", "Enter")
    assert "has no class “unicorn”" in page.locator("#notices").inner_text()
    page.focus("#opacity")
    page.keyboard.press("End")
    assert page.locator(".stage .map").evaluate("c => c.style.opacity") == "1"
    assert "grey" in page.locator(".stage .photo").get_attribute("class")
    page.uncheck("#grey")
    assert "grey" not in page.locator(".stage .photo").get_attribute("class")
    page.select_option("#theme", "dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(20, 23, 27)"


def test_everything_by_keyboard(open_page, session):
    page = open_page()
    page.focus(".stage")
    page.keyboard.press("e")
    assert page.is_checked("input[value=examples]")
    page.focus(".stage")
    page.keyboard.press("Enter")
    for key in ("ArrowLeft", "ArrowLeft", "ArrowUp", "Shift+ArrowRight", "Shift+ArrowDown"):
        page.keyboard.press(key)
    doing(page, lambda: page.keyboard.press("Enter"))
    (spec,) = session.work.concepts
    assert spec.examples[0].box == (46, 33, 73, 60)
    page.keyboard.press("Escape")
    page.keyboard.press("l")
    page.focus(".stage")
    page.keyboard.press("m")
    key = session.pictures.listed()[0].key
    M = session.explain(key, spec, "1", [0]).M
    row, column = np.unravel_index(int(M.argmax()), M.shape)
    said = page.locator("#value").inner_text()
    assert f"(row {row + 1}, column {column + 1})" in said
    page.keyboard.press("Home")
    value = "0" if M[0, 0] == 0 else f"{M[0, 0]:.3f}"
    assert page.locator("#value").inner_text() == f"M = {value} (row 1, column 1)"


def test_a_patch_that_is_too_small_is_told(open_page):
    page = open_page()
    page.click("text=example E")
    area = page.locator(".stage").bounding_box()
    page.mouse.click(area["x"] + 50, area["y"] + 50)
    assert "too small" in page.locator("#status").inner_text()
    assert page.locator("#concept-list button").count() == 0


def test_the_first_visit_explains_itself(open_page):
    page = open_page(intro=True)
    assert page.locator("#intro").is_visible()
    assert "Show a concept by example" in page.locator("#intro").inner_text()
    page.click("#intro-close")
    page.reload()
    page.wait_for_selector("html.ready")
    assert not page.locator("#intro").is_visible()
    page.click("#help")
    assert page.locator("#intro").is_visible()


def test_without_the_token_the_page_says_so(browser, address):
    page = browser.new_context().new_page()
    answer = page.goto(address.split("?")[0])
    assert answer.status == 403
    assert "open the whole address that was printed" in page.content()


def test_another_origin_cannot_drive_it(browser, address, session, tmp_path):
    """A page of another origin that knows even the token reads and changes nothing."""
    page = browser.new_context().new_page()
    other = tmp_path / "other.html"
    other.write_text("<!doctype html><title>other</title>")
    session.work.concepts = []
    work = ConceptSpec(name="hacked").model_dump()
    page.goto(other.as_uri())
    host, token = address.split("?token=")
    tried = page.evaluate(
        """async ([host, token, work]) => {
          const results = [];
          for (const [path, options] of [
            ["api/session?token=" + token, {}],
            ["api/work", {method: "PUT", body: JSON.stringify({concepts: [work]}),
              headers: {"X-Vtcav-Token": token, "Content-Type": "application/json"}}],
            ["api/pictures?token=" + token, {method: "POST", body: "x", mode: "no-cors"}],
          ]) {
            try {
              const answer = await fetch(host + path, options);
              results.push([answer.status, answer.type]);
            } catch (error) { results.push("refused"); }
          }
          return results;
        }""",
        [host, token, work],
    )
    assert tried[:2] == ["refused", "refused"]
    assert tried[2] in ("refused", [0, "opaque"])
    assert session.work.concepts == []
    assert {p.origin for p in session.pictures.listed()} <= {"sample", "upload"}


@pytest.mark.parametrize("width", [320, 800])
def test_nothing_is_wider_than_the_window(open_page, width):
    page = open_page(viewport={"width": width, "height": 800})
    page.focus(".stage")
    page.keyboard.press("e")
    page.focus(".stage")
    page.keyboard.press("Enter")
    doing(page, lambda: page.keyboard.press("Enter"))
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing_serious(open_page, scheme, width):
    page = open_page(
        intro=True, color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=True
    )
    three_patches(page)
    page.focus(".stage")
    for key in ("x", "Enter", "Enter"):  # a region in the middle, erased by keyboard
        page.keyboard.press(key)
    page.wait_for_selector("#erased-said img >> nth=1")
    page.evaluate(axe_core())
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    for dialog in (False, True):
        if dialog:
            page.click("#save")
        assert serious(page) == []


def test_paper_is_white_and_without_tools(open_page):
    page = open_page(intro=True, color_scheme="dark")
    page.emulate_media(media="print")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    for name in ("#intro", ".tools", "#photo-drop", "#undo", "#new"):
        assert not page.is_visible(name)
    for name in ("#predictions", "#stages", "#layer", "#said"):
        assert page.locator(name).count() == 1
    assert page.is_visible("#predictions")


def serious(page):
    """What axe-core finds that is serious."""
    return [
        (v["id"], v["impact"], [re.sub(r"\s+", " ", n["html"])[:150] for n in v["nodes"][:3]])
        for v in page.evaluate("axe.run().then((r) => r.violations)")
        if v["impact"] in ("serious", "critical")
    ]


@pytest.fixture
def found_page(browser, folder):
    """A page over photographs with marks, for what is found in them."""
    samples = {f"photo {i}": picture for i, picture in enumerate(scenes(32)[0])}
    model = small_model(net(nn.ReLU()), preprocess=vtcav.Preprocess(SIDE))
    own = small_session(model=model, layers=["1"], samples=samples)
    with served(own, folder) as address:
        context = browser.new_context(viewport={"width": 1280, "height": 900}, bypass_csp=True)
        page, trouble = context.new_page(), []
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("console", lambda m: _expected(m.text, "") or trouble.append(m.text))
        page.goto(address)
        page.wait_for_selector("html.ready")
        page.click("#intro-close")
        yield page, own
        context.close()
        assert trouble == []


def ranked(page, act):
    """Do something after which the photos are put in order anew; return their names."""
    before = page.get_attribute("html", "data-ranked")
    act()
    again = f":not([data-ranked='{before}'])" if before else ""
    page.wait_for_selector(f"html[data-ranked]{again}", state="attached")
    return [text.split(". ")[1] for text in page.locator("#ranked .named").all_inner_texts()]


def tile(page, number):
    return page.locator("#tiles li").nth(number - 1)


def test_what_rounds_to_zero_has_no_sign(found_page):
    page, _ = found_page
    page.focus("#find")
    page.keyboard.press("Enter")
    page.wait_for_selector("#tiles .tile")
    keys = page.locator("#tiles .tile").evaluate_all("(tiles) => tiles.map((e) => e.id.slice(5))")
    near = {"name": "red", "cosine": -0.004, "auc": 0.5}
    answer = {"nearest": dict.fromkeys(keys, near)}
    page.route("**/api/nearest*", lambda route: route.fulfill(json=answer))
    tile(page, 1).locator("input").fill("red")
    page.keyboard.press("Enter")
    page.get_by_text("Nearest concept: “red”, cosine 0.00, AUC 0.50.").first.wait_for()
    found = page.evaluate(
        """async () => {
          const { fixed, value } = await import(new URL("static/core.js", document.baseURI).href);
          return [fixed(-0.0001, 3), fixed(-0.126), fixed(0.5), value(-0.0001), value(-0.25)];
        }"""
    )
    assert found == ["0.000", "−0.13", "0.50", ">−0.001", "−0.250"]


def test_found_concepts_are_named_merged_and_thrown_away(found_page):
    page, session = found_page
    assert "sees in these 32 photos" in page.locator("#find").inner_text()
    page.focus("#find")
    page.keyboard.press("Enter")
    page.wait_for_selector("#tiles .tile")
    page.get_by_text("4 things found at layer 1 in 32 photos").wait_for()
    assert tile(page, 1).locator("img").count() == 5
    # a name is needed, and is asked for where it is missing
    tile(page, 1).get_by_role("button", name="Name thing 1").click()
    assert tile(page, 1).locator(".trouble").inner_text() == "Type a name first."
    tile(page, 1).locator("input").fill("red <b>")
    first = ranked(page, lambda: page.keyboard.press("Enter"))
    assert len(first) == 12
    assert tile(page, 1).locator("h3").inner_text() == "Thing 1: red <b>"
    assert "is the concept “red <b>” now" in page.locator("#find-said").inner_text()
    assert page.evaluate("document.activeElement.textContent") == "Show"
    (spec,) = session.work.concepts
    assert (spec.name, len(spec.found), spec.shared) == ("red <b>", 1, False)
    # the other tiles say how close they are to it
    near = tile(page, 2).locator(".nearest")
    near.wait_for()
    told = r"Nearest concept: “red <b>”, cosine −?\d\.\d\d, AUC \d\.\d\d\."
    assert re.fullmatch(told, near.inner_text())
    assert not tile(page, 1).locator(".nearest").is_visible()
    feedback_changes_the_order(page, first)
    # thrown away, undone; thrown away again, and merged
    tile(page, 2).get_by_role("button", name="Throw away").click()
    assert tile(page, 2).inner_text().startswith("Thing 2: thrown away")
    assert page.evaluate("document.activeElement.textContent") == "Put back"
    page.keyboard.press("Control+z")
    assert tile(page, 2).locator("img").count() == 5
    tile(page, 2).get_by_role("button", name="Throw away").click()
    tile(page, 4).locator("select").select_option(label="thing 3")
    tile(page, 4).get_by_role("button", name="Merge").click()
    assert "with thing 4" in tile(page, 3).inner_text()
    # loaded again, all of it is there
    page.reload()
    page.wait_for_selector("html[data-ranked]", state="attached")
    assert tile(page, 1).locator("h3").inner_text() == "Thing 1: red <b>"
    assert tile(page, 2).inner_text().startswith("Thing 2: thrown away")
    assert tile(page, 4).inner_text().startswith("Thing 4: merged into thing 3")
    page.evaluate(axe_core())
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert serious(page) == []


def test_a_search_is_stopped(found_page, monkeypatch):
    page, _ = found_page
    begun, stopped = threading.Event(), threading.Event()

    def slow(*given, check, **more):
        begun.set()
        try:
            for _ in range(200):
                check()
                time.sleep(0.05)
        except SupersededError:
            stopped.set()
            raise

    monkeypatch.setattr(findings, "discover", slow)
    assert not page.locator("#find-stop").is_visible()
    page.click("#find")
    assert begun.wait(10)
    assert page.evaluate("document.activeElement.id") == "find-stop"
    page.keyboard.press("Enter")
    page.get_by_text("Stopped: nothing was changed.").wait_for()
    assert stopped.wait(10)
    assert not page.locator("#find-stop").is_visible()
    assert page.evaluate("document.activeElement.id") == "find"
    assert not page.locator("#find-trouble").is_visible()
    monkeypatch.undo()
    page.click("#find")
    page.wait_for_selector("#tiles .tile")


def feedback_changes_the_order(page, first):
    refuse = page.locator("#ranked li").nth(1).get_by_role("button", name="Not like this")
    after = ranked(page, lambda: (refuse.focus(), page.keyboard.press("Enter")))
    said = page.locator("#ranked-said").inner_text()
    assert re.match(rf"{first[1]} is a counter-example now, and number \d+ of 32\.", said)
    assert "After your marks the direction has a cosine of" in said
    assert after != first
    assert page.evaluate("document.activeElement.closest('#ranking') !== null")
    more = page.locator("#ranked li button:enabled", has_text="More like this").first
    ranked(page, more.click)
    assert "is an example now" in page.locator("#ranked-said").inner_text()


def test_the_browser_is_given_a_file_that_only_its_owner_reads(browser, address):
    from vtcav.explorer.server import redirect

    context = browser.new_context()
    try:
        with redirect(address) as file:
            assert address.split("=")[1] not in file.as_uri()
            assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
            page = context.new_page()
            page.goto(file.as_uri())
            page.wait_for_url("http://127.0.0.1:*/**")
            page.locator("h1").first.wait_for()
            assert "vtcav" in page.title()
        assert not file.exists()
    finally:
        context.close()
