"""Who may ask: this page, opened with its token, at this address, with requests of a fair size."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from starlette.exceptions import HTTPException

from vtcav.explorer import limits

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["HEADERS", "Guard"]

TOKEN_HEADER = b"x-vtcav-token"

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cache-control": "no-store",
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Guard:
    """Refuses what does not come from the page itself, and adds headers to every answer.

    The address must be the explorer's own, by which a name that another site made point here
    (DNS rebinding) is refused. What a browser says of another origin is refused. All but the
    scripts and the style of the page needs the token: in a header, or, for what is only read, in
    the address.

    Args:
        app: What answers.
        token: The secret of this run.
        hosts: Addresses (host and port) that the explorer is reached by.
    """

    def __init__(self, app: ASGIApp, token: str, hosts: frozenset[str]) -> None:
        self._app = app
        self._token = token.encode()
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return

        async def guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                own = [(key.encode(), value.encode()) for key, value in HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *own]
            await send(message)

        headers = dict(scope["headers"])
        refused = self._refusal(scope, headers)
        if refused is not None:
            await _answer(guarded, *refused)
            return
        most = limits.FILE_BYTES if scope["path"] == "/api/pictures" else limits.JSON_BYTES
        if _number(headers.get(b"content-length", b"0")) > most:
            await _answer(guarded, 413, _too_large(most))
            return
        taken = 0

        async def counted() -> MutableMapping[str, Any]:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > most:
                raise HTTPException(413, _too_large(most))
            return message

        await self._app(scope, counted, guarded)

    def _refusal(
        self, scope: Mapping[str, Any], headers: Mapping[bytes, bytes]
    ) -> tuple[int, str] | None:
        """Return the status and reason to refuse a request, or None."""
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if host not in self._hosts:
            return 421, "this is not the explorer's address; open the one that it printed"
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1").lower() != f"http://{host}":
            return 403, "another page cannot use the explorer"
        site = headers.get(b"sec-fetch-site", b"none")
        reads = scope["method"] in ("GET", "HEAD")
        public = reads and scope["path"].startswith("/static/")
        if site not in (b"same-origin", b"none"):
            return 403, "another page cannot use the explorer"
        if public:
            return None
        given = headers.get(TOKEN_HEADER, b"")
        if not given and reads:
            given = _query(scope).encode()
        if not given or not hmac.compare_digest(given, self._token):
            return 403, "the token is missing or wrong; open the whole address that was printed"
        return None


def _query(scope: Mapping[str, Any]) -> str:
    query: str = scope.get("query_string", b"").decode("latin-1")
    return parse_qs(query).get("token", [""])[0]


def _number(text: bytes) -> int:
    return int(text) if text.isdigit() and len(text) < 20 else 0 if not text else 1 << 62


def _too_large(most: int) -> str:
    return f"it is larger than the {most >> 20} MB that are taken"


async def _answer(send: Any, status: int, reason: str) -> None:
    """Send a short answer."""
    body = json.dumps({"error": reason}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
