"""Requests to the explorer: other paths, methods, headers, JSON and uploads."""

import contextlib
import io
import json

import numpy as np

from tests.fuzz.mutators import json_bytes, mutated_bytes, mutated_json
from tests.fuzz.trial import Kind, Trial
from tests.helpers.explorers import TOKEN, encoded, photo, small_session
from tests.helpers.medical import dicom

_HOST = "127.0.0.1:8000"
_PATHS = ("/", "/api/session", "/api/progress", "/api/work", "/api/explain", "/api/integrate",
          "/api/erase", "/api/discover", "/api/stop", "/api/nearest", "/api/rank", "/api/save",
          "/api/pictures", "/api/pictures/{key}", "/api/inputs/{key}", "/api/look/{key}",
          "/static/app.js", "/static/../app.py", "/nothing")  # fmt: skip
_METHODS = "GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"


class Requests(Kind):
    """Answered, or refused in one sentence with a status below 500."""

    name = "request"
    share = 0.2
    needs = ("fastapi", "httpx")

    def __init__(self, folder):
        from starlette.testclient import TestClient

        from vtcav.explorer import create_app

        super().__init__(folder)
        session = small_session(steps=2)
        app = create_app(session, token=TOKEN, hosts=[_HOST], output=folder / "out")
        self.client = TestClient(app, base_url=f"http://{_HOST}", raise_server_exceptions=False)
        self.client.headers["X-Vtcav-Token"] = TOKEN
        self.key = self.client.get("/api/session").json()["pictures"][0]["key"]
        self.photos = [encoded(photo()), *_arrays(), *_films(folder)]

    def trial(self, random):
        kind = random.randrange(4)
        path = random.choice(_PATHS).replace("{key}", random.choice((self.key, "x", "%00", "..")))
        method, headers, body = "POST", {}, b""
        if kind == 0:
            method = random.choice(_METHODS)
            path += random.choice(("", "", "?box=0,0,9,9", "?size=-1", "?box=x", "?seen=2", "?%ff"))
            body = mutated_bytes(random, b'{"a": 1}')
            headers = random.choice((
                {}, {"Host": "evil"}, {"Origin": "http://evil"}, {"X-Vtcav-Token": "é".encode()},
                {"Content-Length": "9" * 30}, {"Content-Type": "x"}, {"Sec-Fetch-Site": "\x01"},
            ))  # fmt: skip
        elif kind == 1:
            path, body = (
                "/api/pictures?name=x.png",
                mutated_bytes(random, random.choice(self.photos)),
            )
        else:
            path, data = random.choice(self._asked(random))
            body = json_bytes(
                data if kind == 2 and random.random() < 0.2 else mutated_json(random, data)
            )
            method = "PUT" if path == "/api/work" else "POST"
            headers = {"Content-Type": "application/json"}
        what = f"{method} {path} {headers or ''} {body[:200]!r}"
        return Trial(what, lambda: self.use(method, path, headers, body), ("",))

    def _asked(self, random):
        box = [random.randrange(40), random.randrange(40), *random.sample(range(50, 90), 2)]
        examples = [{"picture": self.key, "box": box}, {"picture": self.key, "box": [0, 0, 30, 30]}]
        name = random.choice(("blob", "=1+1", "`x`", "..", "con"))
        concept = {"name": name, "examples": examples}
        asked = {"picture": self.key, "layer": "3", "classes": [0, 1], "page": "p", "number": 0}
        return [
            ("/api/explain", asked | {"concepts": [concept], "judge": False}),
            ("/api/integrate", asked),
            ("/api/erase", {"picture": self.key, "classes": [0], "box": box}),
            ("/api/save", {"concept": concept, "form": random.choice(("folder", "cavs"))}),
            ("/api/discover", {"layer": "3", "page": "p", "number": 0}),
            ("/api/stop", {"page": "p", "number": 0}),
            ("/api/nearest", {"concepts": [concept], "layer": "3"}),
            ("/api/rank", {"concept": concept, "layer": "3", "maps": 1}),
            ("/api/rank", {"concept": concept | {"found": ["x"]}, "layer": "3"}),
            ("/api/work", {"concepts": [concept], "tiles": {"x": "", "y": "x"}}),
        ]

    def use(self, method, path, headers, body):
        answer = self.client.request(method, path, headers=headers, content=body)
        assert answer.status_code < 500, f"{answer.status_code} {answer.text[:200]}"
        if answer.status_code >= 400 and method != "HEAD":
            assert isinstance(answer.json()["error"], str)
        elif answer.content and "json" in answer.headers.get("content-type", ""):
            json.loads(answer.content, parse_constant=_none)
        for path in self.folder.rglob("*"):
            assert path.is_relative_to(self.folder / "out")


def _arrays():
    """Return NumPy's files of a small picture."""
    for save in (np.save, np.savez_compressed):
        save(file := io.BytesIO(), np.zeros((24, 24, 3), np.uint8))
        yield file.getvalue()


def _films(folder):
    """Return the bytes of a small DICOM file, where pydicom is installed."""
    with contextlib.suppress(ModuleNotFoundError):
        folder.mkdir(parents=True, exist_ok=True)
        file = dicom(folder / "film.dcm", np.full((24, 24), 9, np.uint16), WindowCenter=9)
        yield file.read_bytes()
        file.unlink()


def _none(constant):
    raise AssertionError(f"{constant} is no JSON")
