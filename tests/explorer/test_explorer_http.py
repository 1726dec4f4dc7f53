"""The explorer over HTTP: who may ask, what is refused, and what is written where."""

import io
import json
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

import vtcav
from tests.helpers.explorers import TOKEN, bomb, encoded, photo, served, small_session
from tests.helpers.small import pictures, small_model
from vtcav.errors import ConceptError, ExplanationError, ImageError
from vtcav.explorer import create_app, limits, server
from vtcav.explorer.export import command, save_folders
from vtcav.explorer.pictures import PictureRef, Pictures
from vtcav.explorer.scheduling import LatestRequests, SupersededError

testclient = pytest.importorskip("starlette.testclient")

HOST = "127.0.0.1:9"


@pytest.fixture(scope="module")
def session():
    return small_session()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "explorer"


@pytest.fixture
def client(session, folder):
    app = create_app(session, token=TOKEN, hosts=[HOST, "localhost:9"], output=folder)
    return testclient.TestClient(app, base_url=f"http://{HOST}", headers={"X-Vtcav-Token": TOKEN})


@pytest.fixture
def stranger(client):
    return testclient.TestClient(client.app, base_url=f"http://{HOST}")


def shown(client):
    return client.get("/api/session").json()["pictures"][0]["key"]


@pytest.mark.parametrize("output", ["file", "file/explorer"])
def test_a_folder_that_cannot_be_is_refused_before_anyone_works(tmp_path, monkeypatch, output):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(ExplanationError, match=f"to the folder '{output}': 'file' is a file"):
        server.serve(None, output=output)


def concept(key, name="blob", count=5, **more):
    examples = [{"picture": key, "box": [8 * i, 4, 8 * i + 40, 44]} for i in range(count)]
    return {"name": name, "examples": examples, **more}


# -- who may ask

ASKED = [
    ("GET", "/"),
    ("GET", "/api/session"),
    ("GET", "/api/progress"),
    ("GET", "/api/look/x"),
    ("GET", "/api/inputs/x"),
    ("GET", "/api/pictures/x"),
    ("DELETE", "/api/pictures/x"),
    ("POST", "/api/pictures"),
    ("POST", "/api/explain"),
    ("POST", "/api/integrate"),
    ("POST", "/api/erase"),
    ("POST", "/api/discover"),
    ("POST", "/api/stop"),
    ("POST", "/api/nearest"),
    ("POST", "/api/rank"),
    ("PUT", "/api/work"),
    ("POST", "/api/save"),
    ("GET", "/anything"),
]


@pytest.mark.parametrize(("method", "path"), ASKED)
@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN[:-1], TOKEN + "x"])
def test_nothing_without_the_token(stranger, method, path, token):
    headers = {} if token is None else {"X-Vtcav-Token": token}
    answer = stranger.request(method, path, headers=headers)
    assert answer.status_code == 403
    assert "token is missing or wrong" in answer.json()["error"]


def test_the_token_in_the_address_is_for_reading(stranger):
    assert stranger.get(f"/?token={TOKEN}").status_code == 200
    assert stranger.get(f"/api/session?token={TOKEN}").status_code == 200
    assert stranger.put(f"/api/work?token={TOKEN}", json={"concepts": []}).status_code == 403


def test_every_route_is_in_the_list(client):
    inner = client.app._app
    known = {(method, path.split("/x")[0]) for method, path in ASKED}
    for route in inner.routes:
        if route.path.startswith("/static"):
            continue
        for method in route.methods - {"HEAD"}:
            assert (method, route.path.split("/{")[0]) in known, route.path


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9", "127.0.0.1", "127.0.0.1:10", "", "127.0.0.1:9.evil"]
)
def test_another_name_for_this_machine_is_refused(client, host):
    answer = client.get("/api/session", headers={"Host": host})
    assert answer.status_code == 421
    assert client.get("/static/main.js", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1:9", "http://127.0.0.1:8"]
)
def test_another_origin_is_refused(client, origin):
    for method, path in (
        ("GET", "/api/session"),
        ("POST", "/api/explain"),
        ("OPTIONS", "/api/save"),
    ):
        answer = client.request(method, path, headers={"Origin": origin})
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers


