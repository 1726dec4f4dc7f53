"""The lowest versions that the package's metadata allow, or the newest, as files of requirements.

    python tests/versions.py floor|newest FOLDER INDEX

`make test-floor` and `make test-newest` install torch first, so that nothing brings another, and
torchvision and timm last, without what they require.
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
"""The extras that are tried together."""
_NETWORKS = ("torchvision", "timm")


def required(text, versions):
    """Return what pip is asked for, by package: the lowest version, or any.

    Example:
        >>> text = '[project]\\ndependencies = ["torch>=2.8", "ray[data]>=2.40", "weights==1.0"]'
        >>> required(text, "floor")
        {'torch': 'torch==2.8', 'ray[data]': 'ray[data]==2.40', 'weights': 'weights==1.0'}
        >>> required(text, "newest")
        {'torch': 'torch', 'ray[data]': 'ray[data]', 'weights': 'weights==1.0'}
    """
    project = tomllib.loads(text)["project"]
    extras = project.get("optional-dependencies", {})
    wanted = [
        *project["dependencies"],
        *(line for name in _EXTRAS for line in extras.get(name, ())),
    ]
    found = {}
    for line in wanted:
        name, sign, version = re.match(r"([\w.-]+(?:\[\w+\])?)(>=|==)([\d.]+)", line).groups()
        found[name] = f"{name}=={version}" if sign == "==" or versions == "floor" else name
    return found


def answers(index):
    """Tell whether an index of packages can be reached: pip would ask it for each, five times."""
    try:
        with urlopen(f"{index}/torch/", timeout=20):
            return True
    except OSError:
        return False


def main(versions, folder, index):
    """Write the files of requirements."""
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8")
    found = required(text, versions)
    first = [f"--extra-index-url {index}"] if answers(index) else []
    torch = found.pop("torch")
    networks = [found.pop(name) for name in _NETWORKS]
    parts = {
        "torch": [*first, torch],
        "packages": list(found.values()),
        "networks": [*first, *networks],
    }
    for name, lines in parts.items():
        (Path(folder) / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main(*sys.argv[1:])
