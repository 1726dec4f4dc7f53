"""The study file: what it may say, and what every mistake in it is told with."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vtcav.errors import VtcavError
from vtcav.files.safe_names import folder_names
from vtcav.images.listing import collect
from vtcav.study import Study, StudyError
from vtcav.study.sources import paths
from vtcav.study.spec import ConceptSources, DiagnosticsSpec, ImageSpec, Options, TextSpec
from vtcav.study.template import look_into, study_text

LEAST = """model: demo
concepts: concepts
negatives: random
classes:
  zebra: zebras
output: out
"""


@pytest.fixture
def place(tmp_path):
    """A folder with two concepts, negatives, images of a class and a photograph."""
    for folder, count in (
        ("concepts/dotted", 5),
        ("concepts/striped", 6),
        ("random", 7),
        ("zebras", 2),
        ("few", 1),
    ):
        (tmp_path / folder).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(np.full((4, 4, 3), i, np.uint8)).save(tmp_path / folder / f"{i}.png")
    (tmp_path / "net.safetensors").touch()
    (tmp_path / "classes.txt").write_text("zebra\n")
    return tmp_path


@pytest.fixture
def read(place):
    """Read a study of some text in that folder."""

    def read(text):
        (place / "study.yaml").write_text(text, "utf-8")
        return Study.load(place / "study.yaml")

    return read


def changed(key, value):
    """The least study with the lines of one key replaced."""
    lines = re.sub(rf"^{key}:.*\n(  .*\n)*", "", LEAST, flags=re.MULTILINE)
    return lines + f"{key}: {value}\n"


# -- what it may say --------------------------------------------------------------------------


def test_the_least_study_has_every_default(read):
    study = read(LEAST)
    assert study.model.name == "demo"
    assert study.concepts == {
        "dotted": ConceptSources("concepts/dotted", "random"),
        "striped": ConceptSources("concepts/striped", "random"),
    }
    assert study.classes == {"zebra": "zebras"}
    assert study.options == Options()
    assert study.diagnostics == DiagnosticsSpec()
    assert (study.layers, study.images, study.peers) == (None, {}, ())


EVERYTHING = """
model:
  name: timm:resnet18
  weights: net.safetensors
  class_names: [no, 1, zebra]
  binary: false
  task: classes
  device: cpu
  layouts: {stem: NHWC, "blocks.*": tokens(1+2x2)}
  output: 0
  preprocess: {size: [8, 9], resize: stretch, mean: [0.1, 0.2, 3e-1], std: 1}
layers: [1, layer3.1]
concepts:
  no: {examples: concepts/dotted, negatives: [random/0.png, zebras]}
  "striped": [concepts/striped/0.png, concepts/dotted]
negatives: random
classes: {281: zebras, index: [zebras/0.png]}
images: {"a b": zebras/0.png, c: {file: zebras/1.png, classes: [zebra, 281]}}
options:
  {steps: 50, tolerance: 1e-3, limit: 9, seed: 3, batch_size: 2, null_cavs: 0, bootstraps: 0,
   min_examples: 2, strict: true, top: [zebra], variant: filter, precision: bf16}
diagnostics: {resamples: 20, other_negatives: zebras}
peers: [tcav]
formats: [json]
report: no
output: ../out
"""


def test_everything_that_a_study_may_say(read):
    study = read(EVERYTHING)
    assert study.model.class_names == ("no", "1", "zebra")
    assert study.model.layouts == {"stem": "NHWC", "blocks.*": "tokens(1+2x2)"}
    assert (study.model.task, study.model.output) == ("classes", 0)
    assert study.model.preprocess.size == (8, 9)
    assert study.model.preprocess.mean == (0.1, 0.2, 0.3)
    assert study.layers == ("1", "layer3.1")
    assert study.concepts["no"] == ConceptSources("concepts/dotted", ("random/0.png", "zebras"))
    examples = ("concepts/striped/0.png", "concepts/dotted")
    assert study.concepts["striped"] == ConceptSources(examples, "random")
    assert study.classes == {"281": "zebras", "index": ("zebras/0.png",)}
    assert study.images["c"] == ImageSpec("zebras/1.png", ("zebra", "281"))
    assert study.options == Options(
        steps=50,
        tolerance=0.001,
        limit=9,
        seed=3,
        batch_size=2,
        null_cavs=0,
        bootstraps=0,
        min_examples=2,
        strict=True,
        top=("zebra",),
        variant="filter",
        precision="bf16",
    )
    assert study.diagnostics == DiagnosticsSpec(20, "zebras")
    assert (study.peers, study.formats, study.report) == (("tcav",), ("json",), False)
    assert read(study.to_yaml()) == study


TEXTS = """
texts:
  concepts: {bright: a bright picture, no: [a dim picture, "dark"]}
  images: zebras
  model: clip