def test_a_link_opens_the_page_with_its_token_and_nothing_else(client, stranger):
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert stranger.get(f"/?token={TOKEN}", headers=link).status_code == 200
    assert stranger.get("/?token=wrong", headers=link).status_code == 403
    assert stranger.get("/", headers=link).status_code == 403
    assert client.get("/api/session", headers=link).status_code == 403
    assert client.post("/api/explain", headers=link, json={}).status_code == 403
    fetched = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert stranger.get(f"/?token={TOKEN}", headers=fetched).status_code == 403


@pytest.mark.parametrize("name", ["$(touch was_here)", "`touch was_here`", "a'b; touch was_here"])
@pytest.mark.parametrize("form", ["cavs", "folders"])
def test_a_pasted_command_runs_nothing_else(name, form, tmp_path):
    text = command(tmp_path / name, name, "python:a$b:build", form, 9)
    ran = subprocess.run(
        ["bash", "-c", f"vtcav() {{ printf '%s\\n' \"$@\"; }}; {text}"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    assert not (tmp_path / "was_here").exists()
    words = ran.stdout.splitlines()
    assert words[:4] == ["explain", "PHOTO", "--model", "python:a$b:build"]
    assert any(word.startswith(str(tmp_path / name)) for word in words)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_what_the_browser_says_of_other_sites_counts(client, site):
    assert client.get("/api/session", headers={"Sec-Fetch-Site": site}).status_code == 403
    assert client.get("/static/main.js", headers={"Sec-Fetch-Site": site}).status_code == 403


def test_the_page_itself_may_ask(client):
    headers = {"Origin": f"http://{HOST}", "Sec-Fetch-Site": "same-origin"}
    assert client.get("/api/session", headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/", "/static/main.js", "/api/session", "/api/nothing"])
def test_headers_that_keep_the_page_to_itself(client, path):
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../session.py",
        "/static/..%2Fsession.py",
        "/static/%2e%2e/%2e%2e/demo.py",
        "/static//etc/passwd",
        "/static/%2Fetc%2Fpasswd",
        "/static/..\\session.py",
        "/api/pictures/..%2F..%2Fetc%2Fpasswd",
        "/docs",
        "/openapi.json",
    ],
)
def test_no_path_leads_elsewhere(client, path):
    answer = client.get(path)
    assert answer.status_code in (400, 404)
    assert "import" not in answer.text


# -- uploads


def upload(client, data, name="photo.png"):
    return client.post("/api/pictures", params={"name": name}, content=data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_pictures_are_taken(client, kind):
    answer = upload(client, encoded(photo(), kind), f"a.{kind.lower()}")
    assert answer.status_code == 200
    found = answer.json()
    assert (found["width"], found["height"], found["origin"]) == (128, 96, "upload")
    view = client.get(f"/api/pictures/{found['key']}?size=64")
    assert view.headers["content-type"] == "image/webp"
    assert len(client.get(f"/api/look/{found['key']}").json()["predictions"]) == 3
    assert client.delete(f"/api/pictures/{found['key']}").json() == {"removed": True}
    assert client.get(f"/api/look/{found['key']}").status_code == 400


def test_a_photo_is_turned_upright(client):
    exif = Image.Exif()
    exif[0x0112] = 6
    found = upload(client, encoded(photo(), "JPEG", exif=exif), "turned.jpg").json()
    assert (found["width"], found["height"]) == (96, 128)


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"GIF89a", "not a picture|cannot be decoded"),
        (SVG, "it is not a picture"),
        (b"<html><script>alert(1)</script>", "it is not a picture"),
        (b"%PDF-1.4 nothing", "it is not a picture|PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "it is not a picture"),
        (b"PK\x03\x04 zip", "File is not a zip file"),
        (encoded(photo())[:400], "cannot be decoded|truncated"),
        (bomb(), "it has 30000 x 30000 pixels; at most 50 million are allowed"),
        (encoded(Image.new("1", (20_001, 2))), "20000 on a side"),
        (
            encoded(Image.new("RGB", (8, 8)), "ICO"),
            "it is a ICO file; expected|not a picture",
        ),
    ],
    ids=["empty", "stub", "svg", "html", "pdf", "eps", "zip", "truncated", "bomb", "long", "ico"],
)
def test_what_is_no_picture_is_refused(client, data, reason):
    import re

    answer = upload(client, data)
    assert answer.status_code == 400
    assert re.search(reason, answer.json()["error"])


