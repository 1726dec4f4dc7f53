"""The web application: it turns the page's requests into calls of the session."""

from __future__ import annotations

import mimetypes
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from vtcav.errors import ImageError, VtcavError
from vtcav.explainer.discovery.sampling import FEWEST as FEWEST_PHOTOGRAPHS
from vtcav.explorer import answers, limits
from vtcav.explorer.erasing import FEWEST, erase_concept, erase_region
from vtcav.explorer.export import ExistsError, command, save_bank, save_folders
from vtcav.explorer.findings import Findings
from vtcav.explorer.kept_concepts import OutdatedError
from vtcav.explorer.photographs import PhotoOrder
from vtcav.explorer.pictures import Box, Picture
from vtcav.explorer.scheduling import SupersededError
from vtcav.explorer.schemas import (
    ConceptSpec,
    DiscoverRequest,
    EraseRequest,
    ExplainRequest,
    IntegrateRequest,
    NearestRequest,
    RankRequest,
    SaveRequest,
    StopRequest,
    Work,
)
from vtcav.explorer.security import Guard
from vtcav.explorer.session import Answer, Session
from vtcav.images.input_box import shown_as, viewed
from vtcav.images.preprocess import Preprocess
from vtcav.method.significance import q_values
from vtcav.results.figures.overlay import hex_colours

_STATIC = Path(__file__).with_name("static")
_LARGEST_SHOWN = 1600

mimetypes.add_type("text/javascript", ".js")  # some systems have it as plain text


def create_app(
    session: Session,
    *,
    token: str,
    hosts: Sequence[str],
    output: Path,
    described: str | Sequence[str] = "MODEL",
) -> Guard:
    """Return the web application, guarded.

    Args:
        session: The session that computes.
        token: The secret that requests must hold.
        hosts: The application's own addresses, such as "127.0.0.1:8000".
        output: The only folder that is written to, when a concept is saved.
        described: The network as `vtcav explain --model` takes it, and the words of its options.
    """
    app = FastAPI(title="vtcav explorer", docs_url=None, redoc_url=None, openapi_url=None)
    app.mount("/static", StaticFiles(directory=_STATIC))

    @app.get("/")
    def page() -> Response:
        return FileResponse(_STATIC / "index.html")

    _errors(app)
    _pictures(app, session)
    photographs = PhotoOrder(session)
    findings = Findings(session, photographs)
    _session(app, session, findings)
    _explanations(app, session)
    _erasing(app, session)
    _finding(app, session, photographs, findings)
    _saving(app, session, output, described)
    return Guard(app, token, frozenset(host.lower() for host in hosts))


