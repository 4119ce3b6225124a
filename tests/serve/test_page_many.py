from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from cutaway.errors import ServingError
from cutaway.serve.api import create_app
from cutaway.serve.classifier import Classifier, Score
from cutaway.serve.page import many, many_table
from cutaway.serve.page.asking import Asking
from cutaway.serve.page.many_table import Row, as_csv, table
from cutaway.serve.slots import BusyError


@pytest.fixture(scope="module")
def client(model_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(Classifier(model_path, provider="cpu")), base_url="http://127.0.0.1") as client:
        yield client


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def sent(client: TestClient, name: str, data: bytes) -> dict[str, Any]:
    path = client.post("/gradio_api/upload", files={"files": ("a.png", data)}).json()[0]
    return {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}


def csv_of(html: str) -> list[dict[str, str]]:
    (encoded,) = re.findall(r"base64,([^\"]+)\">Download", html)
    return list(csv.DictReader(io.StringIO(base64.b64decode(encoded).decode())))


def test_each_picture_has_its_class_and_a_broken_one_its_reason(client, ask, pictures) -> None:
    files = [
        sent(client, "sky.png", png(pictures("blue"))),
        sent(client, "broken.png", b"no picture"),
        sent(client, "grass.png", png(pictures("green", 30, 20))),
    ]

    html = ask(client, "many-files", "change", [files])[-1]["output"]["data"][0]

    rows = csv_of(html)
    assert [(row["picture"], row["label"]) for row in rows] == [
        ("sky.png", "blue"),
        ("broken.png", ""),
        ("grass.png", "green"),
    ]
    assert 0.9 < float(rows[0]["probability"]) <= 1
    assert float(rows[0]["probability"]) > float(rows[0]["second_probability"]) > 0
    assert "decode" in rows[1]["error"]
    assert rows[0]["error"] == ""
    assert "3 pictures" in html
    assert "1 of them could not be classified" in html


def test_table_grows_while_pictures_are_classified(client, ask, pictures) -> None:
    files = [sent(client, f"{index}.png", png(pictures("red"))) for index in range(many._AT_A_TIME + 1)]

    messages = ask(client, "many-files", "change", [files])

    shown = [message["output"]["data"][0] for message in messages if message["msg"] == "process_generating"]
    assert f"{many._AT_A_TIME} of {len(files)} pictures" in shown[0]
    assert "Download" not in shown[0]


def test_too_many_pictures_are_left_out_and_that_is_told(client, ask, pictures, monkeypatch) -> None:
    monkeypatch.setattr(many, "MOST_PICTURES", 2)
    file = sent(client, "a.png", png(pictures("red")))

    html = ask(client, "many-files", "change", [[file] * 3])[-1]["output"]["data"][0]

    assert len(csv_of(html)) == 2
    assert "1 more was left out: 2 are taken at once." in html


def test_busy_server_is_told_for_each_picture(client, ask, pictures, monkeypatch) -> None:
    def refuse(*_: Any) -> None:
        raise BusyError(1)

    file = sent(client, "a.png", png(pictures("red")))
    monkeypatch.setattr("cutaway.serve.slots.Slots.admission", refuse)

    (row,) = csv_of(ask(client, "many-files", "change", [[file]])[-1]["output"]["data"][0])
    assert "busy" in row["error"]


def test_who_kept_the_page_of_a_model_that_was_replaced_is_told_so(client, ask, pictures, monkeypatch) -> None:
    def replaced(_: Asking) -> Classifier:
        raise ServingError("The model was replaced since this page was opened.", hint="Reload the page.")

    file = sent(client, "a.png", png(pictures("red")))
    monkeypatch.setattr(Asking, "classifier", property(replaced))

    events = ask(client, "many-files", "change", [[file]])
    assert events[-1]["output"]["data"] == [many_table.nothing()]
    assert "The model was replaced" in str([event for event in events if event["msg"] == "log"])


@pytest.mark.parametrize("path", ["/etc/passwd", "http://127.0.0.1:9/a.png", "", "../../etc/passwd"])
def test_no_file_but_an_upload_is_opened(client, ask, pictures, path: str, monkeypatch) -> None:
    opened: list[Any] = []
    monkeypatch.setattr("cutaway.serve.page.many.decode", lambda path, **_: opened.append(path))
    good = sent(client, "a.png", png(pictures("red")))

    answer = ask(client, "many-files", "change", [[good, good | {"path": path}]])[-1]

    assert not answer["success"]
    assert opened == []


def test_no_files_give_the_empty_table(client, ask) -> None:
    assert "will be shown here" in ask(client, "many-files", "change", [None])[-1]["output"]["data"][0]


def test_names_are_escaped_and_are_no_formulas() -> None:
    row = Row("=<b>\n1", "data:", (Score(0, "@<i>", 0.5), Score(1, " -b", 0.25)))

    html = table([row, Row("<u>", error="<s>")], 2, 1.0, "cpu")

    assert not re.search("<[bius]>", html)
    first, second = csv_of(html)
    assert (first["picture"], first["label"], first["second"], first["third"]) == ("'=<b> 1", "'@<i>", "'-b", "")
    assert (second["picture"], second["error"]) == ("<u>", "<s>")


def test_name_written_from_right_to_left_keeps_its_figure() -> None:
    row = Row("a.png", "data:", (Score(0, "coin", 0.75), Score(1, "قطعة", 0.25)))

    assert "<bdi>قطعة</bdi> 25.0%" in table([row], 1, 1.0, "cpu")


def test_csv_has_a_header_alone_without_pictures() -> None:
    assert as_csv([]).count("\n") == 1