def test_large_uploads_are_refused_before_they_are_read(client):
    answer = upload(client, b"x" * (limits.FILE_BYTES + 1))
    assert answer.status_code == 413
    pieces = (b"x" * (1 << 20) for _ in range(40))  # no length is told
    assert upload(client, pieces).status_code == 413
    answer = client.put("/api/work", content=b" " * (limits.JSON_BYTES + 1))
    assert answer.status_code == 413


def test_pictures_are_counted(client, session, monkeypatch):
    monkeypatch.setattr(limits, "PICTURES", 0)
    assert "held already" in upload(client, encoded(photo())).json()["error"]
    monkeypatch.setattr(limits, "PICTURES", 300)
    monkeypatch.setattr(limits, "PICTURE_BYTES", 10)
    assert "larger than" in upload(client, encoded(photo())).json()["error"]


@pytest.mark.parametrize(
    "name", ["../../x.png", "<script>alert(1)</script>", 'a"b\n.png', "x" * 500]
)
def test_names_of_uploads_are_text(client, name):
    found = upload(client, encoded(photo()), name).json()
    assert "/" not in found["name"]
    assert found["name"].isprintable()
    assert len(found["name"]) <= 80


def test_samples_stay(client):
    answer = client.delete(f"/api/pictures/{shown(client)}")
    assert answer.status_code == 400
    assert "was not uploaded here" in answer.json()["error"]


@pytest.mark.parametrize("box", ["a,b,c,d", "1,2,3", "5,5,5,9", "-1,0,4,4", "9" * 50 + ",0,1,1"])
def test_odd_patches_are_refused(client, box):
    assert client.get(f"/api/pictures/{shown(client)}", params={"box": box}).status_code == 400


# -- maps and numbers


def explain(client, **more):
    key = shown(client)
    asked = {"picture": key, "layer": "1", "classes": [0, 1], "concepts": [concept(key)], **more}
    return client.post("/api/explain", json=asked)


def test_map_first_then_numbers_then_trust(client):
    key = shown(client)
    first = explain(client, classes=[2]).json()["concepts"][0]
    assert first["pending"] == [2]
    assert first["trust"] is None
    import base64

    M = np.frombuffer(base64.b64decode(first["map"]), "<f4").reshape(8, 8)
    assert 0 <= M.min() <= M.max() <= 1
    asked = {"picture": key, "layer": "1", "classes": [2]}
    assert client.post("/api/integrate", json=asked).json() == {"done": True}
    second = explain(client, classes=[2]).json()["concepts"][0]
    assert second["rows"][0]["p_value"] is None
    third = explain(client, classes=[2], judge=True).json()["concepts"][0]
    assert third["rows"][0]["attribution"] == second["rows"][0]["attribution"]
    assert 0 < third["rows"][0]["p_value"] == third["rows"][0]["q_value"] <= 1
    assert third["trust"]["level"] in ("fine", "look", "do not use")


def test_the_input_is_shown_where_it_is_not_known_where_it_lies(client, folder):
    look = client.get(f"/api/look/{shown(client)}").json()
    assert look["input"] is None
    assert client.get(f"/api/inputs/{shown(client)}").status_code == 404
    own = small_session(model=small_model(preprocess=lambda p: vtcav.Preprocess(16)(p)))
    app = create_app(own, token=TOKEN, hosts=[HOST], output=folder)
    other = testclient.TestClient(app, base_url=f"http://{HOST}", headers=client.headers)
    look = other.get(f"/api/look/{shown(other)}").json()
    assert look["input"] == [16, 16]
    assert look["box"] == [0, 0, 1, 1]
    picture = Image.open(io.BytesIO(other.get(f"/api/inputs/{shown(other)}").content))
    assert picture.size == (16, 16)


def test_an_older_request_is_superseded(client):
    assert explain(client, page="p", number=5).status_code == 200
    answer = explain(client, page="p", number=4)
    assert answer.status_code == 409
    assert answer.json()["superseded"]
    assert explain(client, page="q", number=4).status_code == 200


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"layer": "nothing"}, 400),
        ({"picture": "nothing"}, 400),
        ({"classes": [99]}, 400),
        ({"classes": [-1]}, 422),
        ({"classes": list(range(50))}, 422),
        ({"concepts": [{"name": "x" * 500}]}, 422),
        ({"concepts": [{"name": "a\nb"}]}, 422),
        ({"concepts": [{"name": "x", "surprise": 1}]}, 422),
        (
            {"concepts": [{"name": "x", "examples": [{"picture": "p", "box": [0, 0, 10**9, 4]}]}]},
            422,
        ),
        ({"concepts": ["unknown"]}, 400),
        ({"surprise": 1}, 422),
    ],
)
def test_odd_requests_get_one_sentence(client, change, status):
    answer = explain(client, **change)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert "Traceback" not in answer.text


