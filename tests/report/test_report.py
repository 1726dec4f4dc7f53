"""The report: its numbers are the tables', its names are text, it needs and sends nothing."""

import base64
import hashlib
import html
import json
import math
import re
import zlib
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import vtcav
from tests.helpers.studies import CLASSES, CONCEPT, IMAGE, small_study
from vtcav.cli import parser
from vtcav.cli.options import Arguments
from vtcav.diagnostics.levels import BAD
from vtcav.diagnostics.result import Diagnostics
from vtcav.errors import ExplanationError
from vtcav.report import build_report, write_report
from vtcav.report.heading import heading
from vtcav.report.images import packed
from vtcav.report.methods import CITATION
from vtcav.report.page import environment, safe_json
from vtcav.results.explanation import GlobalExplanation
from vtcav.results.verdicts import Verdict
from vtcav.results.words import clear, number, short_names


class Page(HTMLParser):
    """Elements with their attributes, and the text of scripts, as a browser reads them."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.texts, self.open, self.scripts, self.rows = [], [], [], {}, []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        self.open.append((tag, attrs))
        if tag == "tr" and "data-significant" in attrs:
            self.rows.append((attrs, []))
        elif self.rows and tag in ("td", "th") and any(t == "tbody" for t, _ in self.open):
            self.rows[-1][1].append([attrs.get("data-v"), ""])

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        if self.open and self.open[-1][0] == "script":
            key = self.open[-1][1].get("id", "code")
            self.scripts[key] = self.scripts.get(key, "") + data
            return
        self.texts.append(data)
        if self.rows and self.rows[-1][1] and any(t in ("td", "th") for t, _ in self.open):
            self.rows[-1][1][-1][1] += data

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def study():
    return small_study()


@pytest.fixture(scope="module")
def report(study):
    return build_report(study.local, study.global_, study.diagnostics, title="<b>Study</b>")


@pytest.fixture(scope="module")
def page(report):
    return Page(report)


# -- what comes from a user -------------------------------------------------------------------


def test_hostile_names_are_text_everywhere(report, page):
    assert not [attrs for tag, attrs in page.tags if any(a.startswith("on") for a in attrs)]
    assert [
        tag for tag, attrs in page.tags if tag == "img" and attrs.get("src") in ("x", "y")
    ] == []
    scripts = [attrs for tag, attrs in page.tags if tag == "script"]
    # settings, index, three images, the code; a name that broke out would add or end one
    assert len(scripts) == 6
    assert CLASSES[0] in page.text
    assert CONCEPT in page.text
    assert "<b>Study</b>" in page.text
    assert report.count("</script>") == 6


def test_names_are_whole_in_the_data_of_the_images(page):
    first = json.loads(page.scripts["image-data-0"])
    assert CONCEPT in first["concepts"]
    assert set(first["classes"]) < {clear(name) for name in CLASSES}
    index = json.loads(page.scripts["image-index"])
    # the name of a file ends after its last slash, and this one has one in "</script>"
    assert index[0]["name"] == clear(IMAGE.rpartition("/")[2])
    assert [entry["name"] for entry in index[1:]] == ["1.png", "2.png"]


def test_numbers_and_images_begin_with_the_layer_to_read_first(study):
    best = {"cold": "3", "plain": "1", CONCEPT: "3"}
    page = Page(
        build_report(
            [replace(study.local[0], best_layers=best)],
            [replace(study.global_[0], best_layers=best)],
        )
    )
    begun = {cells[2][1]: cells[1][1] for _, cells in page.rows[:3]}
    assert begun == {clear(concept): layer for concept, layer in best.items()}
    data = json.loads(page.scripts["image-data-0"])
    begun = {data["concepts"][k]: data["layers"][j] for j, k, *_ in reversed(data["rows"])}
    assert begun == {clear(concept): layer for concept, layer in best.items()}


def test_letters_that_act_are_spelled(report):
    assert "\u202e" not in report
    assert clear("a\u202eb\n\0") == "a\\u202eb\\n\\x00"
    assert clear("Zürich 東京 عربي 🦓") == "Zürich 東京 عربي 🦓"


def test_names_with_halves_of_letters_do_not_break_the_page(study, tmp_path):
    odd = replace(study.local[0], image="a\udcff.png")
    text = build_report([odd])
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    assert json.loads(Page(text).scripts["image-index"])[0]["name"] == "a\\udcff.png"


def test_numbers_keep_to_their_percent_sign_and_names_stay_as_they_are():
    sentence = "Without 'a \\' 5 %' the class's score falls by 7 % (\"5 %'s\"; 1 to 9 %), “3 %”."
    said = environment().from_string("{{ sentence | unbroken }}").render(sentence=sentence)
    assert html.unescape(said) == sentence.replace("7 %", "7\u00a0%").replace("9 %", "9\u00a0%")


def test_json_cannot_end_its_element():
    text = safe_json({"</script>": "<!--\u2028&"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"</script>": "<!--\u2028&"}


def test_folders_of_a_disk_are_not_told(report):
    assert "/home/ada" not in report
    assert short_names(["/a/x/1.png", "/b/x/1.png", "2.png"]) == ["a/x/1.png", "b/x/1.png", "2.png"]
    assert short_names(["same", "same", ""]) == ["same", "same", ""]


# -- nothing goes in or out -------------------------------------------------------------------


def test_nothing_is_fetched_and_the_policy_forbids_it(report, page):
    policies = [
        attrs["content"]
        for tag, attrs in page.tags
        if tag == "meta" and attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    assert len(policies) == 1
    assert "default-src 'none'" in policies[0]
    assert "unsafe" not in policies[0]
    for tag, attrs in page.tags:
        for key in ("src", "href", "srcset", "data", "action", "poster"):
            if (value := attrs.get(key)) is not None:
                assert value.startswith(("data:image/", "#")), (tag, value)
        assert "style" not in attrs, "the policy forbids styles in attributes"
    # a name, and the address in the citation: text, which nothing loads
    texts = r"http://www\.w3\.org/2000/svg|\{https://openreview\.net/forum\?id=\w+\}"
    assert not re.search(r"@import|https?://", re.sub(texts, "", report))


def test_policy_allows_exactly_the_script_and_style_of_the_page(page):
    code = page.scripts["code"]
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    policy = next(a["content"] for t, a in page.tags if "http-equiv" in a)
    assert f"script-src 'sha256-{digest}'" in policy


# -- numbers ----------------------------------------------------------------------------------


def test_numbers_of_the_table_are_those_of_the_summaries(study, page):
    rows = [cells for _, cells in page.rows]
    expected = [row for g in study.global_ for row in g.summary().to_dict("records")]
    assert len(rows) == len(expected) == 12
    columns = {4: "mean", 5: "ci_low", 6: "cav_low", 7: "null_mean", 8: "effect", 9: "p_value"}
    for cells, row in zip(rows, expected, strict=True):
        assert cells[2][1] == clear(row["concept"])
        assert int(cells[3][1]) == row["n"]
        for column, name in {**columns, 10: "q_value"}.items():
            exact = float(cells[column][0]) if cells[column][0] else math.nan
            assert exact == pytest.approx(row[name], abs=0, nan_ok=True)
        assert cells[4][1] == number(row["mean"])
        assert cells[5][1] == f"{number(row['ci_low'])} to {number(row['ci_high'])}"


def test_numbers_of_an_image_are_those_of_its_table(study, page):
    for i, local in enumerate(study.local):
        data = json.loads(page.scripts[f"image-data-{i}"])
        table = local.attributions.to_dict("records")
        assert len(data["rows"]) == len(table)
        for shown, row in zip(data["rows"], table, strict=True):
            assert data["layers"][shown[0]] == row["layer"]
            assert data["concepts"][shown[1]] == clear(row["concept"])
            assert data["classes"][shown[2]] == clear(row["class_name"])
            assert shown[3] == pytest.approx(row["attribution"], abs=1e-6)
            assert shown[4] == number(row["attribution"])


def test_maps_come_back_to_the_last_digit_shown(study, page):
    local = study.local[1]
    data = json.loads(page.scripts["image-data-1"])
    planes = np.frombuffer(zlib.decompress(base64.b64decode(data["maps"])), np.uint8)
    low, high = planes.reshape(2, -1).astype(int)
    values, start = low + 256 * high, 0
    largest = 0.0
    for layer, (h, w) in zip(local.layers, data["shapes"], strict=True):
        for concept in local.concepts:
            M = local.concept_map(layer, concept)
            found = values[start : start + h * w].reshape(h, w)
            start += h * w
            assert M.shape == (h, w)
            for m, thousandths in zip(M.ravel(), found.ravel(), strict=True):
                shown = {0: "0", 1001: "<0.001"}.get(thousandths, f"{thousandths / 1000:.3f}")
                assert shown == number(float(m))
            largest = max(largest, float(M.max()))
    assert start == len(values)
    assert largest > 0.1, "the comparison would be empty"


def test_packed_maps_keep_values_beyond_a_byte():
    maps = [np.array([[[0, 255], [256, 1001]]], np.uint16)]
    planes = zlib.decompress(base64.b64decode(packed(maps)))
    assert list(planes) == [0, 255, 0, 1001 % 256, 0, 0, 1, 1001 // 256]


# -- what is claimed --------------------------------------------------------------------------


def _with_levels(diagnostics, level):
    table = diagnostics.table.assign(level=level)
    return Diagnostics(
        diagnostics.layers,
        diagnostics.concepts,
        diagnostics.provenance,
        table,
        diagnostics.curve,
        diagnostics.duplicates,
        diagnostics._arrays,
    )


def _with_q(explained, q):
    return _Fixed(explained, q)


class _Fixed(GlobalExplanation):
    """An explanation of a class all of whose q-values are the same."""

    def __init__(self, explained, q):
        for key, value in vars(explained).items():
            object.__setattr__(self, key, value)
        object.__setattr__(self, "q", q)

    def summary(self, confidence=0.95):
        return super().summary(confidence).assign(q_value=self.q)


def _findings(text):
    start = text.index("What the attributions say")
    return text[start : text.index("How far this can be trusted", start)]


def test_nothing_is_claimed_that_is_not_significant(study):
    text = Page(build_report(global_=[_with_q(study.global_[0], 0.0501)])).text
    assert "By the attributions alone no concept stands out from chance." in text
    assert "no attribution stands out from chance, at any layer" in text
    assert " counts for " not in _findings(text)
    used = any(each.kind == "used" for each in study.global_[0].verdicts())
    assert ("what erasing measured (above) does not depend on that" in text) == used


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("not seen", "the attribution is something else's."),
        ("not used", "But the score hardly changes without it (above)."),
        ("cannot be told", "But whether the score depends on it cannot be told (above)."),
        ("used", ""),
    ],
)
def test_what_erasing_says_against_an_attribution_stands_beside_it(study, monkeypatch, kind, said):
    explained = _with_q(study.global_[0], 0.01)
    told = [Verdict(concept, kind, "As measured.", 0.5) for concept in explained.concepts]
    monkeypatch.setattr("vtcav.report.classes.class_verdicts", lambda explained, name: told)
    page = build_report(global_=[explained])
    text = _findings(Page(page).text)
    assert "counts for" in text
    assert said in text
    assert ("<p><strong>“" in _findings(page)) == (not said)


def test_what_is_significant_is_claimed_with_its_certainty(study):
    explained = _with_q(study.global_[0], 0.05)
    page = Page(build_report(global_=[explained]))
    claimed = _findings(page.text)
    rows = explained.summary().query("separated").to_dict("records")
    assert claimed.count("counts for") == len(rows) > 0
    for row in rows:
        assert f"on average {number(row['mean'])} of the logit difference" in claimed
        assert f"other examples {number(row['cav_low'])} to {number(row['cav_high'])}" in claimed
    assert "q = 0.050" in claimed
    assert "were not diagnosed" in page.text


def test_claims_are_counted_over_images(study):
    def sure(local, q):
        return replace(local, _rows=local._rows.assign(q_value=q))

    images = [sure(study.local[0], 0.01), sure(study.local[0], 0.04), sure(study.local[0], 0.3)]
    rows = images[0].attributions.query("separated")
    pairs = rows[["class_name", "concept"]].drop_duplicates()
    text = _findings(Page(build_report(images)).text)
    assert text.count("In 2 of 3 images explained for") == len(pairs) > 0
    for row in rows.to_dict("records"):
        assert clear(row["layer"]) in text
    assert "In 1 of 3 images no concept can be claimed to count." in text


@pytest.mark.parametrize(("p", "images"), [(0.3, 1), (0.01, 1), (0.3, 6), (0.01, 6)])
def test_of_single_images_what_erasing_says_comes_before_the_attributions(study, p, images):
    local = study.local[0]
    effects = local._effects.assign(drop=0.5, area=0.1, p_value=p)
    local = replace(local, _rows=local._rows.assign(q_value=0.01), _effects=effects)
    page = html.unescape(build_report(local=[local] * images))
    overview = page[page.index('<section id="overview"') :]
    single, attributed = overview.split("What the attributions say</h3>")[:2]
    attributed = attributed.partition("<h3>")[0]
    assert "counts for it" in attributed
    assert "counts for it" not in single
    if images == 1:
        assert all(spelled(sentence) in spelled(single) for sentence in local.sentences())
    else:
        said = "falls in 6 of 6 images by more than" if p < 0.05 else "changes in none of 6 images"
        assert said in single
    assert ("<strong>" in single) == ("<strong>" in attributed) == (p < 0.05)
    doubt = "But without it the score changes by no more than chance explains."
    assert (doubt in attributed) == (p > 0.05)


def test_concepts_that_are_not_erased_are_said_once(study):
    def single(images):
        page = html.unescape(build_report(local=images))
        return page[page.index("in single images</h3>") : page.index("What the attributions say")]

    said = single(study.local)
    assert said.count("'cold' is not seen at these layers") == 1
    assert "1.png: 'cold'" not in said
    said = single(study.local * 2)
    assert said.count("In none of 6 images was a region of “cold” found to erase.") == 1


def spelled(text):
    return re.sub(r"<[^>]*>|\s", "", text)


def test_concepts_that_must_not_be_used_are_no_findings(study):
    explained = _with_q(study.global_[0], 0.01)
    bad = _with_levels(study.diagnostics, BAD)
    text = _findings(Page(build_report(global_=[explained], diagnostics=bad)).text)
    alone = "By the attributions alone no concept stands out from chance, but for those"
    assert alone in text
    assert text.index(alone) < text.index("not to be used")
    assert "counts for" in text[text.index("not to be used") :]


def test_diagnostics_of_other_examples_say_nothing(study):
    explained = study.global_[0]
    records = [replace(c, examples=("other",)) for c in explained.provenance.concepts]
    other = replace(explained, provenance=replace(explained.provenance, concepts=tuple(records)))
    page = Page(build_report(global_=[other], diagnostics=study.diagnostics))
    assert {cells[12][1].split(" ", 1)[1] for _, cells in page.rows} == {"not diagnosed"}
    assert "2 different sets of concepts" in page.text
    page = Page(build_report(global_=[explained], diagnostics=study.diagnostics))
    assert "not diagnosed" not in {cells[12][1].split(" ", 1)[1] for _, cells in page.rows}


def test_nan_is_a_dash_and_not_tested(study):
    explained = _with_q(study.global_[0], math.nan)
    page = Page(build_report(global_=[explained]))
    verdicts = {cells[11][1].split(" ", 1)[1] for _, cells in page.rows}
    assert verdicts <= {"not tested", "not separated"}
    assert "nan" not in page.text.lower().split()


# -- files ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    for i, local in enumerate(study.local[:2]):
        local.save(folder / "images" / str(i))
    for i, explained in enumerate(study.global_):
        explained.save(folder / "classes" / str(i))
    study.diagnostics.save(folder / "diagnostics")
    study.global_[0].save(folder / ".hidden")
    return folder


def test_report_of_a_folder_is_that_of_its_results(study, saved):
    path = write_report(saved, title="t")
    assert path == saved / "report.html"
    expected = build_report(study.local[:2], study.global_, study.diagnostics, title="t")
    assert path.read_text(encoding="utf-8") == expected


def test_a_page_without_a_title_has_network_classes_and_date(study, saved):
    page = Page(write_report(saved).read_text(encoding="utf-8"))
    names = [f"“{explained.class_name}”" for explained in study.global_]
    # the network is an nn.Sequential, which is no name
    assert f"Concepts for the classes {' and '.join(names)}" in page.text
    assert "Sequential:" not in page.text
    assert str(datetime.now(UTC).astimezone().year) in page.text
    one = Page(build_report(study.local[:1])).text
    assert f"Concepts in “{Path(IMAGE).name}”" in one


@pytest.mark.parametrize(
    ("network", "title"),
    [
        ("ResNet (9 weights)", "ResNet: concepts for the class “scratched”"),
        ("Net (9 weights)", "Concepts for the class “scratched”"),
        ("MyConvNet (9 weights)", "Concepts for the class “scratched”"),
        ("Keras 'functional_3' (9 weights)", "Concepts for the class “scratched”"),
        ("Keras 'mobilenet' (9 weights)", "mobilenet: concepts for the class “scratched”"),
        ("Xception (9 weights)", "Xception: concepts for the class “scratched”"),
    ],
)
def test_a_title_names_no_network_that_has_no_name(study, network, title):
    model = {**study.global_[0].provenance.model, "network": network}
    named = replace(study.global_[0].provenance, model=model)
    assert heading([named, named], ["scratched"], []) == title
    assert heading([named], [], list("abcd")) == title.split(" for ")[0] + " in 4 images"


def test_command_writes_the_report(saved, tmp_path, capsys):
    output = tmp_path / "new" / "page.html"
    words = ["report", str(saved), "-o", str(output), "--json"]
    arguments = parser().parse_args(words, Arguments())
    arguments.run(arguments)
    told = json.loads(capsys.readouterr().out)
    assert told == {"report": str(output.resolve()), "bytes": output.stat().st_size}


def test_nothing_to_report_is_an_error(tmp_path):
    with pytest.raises(ExplanationError, match="nothing to report"):
        build_report()
    with pytest.raises(ExplanationError, match=r"nothing to report.*local\.json"):
        write_report(tmp_path)
    with pytest.raises(ExplanationError, match="which is no folder"):
        write_report(tmp_path / "absent")


def test_damaged_results_are_named_and_nothing_is_written(study, tmp_path):
    study.local[0].save(tmp_path / "a")
    with (tmp_path / "a" / "local_attributions.csv").open("a") as file:
        file.write("x")
    with pytest.raises(ExplanationError, match=r"local_attributions\.csv.*changed"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_citation_is_that_of_the_project():
    path = Path(__file__).parent.parent.parent / "CITATION.cff"
    cff = " ".join(path.read_text(encoding="utf-8").split())
    title = " ".join(re.search(r"title += \{(.*?)\}", CITATION, re.DOTALL)[1].split())
    assert title in cff
    for family, given in re.findall(r"([A-Z][\w ]+), (\w+)(?: and|\})", CITATION):
        assert f"family-names: {family.strip()} given-names: {given}" in cff
    assert f"version = {{{vtcav.__version__}}}" in " ".join(CITATION.split())


def test_many_images_take_little(study):
    one = len(build_report(study.local[:1]))
    many = len(build_report(study.local[i % 3] for i in range(60)))
    assert (many - one) / 59 < 20_000
