from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from cutaway.serve.gate import Gate


def ask(
    path: str = "/v1/model",
    headers: dict[str, str] | None = None,
    *,
    hosts: tuple[str, ...] = (),
    body: Callable[[], Any] | None = None,
    app: Any = None,
    own_routes: Sequence[str] = ("/v1/model",),
) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Status, headers and JSON body of one request through a gate of at most 1000 bytes."""
    sent: list[dict[str, Any]] = []

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def receive() -> dict[str, Any]:
        if body is not None:
            made = body()
            return await made if inspect.isawaitable(made) else made
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    given = [(k.encode(), v.encode()) for k, v in ({"host": "127.0.0.1:7860"} | (headers or {})).items()]
    scope = {"type": "http", "method": "POST", "path": path, "headers": given, "query_string": b""}
    gate = Gate(app or answer, hosts=hosts, max_body_bytes=1000, time_limit=0.02, max_uploads=1, own_routes=own_routes)
    asyncio.run(gate(scope, receive, send))
    answered = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
    return sent[0]["status"], answered, json.loads(sent[1]["body"] or "{}")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:7860", "127.0.0.1:1", "[::1]:7860", "192.168.1.7:7860", "tests."]
)
def test_answers_for_this_machine_for_numbers_and_for_named_hosts(host: str) -> None:
    assert ask(headers={"host": host}, hosts=("tests",))[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "",
        "[",
        "127.0.0.1.nip.io",
        "user@evil.example",
        "evil.example@127.0.0.1",
        "127.0.0.1/evil",
        "127.0.0.1#",
    ],
)
def test_forged_host_is_refused_in_words(host: str) -> None:
    status, headers, body = ask(headers={"host": host})

    assert status == 400
    assert headers["content-type"] == "application/problem+json"
    assert "does not answer for the host" in body["detail"]


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:9999", "http://127.0.0.1.evil.example", "http://["]
)
def test_foreign_origin_is_refused(origin: str) -> None:
    assert ask(headers={"origin": origin})[0] == 403


def test_own_origin_is_answered_also_behind_tls() -> None:
    assert ask(headers={"origin": "http://127.0.0.1:7860"})[0] == 200
    assert ask(headers={"origin": "https://127.0.0.1:7860"})[0] == 200


def test_body_that_announces_too_much_is_refused_unread() -> None:
    status, headers, body = ask(headers={"content-length": "1001"}, body=lambda: pytest.fail("was read"))

    assert status == 413
    assert headers["connection"] == "close"
    assert "larger than" in body["detail"]
    assert ask(headers={"content-length": "many"})[0] == 400


def test_body_without_an_announced_length_is_stopped_while_it_comes_in() -> None:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    chunks = []

    def endless() -> dict[str, Any]:
        chunks.append(300)
        return {"type": "http.request", "body": b"x" * 300, "more_body": True}

    async def read(request: Any) -> PlainTextResponse:
        return PlainTextResponse(str(len(await request.body())))

    app = Starlette(routes=[Route("/v1/model", read, methods=["POST"])], exception_handlers={413: _problem})
    status, _, body = ask(app=app, body=endless)

    assert status == 413
    assert "larger than" in body["detail"]
    assert len(chunks) == 4  # 1200 bytes, and no more


async def _problem(_: Any, error: Any) -> Any:
    from cutaway.serve.problems import problem

    return problem(error.status_code, "Refused", error.detail)


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/call/classify",
        "/gradio_api/call/v2/classify",
        "/gradio_api/run/classify",
        "/gradio_api/api/classify",
        "/gradio_api/proxy=http://127.0.0.1:1/",
        "/gradio_api/file/etc/passwd",
        "/gradio_api/file=http://127.0.0.1/",
        "/gradio_api/component_server",
        "/gradio_api/process_recording",
        "/gradio_api/vibe-edit",
        "/gradio_api/vibe-code",
        "/gradio_api/info",
        "/gradio_api/deep_link",
        "/gradio_api/stream/x/y/1/playlist-file",
        "/monitoring",
        "/monitoring/summary",
        "/login",
        "/docs",
        "/v1/model/x",
        "/assets",
        "//",
    ],
)
def test_doors_that_the_page_does_not_need_are_closed(path: str) -> None:
    assert ask(path)[0] == 404


@pytest.mark.parametrize("path", ["/", "/config", "/assets/index.js", "/gradio_api/queue/join", "/gradio_api/upload"])
def test_doors_that_the_page_needs_are_open(path: str) -> None:
    assert ask(path)[0] == 200


def test_every_answer_carries_security_headers() -> None:
    for headers in (ask()[1], ask(headers={"host": "evil.example"})[1]):
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert "default-src 'self'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["permissions-policy"] == "camera=(self), microphone=(), geolocation=()"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_uploaded_file_opened_by_itself_cannot_run() -> None:
    assert "sandbox" in ask("/gradio_api/file=/tmp/x/evil.svg")[1]["content-security-policy"]


@pytest.mark.parametrize("path", ["/gradio_api/upload", "/login"])
def test_a_body_for_the_page_or_the_login_that_does_not_come_is_given_up(path: str) -> None:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    async def read(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass

    async def never() -> dict[str, Any]:
        await asyncio.sleep(30)
        raise AssertionError

    app = Starlette(routes=[Mount("/", read)], exception_handlers={408: _problem})
    status, _, body = ask(path, app=app, body=never, own_routes=["/login"])

    assert status == 408
    assert "did not arrive within 0.02 s" in body["detail"]


def test_who_only_waits_for_a_client_to_go_away_may_wait() -> None:
    messages = [{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}]

    async def slowly() -> dict[str, Any]:
        await asyncio.sleep(0.05 * (len(messages) == 1))
        return messages.pop(0)

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        assert [(await receive())["type"] for _ in range(2)] == ["http.request", "http.disconnect"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    assert ask("/gradio_api/queue/data", app=stream, body=slowly)[0] == 200


def test_no_more_uploads_at_once_than_there_is_room_for() -> None:
    answers = []

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        answers.append(await asyncio.to_thread(ask_again))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    gate = Gate(answer, max_body_bytes=1000, time_limit=1, max_uploads=1, own_routes=[])

    def ask_again() -> int:
        return asyncio.run(_status(gate))

    assert asyncio.run(_status(gate)) == 200
    assert answers == [503]
    answers.clear()
    assert asyncio.run(_status(gate)) == 200  # the place is free again


async def _status(gate: Gate, *further: tuple[bytes, bytes]) -> int:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [(b"host", b"127.0.0.1"), *further]
    await gate({"type": "http", "method": "POST", "path": "/gradio_api/upload", "headers": headers}, receive, send)
    return int(sent[0]["status"])


def test_two_names_of_the_host_are_refused() -> None:
    gate = Gate(lambda *_: pytest.fail("was let in"), max_body_bytes=1000, time_limit=1, own_routes=[])  # type: ignore[arg-type]
    assert asyncio.run(_status(gate, (b"host", b"evil.example"))) == 400
