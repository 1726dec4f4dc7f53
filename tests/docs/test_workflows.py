"""The files of .github: they are YAML, call targets that exist, and trust nothing that may move."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
GITHUB = ROOT / ".github"
FILES = sorted(GITHUB.rglob("*.yml"))
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
pytestmark = pytest.mark.skipif(not FILES, reason="the sdist has no .github")


def loaded(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps_of(path):
    for job in loaded(path)["jobs"].values():
        yield from job.get("steps", [job])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_files_are_yaml(path):
    assert "name" in loaded(path)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_targets_that_exist(path):
    [line] = re.findall(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text(), re.M)
    targets = set(line.split())
    named = [
        name
        for step in steps_of(path)
        for name in re.findall(r"make ([a-z-]+)", str(step.get("run")))
    ]
    assert named
    assert set(named) <= targets


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_and_no_secret_is_named(path):
    uses = [step["uses"] for step in steps_of(path) if "uses" in step]
    assert uses
    for action in uses:
        local = action.startswith("./")
        assert (ROOT / action).exists() if local else re.search(r"@v\d+\.\d+\.\d+$", action), action
    assert "secrets" not in path.read_text(encoding="utf-8")


def test_the_tests_run_on_every_python_of_the_metadata():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [c.rsplit(" ", 1)[1] for c in project["classifiers"] if ":: 3." in c]
    assert loaded(GITHUB / "workflows" / "tests.yml")["jobs"]["test"]["strategy"]["matrix"] == {
        "python": named
    }


@pytest.mark.parametrize(
    "path", sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem
)
def test_forms_ask_for_something(path):
    form = loaded(path)
    assert {"name", "description", "body"} <= set(form)
    asked = [part for part in form["body"] if part["type"] != "markdown"]
    assert asked
    assert len({part["id"] for part in asked}) == len(asked)
    assert all(part["attributes"]["label"] for part in asked)
