"""Words: how sentences name things."""

import re
from pathlib import Path

import vtcav
from vtcav.report.pairs import pairs_part
from vtcav.results.words import named_layers

# a value of a layer after "at", in Python, JavaScript or a template
BARE = re.compile(
    r"(?<!layer) at (?:\$?\{|(?:<b>)?\{\{ )(?!named_layers|count\(|len\()[^}]*?\blayers?\w*"
)


def test_a_sentence_says_that_a_layer_is_one():
    """Networks call layers "5" and "8", and "one direction at 5 and 8" reads like a score."""
    assert named_layers(["5", "8"]) == "layers '5' and '8'"
    [said] = pairs_part({("letter", "pore"): ["5", "8"]}, [], erased=True).others
    assert said == "“letter” and “pore” (layers '5' and '8')"
    code = [
        path
        for path in Path(vtcav.__file__).parent.rglob("*")
        if path.suffix in {".py", ".js", ".jinja", ".html"}
    ]
    found = [f"{path.name}: {hit}" for path in code for hit in BARE.findall(path.read_text())]
    assert found == []
    assert len(code) > 300
