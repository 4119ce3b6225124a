from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import httpx
import pytest

from cutaway.errors import ServingError
from cutaway.serve import server
from cutaway.serve.api import ServingLimits, create_app
from cutaway.serve.classifier import Classifier
from cutaway.serve.page.classify import NO_CLASS

# Answers only once a line comes in on stdin, so that a test decides how long a request is under way.
PROGRAM = """
    import sys
    from cutaway.serve.api import create_app
    from cutaway.serve.classifier import Classifier
    from cutaway.serve.server import serve

    class Patient(Classifier):
        def __call__(self, *arguments, **options):
            print("entered", flush=True)
            sys.stdin.readline()
            return super().__call__(*arguments, **options)

    app = create_app(Patient(sys.argv[1]), page=sys.argv[2] == "page")
    ended_by = serve(app, port=0, on_ready=lambda url: print(url, flush=True), drain_seconds=float(sys.argv[3]))
    print(ended_by.name, flush=True)
"""


# Counts what reached the network; answers no more than 30 before it is told to end, and those after it slowly.
COUNTING_PROGRAM = """
    import itertools, sys, time
    from cutaway.serve.api import create_app
    from cutaway.serve.classifier import Classifier
    from cutaway.serve.server import serve

    class Counting(Classifier):
        calls = itertools.count()

        def __call__(self, *arguments, **options):
            if next(self.calls) >= 30:
                while app.state.ready:
                    time.sleep(0.001)
                time.sleep(0.2)
            return super().__call__(*arguments, **options)

    app = create_app(Counting(sys.argv[1], threads=1), page=sys.argv[2] == "page")
    ended_by = serve(app, port=0, on_ready=lambda url: print(url, flush=True), drain_seconds=float(sys.argv[3]))
    print(ended_by.name, next(Counting.calls), flush=True)
"""


