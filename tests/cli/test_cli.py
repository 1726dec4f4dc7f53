"""The command line by its output: tables, JSON, exit codes, messages, interruption."""

import argparse
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import vtcav
from vtcav.cli import main, parser
from vtcav.results.tables import saved_rows

MODEL = """
import torch
import vtcav


def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 5, stride=2), torch.nn.ReLU(),
        torch.nn.Conv2d(8, 8, 3, stride=2), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 3))


def build():
    return vtcav.Classifier(net(), ["cat", "dog", "fox"], vtcav.Preprocess(32))


def binary():
    torch.manual_seed(0)
    return torch.nn.Sequential(net(), torch.nn.Linear(3, 1))


def fails():
    raise ValueError("no weights here")


def nothing():
    return 3


def slow():
    class Slow(torch.nn.Sequential):
        def forward(self, x):
            import pathlib, time
            pathlib.Path("started").touch()
            time.sleep(1)
            return super().forward(x)

    return vtcav.Classifier(Slow(*net()), ["cat", "dog", "fox"], vtcav.Preprocess(32))
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with a model, two concepts, negatives and class images."""
    (tmp_path / "mymodel.py").write_text(MODEL)
    rng = np.random.default_rng(0)
    for folder, high in (
        ("concepts/dark", 60),
        ("concepts/grey", 150),
        ("random", 255),
        ("cats", 255),
    ):
        (tmp_path / folder).mkdir(parents=True)
        for i in range(6):
            pixels = rng.integers(0, high, (40, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mymodel", raising=False)
    yield tmp_path
    sys.modules.pop("mymodel", None)


def explain(*more, image="cats/0.png", model="python:mymodel:build"):
    sources = ["--concepts", "concepts", "--negatives", "random"]
    return ["explain", image, "--model", model, *sources, "--quiet", *more]


def test_layers_as_table_and_json(place, capsys):
    assert main(["layers", "python:mymodel:build"]) == 0
    table = capsys.readouterr().out
    assert "8 x 14 x 14" in table
    assert "Conv2d" in table
    assert main(["layers", "python:mymodel:build", "--json"]) == 0
    layers = json.loads(capsys.readouterr().out)
    assert [layer["name"] for layer in layers] == ["0", "1", "2", "3"]
    assert layers[0] == {
        "name": "0",
        "kind": "Conv2d",
        "shape": [8, 14, 14],
        "layout": "NCHW",
        "recommended": False,
    }


def test_a_region_is_erased_with_and_without_concepts(place, capsys):
    """The box of the picture and a mask of it, alone, with negatives, and beside concepts."""
    mask = Image.new("L", (48, 40))
    mask.paste(255, (10, 8, 30, 28))
    mask.save(place / "mask.png")
    alone = ["explain", "cats/0.png", "--model", "python:mymodel:build", "--quiet", "--json"]
    results = []
    for region in ("10,8,30,28", "mask.png"):
        assert main([*alone, "--erase", region, "-o", "out"]) == 0
        results.append(json.loads(capsys.readouterr().out))
    box, masked = (r["erased"]["effects"] for r in results)
    assert [row["drop"] for row in box] == [row["drop"] for row in masked]
    assert {row["share"] for row in box} == {None}
    assert results[0]["erased"]["region"] == "box 10, 8, 30, 28"
    assert (place / "out/erasure.png").exists()
    assert main([*alone, "--erase", "mask.png", "--negatives", "random"]) == 0
    known = json.loads(capsys.readouterr().out)["erased"]["effects"]
    assert all(row["reference"] is not None for row in known)
    assert main(explain("--erase", "10,8,30,28", "--null-cavs", "0")) == 0
    text = capsys.readouterr().out
    assert text.startswith("Without the marked region the score of")
    assert "Concept attributions by class" in text
    for wrong, said in (("0,0,900,9", "has 48 x 40"), ("no.png", "no.png"), ("9,9,9,9", "a box")):
        assert main([*alone, "--erase", wrong]) == 1
        assert said in capsys.readouterr().err
    assert main(["explain", "cats/0.png", "--model", "python:mymodel:build"]) == 2


def test_what_a_user_says_of_a_network(place, capsys):
    (place / "names.txt").write_text("cat\ndog\nfox\n")
    (place / "input.yaml").write_text("size: [32, 40]\nmean: [0.5, 0.5, 0.5]\n")
    bare = ["layers", "python:mymodel:net", "--json", "--class-names", "names.txt", "--debug"]
    inline = ["--preprocess", "{size: 32, resize: stretch, std: 0.5}"]
    assert main([*bare, *inline, "--layouts", "0=NHWC,1=NCHW"]) == 0
    layers = json.loads(capsys.readouterr().out)
    assert [layer["shape"] for layer in layers[:2]] == [[14, 8, 14], [8, 14, 14]]
    assert layers[0]["layout"] == "NHWC"
    assert main([*bare, "--preprocess", "input.yaml"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["shape"] == [8, 14, 18]


def test_the_task_of_a_network(place, capsys):
    model = ["--task", "regression", "--preprocess", "{size: 32}", "--layers", "0.3"]
    assert main(explain(*model, "--json", model="python:mymodel:binary")) == 0
    data = json.loads(capsys.readouterr().out)
    assert {row["class_name"] for row in data["attributions"]} == {"lower", "higher"}


def test_every_command_that_loads_a_network_says_how():
    wanted = {"--task", "--layouts", "--preprocess", "--weights", "--class-names", "--device"}
    [action] = [a for a in parser()._actions if isinstance(a, argparse._SubParsersAction)]
    options = {name: set(c._option_string_actions) for name, c in action.choices.items()}
    loading = {name for name, own in options.items() if "--weights" in own}
    assert loading == {
        *("layers", "explain", "explain-class", "explore", "find", "discover", "errors"),
        *("diagnose", "localise", "compare", "evaluate", "correct"),
    }
    assert all(wanted <= options[name] for name in loading)


def test_explain_prints_what_it_saves(place, capsys):
    assert main(explain("--layers", "1,3", "--classes", "2", "-o", "out")) == 0
    out = capsys.readouterr().out
    assert "Written to" in out
    local = vtcav.LocalExplanation.load("out")
    table = pd.read_csv(place / "out" / "local_attributions.csv")
    assert len(table) == 2 * 2 * 2
    for value in local.attributions["attribution"]:
        assert f"{value:.4f}" in out
    assert {"dark", "grey"} <= set(table["concept"])
    bank = vtcav.CavBank.load("out/cavs.safetensors")
    assert bank.names == ("dark", "grey")


def test_explain_as_json_is_the_same(place, capsys):
    assert main(explain("--layers", "3", "--classes", "fox,index:0", "--json", "-o", "out")) == 0
    data = json.loads(capsys.readouterr().out)
    local = vtcav.LocalExplanation.load("out")
    assert [row["class_name"] for row in data["attributions"]] == ["fox", "cat"] * 2
    ours = [row["attribution"] for row in data["attributions"]]
    np.testing.assert_allclose(ours, local.attributions["attribution"], atol=1e-12)
    probability = data["predictions"][0]["probability"]
    assert probability == pytest.approx(local.predictions["probability"][0], abs=1e-12)


def test_saved_cavs_need_no_concept_images(place, capsys):
    assert main(explain("--layers", "3", "--json", "-o", "out")) == 0
    first = json.loads(capsys.readouterr().out)
    model = ["--model", "python:mymodel:build"]
    assert main(["explain", "cats/0.png", *model, "--cavs", "out/cavs.safetensors", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["attributions"] == first["attributions"]
    assert again["output"] is None


def test_explain_class(place, capsys, monkeypatch):
    sources = ["--concepts", "concepts", "--negatives", "random", "--images", "cats"]
    command = ["explain-class", "cat", "--model", "python:mymodel:build", *sources, "--quiet"]
    assert main([*command, "--layers", "3", "-o", "out"]) == 0
    out = capsys.readouterr().out
    glob = vtcav.GlobalExplanation.load("out")
    assert "cat: concept attributions over 6 images, 0 skipped" in out
    for value in glob.summary()["mean"]:
        assert f"{value:.4f}" in out
    assert main([*command, "--layers", "3", "--json", "--limit", "5", "--seed", "3"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [row["n"] for row in data["summary"]] == [5, 5]
    assert len(data["images"]) == 5
    monkeypatch.setattr(saved_rows, "MOST_IN_CSV", 3)
    few = [*command, "--layers", "3"]
    assert main([*few, "-o", "long"]) == 0
    assert "not written as CSV" in capsys.readouterr().err
    assert not (place / "long/global_attributions.csv").exists()
    assert main([*few, "--csv", "-o", "long"]) == 0
    assert len(pd.read_csv(place / "long/global_attributions.csv")) == 12


def test_binary_names_and_negatives_by_concept(place, capsys):
    for name in ("dark", "grey"):
        (place / "own" / name).mkdir(parents=True)
        for path in (place / "random").iterdir():
            (place / "own" / name / path.name).write_bytes(path.read_bytes())
    command = explain("--binary", "--json", model="python:mymodel:binary")
    command[command.index("random")] = "own"
    with pytest.warns(UserWarning, match="no preprocess given"):
        assert main([*command, "--debug"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert {row["class_name"] for row in data["attributions"]} == {"negative", "positive"}


def test_the_negatives_inside_the_concepts_are_no_concept(place, capsys):
    (place / "random").rename(place / "concepts" / "random")
    command = explain("--json", "--layers", "3")
    command[command.index("random")] = "concepts/random"
    assert main(command) == 0
    data = json.loads(capsys.readouterr().out)
    assert {row["concept"] for row in data["attributions"]} == {"dark", "grey"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": "nowhere.png"}, "'nowhere.png' does not exist"),
        ({"image": "cats"}, "explain takes one image, got 6; use vtcav explain-class"),
        ({"model": "dem"}, "unknown model 'dem': .*did you mean 'demo'"),
        ({"model": "python:nomodule:build"}, "no Python module 'nomodule'"),
        ({"model": "python:mymodel:nope"}, "the module 'mymodel' has no 'nope'"),
        ({"model": "python:mymodel:fails"}, "failed: ValueError: no weights here"),
        ({"model": "python:mymodel:nothing"}, "got int"),
        ({"model": "python:mymodel"}, "expected python:MODULE:CALLABLE"),
        ({"model": "python:mymodel:binary"}, "pass --binary"),
        ({"--layers": "9"}, "no layer '9'"),
        ({"--classes": "cta"}, "unknown class 'cta'.*did you mean 'cat'"),
        ({"--classes": "index:7"}, "class index 7 is out of range"),
        ({"--classes": "0"}, "at least 1"),
        ({"--concepts": "cats"}, "one folder per concept in 'cats', found none"),
        ({"--concepts": "nowhere"}, "'nowhere', which does not exist"),
        ({"--negatives": "nowhere"}, "folder of negatives, got 'nowhere'"),
        ({"-o": "mymodel.py"}, "cannot write to the folder 'mymodel.py'"),
        ({"--device": "quantum"}, "returns a finished model; set device there"),
        ({"--device": "quantum", "model": "demo"}, "device 'quantum' cannot be used"),
    ],
)
@pytest.mark.filterwarnings("ignore:no preprocess given")
def test_work_that_fails_is_one_line_and_exit_1(place, capsys, change, message):
    command = explain()
    for key, value in change.items():
        if key == "image":
            command[1] = value
        elif key == "model":
            command[command.index("--model") + 1] = value
        else:
            command += [key, value]
    assert main(command) == 1
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if "warning" not in line]
    assert len(lines) == 1
    import re

    assert re.search(message, lines[0]), lines[0]
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["explian"], "invalid choice: 'explian'"),
        (["explain"], "IMAGE"),
        (["explain", "a.png"], "--model"),
        (["layers", "demo", "--wrong"], "--wrong"),
        (["explain", "a.png", "--model", "demo", "--steps", "many"], "--steps"),
        (["explain", "a.png", "--model", "demo", "--batch-size", "0"], "at least 1"),
        (["explain", "a.png", "--model", "demo", "--tolerance", "2"], "a number between 0 and 1"),
        (["layers", "demo", "--task", "class"], "invalid choice: 'class'"),
        (["layers", "demo", "--layouts", "NHWC"], "layouts by layer, such as layer3=NHWC"),
        (["layers", "demo", "--preprocess", "{siz: 9}"], "unknown key 'siz'; did you mean 'size'"),
        (["layers", "demo", "--preprocess", "{mean: 0}"], "the key 'size' is missing"),
        (["layers", "demo", "--preprocess", "{size: 0}"], "expected size to be a whole number"),
        (["layers", "demo", "--preprocess", "{size"], "cannot read '{size'"),
        (
            ["layers", "demo", "--preprocess", "size: 96, mean: 0.5"],
            "put { } around 'size: 96, mean: 0.5': '{size: 96, mean: 0.5}'",
        ),
        (["layers", "demo", "--preprocess", "nowhere.yaml"], "cannot read 'nowhere.yaml'"),
    ],
)
def test_wrong_usage_is_exit_2(capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either --concepts DIR with --negatives DIR, or --cavs FILE"),
        (["--concepts", "concepts"], "--concepts needs --negatives"),
        (["--concepts", "concepts", "--cavs", "x"], "either --concepts"),
    ],
)
def test_options_that_do_not_go_together_are_exit_2(place, capsys, arguments, message):
    command = ["explain", "cats/0.png", "--model", "python:mymodel:build", *arguments]
    assert main(command) == 2
    assert message in capsys.readouterr().err


def test_debug_shows_the_traceback(place):
    with pytest.raises(vtcav.LayerError, match="no layer '9'"):
        main(explain("--layers", "9", "--debug"))


def test_an_unreadable_image_is_a_warning_or_with_strict_an_error(place, capsys):
    (place / "concepts" / "dark" / "7.png").write_text("no picture")
    assert main(explain("--layers", "3", "--json")) == 0
    captured = capsys.readouterr()
    assert "vtcav: warning: 1 of 7 images is left out" in captured.err
    assert "7.png" in captured.err
    json.loads(captured.out)
    assert main(explain("--layers", "3", "--strict")) == 1
    assert "7.png" in capsys.readouterr().err


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "vtcav", *arguments], capture_output=True, text=True, **options
    )


def test_help_of_every_command_has_an_example():
    assert "Start with: vtcav demo" in run("--help").stdout
    for command in ("demo", "layers", "explain", "explain-class"):
        done = run(command, "--help")
        assert done.returncode == 0
        assert "example" in done.stdout
    assert run("--version").stdout == f"vtcav {vtcav.__version__}\n"


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_an_unreadable_image_is_refused_before_anything_is_learned(place, capsys):
    (place / "broken.jpg").write_text("no picture")
    assert main(explain("-o", "out", image="broken.jpg")) == 1
    assert "cannot read 'broken.jpg': it is not a picture" in capsys.readouterr().err
    assert not (place / "out").exists()


def test_ctrl_c_ends_cleanly_and_leaves_nothing_half_written(place):
    command = [sys.executable, "-m", "vtcav", *explain("-o", "out", model="python:mymodel:slow")]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # a shell starts what runs in the background deaf to Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not (place / "started").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted; nothing is left half-written" in err
    assert "Traceback" not in err
    assert not (place / "out" / "local.json").exists()
    assert not list((place).glob("out/.*"))


def test_a_reader_that_goes_away_is_no_error(place):
    script = f"{sys.executable} -m vtcav layers python:mymodel:build --json | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", script], capture_output=True, text=True)
    assert "Traceback" not in done.stderr