"""
WORDS = LEAST.replace("concepts: concepts\nnegatives: random\n", "") + TEXTS


def test_concepts_from_words(read):
    words = {"bright": ("a bright picture",), "no": ("a dim picture", "dark")}
    study = read(WORDS)
    assert study.texts == TextSpec(words, "zebras", "clip")
    assert (study.concepts, study.names) == ({}, ("bright", "no"))
    assert read(study.to_yaml()) == study
    study = read(LEAST + TEXTS + "  neutral: [a photo]\n  share: 0.25\n")
    assert study.texts == TextSpec(words, "zebras", "clip", "random", ("a photo",), 0.25)
    assert study.names == ("dotted", "striped", "bright", "no")
    assert read(study.to_yaml()) == study
    own = read(LEAST.replace("random", "{dotted: random, striped: concepts/dotted}") + TEXTS)
    assert own.texts.negatives is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (WORDS.replace("  images: zebras\n", ""), "line 7, texts: the key 'images' is missing"),
        (WORDS.replace("images: zebras", "images: z"), "'z'"),
        (WORDS.replace("no: [", "no: [[], "), "line 7, texts.concepts.no"),
        (WORDS + "  share: 2\n", "expected a number between 0 and 1, got the number 2"),
        (WORDS.replace("bright:", "1: "), None),
        (LEAST + TEXTS.replace("bright:", "dotted:"), "is a concept of 'concepts' too"),
        (WORDS.replace("classes:\n  zebra: zebras\n", ""), "there is nothing to explain"),
    ],
)
def test_mistakes_in_words(read, text, message):
    if message is None:
        assert read(text).names[0] == "1"
        return
    with pytest.raises(StudyError) as caught:
        read(text)
    assert message in str(caught.value)


def test_images_on_an_object_store(read, place):
    there = place.as_uri()
    text = LEAST + f"images: [{there}/few/0.png]\n"
    for folder in ("concepts", "random", "zebras"):
        text = text.replace(f": {folder}", f": {there}/{folder}")
    study = read(text)
    assert study.concepts["dotted"] == ConceptSources(f"{there}/concepts/dotted", f"{there}/random")
    assert study.images == {"0": ImageSpec(f"{there}/few/0.png")}
    [ref] = collect(paths(study.images["0"].file))
    assert ref.load().size == (4, 4)
    assert len(collect(paths(study.classes["zebra"]))) == 2
    assert read(study.to_yaml()) == study


def test_a_resolved_study_says_the_same(read):
    study = read(LEAST + "images: zebras\n")
    assert list(study.images) == ["0", "1"]
    assert study.images["0"].file == str(Path("zebras/0.png"))
    resolved = study.resolved(["a", "b"])
    assert resolved.layers == ("a", "b")
    data = yaml.safe_load(resolved.to_yaml())
    assert data["options"]["null_cavs"] is None
    assert data["negatives"] == "random"
    assert read(resolved.to_yaml()) == resolved


def test_negatives_by_concept_and_by_folder(read, place):
    own = "{dotted: zebras, striped: random}\noptions: {min_examples: 2}"
    study = read(changed("negatives", own))
    assert study.concepts["dotted"].negatives == "zebras"
    for name in ("dotted", "striped"):
        (place / "random" / name).mkdir()
        for path in (place / "random").glob("*.png"):
            (place / "random" / name / path.name).write_bytes(path.read_bytes())
    assert read(LEAST).concepts["striped"].negatives == str(Path("random/striped"))


def test_negatives_inside_the_concepts_are_no_concept(read, place):
    (place / "random").rename(place / "concepts" / "random")
    study = read(changed("negatives", "concepts/random"))
    assert list(study.concepts) == ["dotted", "striped"]


def test_photographs_of_one_name_are_called_by_their_paths(read):
    study = read(LEAST + "images: [zebras/0.png, random/0.png, random/1.png]\n")
    assert list(study.images) == ["zebras/0.png", "random/0.png", "1"]


# -- mistakes ---------------------------------------------------------------------------------

MISTAKES = [
    ("modle: demo\n" + LEAST, r"line 1: unknown key 'modle'; did you mean 'model'\?"),
    (LEAST + "zzz: 1\n", "line 7: unknown key 'zzz'; expected one of model, layers"),
    (LEAST + "output: b\n", "line 7: the key 'output' stands here twice, first in line 6"),
    ("model: demo\n", "line 1: the key 'concepts' is missing; expected model, concepts, output"),
    (changed("classes", ""), "there is nothing to explain: expected 'classes' .* or 'images'"),
    ("", "study file .* is empty; vtcav init writes one"),
    ("- model\n", "line 1: expected a mapping with the keys model, .* got a list"),
    ("model: [demo\n", "line 2: this is not YAML: while parsing a flow sequence"),
    ("model:\tdemo\n\t- a\n", "line 1: this is not YAML: .*with spaces, never with tabs"),
    ("a: 1\n---\nb: 2\n", "line 2: this is not YAML: expected a single document"),
    ("<<: {model: demo}\n" + LEAST, "line 1: unknown key '<<'"),
    ("[a]: 1\n" + LEAST, "line 1: expected a name in front of ':', got a list or mapping"),
    (changed("model", ""), "line 6, model: expected the name of a network.* got nothing"),
    (changed("model", "5"), 'line 6, model: .* got the number 5; if this is meant, write "5"'),
    (changed("model", "!!python/name:os.system x"), "model: .* a value with the tag"),
    (changed("model", "{nam: demo}"), "line 6, model: unknown key 'nam'; did you mean 'name'"),
    (changed("model", "{weights: random}"), "line 6, model: the key 'name' is missing"),
    (changed("model", "{name: a, weights: b}"), "model.weights: 'b' does not exist; paths are"),
    (
        changed("model", "{name: a, class_names: cat}"),
        "line 6, model.class_names: 'cat' does not exist; paths are .*; expected a list of class "
        "names, or a file with a name per line or JSON, or names with commas, such as cat,dog",
    ),
    (changed("model", "{name: a, binary: 1}"), "model.binary: expected true or false, got the"),
    (changed("model", "{name: a, task: class}"), "model.task: .* did you mean 'classes'"),
    (
        changed("model", "{name: a, preprocess: {size: 0}}"),
        "preprocess.size: expected size to",
    ),
    (changed("model", "{name: a, preprocess: {size: 9, mean: 99}}"), "expected a mean on the sc"),
    (
        changed("model", "{name: a, preprocess: {size: 9, resize: cut}}"),
        "preprocess.resize: .*'cut'",
    ),
    (changed("layers", "a"), "line 7, layers: expected a list of layer names, got the text 'a'"),
    (changed("layers", "[a, a]"), r"line 7, layers\[1\]: 'a' is listed twice; remove one"),
    (changed("concepts", "nowhere"), "line 6, concepts: .*got 'nowhere', which does not exist"),
    (changed("concepts", "zebras"), "concepts: expected one folder per concept in .* found none"),
    (changed("concepts", "{dotted: few}"), "concepts.dotted: .* at least 5 images, got 1; a"),
    (changed("concepts", "{dotted: []}"), "concepts.dotted: expected .* got an empty list"),
    (changed("concepts", "{dotted: }"), "line 6, concepts.dotted: expected .* got nothing"),
    (changed("concepts", "{a: {examples: random, negative: few}}"), "did you mean 'negatives'"),
    (changed("negatives", "few"), "line 6, negatives: .*at least 5 images, got 1"),
    (changed("negatives", "{dotted: random}"), "negatives: no negatives for 'striped'; add a"),
    (changed("negatives", "{dots: random}"), "negatives.dots: there is no concept 'dots'; exp"),
    (changed("negatives", ""), "concepts: no negatives for 'dotted', 'striped': give a folder"),
    (
        changed("classes", "zebras"),
        "classes: expected a folder with one folder of images per class",
    ),
    (
        changed("classes", "\n  zebra: zebra"),
        "line 6, classes.zebra: 'zebra' does not exist; did you mean 'zebras'",
    ),
    (changed("classes", "\n  zebra: 50"), "line 6, classes.zebra: expected .*the number 50"),
    (changed("classes", "\n  zebra: true"), "classes.zebra: expected .*the boolean true"),
    (LEAST + "images: [zebras]\n", r"images\[0\]: expected an image file, got the folder"),
    (LEAST + "images: [no.png]\n", r"line 7, images\[0\]: 'no.png' does not exist"),
    (LEAST + "images: [few/0.png, few/0.png]\n", "images: the image 'few/0.png' is listed twice"),
    (LEAST + "images: {a: {file: few/0.png, classes: x}}\n", "images.a.classes: expected a whole"),
    (LEAST + "options:\n  limt: 5\n", "line 8, options: unknown key 'limt'; did you mean 'limit'"),
    (LEAST + 'options:\n  limit: "50"\n', "line 8, options.limit: .*'50'; write it without quo"),
    (LEAST + "options:\n  limit: 0\n", "line 8, options.limit: .*at least 1, got the number 0"),
    (LEAST + "options: {seed: true}\n", "options.seed: expected a whole .* got the boolean true"),
    (LEAST + "options: {seed: 1.5}\n", "options.seed: expected a whole .* got the number 1.5"),
    (LEAST + "options: {steps: adaptve}\n", "options.steps: expected 'adaptive' or a whole"),
    (LEAST + 'options: {steps: "50"}\n', "options.steps: .* got the text '50'; write it without"),
    (LEAST + "options: {tolerance: 2}\n", "options.tolerance: expected a number between 0 and 1"),
    (LEAST + "options: {precision: bf8}\n", "options.precision: expected 'auto', 'bf16' or 'fp16'"),
    (LEAST + 'options: {strict: "yes"}\n', "options.strict: expected true or false, got the te"),
    (LEAST + "options: {top: 0}\n", "options.top: expected a whole number of at least 1"),
    (LEAST + "diagnostics: 3\n", "diagnostics: expected true, false, or a mapping"),
    (LEAST + "diagnostics: {resamples: 5}\n", "diagnostics.resamples: .* at least 20, got"),
    (LEAST + "peers: [tcva]\n", r"peers\[0\]: expected 'visual_tcav'.* did you mean 'tcav'"),
    (LEAST + "formats: [xlsx]\n", r"line 7, formats\[0\]: expected 'csv', 'parquet' or 'json'"),
    (changed("output", "."), "line 6, output: the results would lie among the study's own files"),
    (changed("output", "zebras/out"), "output: the results would lie in 'zebras', whose images"),
    (changed("output", "concepts/out"), "output: the results would lie in 'concepts'"),
    (LEAST + f"images: [{'x' * 300}]\n", r"line 7, images\[0\]: 'x+' does not exist"),
    (LEAST.replace("random", "[[random], random]"), r"negatives\[0\]: .*, got a list"),
    (changed("output", '"a\\nb"'), r"output: .*in printable letters, got 'a\\nb'"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_a_mistake_is_told_with_its_line_and_cure(read, text, message):
    with pytest.raises(StudyError, match=f"(?s){message}"):
        read(text)


def test_a_study_that_is_not_there_or_no_text(place):
    with pytest.raises(StudyError, match=r"no study file 'nowhere\.yaml'; vtcav init writes one"):
        Study.load("nowhere.yaml")
    with pytest.raises(StudyError, match="cannot read the study file"):
        Study.load(place / "zebras" / "0.png")
    assert issubclass(StudyError, VtcavError)


def test_an_alias_of_itself_ends(read):
    with pytest.raises(StudyError, match=r"line 1, model\.a: the alias stands for a value"):
        read("model: &m {a: *m}\nconcepts: c\noutput: o\nclasses: {a: b}\n")


# -- names of folders -------------------------------------------------------------------------

HOSTILE = [
    *("../x", "a/b", "a\\b", "..", ".", "/", "~", "con", "NUL.txt", "aux", "zebra.", " zebra"),
    *("<script>alert(1)</script>", "q\"'", "Zebra", "zebra", "ZEBRA", "naïve 斑马", "x" * 5000),
    *("斑" * 300, "a:b", "a*b?", "-rf", "\u202eevil", "e\u0301", "\u00e9"),
]


def test_hostile_names_get_folders_of_their_own(tmp_path):
    folders = folder_names({name: name for name in HOSTILE})
    assert len({name.casefold() for name in folders.values()}) == len(HOSTILE)
    for name in folders.values():
        (tmp_path / name).mkdir()
        assert (tmp_path / name).resolve().parent == tmp_path.resolve()
        assert not name.startswith(".")
        assert name == name.rstrip(" .")
        assert len(name.encode()) <= 100
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(folders.values())
    kept = folder_names({"1": "Egyptian cat", "2": "tench, Tinca_tinca", "3": "斑马"})
    assert list(kept.values()) == ["Egyptian cat", "tench, Tinca_tinca", "斑马"]


@given(st.lists(st.text(min_size=1), max_size=6, unique=True))
def test_folders_of_any_names_are_plain_and_apart(names):
    folders = folder_names({name: name for name in names})
    assert folders == folder_names({name: name for name in reversed(names)})
    assert len({name.casefold() for name in folders.values()}) == len(names)
    for name in folders.values():
        assert name == Path(name).name
        assert not set(name) & set('/\\:*?"<>|\0\n')


def test_two_classes_of_one_name_have_two_folders():
    folders = folder_names({"134": "crane", "517": "crane"})
    assert len(set(folders.values())) == 2


# -- what init writes -------------------------------------------------------------------------


def test_what_init_writes_of_a_folder_is_a_study(place):
    (place / "zebras").rename(place / "classes")
    (place / "classes" / "no: zebra #1").mkdir()
    (place / "classes" / "281").mkdir()
    for name in ("no: zebra #1", "281"):
        (place / "classes" / name / "a.png").write_bytes((place / "few/0.png").read_bytes())
    (place / "yes.png").write_bytes((place / "few/0.png").read_bytes())
    found = look_into(place)
    assert found.missing == []
    (place / "study.yaml").write_text(study_text(found, place), "utf-8")
    study = Study.load(place / "study.yaml")
    assert study.options == Options()
    assert study.classes == {"281": "classes/281", "no: zebra #1": "classes/no: zebra #1"}
    assert study.images == {"yes": ImageSpec("yes.png")}
    assert list(study.concepts) == ["dotted", "striped"]


def test_what_init_does_not_find_is_said(tmp_path):
    found = look_into(tmp_path)
    assert [what.split(" (")[0] for what in found.missing] == [
        "concepts",
        "negatives",
        "something to explain",
    ]
    (tmp_path / "study.yaml").write_text(study_text(found, tmp_path), "utf-8")
    with pytest.raises(StudyError, match="nothing to explain: expected 'classes'"):
        Study.load(tmp_path / "study.yaml")
