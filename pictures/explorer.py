"""Draw the README's picture of the explorer: python pictures/explorer.py (needs Chromium).

A person's way: five patches of a cup, cut out of a photograph, become a concept, and the page says
what the network answers without it.
"""

import secrets
import shutil
import tempfile
import threading
import time
from pathlib import Path

import uvicorn
from playwright.sync_api import sync_playwright

from vtcav import load_model
from vtcav.cli.commands.demo import LAYERS
from vtcav.explorer import Session, create_app
from vtcav.explorer.server import listen, samples

HERE = Path(__file__).parent
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
PATCHES = [
    *((0.34, 0.14, 0.34, 0.5), (0.37, 0.18, 0.29, 0.44), (0.36, 0.2, 0.24, 0.36)),
    *((0.42, 0.16, 0.25, 0.38), (0.39, 0.28, 0.26, 0.34)),
]


def main():
    """Cut the patches and take the picture."""
    session = Session(load_model("demo"), list(LAYERS), samples=samples(("coffee", "chelsea")))
    token, socket = secrets.token_urlsafe(8), listen(0)
    host = f"127.0.0.1:{socket.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as output:
        app = create_app(session, token=token, hosts=[host], output=Path(output))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))
        threading.Thread(target=server.run, args=([socket],), daemon=True).start()
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            page = browser.new_page(viewport={"width": 1280, "height": 1040})
            page.goto(f"http://{host}/?token={token}")
            page.wait_for_selector("html.ready")
            page.click("#intro-close")
            page.select_option("#layer", LAYERS[1])
            page.click("#new")
            page.click("input[value=examples] + span")
            area = page.locator(".stage .photo").first.bounding_box()
            for left, top, width, height in PATCHES:
                page.evaluate("delete document.documentElement.dataset.done")
                x, y = area["x"] + left * area["width"], area["y"] + top * area["height"]
                page.mouse.move(x, y)
                page.mouse.down()
                page.mouse.move(x + 9, y + 9)
                page.mouse.move(x + width * area["width"], y + height * area["height"])
                page.mouse.up()
                page.wait_for_selector("html[data-done]", state="attached")
            page.wait_for_selector("#said .said", timeout=120_000)
            time.sleep(2)
            page.mouse.move(2, 2)
            page.screenshot(path=HERE / "explorer.png")
            browser.close()
        server.should_exit = True
        time.sleep(0.5)


if __name__ == "__main__":
    main()
