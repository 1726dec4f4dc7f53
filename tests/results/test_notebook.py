"""What a notebook shows: self-contained, escaped, bounded, without scripts; in a real notebook."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

import vtcav
from tests.helpers.small import (
    concepts,
    negatives,
    pictures,
    small_explainer,
    small_model,
    small_net,
)
from vtcav import datasets
from vtcav.images.references import ImageRef
from vtcav.results.figures.overlay import flat_overlay
from vtcav.results.words import value

HOSTILE = "<script>alert(1)</script>"
LIMIT = 300_000


class Tags(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.addresses, self.open = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [v for k, v in attributes if k in ("src", "href")]
        assert not [k for k, _ in attributes if k.startswith("on")]

    def handle_data(self, data):
        self.text.append(data)


def check(html):
    parsed = Tags(html)
    assert len(html.encode()) < LIMIT
    assert not {"script", "link", "iframe", "object"} & set(parsed.tags)
    assert all(address.startswith("data:image/") for address in parsed.addresses)
    assert not re.search(r"url\(|@import|https?:", html)
    return parsed


@pytest.fixture(scope="module")
def explainer():
    return small_explainer()


@pytest.fixture(scope="module")
def results(explainer):
    return {
        "local": explainer.explain(pictures(1, 5)[0]),
        "global": explainer.explain_class("cat", pictures(4, 6)),
        "diagnostics": explainer.diagnostics(resamples=20),
        "bank": explainer.cavs,
        "images": datasets.ConceptImages({"dark": [ImageRef("a", pictures(1)[0])]}),
    }


def test_displays_say_what_the_tables_do(results):
    local = "".join(check(results["local"]._repr_html_()).text)
    assert "Predicted: " in local
    for number in results["local"].attributions["attribution"]:
        assert value(number) in local
    global_ = "".join(check(results["global"]._repr_html_()).text)
    assert "4 images used, 0 left out" in global_
    for number in results["global"].summary()["mean"]:
        assert value(number) in global_
    found = "".join(check(results["diagnostics"]._repr_html_()).text)
    for row in results["diagnostics"].summary().to_dict("records"):
        assert row["level"] in found
    bank = "".join(check(results["bank"]._repr_html_()).text)
    assert "bright" in bank
    assert "2 concepts at 2 layers" in bank
    assert "dark" in "".join(check(results["images"]._repr_html_()).text)


def test_displays_say_how_many_random_directions_get_as_much(results):
    summary = results["global"].summary()
    shown = "".join(check(results["global"]._repr_html_()).text)
    for p in summary["p_value"].dropna():
        assert re.search(rf"{round(p * 501) - 1} of 500 random directions gets? as much", shown)


def test_maps_are_shown(results):
    # the image, 2 concepts at 2 layers, and two pictures for each concept that was erased
    erased = results["local"].effects.query("area > 0")["concept"].nunique()
    assert check(results["local"]._repr_html_()).tags.count("img") == 5 + 2 * erased


def test_lines_say_what_they_are(results):
    local = repr(results["local"])
    assert local.startswith("LocalExplanation('array[0]': ")
    assert "2 layers, 2 concepts, 3 classes; most: " in local
    assert repr(results["global"]).startswith("GlobalExplanation('cat': 4 images, 0 left out; 2 la")
    assert re.match(
        r"Diagnostics\(2 layers, 2 concepts: \d fine, \d look and \d do not use\)",
        repr(results["diagnostics"]),
    )
    assert all("\n" not in repr(result) for result in results.values())


def test_names_are_shown_as_text(tmp_path):
    from PIL import Image

    model = small_model(small_net(), [HOSTILE, "a & b", '"quoted"'])
    explainer = vtcav.VisualTCAV(model, ["3"])
    names = dict(zip([HOSTILE, "c" * 5000], concepts().values(), strict=True))
    explainer.fit(names, negatives(), null_cavs=0, bootstraps=0)
    path = tmp_path / "<img src=x onerror=alert(1)>.png"
    Image.fromarray(pictures(1, 5)[0]).save(path)
    found = {
        "local": explainer.explain(str(path)),
        "global": explainer.explain_class(HOSTILE, [str(path)]),
        "diagnostics": explainer.diagnostics(resamples=20),
        "bank": explainer.cavs,
        "images": datasets.ConceptImages({HOSTILE: [ImageRef("a", pictures(1)[0])]}),
    }
    for name, result in found.items():
        parsed = check(result._repr_html_())
        assert HOSTILE in "".join(parsed.text), name
    assert "a & b" in "".join(check(found["local"]._repr_html_()).text)


def test_control_letters_are_spelled(explainer):
    images = datasets.ConceptImages({"x\u202eexe": [ImageRef("a", pictures(1)[0])]})
    assert r"x\u202eexe" in images._repr_html_()


def test_many_rows_and_large_pictures_stay_small():
    net, many = small_net(classes=40), [f"class {i}" for i in range(40)]
    explainer = vtcav.VisualTCAV(small_model(net, many), ["1", "3"])
    example = pictures(6, 1, low=150)
    explainer.fit(
        {f"concept {i}": example for i in range(30)}, negatives(), null_cavs=0, bootstraps=0
    )
    noise = np.random.default_rng(0).integers(0, 255, (1500, 2000, 3)).astype(np.uint8)
    local = explainer.explain(noise, classes=40)
    parsed = check(local._repr_html_())
    text = "".join(parsed.text)
    assert "40 more rows not shown" in text
    assert "36 more classes not shown" in text
    assert parsed.tags.count("tr") == 21
    assert parsed.tags.count("img") == 12
    check(explainer.cavs._repr_html_())
    check(explainer.explain_class(0, pictures(2))._repr_html_())


def test_an_overlay_lies_where_the_network_looked():
    picture = np.full((40, 80, 3), 128, np.uint8)
    M = np.array([[0, 1]], np.float32)
    shown = flat_overlay(picture, (0.25, 0, 0.75, 1), M, 80)
    assert shown.shape == (40, 80, 3)
    grey = shown[0, 0]
    assert (shown[:, :20] == grey).all()
    assert (shown[:, 60:] == grey).all()
    assert shown[:, 40:60].mean() > shown[:, 20:40].mean() + 50


NOTEBOOK = """\
import numpy as np
from tests.helpers.small import small_explainer, pictures
explainer = small_explainer(progress=True)
local = explainer.explain(pictures(1, 5)[0])
"""


# A kernel leaves sockets and a loop to the garbage collector
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:Proactor event loop:RuntimeWarning")
def test_a_real_notebook_shows_it(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    cells = [NOTEBOOK, "local", "explainer.cavs"]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    nbclient.NotebookClient(book, timeout=120, resources={"metadata": {"path": "."}}).execute()
    first, *shown = book.cells
    said = "".join(str(output.get("text", "")) for output in first.outputs)
    assert "Warning" not in said
    for cell in shown:
        (output,) = cell.outputs
        assert output.output_type == "execute_result"
        check(output.data["text/html"])
        assert output.data["text/plain"].startswith(("LocalExplanation(", "CavBank("))
