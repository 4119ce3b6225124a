"""Takes the README's pictures: of the page and of a report, both of a run that is already there.

Run: python tools/make_pictures.py RUN   (after `cutaway export RUN` and `cutaway inspect report RUN`)
"""

import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from cutaway import Classifier
from cutaway.datasets import load
from cutaway.serve.api import create_app
from cutaway.serve.server import running

FLAGS = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync"
WIDTH, PALETTE = 1000, 256

run = Path(sys.argv[1])
docs = Path(__file__).parent.parent / "docs"
test = load("fashion-mnist-sample").test

with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS.split())
    boot = Path(folder) / "boot.png"
    Image.fromarray(test.images[int((test.labels == 9).argmax())][:, :, 0]).save(boot)
    page = browser.new_page(viewport={"width": WIDTH, "height": 800})
    with running(create_app(Classifier(run / "export" / "model.onnx"))) as url:
        page.goto(url)
        page.locator("#input-image input[type=file]").set_input_files(boot)
        page.locator("#label li").first.wait_for()
        page.locator("#explanation img").first.wait_for()
        page.screenshot(path=f"{folder}/page.png", full_page=True)
    page.goto((run / "report" / "index.html").absolute().as_uri())
    page.screenshot(path=f"{folder}/report.png", clip={"x": 0, "y": 0, "width": WIDTH, "height": 1150}, full_page=True)
    browser.close()
    docs.mkdir(exist_ok=True)
    for name in ("page", "report"):
        Image.open(f"{folder}/{name}.png").convert("RGB").quantize(PALETTE).save(docs / f"{name}.png", optimize=True)