def test_a_page_that_is_loaded_again_finds_its_concepts(client):
    work = {"concepts": [concept(shown(client), name="<b>striped</b>", negatives=[], shared=False)]}
    edition = client.get("/api/session").json()["edition"]
    assert client.put("/api/work", json={**work, "edition": edition}).json() == {
        "edition": edition + 1
    }
    other = client.put("/api/work", json={"concepts": [], "edition": edition})  # of another tab
    assert (other.status_code, other.json()["outdated"]) == (409, True)
    assert "another tab has changed" in other.json()["error"]
    (found,) = client.get("/api/session").json()["concepts"]
    assert found["name"] == "<b>striped</b>"
    assert len(found["examples"]) == 5
    client.put("/api/work", json={"concepts": []})


def test_what_became_of_tiles_is_kept(client):
    client.put("/api/work", json={"concepts": [], "tiles": {"a-0": "", "a-1": "a-2"}})
    assert client.get("/api/session").json()["tiles"] == {"a-0": "", "a-1": "a-2"}
    client.put("/api/work", json={"concepts": []})  # says nothing of them
    assert client.get("/api/session").json()["tiles"] == {"a-0": "", "a-1": "a-2"}
    client.put("/api/work", json={"concepts": [], "tiles": {}})
    assert client.get("/api/session").json()["tiles"] == {}


def test_photos_in_the_order_of_a_concept(client):
    key = shown(client)
    answer = client.post(
        "/api/rank", json={"concept": concept(key), "layer": "1", "maps": 0}
    ).json()
    photos = answer["photos"]
    assert [photo["presence"] for photo in photos] == sorted(
        (photo["presence"] for photo in photos), reverse=True
    )
    assert key in [photo["picture"] for photo in photos]
    assert all("map" not in photo for photo in photos)
    assert answer["agreement"] == []
    nothing = client.post("/api/rank", json={"concept": {"name": "x"}, "layer": "1"})
    assert (nothing.status_code, "cut a patch" in nothing.json()["error"]) == (400, True)


def test_erasing_needs_a_class(client):
    asked = {"picture": shown(client), "classes": [], "box": [0, 0, 20, 20]}
    answer = client.post("/api/erase", json=asked)
    assert (answer.status_code, answer.json()["error"][:17]) == (400, "there is no class")


def test_few_photos_are_too_few_to_find_anything_in(client):
    answer = client.post("/api/discover", json={"layer": "1"})
    assert answer.status_code == 400
    assert "expected at least 10 readable images" in answer.json()["error"]
    assert client.get("/api/session").json()["found"] == []
    # nothing was found that could be compared, or stopped
    asked = {"layer": "1", "concepts": [concept(shown(client))]}
    assert client.post("/api/nearest", json=asked).json() == {"nearest": {}}


def test_a_search_is_stopped_by_its_number(client, session):
    check = session.latest.check("discover p", 7)
    client.post("/api/stop", json={"page": "other", "number": 7})
    check()
    assert client.post("/api/stop", json={"page": "p", "number": 7}).json() == {"stopped": True}
    with pytest.raises(SupersededError):
        check()
    session.latest.check("discover p", 8)()  # it can be looked for again


# -- saving


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_saved_folders_give_the_same_numbers(client, session, folder):
    key = shown(client)
    own = [{"picture": key, "box": [60, 40, 100, 80]}]
    spec = concept(key, negatives=own)
    answer = client.post("/api/save", json={"concept": spec, "form": "folder"}).json()
    assert answer["places"] == [
        str(folder / "concepts" / "blob"),
        str(folder / "negatives" / "blob"),
    ]
    assert len(files(folder)) == 5 + 31
    explainer = vtcav.VisualTCAV(session.model, ["1", "3"], steps=10, progress=False)
    explainer.fit({"blob": folder / "concepts/blob"}, {"blob": folder / "negatives/blob"})
    local = explainer.explain(photo(), classes=[0, 1])
    client.post("/api/integrate", json={"picture": key, "layer": "1", "classes": [0, 1]})
    rows = explain(client, concepts=[spec], judge=True).json()["concepts"][0]["rows"]
    expected = local.attributions.query("layer == '1'")
    np.testing.assert_allclose([r["attribution"] for r in rows], expected["attribution"], atol=2e-6)
    p = [np.nan if r["p_value"] is None else r["p_value"] for r in rows]
    np.testing.assert_allclose(p, expected["p_value"])


