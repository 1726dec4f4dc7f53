"""The lowest versions that the package's metadata allow, as constraints: `make test-floor`."""

import re
import sys
import tomllib
from pathlib import Path

_EXTRAS = (
    *("evaluation", "discover", "inpainting", "tiff", "medical", "torchvision", "timm", "hf"),
    *("keras", "fast", "explore", "datasets", "lmdb"),
)
"""The extras whose lowest versions are tried together."""


def floors(text):
    """Return the lowest version of every package, by name.

    Example:
        >>> floors('[project]\\ndependencies = ["torch>=2.8", "ray[data]>=2.40"]')
        {'torch': '2.8', 'ray': '2.40'}
    """
    project = tomllib.loads(text)["project"]
    extras = project.get("optional-dependencies", {})
    wanted = [
        *project["dependencies"],
        *(line for name in _EXTRAS for line in extras.get(name, ())),
    ]
    pairs = [re.match(r"([\w.-]+)(?:\[\w+\])?(?:>=|==)([\d.]+)", line).groups() for line in wanted]
    return dict(pairs)


if __name__ == "__main__":
    root = Path(__file__).parents[1]
    for name, version in floors((root / "pyproject.toml").read_text("utf-8")).items():
        sys.stdout.write(f"{name}=={version}\n")
