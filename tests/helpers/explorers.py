"""An explorer over a small network, and pictures as files."""

import io
import threading
from contextlib import contextmanager

from PIL import Image

from tests.helpers.small import pictures, small_model
from vtcav.explorer import Session, create_app

TOKEN = "a-token-for-tests"


def photo(seed=5, size=(96, 128)):
    """A picture with blobs, as a PIL image."""
    small = pictures(1, seed, size=(6, 8))[0]
    return Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC)


def encoded(image, kind="PNG", **options):
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def small_session(**settings):
    settings = {"negatives": pictures(30, seed=3), "steps": 10, **settings}
    settings.setdefault("samples", {"blobs": photo()})
    layers = settings.pop("layers", None if "cavs" in settings else ["1", "3"])
    return Session(settings.pop("model", None) or small_model(), layers, **settings)


@contextmanager
def served(session, output):
    """Serve an explorer on a free port, as `vtcav explore` does."""
    import uvicorn

    from vtcav.explorer.server import configured, listen

    with listen(0) as listening:
        port = listening.getsockname()[1]
        app = create_app(session, token=TOKEN, hosts=[f"127.0.0.1:{port}"], output=output)
        server = uvicorn.Server(configured(app))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}/?token={TOKEN}"
        finally:
            server.should_exit = True
            thread.join(10)


def bomb(side=30_000):
    """A PNG of few bytes that says it has very many pixels."""
    header = encoded(Image.new("L", (1, 1)))
    import struct
    import zlib

    chunk = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = header[:8] + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return data + header[33:]