def test_saved_cavs_are_those_shown(client, session, folder):
    key = shown(client)
    saved = {"concept": concept(key, count=2), "form": "cavs"}
    answer = client.post("/api/save", json=saved).json()
    assert answer["places"] == [str(folder / "blob.safetensors")]
    assert "--cavs" in answer["command"]
    bank = vtcav.CavBank.load(folder / "blob.safetensors")
    assert bank.names == ("blob",)
    explainer = vtcav.VisualTCAV(session.model, cavs=bank, steps=10, fill=None)
    local = explainer.explain(photo(), classes=[0])
    client.post("/api/integrate", json={"picture": key, "layer": "3", "classes": [0]})
    spec = concept(key, count=2)
    rows = explain(client, layer="3", classes=[0], concepts=[spec]).json()["concepts"][0]["rows"]
    expected = local.attributions.query("layer == '3'")["attribution"]
    np.testing.assert_allclose([r["attribution"] for r in rows], expected, atol=2e-6)


def test_too_few_examples_for_a_folder_is_said(client):
    spec = concept(shown(client), name="few", count=3)
    answer = client.post("/api/save", json={"concept": spec, "form": "folder"}).json()
    assert "refuses a folder of fewer than 5 examples: add 2 more" in answer["command"]


@pytest.mark.parametrize("form", ["folder", "cavs"])
def test_nothing_is_replaced_unasked(client, folder, form):
    saved = {"concept": concept(shown(client), name="twice"), "form": form}
    assert client.post("/api/save", json=saved).status_code == 200
    again = client.post("/api/save", json=saved)
    assert again.status_code == 409
    assert again.json()["exists"]
    saved["concept"]["examples"].pop()
    assert client.post("/api/save", json={**saved, "replace": True}).status_code == 200
    if form == "folder":
        assert len(list((folder / "concepts" / "twice").iterdir())) == 4
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("name", ["../x", "..", "a/b", "a\\b", "/etc/x", ".hidden", "  ", ""])
@pytest.mark.parametrize("form", ["folder", "cavs"])
def test_names_that_lead_elsewhere_are_refused(client, folder, name, form):
    saved = {"concept": concept(shown(client), name=name), "form": form}
    answer = client.post("/api/save", json=saved)
    assert answer.status_code == 400
    assert "name" in answer.json()["error"]
    assert not folder.exists()
    assert not list(folder.parent.iterdir())


def test_markup_in_a_name_becomes_a_plain_folder(client, folder):
    saved = {"concept": concept(shown(client), name="<script>"), "form": "folder"}
    assert client.post("/api/save", json=saved).status_code == 200
    assert (folder / "concepts" / "_script_").is_dir()


@pytest.mark.parametrize("form", ["folder", "cavs"])
def test_links_do_not_lead_out(client, folder, tmp_path, form):
    outside = tmp_path / "outside"
    outside.mkdir()
    folder.mkdir()
    (folder / "concepts").symlink_to(outside)
    (folder / "blob.safetensors").symlink_to(outside / "x.safetensors")
    saved = {"concept": concept(shown(client)), "form": form, "replace": True}
    answer = client.post("/api/save", json=saved)
    assert answer.status_code == 400
    assert "leads out of the explorer's folder" in answer.json()["error"]
    assert not list(outside.iterdir())


def test_nothing_is_written_before_something_is_saved(client, folder):
    found = upload(client, encoded(photo(9))).json()
    explain(client, picture=found["key"])
    assert not folder.exists()


# -- the command


