"""The page of results in Chromium: sorted by a click, silent on the network, with no script of a stranger's."""

import pytest

from cutaway.train.sweep.results import Results, Row
from cutaway.train.sweep.results_page import render_page

pytestmark = pytest.mark.browser

NASTY = "<img src=x onerror=\"document.title='x'\">"


@pytest.fixture
def page(browser, tmp_path):
    values = {"a": 0.5, "b": float("nan"), "c": 9.0, "d": None, "e": 10.0, "f": float("inf")}
    rows = tuple(
        Row(name, "finished", {"network": f"net {name}" if name != "a" else NASTY}, {} if v is None else {"loss": v})
        for name, v in values.items()
    )
    results = Results(tmp_path, rows, ("network",), ("loss",), frozenset({"loss"}), "loss")
    (tmp_path / "t.html").write_text(render_page(results))
    opened = browser.new_page()
    opened.said, opened.asked = [], []
    opened.on("console", lambda message: opened.said.append(message.text))
    opened.on("pageerror", lambda error: opened.said.append(str(error)))
    opened.on("request", lambda request: opened.asked.append(request.url))
    opened.goto(f"file://{tmp_path}/t.html")
    yield opened
    opened.close()


def test_a_click_sorts_numbers_as_numbers_with_what_is_missing_last(page, tmp_path):
    def order():
        return "".join(page.locator("tbody tr td:last-child").all_inner_texts())

    def click(name):
        page.get_by_role("button", name=name).click()

    click("run")
    assert order() == "abcdef"
    click("run")
    assert order() == "fedcba"
    click("loss")
    assert order()[:4] == "acef"
    assert set(order()[4:]) == set("bd")
    click("loss")
    assert order()[:4] == "feca"
    assert set(order()[4:]) == set("bd")
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("loss")
    assert page.title() == tmp_path.name
    assert page.locator("td.best").inner_text() == "0.5"
    assert page.said == []
    assert page.asked == [f"file://{tmp_path}/t.html"]
