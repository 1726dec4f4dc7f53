"""The lowest versions that the package's metadata allow, as files of requirements.

    python tests/floors.py FOLDER INDEX

`make test-floor` installs torch first, so that nothing brings another, and torchvision and timm
last, without what they require.
"""

import re
import sys
import tomllib
from pathlib import Path
from urllib.request import urlopen

_EXTRAS = (
    *("demo", "evaluation", "discover", "inpainting", "tiff", "medical", "torchvision", "timm"),
    *("hf", "keras", "fast", "explore", "ray", "datasets", "lmdb"),
)
"""The extras whose lowest versions are tried together."""
_NETWORKS = ("torchvision", "timm")


def floors(text):
    """Return the lowest version of every package, by name.

    Example:
        >>> floors('[project]\\ndependencies = ["torch>=2.8", "ray[data]>=2.40"]')
        {'torch': '2.8', 'ray[data]': '2.40'}
    """
    project = tomllib.loads(text)["project"]
    extras = project.get("optional-dependencies", {})
    wanted = [
        *project["dependencies"],
        *(line for name in _EXTRAS for line in extras.get(name, ())),
    ]
    return dict(
        re.match(r"([\w.-]+(?:\[\w+\])?)(?:>=|==)([\d.]+)", line).groups() for line in wanted
    )


def answers(index):
    """Tell whether an index of packages can be reached: pip would ask it for each, five times."""
    try:
        with urlopen(f"{index}/torch/", timeout=20):
            return True
    except OSError:
        return False


def main(folder, index):
    """Write the files of requirements."""
    found = floors((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))
    first = [f"--extra-index-url {index}"] if answers(index) else []
    parts = {
        "torch": [*first, f"torch=={found['torch']}"],
        "packages": [f"{k}=={v}" for k, v in found.items() if k not in _NETWORKS],
        "networks": [*first, *(f"{name}=={found[name]}" for name in _NETWORKS)],
    }
    for name, lines in parts.items():
        (Path(folder) / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main(*sys.argv[1:])
