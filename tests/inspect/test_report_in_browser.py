from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cutaway.datasets import Split
from cutaway.inspect.report import report_on, write_report
from cutaway.preprocessing.spec import Preprocessing

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    preprocessing = Preprocessing(size=(16, 16), color="grey", mean=(0.5,), std=(0.5,))
    network = nn.Sequential(nn.Conv2d(1, 40, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1960, 12)).eval()
    images = np.random.default_rng(0).integers(0, 256, (36, 16, 16, 1), dtype=np.uint8)
    split = Split("test", np.arange(36) % 12, images)
    with torch.no_grad():
        logits = network(torch.from_numpy(preprocessing.normalise(images)))

    class Answers:
        labels = torch.arange(36) % 12

    Answers.logits = logits  # type: ignore[attr-defined]
    data = report_on(
        network,
        preprocessing,
        [f"a class with quite a long name {i} <script>document.title='x'</script>" for i in range(12)],
        split,
        Answers(),  # type: ignore[arg-type]
        title="a-run-with-a-name-that-has-no-spaces-and-does-not-fit-on-a-phone-by-any-means",
        settings={"key": "v" * 300},
        journal=[{"epoch": i, "train_loss": 1 / i, "valid_loss": 1.1 / i} for i in range(1, 60)],
    )
    return write_report(tmp_path_factory.mktemp("report"), data)


@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_every_screen_in_both_schemes_and_asks_nobody(
    browser: Any, report: Path, width: int, scheme: str
) -> None:
    complaints: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda asked: complaints.append(asked.url) if asked.url[:5] not in ("data:", "file:") else None)
    page.goto(report.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert page.title().startswith("a-run-with")
    tops = page.locator(".headline dd").evaluate_all("all => all.map(one => one.getBoundingClientRect().top)")
    assert len(set(tops)) == 1 or width == 390
    assert page.locator(".headline dd").evaluate_all(
        "all => all.every(one => one.getBoundingClientRect().height < 1.9 * parseFloat(getComputedStyle(one).fontSize))"
    )
    background, ink = page.evaluate(
        "(() => { const s = getComputedStyle(document.body); return [s.backgroundColor, s.color] })()"
    )
    luminance = [sum(map(int, color[4:-1].split(","))) for color in (background, ink)]
    assert (luminance[0] > 600 and luminance[1] < 200) == (scheme == "light")
    assert (luminance[0] < 200 and luminance[1] > 600) == (scheme == "dark")
    # The bars of a histogram take the scheme's colour.
    assert page.locator("#weights svg path").first.evaluate("e => getComputedStyle(e).fill") == (
        "rgb(47, 95, 208)" if scheme == "light" else "rgb(134, 168, 255)"
    )
    page.close()
    assert complaints == []


def test_it_can_be_printed(browser: Any, report: Path) -> None:
    page = browser.new_page(color_scheme="dark")
    page.goto(report.as_uri())
    assert page.pdf(format="A4", print_background=True).startswith(b"%PDF")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    page.close()