def test_importing_vtcav_loads_neither_torch_nor_matplotlib():
    code = textwrap.dedent("""
        import sys, vtcav, vtcav.cli
        vtcav.cli.parser()
        print([m for m in ("torch", "matplotlib", "pandas", "numpy", "rich") if m in sys.modules])
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_can_be_imported():
    for name in vtcav.__all__:
        assert getattr(vtcav, name) is not None
    assert set(vtcav.__all__) <= set(dir(vtcav))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        vtcav.nonsense  # noqa: B018  (looking it up is what fails)


def test_words(place, libraries, capsys):
    from tests.helpers.joint import save_tiny

    save_tiny(place / "clip")
    rng = np.random.default_rng(1)
    (place / "probe").mkdir()
    for i in range(24):
        pixels = rng.integers(0, 40 + 9 * i, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / "probe" / f"{i:02}.png")
    command = ["explain", "cats/0.png", "--model", "python:mymodel:build", "--layers", "3"]
    few = ["--null-cavs", "20", "--bootstraps", "5", "--fill", "none", "--json"]
    words = ["--text", "bright=a bright picture", "--text", "bright=a photo of something bright"]
    words += ["--probe", "probe", "--text-model", "clip"]
    folders = ["--concepts", "concepts", "--negatives", "random"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # random weights mean little
        assert main([*command, *few, *folders, *words, "-o", "out"]) == 0
    rows = pd.DataFrame(json.loads(capsys.readouterr().out)["attributions"])
    assert list(rows["concept"].unique()) == ["dark", "grey", "bright"]
    bank = vtcav.CavBank.load("out/cavs.safetensors")
    assert bank.concepts[2].texts == ("a bright picture", "a photo of something bright")
    assert bank.concepts[2].negatives == bank.concepts[0].negatives
    for wrong, message in (
        (words[:4], "--text NAME=TEXT, --probe DIR and --text-model DIR go together"),
        (["--cavs", "out/cavs.safetensors", *words], "give either --concepts DIR"),
        (["--text", "bright"], "expected NAME=TEXT, got 'bright'"),
    ):
        try:
            code = main([*command, *few, *wrong])
        except SystemExit as end:
            code = end.code
        assert code == 2
        assert message in capsys.readouterr().err
