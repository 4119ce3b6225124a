from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from cutaway.images import encode_png
from cutaway.serve.api import create_app
from cutaway.serve.classifier import Classifier
from cutaway.serve.observing import log_requests

URL = "http://127.0.0.1"


@pytest.fixture
def client(model_path) -> Iterator[TestClient]:
    with TestClient(create_app(Classifier(model_path), page=False), base_url=URL) as client:
        yield client


def metrics(client: TestClient) -> dict[tuple[str, ...], float]:
    """Name and label values of each sample -> its value."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {(sample.name, *sample.labels.values()): sample.value for each in families for sample in each.samples}


def test_requests_and_work_are_counted_by_route(client, pictures) -> None:
    for _ in range(2):
        assert client.post("/v1/classify", files={"images": encode_png(pictures("red"))}).status_code == 200
    client.post("/v1/classify", content=b"", headers={"content-type": "text/plain"})
    client.get("/v2/models/model/ready")
    client.get("/nothing/at/all")
    client.request("BREW", "/healthz")

    counted = metrics(client)

    assert counted["cutaway_requests_total", "POST", "/v1/classify", "200"] == 2
    assert counted["cutaway_requests_total", "POST", "/v1/classify", "415"] == 1
    assert counted["cutaway_requests_total", "GET", "/v2/models/{model}/ready", "200"] == 1
    assert counted["cutaway_requests_total", "GET", "other", "404"] == 1
    assert counted["cutaway_requests_total", "other", "/healthz", "405"] == 1
    assert counted["cutaway_request_seconds_count", "/v1/classify"] == 3
    assert counted["cutaway_work_seconds_count", "model"] == 2
    assert counted["cutaway_places_taken",] == 0
    assert counted["cutaway_places",] == 34
    assert {"cutaway_model_info", "model", "ab" * 32, "cpu", "mean-color", "1"} in [set(each) for each in counted]


def test_two_servers_in_one_process_count_apart(client, model_path) -> None:
    client.get("/healthz")
    with TestClient(create_app(Classifier(model_path), page=False), base_url=URL) as other:
        assert ("cutaway_requests_total", "GET", "/healthz", "200") not in metrics(other)


def test_every_answer_has_a_number_and_a_sane_one_is_kept(client) -> None:
    own = client.get("/healthz").headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", own)
    assert client.get("/healthz", headers={"x-request-id": "trace-7.a_b"}).headers["x-request-id"] == "trace-7.a_b"
    for wrong in ("a b", "x" * 129, 'a"b', ""):
        assert client.get("/healthz", headers={"x-request-id": wrong}).headers["x-request-id"] != wrong
    assert client.get("/healthz", headers={"host": "evil.example", "x-request-id": "7"}).headers["x-request-id"] == "7"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    stream, root, requests = io.StringIO(), logging.getLogger(), logging.getLogger("cutaway.serve.requests")
    before, level = list(root.handlers), requests.level
    log_requests(stream)
    yield stream
    root.handlers[:] = before
    requests.setLevel(level)


def test_a_line_of_json_for_each_request_and_nothing_of_the_picture(client, pictures, log) -> None:
    files = {"images": ("holiday.png", encode_png(pictures("red")))}
    client.post("/v1/classify?top_k=2", files=files, headers={"x-request-id": "seven"})

    (line,) = [json.loads(text) for text in log.getvalue().splitlines()]
    assert line.pop("milliseconds") > 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {
        "level": "info",
        "message": "request",
        "request_id": "seven",
        "method": "POST",
        "path": "/v1/classify",
        "status": 200,
    }


def test_a_forged_path_stays_one_line(client, log) -> None:
    client.get('/a%0a{"level":"info"}')
    assert len(log.getvalue().splitlines()) == 1
    assert json.loads(log.getvalue())["path"] == '/a\n{"level":"info"}'


def test_a_failure_is_logged_with_its_traceback_and_the_number_of_its_request(model_path, pictures, log) -> None:
    class Broken(Classifier):
        def __call__(self, *arguments, **options):
            raise RuntimeError("the innards")

    with TestClient(create_app(Broken(model_path), page=False), base_url=URL) as client:
        answer = client.post("/v1/classify", files={"images": encode_png(pictures("red"))})
    assert answer.status_code == 500
    lines = [json.loads(text) for text in log.getvalue().splitlines()]
    failed = next(line for line in lines if line["level"] == "error")
    assert failed["request_id"] == answer.headers["x-request-id"]
    assert "RuntimeError: the innards" in failed["traceback"]
    assert lines[-1]["status"] == 500


def test_docs_tell_every_operation_and_fetch_nothing(client) -> None:
    page = client.get("/docs")

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    described = client.get("/openapi.json").json()
    for path, operations in described["paths"].items():
        assert f"<code>{path}</code>" in page.text
        for operation in operations.values():
            assert all(f"<td>{each['name']}</td>" in page.text for each in operation.get("parameters", []))
    assert "1 to 1000; by default 5" in page.text
    assert not re.search(r"<script|<link|<img|src=|url\(|@import|https?:", page.text)


def test_names_from_the_file_are_escaped_in_the_docs(make_model) -> None:
    evil = Classifier(make_model(network="<script>alert(1)</script>"))
    with TestClient(create_app(evil, page=False), base_url=URL) as client:
        assert "<script>" not in client.get("/docs").text
