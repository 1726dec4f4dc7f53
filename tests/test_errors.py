"""Messages of what the system refuses: in words, without its numbers."""

import ast
from pathlib import Path

import pytest
import torch
from PIL import Image

import vtcav
from tests.cli.test_cli import explain, place  # noqa: F401  (a fixture)
from vtcav import datasets
from vtcav.cli import main
from vtcav.errors import ExplanationError, ImageError, text_of, why
from vtcav.study import Study
from vtcav.study.run import run_study

SOURCE = Path(vtcav.__file__).parent
STUDY = """
model: {name: 'torchvision:resnet18', weights: random}
concepts: {a: some}
options: {min_examples: 1}
negatives: some
classes: {tench: some}
output: out
"""


def test_a_file_that_the_message_names_is_not_named_again():
    error = PermissionError(13, "Permission denied", "/out/.table.csv-x7f")
    assert why(error) == "Permission denied"
    assert text_of(error) == "Permission denied: '/out/.table.csv-x7f'"
    assert why(OSError("[Errno 2] Unable to open file (name = 'a.h5')")).startswith("Unable")
    assert why(ValueError("3 rows")) == text_of(ValueError("3 rows")) == "3 rows"


def _unworded(path):
    """Yield the lines at which a handler of errors of files puts the error into a message."""
    for handler in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(handler, ast.ExceptHandler) or not handler.name or not handler.type:
            continue
        if "OSError" not in {getattr(node, "id", "") for node in ast.walk(handler.type)}:
            continue
        for node in ast.walk(handler):
            put = isinstance(node, ast.FormattedValue) and node.value
            put = put or (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "str")
            value = node.args[0] if isinstance(node, ast.Call) and put else put
            if isinstance(value, ast.Name) and value.id == handler.name:
                yield f"{path.relative_to(SOURCE)}:{node.lineno}"


def test_every_handler_of_errors_of_files_says_why_in_words():
    found = [line for path in sorted(SOURCE.rglob("*.py")) for line in _unworded(path)]
    assert not found, "use vtcav.errors.why"


def test_a_study_that_cannot_be_read_or_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    assert main(["run", "folder"]) == 1
    assert "cannot read the study file 'folder': Is a directory" in capsys.readouterr().err
    Path("loop").symlink_to("loop")
    Path("study.yaml").write_text(STUDY)
    Path("some").mkdir()
    Image.new("RGB", (16, 16)).save("some/0.png")
    with pytest.raises(ExplanationError, match=r"to the folder 'loop': .*symbolic links$"):
        run_study(Study.load("study.yaml"), "loop")
    assert main(["versus", "a.pt", "b.pt", "--study", "study.yaml", "-o", "loop"]) == 1
    assert "cannot write to the folder 'loop'" in capsys.readouterr().err


@pytest.mark.usefixtures("place")
def test_a_network_that_misses_a_file_names_it(capsys):
    Path("other.py").write_text("def build():\n    open('weights.pt')\n")
    assert main(explain(model="python:other:build")) == 1
    message = capsys.readouterr().err
    assert "failed: FileNotFoundError: No such file or directory: 'weights.pt'" in message


class _Missing(torch.utils.data.Dataset):
    """Its pictures lie in files that are gone."""

    targets = (0, 0)

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        raise FileNotFoundError(2, "No such file or directory", "scans/0.png")


def test_a_data_set_that_misses_a_file_names_it():
    refs = datasets.from_torch(_Missing(), class_names=["scan"])
    with pytest.raises(ImageError, match=r": No such file or directory: 'scans/0\.png'"):
        next(iter(refs.values()))[0].fetch()
