"""Access control: only the explorer's own page is answered, with its token and at its address."""

from __future__ import annotations

import hmac
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from vtcav.explorer import limits

TOKEN_HEADER = "x-vtcav-token"

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
    """Refuses requests that do not come from the page itself, and adds headers to every response.

    The address must be the explorer's own, which stops names that another site points to this
    machine (DNS rebinding). Requests that the browser marks as coming from another origin are
    refused. Everything but the scripts and the style of the page needs the token: in a header, or
    for reading also in the address.

    Args:
        app: The application that answers.
        token: The secret of this run.
        hosts: Addresses (host and port) of the explorer.
    """

    def __init__(self, app: ASGIApp, token: str, hosts: frozenset[str]) -> None:
        self._app = app
        self._token = token.encode()
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message.setdefault("headers", [])
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        most = limits.FILE_BYTES if scope["path"] == "/api/pictures" else limits.JSON_BYTES
        refused = self._refusal(scope, most)
        if refused is not None:
            status, reason = refused
            response = JSONResponse({"error": reason}, status, {"connection": "close"})
            await response(scope, receive, guarded)
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

    def _refusal(self, scope: Scope, most: int) -> tuple[int, str] | None:
        """Return the status and reason to refuse a request, or None."""
        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        if host not in self._hosts:
            return 421, "this is not the explorer's address; open the one that it printed"
        own = headers.get("origin", f"http://{host}").lower() == f"http://{host}"
        reads = scope["method"] in ("GET", "HEAD")
        # the page itself may be opened from a link, as by the file that the browser is given
        opened = reads and scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"
        site = headers.get("sec-fetch-site", "none")
        if not own or (site not in ("same-origin", "none") and not opened):
            return 403, "another page cannot use the explorer"
        if not (reads and scope["path"].startswith("/static/")):
            token = headers.get(TOKEN_HEADER, "")
            if not token and reads:
                token = QueryParams(scope.get("query_string", b"")).get("token", "")
            if not token or not hmac.compare_digest(token.encode(), self._token):
                return 403, "the token is missing or wrong; open the whole address that was printed"
        if _number(headers.get("content-length", "0")) > most:
            return 413, _too_large(most)
        return None


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 1 << 62


def _too_large(most: int) -> str:
    return f"it is larger than the {most >> 20} MB allowed"