def _errors(app: FastAPI) -> None:
    """Answer every error with one sentence."""
    conflicts: dict[type[VtcavError], str] = {
        SupersededError: "superseded",
        ExistsError: "exists",
        OutdatedError: "outdated",
    }

    @app.exception_handler(VtcavError)
    def failed(request: Request, error: VtcavError) -> Response:
        if conflict := conflicts.get(type(error)):
            return _failure(409, str(error), **{conflict: True})
        return _failure(400, str(error))

    @app.exception_handler(RequestValidationError)
    def malformed(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"][1:]))
        return _failure(422, f"{where}: {first['msg']}" if where else str(first["msg"]))

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> Response:
        reasons = {
            404: "there is nothing at this address",
            405: "this address does not support the method",
        }
        return _failure(error.status_code, reasons.get(error.status_code, str(error.detail)))


def _pictures(app: FastAPI, session: Session) -> None:
    names = session.model.class_names

    @app.post("/api/pictures")
    async def upload(request: Request, name: str = "picture") -> dict[str, Any]:
        data = await request.body()
        picture = await run_in_threadpool(session.pictures.upload, data, name)
        return answers.described(picture)

    @app.delete("/api/pictures/{key}")
    def remove(key: str) -> dict[str, bool]:
        session.remove(key)
        return {"removed": True}

    @app.get("/api/pictures/{key}")
    def show(key: str, size: int = _LARGEST_SHOWN, box: str = "", seen: bool = False) -> Response:
        with session.pictures.turn():
            picture = session.pictures.decoded(key)
            if box:
                picture = picture.crop(_edges(box, session.pictures.get(key)))
            if seen:
                picture = _as_seen(session, picture)
            shown = viewed(session.model.preprocess, picture).copy()
            side = min(max(size, 16), _LARGEST_SHOWN)
            shown.thumbnail((side, side))
        return answers.picture(shown, "webp", quality=85 if side > 200 else 80)

    @app.get("/api/inputs/{key}")
    def show_input(key: str) -> Response:
        pixels = session.look(key).input
        if pixels is None:
            return _failure(404, "the input is a part of the picture: show that instead")
        return answers.picture(Image.fromarray(pixels), "png")

    @app.get("/api/look/{key}")
    def look(key: str) -> dict[str, Any]:
        view = session.look(key)
        probabilities = view.images.probabilities[0]
        return {
            "box": view.box,
            "input": None if view.input is None else view.input.shape[1::-1],
            "predictions": [
                {"index": t, "name": names[t], "probability": float(probabilities[t])}
                for t in view.top(5)
            ],
        }


def _session(app: FastAPI, session: Session, findings: Findings) -> None:
    @app.get("/api/session")
    def about() -> dict[str, Any]:
        """Return what the page needs when it is loaded."""
        return {
            "version": version("vtcav"),
            "network": session.model.described,
            "binary": session.model.binary,
            "shown": shown_as(session.model.preprocess),
            "layers": [asdict(layer) for layer in session.layers],
            "classes": session.model.class_names,
            "pictures": [answers.described(p) for p in session.pictures.listed()],
            "concepts": [spec.model_dump() for spec in session.work.concepts],
            "tiles": session.work.tiles,
            "edition": session.work.edition,
            "found": [answers.found(finding) for finding in findings.kept()],
            "concept_pictures": [answers.described(p) for p in session.pictures.listed("concept")],
            "learned": [{"name": name} for name in session.learned],
            "negatives": {
                "count": len(session.shared),
                "described": session.negatives.described,
                "stand_in": session.negatives.stand_in,
            },
            "skipped": answers.reasons(session.skipped),
            "steps": session.settings.steps,
            "colours": hex_colours(),
            "limits": {
                "bytes": limits.FILE_BYTES,
                "classes": limits.CLASSES,
                "side": limits.PATCH_SIDE,
                "erased": FEWEST,
                "found": FEWEST_PHOTOGRAPHS,
            },
        }

    @app.get("/api/progress")
    async def progress() -> dict[str, Any]:
        return asdict(session.status)

    @app.put("/api/work")
    def keep(work: Work) -> dict[str, int]:
        return {"edition": session.work.keep(work.concepts, work.edition, work.tiles)}


def _explanations(app: FastAPI, session: Session) -> None:
    @app.post("/api/explain")
    def explain(asked: ExplainRequest) -> dict[str, Any]:
        check = session.latest.check(f"explain {asked.page}", asked.number)
        classes = [session.model.class_index(t) for t in asked.classes]
        concepts = []
        for concept in asked.concepts:
            answer = session.explain(
                asked.picture, concept, asked.layer, classes, judge=asked.judge, check=check
            )
            trust = _trust(session, concept, answer) if asked.judge else None
            concepts.append({**answers.explained(answer), "trust": trust})
        _add_q_values([row for concept in concepts for row in concept["rows"]])
        return {"layer": asked.layer, "concepts": concepts}

    @app.post("/api/integrate")
    def integrate(asked: IntegrateRequest) -> dict[str, bool]:
        check = session.latest.check(f"integrate {asked.page}", asked.number)
        classes = [session.model.class_index(t) for t in asked.classes]
        session.integrate(asked.picture, asked.layer, classes, check)
        return {"done": True}


def _erasing(app: FastAPI, session: Session) -> None:
    @app.post("/api/erase")
    def erase(asked: EraseRequest) -> dict[str, Any]:
        kind = "concept" if asked.box is None else "region"
        check = session.latest.check(f"erase {kind} {asked.page}", asked.number)
        classes = [session.model.class_index(t) for t in asked.classes]
        if not classes:
            raise ImageError("there is no class whose score could fall: add one")
        if asked.box is not None:
            found = erase_region(session, asked.picture, asked.box, classes, check)
        elif asked.concept is not None:
            found = erase_concept(
                session, asked.picture, asked.concept, classes, check, beside=asked.beside
            )
        else:
            raise ImageError("expected a box or a concept to erase")
        return answers.erased(found)


def _finding(app: FastAPI, session: Session, photographs: PhotoOrder, findings: Findings) -> None:
    @app.post("/api/discover")
    def discover(asked: DiscoverRequest) -> dict[str, Any]:
        check = session.latest.check(f"discover {asked.page}", asked.number)
        return answers.found(findings.discover(asked.layer, check))

    @app.post("/api/stop")
    async def stop(asked: StopRequest) -> dict[str, bool]:
        session.latest.check(f"discover {asked.page}", asked.number + 1)
        return {"stopped": True}

    @app.post("/api/nearest")
    def nearest(asked: NearestRequest) -> dict[str, Any]:
        check = session.latest.check(f"nearest {asked.page}", asked.number)
        found = findings.nearest(asked.layer, asked.concepts, check)
        return {"nearest": {key: each._asdict() for key, each in found.items()}}

    @app.post("/api/rank")
    def rank(asked: RankRequest) -> dict[str, Any]:
        check = session.latest.check(f"rank {asked.page}", asked.number)
        concept, layer = asked.concept, asked.layer
        ranked = photographs.rank(concept, layer, check)
        return {
            "layer": layer,
            "photos": [answers.ranked(each, i < asked.maps) for i, each in enumerate(ranked)],
            "skipped": answers.reasons(photographs.skipped.values()),
            "agreement": [] if isinstance(concept, str) else findings.agreement(concept, layer),
        }


def _saving(app: FastAPI, session: Session, output: Path, described: str | Sequence[str]) -> None:
    @app.post("/api/save")
    def save(asked: SaveRequest) -> dict[str, Any]:
        concept = asked.concept
        if asked.form == "cavs":
            bank = session.bank(concept, session.names)
            places = [save_bank(output, concept.name, bank, replace=asked.replace)]
        else:
            sets = session.refs_of(concept)
            taken = session.model.preprocess
            places = save_folders(output, concept.name, sets, taken, replace=asked.replace)
        return {
            "places": [str(place) for place in places],
            "command": command(output, concept.name, described, asked.form, len(concept.examples)),
        }


# -- answers -----------------------------------------------------------------------------------


def _add_q_values(rows: Sequence[dict[str, Any]]) -> None:
    """Add q-values over everything that is shown together, as `VisualTCAV.explain` does."""
    p = [np.nan if row["p_value"] is None else row["p_value"] for row in rows]
    for row, q in zip(rows, q_values(np.array(p)), strict=True):
        row["q_value"] = answers.jsonable(float(q))


def _trust(session: Session, concept: ConceptSpec | str, answer: Answer) -> dict[str, str]:
    """Return how far a concept can be trusted at a layer, and the finding that decides this."""
    try:
        diagnosed = session.diagnose(concept, [answer.layer]).summary()
    except VtcavError as error:
        return {"level": "unknown", "meaning": str(error)}
    row = diagnosed[diagnosed["concept"] == answer.concept].iloc[0]
    return {"level": str(row["level"]), "meaning": str(row["meaning"])}


def _edges(text: str, picture: Picture) -> Box:
    """Return the box of four comma-separated numbers, clipped to the picture."""
    parts = text.split(",")
    if len(parts) != 4 or not all(part.isdecimal() and len(part) < 9 for part in parts):
        raise ImageError("expected a box of four whole numbers: left, top, right, bottom")
    left, top, right, bottom = _inside([int(part) for part in parts], picture.size)
    if left >= right or top >= bottom:
        raise ImageError(f"the patch {text} is not inside {picture.name!r}")
    return left, top, right, bottom


def _as_seen(session: Session, picture: Image.Image) -> Image.Image:
    """Return the part of a picture that the network sees, or all of it where that is unknown."""
    if not isinstance(session.model.preprocess, Preprocess):
        return picture
    edges = session.model.preprocess.box(*picture.size)
    left, top, right, bottom = _inside(edges, picture.size)
    return picture.crop((left, top, max(right, 1), max(bottom, 1)))


def _inside(edges: Sequence[float], size: tuple[int, int]) -> Box:
    """Return a box in whole pixels, clipped to a picture."""
    left, top, right, bottom = np.clip(edges, 0, (*size, *size)).round().astype(int).tolist()
    return left, top, right, bottom


def _failure(status: int, reason: str, **more: bool) -> JSONResponse:
    return JSONResponse({"error": reason, **more}, status_code=status)
