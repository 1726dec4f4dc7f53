"""The server of the explorer, at an address of this machine only."""

from __future__ import annotations

import contextlib
import html
import secrets
import socket
import tempfile
import threading
import webbrowser
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from vtcav.errors import ExplanationError, ExtraError, VtcavError, why
from vtcav.explorer.scheduling import SupersededError
from vtcav.explorer.session import Session
from vtcav.files.paths import given_path, is_folder, is_there
from vtcav.images.listing import ImageSource
from vtcav.models.base import Model

if TYPE_CHECKING:
    from starlette.types import ASGIApp

HOST = "127.0.0.1"
_IDLE = 20.0  # seconds after which a connection without a request is closed


def serve(
    model: Model | Session,
    *,
    port: int = 0,
    output: str | Path = "explorer",
    open_browser: bool = True,
    described: str | Sequence[str] = "MODEL",
    say: Callable[[str], None] = print,
    **settings: Any,
) -> None:
    """Serve the explorer until it is interrupted.

    It listens on 127.0.0.1 only. The address holds a random token, without which no request is
    answered.

    Args:
        model: A `Classifier`, what `load_model` returns, or a `Session`.
        port: 0 takes a free one.
        output: The only folder that is written to, when a concept is saved.
        open_browser: Whether to open the page in a browser.
        described: The network as `vtcav explain --model` takes it, and the words of its options.
        say: Called with the address and other messages.
        settings: Arguments of `Session`: layers, concepts, negatives, cavs, ...

    Raises:
        ExplanationError: When the port is taken, or `output` is or lies in a file.
    """
    from vtcav.explorer.app import create_app

    output = _checked_output(output)
    session = model if isinstance(model, Session) else Session(model, **settings)
    listening = listen(port)
    with listening:
        port = listening.getsockname()[1]
        token = secrets.token_urlsafe(24)
        hosts = [f"{HOST}:{port}", f"localhost:{port}"]
        app = create_app(
            session,
            token=token,
            hosts=hosts,
            output=output,
            described=described,
        )
        address = f"http://{HOST}:{port}/?token={token}"
        for skip in session.skipped:
            say(f"left out: {skip.name} ({skip.reason})")
        say(f"The explorer is at {address}")
        say("Ctrl+C ends it.")
        ended = threading.Event()
        warming = threading.Thread(target=_warm, args=(session, say, ended), daemon=True)
        warming.start()
        with contextlib.ExitStack() as stack:
            if open_browser:
                page = stack.enter_context(redirect(address))
                threading.Timer(0.5, webbrowser.open, [page.as_uri()]).start()
            # a thread that is inside of PyTorch when Python ends takes the process down with it
            stack.callback(_wait, warming)
            stack.callback(ended.set)
            _server(configured(app), session).run(sockets=[listening])


def _checked_output(output: str | Path) -> Path:
    """Return the folder for saved concepts, which need not be there yet."""
    folder = given_path("output", output)
    there = next(filter(is_there, (folder, *folder.parents)), folder)
    if is_there(there) and not is_folder(there):
        raise ExplanationError(
            f"cannot write to the folder {str(folder)!r}: {str(there)!r} is a file"
        )
    return folder


def _wait(thread: threading.Thread) -> None:
    """Wait until a thread has ended, also where Ctrl+C is pressed again."""
    while thread.is_alive():
        with contextlib.suppress(KeyboardInterrupt):
            thread.join()


def configured(app: ASGIApp) -> Any:
    """Return how uvicorn serves an application."""
    import uvicorn

    return uvicorn.Config(
        app,
        http=_protocol(),
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=3,
        ws="none",
        lifespan="off",
    )


def _protocol() -> type[Any]:
    """Return uvicorn's protocol, which hangs up where no request comes.

    Otherwise sockets that say nothing, of any user of the machine, use up all there are.
    """
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class PatientProtocol(H11Protocol):
        """Closes a connection that has not asked for anything within some seconds."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.loop.call_later(_IDLE, self._hang_up)

        def _hang_up(self) -> None:
            if self.cycle is None and not self.transport.is_closing():
                self.transport.close()

    return PatientProtocol


def _server(config: Any, session: Session) -> Any:
    """Return uvicorn's server, whose first signal also ends the computations it would wait for."""
    import uvicorn

    class EndingServer(uvicorn.Server):
        """Tells the session that nobody waits for an answer any more."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            session.latest.end()
            super().handle_exit(sig, frame)

    return EndingServer(config)


@contextlib.contextmanager
def redirect(address: str) -> Iterator[Path]:
    """Yield a page that leads to an address, which only its owner can read.

    The token must not stand on the browser's command line, which every user of the machine can
    read.
    """
    with tempfile.TemporaryDirectory(prefix="vtcav-") as folder:  # of mode 0700
        page = Path(folder, "explorer.html")
        text = html.escape(address)
        page.write_text(
            '<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer">'
            f'<meta http-equiv="refresh" content="0;url={text}"><a href="{text}">the explorer</a>',
            encoding="utf-8",
        )
        yield page


def samples(names: tuple[str, ...]) -> Mapping[str, ImageSource]:
    """Return photographs of scikit-image by name; none where it is not installed."""
    from vtcav.datasets.demo_photographs import photograph

    try:
        return {name.removesuffix("_RGB"): photograph(name) for name in names}
    except ExtraError:
        return {}


def listen(port: int) -> socket.socket:
    """Return a socket that listens on this machine only.

    Args:
        port: 0 takes a free one.

    Raises:
        ExplanationError: When the port is taken.
    """
    try:
        return socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        raise ExplanationError(
            f"cannot listen on port {port}: {why(error)}; give another --port, or none "
            "for a free one"
        ) from error


def _warm(session: Session, say: Callable[[str], None], ended: threading.Event) -> None:
    """Prepare the negatives. A page that comes first requests what it needs itself."""

    def check() -> None:
        if ended.is_set():
            raise SupersededError("the explorer has ended")

    try:
        session.warm(check)
    except SupersededError:
        pass
    except VtcavError as error:
        say(f"the negatives cannot be used: {error}")
