"""What the command line says: in its own options, each warning once."""

import warnings

import numpy as np
import pytest
from PIL import Image

from tests.cli.test_cli import explain, place  # noqa: F401  (a fixture)
from vtcav.cli import main
from vtcav.cli.said import in_options

pytestmark = pytest.mark.usefixtures("place")
USAGE = (
    "vtcav x [--min-examples N] [--binary] [--preprocess YAML] [--weights FILE] [--probe FOLDER]"
)


def said(capsys, *words):
    assert main(list(words)) != 0
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("lower min_examples", "lower --min-examples"),
        ("pass binary=True (--binary)", "pass --binary"),
        ("in 'my min_examples.png', and a/min_examples.png", None),
        ("weights='sd.pt'", "--weights sd.pt"),
        ("pass images=FOLDER", "pass --probe FOLDER"),
        ("images={'a': FOLDER}, save(folder, binary=True)", None),
        (
            "expected one of a, b, or say which with label=; it has c",
            "expected one of a, b; it has c",
        ),
        ("relative to 'x': say where they are with root=", "relative to 'x'"),
        ("h, or say which with box= and form=; it has c", "h; it has c"),
        ("vtcav.Preprocess(..., window=(0, 9))", "--preprocess '{..., window: [0, 9]}'"),
        ("vtcav.Preprocess(224, mean=0.5)", "--preprocess '{size: 224, mean: 0.5}'"),
    ],
)
def test_arguments_are_options(message, expected):
    assert in_options(message, USAGE) == (expected or message)


def test_a_command_without_the_option_names_the_key_of_the_study():
    told = in_options("say vtcav.Preprocess(224, mean=..., std=...), and --limit", "STUDY")
    assert told == "say preprocess: {size: 224, mean: ..., std: ...}, and --limit"


def test_errors_name_options_and_commands(capsys):
    assert "(all: vtcav layers MODEL)" in said(capsys, *explain("--layers", "nine"))
    assert "lower --min-examples" in said(capsys, *explain("--min-examples", "9"))
    assert "--weights sd.pt" in said(capsys, *explain(model="sd.pt"))
    assert "write keras:net.keras" in said(capsys, *explain(model="net.keras"))


def test_a_folder_that_cannot_be_made_is_told_without_numbers(capsys):
    message = said(capsys, *explain("-o", "mymodel.py/out"))
    assert "cannot write to the folder 'mymodel.py/out': Not a directory" in message
    assert "Errno" not in message


def test_a_count_that_rather_is_an_index_is_refused(capsys):
    message = said(capsys, *explain("--classes", "340"))
    assert "expected at most 20" in message
    assert "--classes index:340" in message


def test_a_warning_is_shown_once(capsys, monkeypatch):
    def warns(arguments):
        for line, name in enumerate(("a", "a", "b")):
            warnings.warn_explicit(f"look at {name}", UserWarning, "code.py", line)

    monkeypatch.setattr("vtcav.cli.commands.cache.run", warns)
    assert main(["cache"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        f"vtcav: warning: look at {name}" for name in ("a", "b")
    ]


def test_equal_reasons_are_told_once(capsys, place):  # noqa: F811
    for i in range(7):
        (place / f"cats/{i}.pdf").write_bytes(b"%PDF-1.4")
    (place / "cats/a.png").write_bytes(b"")
    noise = np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8)
    Image.fromarray(noise).save(place / "cats/b.png")
    words = explain("--layers", "1", "--no-cache")
    words[:2] = ["explain-class", "cat", "--images", "cats"]
    assert main(words) == 0
    message = capsys.readouterr().err
    assert message.count("not a picture in a format") == 1
    assert message.count("images are left out") == 1
