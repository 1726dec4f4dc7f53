"""What the explorer shows is what `VisualTCAV.explain` says, whatever it keeps."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import vtcav
from tests.helpers import nested
from tests.helpers.explorers import encoded, photo, small_session
from tests.helpers.small import pictures, small_explainer, small_model, small_net
from vtcav.errors import ConceptError, ExplanationError, ImageError
from vtcav.explorer import ConceptSpec, Example, Session, answers
from vtcav.explorer.erasing import erase_concept, erase_region
from vtcav.explorer.pictures import Pictures, clean_name
from vtcav.explorer.scheduling import LatestRequests, PriorityLock, SupersededError

BOXES = [
    (4, 4, 40, 40),
    (50, 8, 90, 44),
    (70, 40, 118, 88),
    (10, 50, 60, 90),
    (0, 0, 30, 30),
    (60, 10, 100, 50),
]


def concept(session, boxes=tuple(BOXES), name="blob", negatives=(), shared=True):
    key = session.pictures.listed()[0].key
    return ConceptSpec(
        name=name,
        examples=tuple(Example(picture=key, box=box) for box in boxes),
        negatives=tuple(Example(picture=key, box=box) for box in negatives),
        shared=shared,
    )


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("steps", [10, 7])
def test_numbers_are_those_of_explain(binary, steps):
    model = (
        small_model(small_net(classes=1), ("no", "yes"), binary=True) if binary else small_model()
    )
    shown, shared = photo(), pictures(30, seed=3)
    session = Session(model, ["1", "3"], negatives=shared, steps=steps, samples={"blobs": shown})
    spec = concept(session, negatives=[(80, 60, 110, 90)])
    explainer = vtcav.VisualTCAV(model, ["1", "3"], steps=steps, progress=False)
    own = [np.asarray(shown.crop((80, 60, 110, 90)))]
    explainer.fit({"blob": [shown.crop(box) for box in BOXES]}, [*shared, *own])
    local = explainer.explain(shown, classes=[1, 0])
    key = session.pictures.listed()[0].key
    for layer in ["1", "3"]:
        session.integrate(key, layer, [1, 0])
        found = session.explain(key, spec, layer, [1, 0])
        expected = local.attributions.query("layer == @layer")
        for column in ("attribution", "p_value", "cav_low", "cav_high", "null_mean"):
            got = [getattr(row, column) for row in found.rows]
            np.testing.assert_allclose(got, expected[column], atol=2e-6, err_msg=column)
        np.testing.assert_allclose(found.M, local.concept_map(layer, "blob"), atol=1e-5)
        assert found.pending == ()
        assert bool(found.rough) == (steps % 2 == 0)
        assert found.separated == bool(expected["separated"].iloc[0])


def test_a_second_patch_takes_one_picture_through_the_network(monkeypatch):
    session = small_session()
    session.warm()
    key = session.pictures.listed()[0].key
    session.explain(key, concept(session, BOXES[:2]), "1", [0])
    passed = []
    activations = session.model.activations

    def counted(images, layers):
        passed.append(len(images))
        return activations(images, layers)

    monkeypatch.setattr(session.model, "activations", counted)
    session.explain(key, concept(session, BOXES[:3]), "1", [0])
    session.explain(key, concept(session, BOXES[:2]), "1", [0])
    assert passed == [1]


def test_what_is_kept_changes_no_number():
    spacious, tight = small_session(), small_session(memory=3000)
    for layer in ("1", "3", "1"):
        found = []
        for session in (spacious, tight):
            key = session.pictures.listed()[0].key
            session.integrate(key, layer, [0])
            found.append(session.explain(key, concept(session), layer, [0]))
        np.testing.assert_allclose(found[0].M, found[1].M, atol=1e-6)
        p = [each.rows[0].p_value for each in found]
        np.testing.assert_array_equal(*p)
    assert tight._features.held <= 3000


def test_classes_wait_for_their_integral():
    session = small_session()
    key = session.pictures.listed()[0].key
    session.integrate(key, "1", [2])
    found = session.explain(key, concept(session), "1", [0, 2])
    assert found.pending == (0,)
    assert [row.class_index for row in found.rows] == [2]
    assert found.M.max() > 0


@pytest.mark.parametrize("box", [None, (0, 0, 40, 40)])
def test_examples_from_the_picture_itself_are_noted(box):
    session = small_session(samples={"blobs": photo(), "other": photo(6)})
    first, second = (p.key for p in session.pictures.listed())
    spec = ConceptSpec(name="x", examples=(Example(picture=first, box=box),))
    for key, noted in ((first, True), (second, False)):
        session.integrate(key, "1", [0])
        row = session.explain(key, spec, "1", [0]).rows[0]
        assert ("among those that the concept was learned from" in row.note) == noted


def test_trust_is_that_of_diagnostics():
    session = small_session()
    spec = concept(session)
    bank = session.bank(spec, ["1", "3"])
    explainer = vtcav.VisualTCAV(session.model, cavs=bank, fill=None)
    expected = explainer.diagnostics().summary().set_index("layer").loc["1"]
    got = session.diagnose(spec, ["1"]).summary().iloc[0]
    assert (got["level"], got["check"]) == (expected["level"], expected["check"])


def test_concepts_and_cavs_of_files(tmp_path):
    for name in ("bright", "dark"):
        (tmp_path / "concepts" / name).mkdir(parents=True)
        for i in range(6):
            (tmp_path / "concepts" / name / f"{i}.png").write_bytes(encoded(photo(i)))
    (tmp_path / "concepts" / "dark" / "broken.png").write_bytes(b"no picture")
    session = small_session(concepts=tmp_path / "concepts")
    assert [(spec.name, len(spec.examples)) for spec in session.work.concepts] == [
        ("bright", 6),
        ("dark", 6),
    ]
    assert "broken.png" in session.skipped[0].name
    bank = session.bank(session.work.concepts[0], ["1", "3"])
    second = small_session(cavs=bank)
    key = second.pictures.listed()[0].key
    second.integrate(key, "3", [0])
    learned = second.explain(key, "bright", "3", [0])
    made = session.explain(session.pictures.listed()[0].key, session.work.concepts[0], "3", [0])
    np.testing.assert_array_equal(learned.M, made.M)
    with pytest.raises(ConceptError, match="no learned concept 'nothing'"):
        second.explain(key, "nothing", "3", [0])


def test_filter_cavs_are_shown_with_their_filters():
    first = small_session()
    key = first.pictures.listed()[0].key
    patches = [first.pictures.ref(key, box).load() for box in BOXES]
    explainer = vtcav.VisualTCAV(first.model, ["1"], steps=10, variant="filter", progress=False)
    explainer.fit({"blob": patches}, pictures(30, seed=3))
    second = small_session(cavs=explainer.cavs)
    key = second.pictures.listed()[0].key
    before = second.explain(key, "blob", "1", [0])
    second.integrate(key, "1", [0])
    after = second.explain(key, "blob", "1", [0])
    expected = explainer.explain(photo(), classes=[0])
    np.testing.assert_array_equal(before.M, after.M)
    np.testing.assert_allclose(after.M, expected.concept_map("1", "blob"), atol=1e-5)
    a = expected.attributions["attribution"]
    np.testing.assert_allclose([row.attribution for row in after.rows], a, atol=2e-6)


def test_negatives_by_concept(tmp_path):
    for part in ("concepts", "negatives"):
        (tmp_path / part / "bright").mkdir(parents=True)
        for i in range(6):
            (tmp_path / part / "bright" / f"{i}.png").write_bytes(encoded(photo(i)))
    session = small_session(concepts=tmp_path / "concepts", negatives=tmp_path / "negatives")
    (spec,) = session.work.concepts
    assert not spec.shared
    assert len(spec.negatives) == 6


def test_what_cannot_be_asked():
    session = small_session()
    key = session.pictures.listed()[0].key
    with pytest.raises(ExplanationError, match=r"expected one of the layers \['1', '3'\], got '2'"):
        session.explain(key, concept(session), "2", [0])
    with pytest.raises(ConceptError, match="cut a patch out of a photo"):
        session.explain(key, ConceptSpec(name="x"), "1", [0])
    with pytest.raises(ConceptError, match="there are no counter-examples"):
        session.explain(key, concept(session, shared=False), "1", [0])
    with pytest.raises(ImageError, match="is not inside 'blobs', which has 128 x 96 pixels"):
        session.explain(key, concept(session, [(100, 0, 140, 40)]), "1", [0])
    with pytest.raises(ImageError, match="cut out at least 8 x 8"):
        session.explain(key, concept(session, [(0, 0, 40, 5)]), "1", [0])
    with pytest.raises(ImageError, match="not here any more"):
        session.look("nothing")


def test_names_of_files_become_short_and_printable():
    assert clean_name("../../etc/passwd") == "passwd"
    assert clean_name("C:\\x\\y.png") == "y.png"
    assert clean_name("") == clean_name("///") == "picture"
    assert clean_name("a\x00b\u202e.png") == "a?b?.png"
    assert len(clean_name("x" * 500)) == 80


def test_the_urgent_go_first():
    lock, order = PriorityLock(), []
    started = threading.Event()

    def use(name, urgent):
        with lock.hold(urgent=urgent):
            order.append(name)

    with lock.hold():
        patient = threading.Thread(target=use, args=("patient", False))
        patient.start()
        urgent = threading.Thread(target=use, args=("urgent", True))
        urgent.start()
        while lock._urgent < 1:
            started.wait(0.001)
    patient.join(5)
    urgent.join(5)
    assert order == ["urgent", "patient"]


def test_newer_requests_supersede_older_ones():
    latest = LatestRequests()
    first = latest.check("explain a", 1)
    first()
    latest.check("explain b", 9)
    first()
    second = latest.check("explain a", 2)
    second()
    with pytest.raises(SupersededError, match="newer request"):
        first()


def test_an_integral_that_nobody_waits_for_ends():
    session = small_session(steps=200)
    key = session.pictures.listed()[0].key
    told = []

    def check():
        told.append(session.status.done)
        if len(told) == 3:
            raise SupersededError("a newer request has come")

    with pytest.raises(SupersededError):
        session.integrate(key, "1", [0], check)
    assert len(told) == 3
    assert session.status.what == ""
    assert session.explain(key, concept(session), "1", [0]).pending == (0,)


def test_a_concept_is_erased_as_explain_does():
    shown, shared = photo(), pictures(30, seed=3)
    session = small_session(samples={"blobs": shown})
    key = session.pictures.listed()[0].key
    found = erase_concept(session, key, concept(session), [1, 0])
    explainer = vtcav.VisualTCAV(session.model, ["1", "3"], progress=False)
    explainer.fit({"blob": [shown.crop(box) for box in BOXES]}, shared, null_cavs=10, bootstraps=0)
    local = explainer.explain(shown, classes=[1, 0])
    for column in ("drop", "drop_low", "drop_high", "share", "p_value", "seen", "area"):
        np.testing.assert_allclose(found.effects[column], local.effects[column], atol=1e-5)
    if found.picture is not None:
        assert (found.picture.after == local.erased("blob").after).all()
    with pytest.raises(ConceptError, match="from 5 examples on"):
        erase_concept(session, key, concept(session, BOXES[:4]), [1])


def test_what_is_rather_another_concept_of_the_page_is_no_region():
    """Beside the other concepts of the page a concept has the region, and words, of `explain`."""
    examples = {
        "square": nested.pictures(12, 1, red=True),
        "dot": nested.pictures(12, 2, blue=True),
    }
    plain, shown = nested.pictures(24, 3), nested.pictures(1, 11, red=True, blue=True)
    model = vtcav.Classifier(nested.Red(), ["red", "none"], vtcav.Preprocess(32, mean=0.0, std=1.0))
    session = Session(model, ["relu"], concepts=examples, negatives=plain, samples={"one": shown})
    key = session.pictures.listed()[0].key
    square, dot = session.work.concepts
    few = dot.model_copy(update={"name": "few", "examples": dot.examples[:4]})
    explainer = vtcav.VisualTCAV(model, ["relu"], progress=False)
    explainer.fit(examples, plain, null_cavs=10, bootstraps=0)
    local = explainer.explain(shown[0], classes=["red"])
    said = {text.split("'")[1]: text for text in local.sentences()}
    for own, other in ((square, dot), (dot, square)):
        found = erase_concept(session, key, own, [0], beside=[other, few, own])
        [expected] = local.effects[local.effects["concept"] == own.name].to_dict("records")
        for column in ("drop", "area", "drop_apart"):
            assert found.effects[column][0] == pytest.approx(expected[column], abs=1e-5)
        assert said[own.name] == found.sentences[0]
        assert answers.erased(found)["sure"] == [own is square]  # what the page sets in bold
    assert "Its region overlaps with that of 'square'" in found.sentences[0]
    alone = erase_concept(session, key, dot, [0])
    assert alone.effects["drop_apart"][0] > 3 * abs(found.effects["drop_apart"][0])


def test_a_learned_concept_without_place_filters_says_so():
    bank = small_explainer(fill=None).cavs
    session = small_session(cavs=bank)
    key = session.pictures.listed()[0].key
    with pytest.raises(ConceptError, match="no place filters"):
        erase_concept(session, key, "bright", [0])
    assert "score of 'cat'" in erase_region(session, key, (9, 9, 60, 60), [0]).sentences[0]


def test_pictures_are_decoded_in_one_thread(monkeypatch):
    """What a thread frees stays with it: 12 pictures of 49 megapixels took 5.5 GB, now 1.7."""
    threads = set()
    monkeypatch.setattr(
        "vtcav.explorer.pictures.viewed", lambda *_: threads.add(threading.current_thread().name)
    )
    own, data = Pictures(), encoded(photo())
    with ThreadPoolExecutor(4) as pool:
        held = list(pool.map(own.upload, [data] * 8, "abcdefgh"))
    assert len({picture.key for picture in held}) == 8
    assert len(threads) == 1
    assert threads.pop().startswith("decoding")