@contextlib.contextmanager
def process(
    model: Path, *, page: bool = False, drain: float = 20, program: str = PROGRAM
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server in a process of its own, and its address once it listens."""
    arguments = [sys.executable, "-c", textwrap.dedent(program), str(model), "page" if page else "api", str(drain)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    started = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert started.stdout is not None
        url = started.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), url
        yield started, url
    finally:
        started.kill()
        started.communicate()


def request(url: str, body: bytes) -> socket.socket:
    """A classification under way, unanswered."""
    connection = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=30)
    head = ["POST /v1/classify HTTP/1.1", "Host: 127.0.0.1", "Content-Type: image/png", f"Content-Length: {len(body)}"]
    connection.sendall("\r\n".join([*head, "", ""]).encode() + body)
    return connection


def answer(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.fixture(scope="module")
def body(tmp_path_factory) -> bytes:
    from PIL import Image

    path = tmp_path_factory.mktemp("picture") / "blue.png"
    Image.new("RGB", (8, 8), "blue").save(path)
    return path.read_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_accepted_request_is_answered_after_the_signal_and_the_process_ends_well(model_path, body, number) -> None:
    with process(model_path) as (started, url):
        under_way = request(url, body)
        assert started.stdout.readline() == "entered\n"

        started.send_signal(number)
        _until_refused(url)  # the listener is closed while the request is still under way
        started.stdin.write("go\n")
        started.stdin.flush()

        assert b'"label":"blue"' in answer(under_way)
        assert started.wait(20) == 0
        assert started.stdout.readline() == f"{number.name}\n"


def test_open_page_does_not_hold_the_server_up_and_nothing_of_it_stays_behind(
    model_path, body, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with process(model_path, page=True, drain=30) as (started, url):
        assert httpx.post(f"{url}/gradio_api/upload", files={"files": ("blue.png", body)}, timeout=30).is_success
        (folder,) = tmp_path.iterdir()
        assert [path.name for path in folder.rglob("*.png")] == ["blue.png"]
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        with httpx.stream("GET", f"{url}/gradio_api/heartbeat/abc", timeout=30) as heartbeat:
            alive = heartbeat.iter_lines()
            assert next(alive) == "data: ALIVE"

            began = time.monotonic()
            started.send_signal(signal.SIGTERM)
            assert started.wait(25) == 0
            assert time.monotonic() - began < 10  # and not the 30 s of the limit
        assert started.stdout.readline() == "SIGTERM\n"
        assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_no_accepted_request_is_lost_by_the_signal_under_load_and_with_a_page_open(model_path, body) -> None:
    statuses: list[int] = []

    def ask(url: str) -> None:
        with httpx.Client(base_url=url, timeout=30) as client, contextlib.suppress(httpx.TransportError):
            while True:  # until it is no longer taken
                statuses.append(client.post("/v1/classify", files={"images": body}).status_code)

    with process(model_path, page=True, drain=15, program=COUNTING_PROGRAM) as (started, url):
        threads = [threading.Thread(target=ask, args=(url,)) for _ in range(6)]
        with httpx.stream("GET", f"{url}/gradio_api/heartbeat/abc", timeout=30) as heartbeat:
            assert next(heartbeat.iter_lines()) == "data: ALIVE"
            for thread in threads:
                thread.start()
            _until(lambda: "cutaway_places_taken 6.0" in httpx.get(f"{url}/metrics").text)
            _until(lambda: len(statuses) == 30)
            started.send_signal(signal.SIGTERM)
            assert started.wait(20) == 0
        for thread in threads:
            thread.join()
        assert started.stdout.readline() == f"SIGTERM {len(statuses)}\n"
    assert len(statuses) >= 36
    assert set(statuses) == {200}


def test_answer_on_an_open_page_still_arrives_after_the_signal(classes_in, model_path, body) -> None:
    with process(model_path, page=True) as (started, url), httpx.Client(base_url=url, timeout=30) as client:
        path = client.post("/gradio_api/upload", files={"files": ("blue.png", body)}).json()[0]
        with client.stream("GET", "/gradio_api/heartbeat/abc") as heartbeat:
            next(heartbeat.iter_lines())
            data = [{"path": path, "meta": {"_type": "gradio.FileData"}}, -1, NO_CLASS]
            client.post("/gradio_api/queue/join", json={"data": data, "fn_index": 0, "session_hash": "abc"})
            with client.stream("GET", "/gradio_api/queue/data?session_hash=abc") as stream:
                lines = (line for line in stream.iter_lines() if line)
                assert started.stdout.readline() == "entered\n"
                started.send_signal(signal.SIGTERM)
                _until_refused(url)
                started.stdin.write("go\n")
                started.stdin.flush()
                messages = [json.loads(line.removeprefix("data: ")) for line in lines]
        done = next(message for message in messages if message["msg"] == "process_completed")
        assert classes_in(done["output"]["data"][0])[0] == "blue"
        assert started.wait(20) == 0


def test_request_that_takes_longer_than_the_limit_is_cut_off(model_path, body) -> None:
    with process(model_path, drain=0.5) as (started, url):
        under_way = request(url, body)
        assert started.stdout.readline() == "entered\n"

        started.send_signal(signal.SIGTERM)
        assert started.stdout.readline() == "SIGTERM\n"  # `serve` returned, though the thread still waits
        under_way.close()


def _until_refused(url: str) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            urlopen(f"{url}/healthz", timeout=5)
        except (URLError, ConnectionError):
            return
        time.sleep(0.02)
    pytest.fail("the server goes on accepting after the signal")


def test_port_in_use_is_told_in_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ServingError, match="already in use"):
        server.bind("127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize(
    ("host", "port", "words"),
    [
        ("no such host", 0, "not a host name"),
        ("192.0.2.1", 0, "not an address of this machine"),
        ("127.0.0.1", 65536, "65535"),
    ],
)
def test_impossible_address_is_told_in_a_sentence(host: str, port: int, words: str) -> None:
    with pytest.raises(ServingError, match=words):
        server.bind(host, port)


def test_answers_are_sent_at_once(model_path) -> None:
    """The head and the body of an answer are two writes, and the second once waited for the first's acknowledgement."""
    with server.running(create_app(Classifier(model_path), page=False)) as url, httpx.Client(base_url=url) as client:
        client.get("/healthz")
        seconds = []
        for _ in range(15):
            began = time.perf_counter()
            client.get("/healthz")
            seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.03


def test_address_is_one_that_a_browser_on_this_machine_opens() -> None:
    assert server._address("0.0.0.0", 80) == "http://127.0.0.1:80"
    assert server._address("::1", 80) == "http://[::1]:80"
    assert server._address("localhost", 80) == "http://localhost:80"


def test_listens_where_it_says_and_stops_when_the_context_ends(model_path) -> None:
    app = create_app(Classifier(model_path), page=False)
    with server.running(app) as url:
        assert httpx.get(f"{url}/readyz").json() == {"status": "ready"}
        other = url.rpartition(":")[2]
        with pytest.raises(ServingError, match="in use"):
            server.bind("127.0.0.1", int(other))
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/readyz")
    assert app.state.ready is False


def test_oversized_upload_is_stopped_on_the_wire(model_path) -> None:
    with server.running(create_app(Classifier(model_path), page=False)) as url:

        def endless() -> Iterator[bytes]:
            for _ in range(200):
                yield b"x" * 2**20

        response = None
        with contextlib.suppress(httpx.WriteError, httpx.RemoteProtocolError, httpx.ReadError):
            response = httpx.post(f"{url}/v1/classify", content=endless(), headers={"content-type": "image/png"})
        assert response is None or response.status_code == 413
        assert httpx.get(f"{url}/healthz").status_code == 200


def _unfinished(url: str, announced: int = 100) -> socket.socket:
    """A request whose body never comes."""
    connection = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=30)
    head = ["POST /v1/classify HTTP/1.1", "Host: 127.0.0.1", "Content-Type: image/png", f"Content-Length: {announced}"]
    connection.sendall("\r\n".join([*head, "", ""]).encode() + b"x")
    return connection


def test_a_body_that_does_not_come_is_given_up_and_its_place_is_free_again(model_path, body) -> None:
    app = create_app(Classifier(model_path), page=False, limits=ServingLimits(running=1, waiting=0, time_limit=0.2))
    with server.running(app) as url, _unfinished(url) as connection:
        told = answer(connection)
        assert told.startswith(b"HTTP/1.1 408 ")
        assert b"within 0.2 s" in told
        assert httpx.post(f"{url}/v1/classify", files={"images": body}).status_code == 200


def test_no_more_bodies_are_taken_in_than_there_are_places(model_path, body) -> None:
    app = create_app(Classifier(model_path), page=False, limits=ServingLimits(running=1, waiting=1))
    with server.running(app) as url:
        with _unfinished(url), _unfinished(url):
            _until(lambda: app.state.slots.taken == 2)
            assert httpx.post(f"{url}/v1/classify", files={"images": body}).status_code == 503
            assert httpx.get(f"{url}/readyz").status_code == 200
        _until(lambda: app.state.slots.taken == 0)  # who hangs up gives the place back, and is no failure of ours
        assert 'status="499"} 2.0' in httpx.get(f"{url}/metrics").text


def _until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_failing_start_is_an_error_and_not_an_exit(model_path) -> None:
    app = create_app(Classifier(model_path), page=False)

    @contextlib.asynccontextmanager
    async def broken(_):
        raise RuntimeError("no")
        yield

    app.router.lifespan_context = broken
    with pytest.raises(ServingError, match="did not start"):
        server.serve(app, port=0)
