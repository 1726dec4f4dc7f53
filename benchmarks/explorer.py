"""From releasing a patch to the new map, in a real browser, with the demonstration's network.

Run it on a quiet machine: `.venv/bin/python benchmarks/explorer.py` (Chromium and Playwright).
"""

import secrets
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path

import uvicorn
from playwright.sync_api import Page, sync_playwright

from vtcav import load_model
from vtcav.cli.commands.demo import LAYERS
from vtcav.explorer import Session, create_app
from vtcav.explorer.server import listen, samples

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
PATCHES = 10


def cut(page: Page, i: int, *, wait: str) -> float:
    """Drag the patch number i and return what the page measured, in milliseconds."""
    page.evaluate(f"delete document.documentElement.dataset.{wait}")
    page.evaluate("delete document.documentElement.dataset.took")
    area = page.locator(".stage .photo").first.bounding_box()
    assert area is not None
    x, y = area["x"] + (0.2 + 0.04 * i) * area["width"], area["y"] + 0.3 * area["height"]
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 40, y + 40)
    page.mouse.move(x + 0.2 * area["width"], y + 0.25 * area["height"])
    page.mouse.up()
    page.wait_for_selector(f"html[data-{wait}]", state="attached")
    return float(page.get_attribute("html", "data-took") or "nan")


def measure(page: Page, layer: str, *, wait: str) -> list[float]:
    """Return the times of patches at a layer, but for the first, which integrates."""
    page.select_option("#layer", layer)
    page.click("#new")
    page.click("input[value=examples] + span")
    return [cut(page, i, wait=wait) for i in range(PATCHES)]


def main() -> None:
    """Print the times for each layer of the demonstration."""
    session = Session(load_model("demo"), list(LAYERS), samples=samples(("chelsea",)))
    session.warm()
    token, socket = secrets.token_urlsafe(8), listen(0)
    host = f"127.0.0.1:{socket.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as output:
        app = create_app(session, token=token, hosts=[host], output=Path(output))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))
        threading.Thread(target=server.run, args=([socket],), daemon=True).start()
        with sync_playwright() as driver:
            chromium = shutil.which("chromium")
            browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(f"http://{host}/?token={token}")
            page.wait_for_selector("html.ready")
            page.click("#intro-close")
            for wait, what in (("done", "one after another"), ("took", "in quick succession")):
                for layer in LAYERS:
                    first, *rest = measure(page, layer, wait=wait)
                    print(
                        f"{layer}, {what}: first {first:.0f} ms, then median "
                        f"{statistics.median(rest):.0f} ms, worst {max(rest):.0f} ms"
                    )
            browser.close()
        server.should_exit = True
        time.sleep(0.5)


if __name__ == "__main__":
    main()
