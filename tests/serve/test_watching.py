"""Another file in the place of a served one: used whole once it is checked, or not at all."""

from __future__ import annotations

import io
import json
import logging
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from cutaway.images import encode_png
from cutaway.serve import pages, server, watching
from cutaway.serve.api import create_app
from cutaway.serve.classifier import Classifier
from cutaway.serve.models import Loaded, Served
from cutaway.serve.observing import log_reloads
from cutaway.serve.page.classify import NO_CLASS
from cutaway.serve.watched_file import Watch

FRENCH = ("rouge", "vert", "bleu", "gris")


@pytest.fixture(scope="module")
def english(make_model) -> bytes:
    return make_model().read_bytes()


@pytest.fixture(scope="module")
def french(make_model) -> bytes:
    return make_model(classes=FRENCH, network="couleurs", bundle="cd" * 32).read_bytes()


@pytest.fixture
def path(tmp_path: Path, english: bytes) -> Path:
    (tmp_path / "model.onnx").write_bytes(english)
    return tmp_path / "model.onnx"


@pytest.fixture(autouse=True)
def _often(monkeypatch) -> None:
    monkeypatch.setattr(watching, "_EVERY_SECONDS", 0.02)
    monkeypatch.setattr(pages, "_GAP_SECONDS", 0.0)


@pytest.fixture
def words() -> Iterator[io.StringIO]:
    stream, before, level = io.StringIO(), list(watching.LOG.handlers), watching.LOG.level
    log_reloads(stream)
    yield stream
    watching.LOG.handlers[:], watching.LOG.level = before, level


@contextmanager
def watched(path: Path, *, page: bool = False, first: type[Classifier] = Classifier) -> Iterator[tuple[str, Served]]:
    watch = Watch(path, lambda: Classifier(path, provider="cpu", threads=1))
    served = Served("colours", Loaded(first(path, provider="cpu", threads=1)), watch)
    with server.running(create_app([served], page=page)) as url:
        yield url, served


def put(path: Path, data: bytes) -> None:
    """Renames a whole file over the one that is there."""
    fresh = path.with_name("fresh")
    fresh.write_bytes(data)
    fresh.replace(path)


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_change_is_seen_once_it_is_whole_and_told_once(path: Path, french: bytes) -> None:
    watch = Watch(path, lambda: pytest.fail("nobody loads here"))
    assert [watch.has_changed() for _ in range(3)] == [False] * 3
    put(path, french)
    assert [watch.has_changed() for _ in range(3)] == [False, True, False]
    path.write_bytes(french[:100])  # in place, and still being written
    assert not watch.has_changed()
    path.write_bytes(french)
    assert [watch.has_changed() for _ in range(3)] == [False, True, False]
    path.with_name("model.onnx.data").write_bytes(b"x")  # its second file comes after it
    assert [watch.has_changed() for _ in range(3)] == [False, True, False]
    path.unlink()
    assert [watch.has_changed() for _ in range(3)] == [False, True, False]


