"""The README as the package index shows it: it has neither the repository's pages nor its pictures.

Where VTCAV_REPOSITORY names the repository, as in .github/workflows/publish.yml, links and pictures
point into it at the tag of the version. Without it the README stays as it is.
"""

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


def absolute(text: str, repository: str, version: str) -> str:
    """Return Markdown whose relative links and pictures point into a repository.

    Example:
        >>> absolute("[a](docs/a.md#b) [c](https://d)", "https://host/o/r", "1.0")
        '[a](https://host/o/r/blob/v1.0/docs/a.md#b) [c](https://d)'
        >>> absolute("![a](a.png)", "https://host/o/r", "1.0")
        '![a](https://host/o/r/raw/v1.0/a.png)'
    """

    def pointed(found: re.Match[str]) -> str:
        kind = "raw" if found["picture"] else "blob"
        return f"{found['before']}{repository}/{kind}/v{version}/{found['target']}"

    link = r"(?P<before>(?P<picture>!?)\[[^\]]*\]\()(?P<target>(?!\w+:|#)[^)\s]+)"
    return re.sub(link, pointed, text)


class PackagePage(MetadataHookInterface):
    """Fills in the README and, where it is known, the address of the repository."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set `readme` and `urls` of the metadata."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        repository = os.environ.get("VTCAV_REPOSITORY", "").rstrip("/")
        metadata["urls"] = {}
        if repository:
            at = f"{repository}/blob/v{metadata['version']}"
            text = absolute(text, repository, metadata["version"])
            metadata["urls"] = {
                "Source": repository,
                "Documentation": f"{at}/docs/index.md",
                "Changes": f"{at}/CHANGELOG.md",
                "Issues": f"{repository}/issues",
            }
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
