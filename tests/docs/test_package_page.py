"""The README on the package index has no link or picture that leads nowhere."""

import re
from pathlib import Path

import pytest

core = pytest.importorskip("hatchling.metadata.core")
manager = pytest.importorskip("hatchling.plugin.manager")

ROOT = Path(__file__).parent.parent.parent
LINK = re.compile(r"(!?)\[[^\]]*\]\(([^)\s]+)\)")


def metadata(monkeypatch, repository):
    monkeypatch.setenv("VTCAV_REPOSITORY", repository)
    return core.ProjectMetadata(str(ROOT), manager.PluginManager())


def test_links_and_pictures_point_into_the_repository_at_the_tag(monkeypatch):
    found = metadata(monkeypatch, "https://host.example/owner/vtcav/")
    links = LINK.findall(found.core.readme)
    own = [link for link in links if "host.example" in link[1]]
    assert len(own) > 20
    for picture, address in links:
        assert address.startswith("https://")
        kind = "raw" if picture else "blob"
        start = f"https://host.example/owner/vtcav/{kind}/v{found.version}/"
        if "host.example" in address:
            assert (ROOT / address.removeprefix(start).partition("#")[0]).is_file(), address
    assert [picture for picture, _ in own].count("!") == 3
    assert found.core.urls["Source"] == "https://host.example/owner/vtcav"


def test_without_a_repository_the_readme_stays_as_it_is(monkeypatch):
    found = metadata(monkeypatch, "")
    assert found.core.readme == (ROOT / "README.md").read_text(encoding="utf-8")
    assert found.core.urls == {}


def test_publishing_names_the_repository():
    path = ROOT / ".github" / "workflows" / "publish.yml"
    if not path.exists():
        pytest.skip("the sdist has no .github")
    named = "VTCAV_REPOSITORY: ${{ github.server_url }}/${{ github.repository }}"
    assert named in path.read_text(encoding="utf-8")