def test_under_load_every_answer_comes_from_one_file_whole(path: Path, english, french, pictures) -> None:
    body, answers, replaced, end = encode_png(pictures("blue")), [], [], threading.Event()
    kinds = {"ab" * 32: ["blue", "grey", "red", "green"], "cd" * 32: ["bleu", "gris", "rouge", "vert"]}

    def ask(url: str) -> None:
        with httpx.Client(base_url=url, timeout=30) as client:
            while not end.is_set():
                answers.append(client.post("/v1/classify", files={"images": body}))

    with watched(path) as (url, served):
        threads = [threading.Thread(target=ask, args=(url,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        until(lambda: len(answers) > 6)
        for version, data in enumerate([french, english, french, english, french], start=2):
            replaced.append(weakref.ref(served.now.classifier))
            put(path, data)
            until(lambda now=str(version): served.now.version == now)
            seen = len(answers)
            until(lambda enough=seen + 6: len(answers) > enough)
        end.set()
        for thread in threads:
            thread.join()
        until(lambda: all(each() is None for each in replaced))  # each is let go with its last request
        last = httpx.post(f"{url}/v1/classify", files={"images": body}).json()
        assert httpx.get(f"{url}/v2/models/colours").json()["versions"] == ["6"]
        assert 'cutaway_reloads_total{model="colours",result="loaded"} 5.0' in httpx.get(f"{url}/metrics").text

    assert (last["version"], last["bundle"]) == ("6", "cd" * 32)
    assert {answer.status_code for answer in answers} == {200}
    found = [answer.json() for answer in answers]
    assert {each["version"] for each in found} == {"1", "2", "3", "4", "5", "6"}
    for each in found:
        (result,) = each["results"]
        assert [score["label"] for score in result["top"]] == kinds[each["bundle"]]
        assert (each["bundle"] == "cd" * 32) == (int(each["version"]) % 2 == 0)


def test_a_bad_file_leaves_the_one_before_it_in_use_and_is_told_once(path: Path, french: bytes, caplog) -> None:
    caplog.set_level(logging.INFO, "cutaway.serve.watching")
    with watched(path) as (url, served):

        def refused() -> str:
            lines = httpx.get(f"{url}/metrics").text.splitlines()
            return next(line for line in lines if 'result="refused"' in line and "total" in line).split()[-1]

        assert refused() == "0.0"
        path.write_bytes(french[: len(french) // 2])  # half-written
        until(lambda: refused() == "1.0")
        put(path, french[:-1] + bytes([french[-1] ^ 1]))  # altered
        until(lambda: refused() == "2.0")
        path.unlink()
        until(lambda: refused() == "3.0")
        looks = Watch.has_changed
        assert looks(served.watch) is False
        assert httpx.get(f"{url}/v1/model").json()["network"] == "mean-color"
        assert httpx.get(f"{url}/readyz").status_code == 200

        path.write_bytes(french)
        until(lambda: served.now.version == "2")
        assert refused() == "3.0"
        assert httpx.get(f"{url}/v1/model").json()["network"] == "couleurs"
        assert 'network="couleurs"' in httpx.get(f"{url}/metrics").text
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 4
    assert all("the one before it still is" in each for each in said[:3])
    assert said[3] == "model colours: version 2 is in use"


class Patient(Classifier):
    """Answers only when it is let go on."""

    entered, go_on = threading.Event(), threading.Event()

    def __call__(self, *arguments, **options):
        self.entered.set()
        assert self.go_on.wait(30)
        return super().__call__(*arguments, **options)


def asked(client: httpx.Client, page: str, body: bytes, session: str) -> httpx.Response:
    """What a browser does that was given a picture."""
    (path,) = client.post(f"{page}/gradio_api/upload", files={"files": ("a.png", body)}).json()
    data = [{"path": path, "meta": {"_type": "gradio.FileData"}}, -1, NO_CLASS]
    return client.post(f"{page}/gradio_api/queue/join", json={"data": data, "fn_index": 0, "session_hash": session})


def answered(client: httpx.Client, page: str, session: str) -> dict[str, object]:
    with client.stream("GET", f"{page}/gradio_api/queue/data?session_hash={session}") as stream:
        return completed(stream)


def completed(stream: httpx.Response) -> dict[str, object]:
    messages = [json.loads(line.removeprefix("data: ")) for line in stream.iter_lines() if line]
    return next(message for message in messages if message["msg"] == "process_completed")


def test_the_page_follows_and_what_was_asked_before_is_answered_by_the_file_before(
    classes_in, path: Path, french: bytes, pictures
) -> None:
    body, waiting = encode_png(pictures("blue")), "/page-1/gradio_api/queue/data?session_hash=old"
    with watched(path, page=True, first=Patient) as (url, served), httpx.Client(base_url=url, timeout=30) as client:
        gone = weakref.ref(served.now.classifier)
        assert f'"root":"{url}/page-1"' in client.get("/").text
        assert asked(client, "/page-1", body, "old").status_code == 200
        assert Patient.entered.wait(30)
        with (
            client.stream("GET", waiting) as stream,
            client.stream("GET", "/page-1/gradio_api/heartbeat/tab"),  # a page left open does not count
        ):
            put(path, french)
            until(lambda: served.now.version == "2")

            shown = client.get("/").text
            assert f'"root":"{url}/page-2"' in shown
            assert "gris" in shown
            assert "mean-color" not in shown
            assert asked(client, "/page-2", body, "new").status_code == 200
            assert classes_in(answered(client, "/page-2", "new")["output"]["data"][0])[0] == "bleu"
            refused = asked(client, "/page-1", body, "late")
            assert (refused.status_code, refused.headers["content-type"]) == (409, "application/problem+json")
            assert refused.json()["detail"] == "The model was replaced since this page was opened. Reload the page."
            opened = client.get("/page-1/", follow_redirects=False)
            assert (opened.status_code, opened.headers["location"]) == (303, "/")

            assert gone() is not None
            Patient.go_on.set()
            assert classes_in(completed(stream)["output"]["data"][0])[0] == "blue"
            until(lambda: gone() is None)  # with the last of its requests
        assert client.get(waiting).status_code == 409
        assert client.get("/page-1/theme.css").status_code == 200  # as all versions have it


def test_who_comes_for_an_answer_after_the_file_was_replaced_gets_it(
    classes_in, path: Path, french: bytes, pictures, monkeypatch
) -> None:
    monkeypatch.setattr(pages, "_GAP_SECONDS", 30.0)
    with watched(path, page=True) as (url, served), httpx.Client(base_url=url, timeout=30) as client:
        assert asked(client, "/page-1", encode_png(pictures("blue")), "old").status_code == 200
        put(path, french)
        until(lambda: served.now.version == "2")
        assert classes_in(answered(client, "/page-1", "old")["output"]["data"][0])[0] == "blue"


def test_a_fault_while_a_file_is_loaded_is_told_and_the_next_one_is_taken(path: Path, english, french, caplog) -> None:
    with watched(path) as (url, served):
        load, served.watch.load = served.watch.load, lambda: 1 // 0
        put(path, french)
        until(lambda: "cannot be loaded" in caplog.text)
        assert 'cutaway_reloads_total{model="colours",result="refused"} 1.0' in httpx.get(f"{url}/metrics").text
        assert "ZeroDivisionError" in caplog.text
        served.watch.load = load
        put(path, english)
        until(lambda: served.now.version == "2")


def test_a_bad_file_writes_nothing_of_its_own_on_the_terminal(path: Path, make_model, words: io.StringIO) -> None:
    def forge(model: Any) -> None:
        model.graph.node[0].domain = "\x1b[2J\nmodel colours: version 9 is in use"

    with watched(path):
        put(path, make_model(forge).read_bytes())
        until(lambda: "\n" in words.getvalue())

    assert "not a standard one" in words.getvalue()
    assert len(words.getvalue().splitlines()) == 1
    assert "\x1b" not in words.getvalue()


def test_a_request_that_never_ends_does_not_keep_the_file_before_for_ever(
    path: Path, french: bytes, monkeypatch
) -> None:
    monkeypatch.setattr(pages, "_LONGEST_SECONDS", 0.2)
    head = b"POST /page-1/gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n"
    kind = b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    with watched(path, page=True) as (url, served):
        gone = weakref.ref(served.now.classifier)
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as held:
            held.sendall(head + kind)
            put(path, french)
            until(lambda: served.now.version == "2")
            until(lambda: gone() is None)


def test_pages_of_several_watched_models_behind_a_proxy(
    classes_in, path: Path, model_path: Path, french, pictures
) -> None:
    body, watch = encode_png(pictures("blue")), Watch(path, lambda: Classifier(path, provider="cpu"))
    models = [
        Served("other", Loaded(Classifier(model_path, provider="cpu"))),
        Served("colours", Loaded(Classifier(path, provider="cpu")), watch),
    ]
    with (
        server.running(create_app(models, root_path="/tools")) as url,
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        put(path, french)
        until(lambda: models[1].now.version == "2")
        for proxied in ("", "/tools"):  # one that takes its path off, and one that does not
            assert f'"root":"{url}/tools/models/colours/page-2"' in client.get(f"{proxied}/models/colours/").text
            page = f"{proxied}/models/colours/page-2"
            assert client.get(f"{page}/theme.css").status_code == 200
            assert asked(client, page, body, "new").status_code == 200
            assert classes_in(answered(client, page, "new")["output"]["data"][0])[0] == "bleu"
            assert client.get(f"{proxied}/models/other/theme.css").status_code == 200
        assert (
            client.get("/models/colours/page-1/", follow_redirects=False).headers["location"]
            == "/tools/models/colours/"
        )


def test_examples_of_other_classes_than_the_new_file_s_are_no_page_of_it(
    path: Path, french: bytes, pictures, caplog
) -> None:
    folder = path.with_name("model.examples")
    folder.mkdir()
    Image.fromarray(pictures("red")).save(folder / "0.png")

    def describe(label: str) -> None:
        entries = [{"file": "0.png", "label": label, "class_index": 0}]
        (folder / "index.json").write_text(json.dumps({"format_version": 1, "split": "test", "examples": entries}))

    describe("red")
    with watched(path, page=True) as (url, served):
        put(path, french)
        until(lambda: bool(caplog.records))
        assert "of other classes" in caplog.text
        assert served.now.version == "1"
        describe("rouge")  # the file itself stays as it is
        until(lambda: served.now.version == "2")
        assert '"elem_id":"gallery"' in httpx.get(url).text