def test_the_command_serves_and_ends(tmp_path):
    import os
    import signal
    import urllib.request

    (tmp_path / "tiny.py").write_text(
        "from tests.helpers.small import small_model\n\n\ndef build():\n    return small_model()\n"
    )
    (tmp_path / "random").mkdir()
    for i, array in enumerate(pictures(6, seed=3)):
        Image.fromarray(array).save(tmp_path / "random" / f"{i}.png")
    root = Path(__file__).parent.parent.parent
    paths = os.pathsep.join([str(tmp_path), str(root), str(root / "src")])
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "vtcav", "explore", "--model", "python:tiny:build"),
            *("--layers", "1", "--negatives", "random", "--no-browser", "-o", "out"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
    )
    try:
        address = ""
        while "http" not in address:
            address = process.stdout.readline()
            assert address or process.poll() is None, process.stderr.read()
        address = address.split()[-1]
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(address) as answer:
            assert b"vtcav explorer" in answer.read()
        with urllib.request.urlopen(address.replace("/?", "/api/session?")) as answer:
            about = json.load(answer)
        assert about["negatives"]["described"] == "6 images of the folder 'random'"
        assert [layer["name"] for layer in about["layers"]] == ["1"]
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.stdout.close()
        process.stderr.close()
    assert process.returncode == 0
    assert err == ""
    assert not (tmp_path / "out").exists()


def test_a_port_that_is_taken_is_said(capsys):
    import socket

    from vtcav.cli import main

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        words = ["explore", "--model", "python:tests.helpers.small:small_model", "--port", port]
        assert main([*words, "--no-browser", "--layers", "1"]) == 1
    assert f"cannot listen on port {port}" in capsys.readouterr().err
    assert main(["explore", "--model", "demo", "--port", "70000"]) == 2


def test_a_missing_extra_is_said(capsys, monkeypatch):
    from vtcav.cli import main

    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert main(["explore", "--model", "demo", "--no-browser"]) == 1
    assert "the explorer needs fastapi: pip install 'vtcav[explore]'" in capsys.readouterr().err


def test_drawn_negatives_stand_in_without_photographs(monkeypatch):
    from vtcav.explorer import initial_sets

    def absent(seed):
        from vtcav.errors import ExtraError

        raise ExtraError("no scikit-image")

    monkeypatch.setattr("vtcav.datasets.demo_photographs.negatives", absent)
    found = initial_sets.find_negatives(None, 0, Pictures())
    assert found.stand_in
    assert "drawings" in found.described
    assert len(found.images) == initial_sets.COUNT


def test_the_page_is_in_the_package():
    from importlib import resources

    names = {e.name for e in resources.files("vtcav.explorer").joinpath("static").iterdir()}
    page = resources.files("vtcav.explorer").joinpath("static/index.html").read_text("utf-8")
    assert {"index.html", "style.css", "main.js"} <= names
    assert "http://" not in page
    assert "https://" not in page


def test_replacing_puts_the_old_folders_back_where_it_fails(tmp_path, monkeypatch):
    ref = PictureRef("one.png", encoded(photo()))
    places = save_folders(tmp_path, "blob", {"concepts": [ref], "negatives": [ref]}, replace=False)
    kept = {path: path.read_bytes() for place in places for path in place.iterdir()}
    rename = Path.rename

    def failing(self, target):
        if self.name == "negatives" and Path(target).parent.name == "negatives":
            raise OSError("no more")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    sets = {"concepts": [ref] * 2, "negatives": [ref] * 2}
    with pytest.raises(ConceptError, match="no more"):
        save_folders(tmp_path, "blob", sets, replace=True)
    assert {path: path.read_bytes() for place in places for path in place.iterdir()} == kept


def test_uploads_at_once_keep_to_the_limit(monkeypatch):
    monkeypatch.setattr(limits, "PICTURES", 3)
    held, data = Pictures(), encoded(photo())

    def upload(number):
        with suppress(ImageError):
            held.upload(data, f"{number}.png")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(upload, range(12)))
    assert len(held.listed("upload")) == 3


def test_computations_end_with_the_program(session):
    check = LatestRequests().check("explain", 1)
    check()
    latest = LatestRequests()
    check = latest.check("explain", 1)
    latest.end()
    with pytest.raises(SupersededError, match="has ended"):
        check()


def test_sockets_that_say_nothing(session, tmp_path, monkeypatch):
    """Of another user of the machine; neither do they make answers fail, nor do they stay."""
    monkeypatch.setattr(server, "_IDLE", 0.5)
    with served(session, tmp_path) as address:
        port = int(address.split(":")[2].split("/")[0])
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(150)]
        with urlopen(address) as answer:
            assert answer.status == 200
        idle[0].settimeout(10)
        assert idle[0].recv(1) == b""
        for each in idle:
            each.close()
