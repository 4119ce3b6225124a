"""Who may use the server, and how it is reached: keys, login, foreign pages, TLS, and a proxy's path."""

from __future__ import annotations

import json
import logging
import shutil
import ssl
import subprocess
from collections.abc import Iterator

import httpx
import pytest
from starlette.datastructures import Headers
from starlette.testclient import TestClient

from cutaway.cli.serving import run_serve
from cutaway.errors import ServingError, SettingsError
from cutaway.images import encode_png
from cutaway.serve import keys as keys_module
from cutaway.serve import server
from cutaway.serve.api import create_app
from cutaway.serve.classifier import Classifier
from cutaway.serve.client import Client
from cutaway.serve.keys import COOKIE, Keys, read_keys
from cutaway.serve.micro_batches import MicroBatching
from cutaway.serve.own_graph import OwnGraph

URL = "http://127.0.0.1"
KEY = "an-api-key-of-the-tests"
BEARER = {"authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def classifier(model_path) -> Classifier:
    return Classifier(model_path, provider="cpu")


@pytest.fixture
def client(classifier) -> Iterator[TestClient]:
    app = create_app(classifier, page=False, keys=["another-key-of-the-tests", KEY])
    with TestClient(app, base_url=URL, follow_redirects=False) as client:
        yield client


# --- keys


@pytest.mark.parametrize(
    "path", ["/v1/model", "/v2", "/v2/models/model", "/metrics", "/docs", "/openapi.json", "/", "/config", "/nothing"]
)
def test_without_a_key_nothing_is_told(client, path) -> None:
    answer = client.get(path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "application/problem+json"
    assert "Bearer KEY" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"])
def test_probes_need_no_key(client, path) -> None:
    assert client.get(path).status_code == 200


@pytest.mark.parametrize("headers", [BEARER, {"authorization": f"bearer  {KEY}"}, {"x-api-key": KEY}])
def test_a_key_opens_the_server(client, pictures, headers) -> None:
    files = {"images": encode_png(pictures("red"))}
    assert client.post("/v1/classify", files=files, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": KEY},
        {"authorization": f"Basic {KEY}"},
        {"authorization": f"Bearer {KEY}x"},
        {"authorization": f"Bearer {KEY[:-1]}"},
        {"authorization": "Bearer "},
        {"x-api-key": ""},
        {"cookie": f"{COOKIE}={KEY}"},
        {"cookie": f"{COOKIE}=99999999999.{'0' * 64}"},
        {"cookie": f"{COOKIE}=."},
        {"cookie": "\x01\x02"},
    ],
)
def test_nothing_else_opens_it(client, headers) -> None:
    assert client.get("/v1/model", headers=headers).status_code == 401


def test_every_key_is_compared_in_constant_time_whichever_fits(monkeypatch) -> None:
    compared = []
    real = keys_module.hmac.compare_digest
    monkeypatch.setattr(keys_module.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or real(a, b))
    found = Keys([KEY, "another-key-of-the-tests", "yet-another-key-of-tests"])

    assert found.is_key(KEY)
    assert not found.is_key("wrong")
    assert len(compared) == 6
    assert {len(side) for pair in compared for side in pair} == {32}


@pytest.mark.parametrize("keys", [[], ["short"], ["fifteen-letters"], ["with a space inside"], ["ключ" * 8]])
def test_weak_keys_are_refused(keys) -> None:
    with pytest.raises(ServingError, match="API key"):
        Keys(keys)


def test_keys_are_read_from_a_file_a_line_each(tmp_path) -> None:
    (tmp_path / "keys").write_text(f"# of the tests\n\n  {KEY}  \nanother-key-of-the-tests\n")
    assert read_keys(tmp_path / "keys") == [KEY, "another-key-of-the-tests"]
    with pytest.raises(ServingError, match="cannot be read"):
        read_keys(tmp_path / "none")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ServingError, match="not text"):
        read_keys(tmp_path / "bytes")


def test_the_description_says_where_a_key_is_needed(client, classifier) -> None:
    described = client.get("/openapi.json", headers=BEARER).json()
    assert described["security"] == [{"bearer": []}, {"key": []}]
    assert "401" in described["paths"]["/v1/classify"]["post"]["responses"]
    assert described["paths"]["/healthz"]["get"]["security"] == []
    with TestClient(create_app(classifier, page=False), base_url=URL) as open_to_all:
        assert "security" not in open_to_all.get("/openapi.json").json()


# --- login


def test_a_browser_is_led_to_the_login_and_stays_in(client) -> None:
    led = client.get("/docs", headers={"accept": "text/html,*/*"})
    assert (led.status_code, led.headers["location"]) == (303, "/login")
    asked = client.get("/login")
    assert 'type="password"' in asked.text
    assert asked.headers["referrer-policy"] == "same-origin"  # else the form's origin would be null

    entered = client.post("/login", data={"key": KEY}, headers={"origin": URL})

    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    cookie = entered.headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=strict", "Path=/", "Max-Age=43200"))
    assert "Secure" not in cookie  # plain HTTP, on this machine
    assert KEY not in cookie
    assert client.get("/docs").status_code == 200


def test_a_session_ends_and_holds_in_one_process_only(client, classifier, monkeypatch) -> None:
    client.post("/login", data={"key": KEY})
    assert client.get("/v1/model").status_code == 200
    value = client.cookies[COOKIE]
    assert not Keys([KEY]).admit(Headers({"cookie": f"{COOKIE}={value}"}))
    later = keys_module.time.time() + keys_module.SESSION_SECONDS + 1
    monkeypatch.setattr(keys_module.time, "time", lambda: later)
    client.cookies.clear()  # the client would leave out one that has ended
    assert client.get("/v1/model", headers={"cookie": f"{COOKIE}={value}"}).status_code == 401


@pytest.mark.parametrize("other", ['prefs={"a": 1}', "flag", "name=J\xfcrgen", 'open="x y', "\x01=\x02"])
def test_a_session_holds_beside_an_odd_cookie_of_another_server_of_this_machine(other) -> None:
    keys = Keys([KEY])
    assert keys.admit(Headers({"cookie": f"{other}; {COOKIE}={keys.session()}"}))
    assert not keys.admit(Headers({"cookie": f"{other}; {COOKIE}=99999999999.{'0' * 64}"}))


def test_logins_at_two_servers_of_one_machine_hold_beside_each_other(classifier) -> None:
    cookies: dict[str, str] = {}
    urls = ["http://127.0.0.1:7860", "http://127.0.0.1:7861", "http://[::1]"]
    servers = [TestClient(create_app(classifier, page=False, keys=[KEY]), base_url=url) for url in urls]
    for each in servers:
        each.post("/login", data={"key": KEY}, follow_redirects=False)
        cookies |= dict(each.cookies)
    for each in servers:
        each.cookies.clear()
        header = "; ".join(f"{name}={value}" for name, value in cookies.items())
        assert each.get("/v1/model", headers={"cookie": header}).status_code == 200


@pytest.mark.parametrize("data", [{"key": "wrong"}, {"key": ""}, {}])
def test_a_wrong_key_does_not_log_in(client, data) -> None:
    refused = client.post("/login", data=data)
    assert refused.status_code == 403
    assert "not a key" in refused.text
    assert "set-cookie" not in refused.headers


def test_a_foreign_page_cannot_log_in(client) -> None:
    assert client.post("/login", data={"key": KEY}, headers={"origin": "https://evil.example"}).status_code == 403


def test_behind_tls_the_cookie_is_for_tls_only(client) -> None:
    entered = client.post("/login", data={"key": KEY}, headers={"x-forwarded-proto": "https"})
    assert "Secure" in entered.headers["set-cookie"]


def test_nothing_of_the_page_gets_round_the_keys(classifier) -> None:
    with TestClient(create_app(classifier, keys=[KEY]), base_url=URL, follow_redirects=False) as client:
        for method, path in (
            ("GET", "/"),
            ("GET", "/config"),
            ("GET", "/gradio_api/file=/etc/passwd"),
            ("GET", "/gradio_api/heartbeat/abc"),
            ("GET", "/gradio_api/queue/data?session_hash=abc"),
            ("GET", "/theme.css"),
            ("POST", "/gradio_api/upload"),
            ("POST", "/gradio_api/queue/join"),
            ("POST", "/gradio_api/call/classify"),
        ):
            assert client.request(method, path).status_code == 401, path
        client.post("/login", data={"key": KEY})
        assert "gradio" in client.get("/").text


# --- foreign pages


def test_foreign_pages_are_refused_unless_they_are_named(classifier) -> None:
    friend, other = {"origin": "https://friend.example"}, {"origin": "https://friend.example:8443"}
    with TestClient(create_app(classifier, page=False), base_url=URL) as client:
        assert client.get("/v1/model", headers=friend).status_code == 403
    app = create_app(classifier, origins=["https://friend.example"], keys=[KEY])
    with TestClient(app, base_url=URL) as client:
        answer = client.get("/v1/model", headers=friend | BEARER)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://friend.example"
        assert "access-control-allow-credentials" not in answer.headers
        assert "Retry-After" in answer.headers["access-control-expose-headers"]  # which scripts could not read else
        assert client.get("/v1/model", headers=other | BEARER).status_code == 403
        assert client.get("/v1/model", headers=friend).status_code == 401
        assert client.get("/config", headers=friend | BEARER).status_code == 403  # the page is no API
        asking = friend | {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
        allowed = client.options("/v1/classify", headers=asking)
        assert (allowed.status_code, allowed.headers["x-content-type-options"]) == (200, "nosniff")
        asking["origin"] = "https://evil.example"
        assert "access-control-allow-origin" not in client.options("/v1/classify", headers=asking).headers


@pytest.mark.parametrize("origin", ["*", "friend.example", "https://friend.example/", "https://*", "null"])
def test_what_is_no_origin_is_refused(classifier, origin) -> None:
    with pytest.raises(ServingError, match="not an origin"):
        create_app(classifier, page=False, origins=[origin])


# --- a proxy's path


@pytest.mark.parametrize("prefix", ["", "/tools/classify"])
def test_under_a_path_whether_or_not_the_proxy_takes_it_off(classifier, pictures, prefix) -> None:
    app = create_app(classifier, page=False, root_path="/tools/classify/", keys=[KEY], hosts=["public.example"])
    with TestClient(app, base_url=URL, follow_redirects=False) as client:
        led = client.get(f"{prefix}/docs", headers={"accept": "text/html"})
        assert led.headers["location"] == "/tools/classify/login"
        entered = client.post(f"{prefix}/login", data={"key": KEY}, headers={"origin": "https://public.example"})
        assert entered.headers["location"] == "/tools/classify/"
        assert "Path=/tools/classify" in entered.headers["set-cookie"]
        files = {"images": encode_png(pictures("red"))}
        assert client.post(f"{prefix}/v1/classify", files=files, headers=BEARER).status_code == 200
        assert client.get(f"{prefix}/v1/classify", headers=BEARER).status_code == 405
        refused = client.post(f"{prefix}/v2/models/model/infer", json={}, headers=BEARER)
        assert "inputs" in refused.json()["error"]
        assert client.get(f"{prefix}/openapi.json", headers=BEARER).json()["servers"] == [{"url": "/tools/classify"}]
        metrics = client.get(f"{prefix}/metrics", headers=BEARER).text
        assert 'route="/v1/classify",status="200"' in metrics


def test_the_page_under_a_path_asks_for_everything_under_it(classifier) -> None:
    with TestClient(create_app(classifier, root_path="/tools"), base_url=URL) as client:
        for prefix in ("", "/tools"):
            assert client.get(f"{prefix}/config").json()["root"] == f"{URL}/tools"
            assert client.get(f"{prefix}/").status_code == 200


@pytest.mark.parametrize("path", ["tools", "/a b", "/../x/..//", "http://x", "/ä"])
def test_what_is_no_path_is_refused(classifier, path) -> None:
    with pytest.raises(ServingError, match="not a path"):
        create_app(classifier, page=False, root_path=path)


# --- TLS


@pytest.fixture(scope="module")
def tls(tmp_path_factory) -> server.Tls:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    folder = tmp_path_factory.mktemp("tls")
    made = server.Tls(folder / "cert.pem", folder / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run([*command, *names, "-keyout", made.key, "-out", made.certificate], check=True, capture_output=True)
    return made


def test_speaks_tls_with_a_certificate(classifier, tls) -> None:
    with server.running(create_app(classifier, page=False), tls=tls) as url:
        assert url.startswith("https://127.0.0.1:")
        trusted = ssl.create_default_context(cafile=str(tls.certificate))
        assert httpx.get(f"{url}/readyz", verify=trusted).json() == {"status": "ready"}


def test_client_of_a_server_with_a_certificate_of_its_own(classifier, tls) -> None:
    with server.running(create_app(classifier, page=False), tls=tls) as url:
        with Client(url, certificates=tls.certificate) as client:
            assert client.model().classes == list(classifier.classes)
        with Client(url) as client, pytest.raises(ServingError) as raised:
            client.model()
    assert "certificates to trust" in (raised.value.hint or "")


def test_files_that_are_no_certificate_are_told_in_a_sentence(tls, tmp_path) -> None:
    (tmp_path / "text.pem").write_text("no")
    for wrong, words in (
        (server.Tls(tmp_path / "none.pem", tls.key), "There is no file"),
        (server.Tls(tls.certificate, tmp_path / "text.pem"), "cannot be used"),
        (server.Tls(tls.key, tls.key), "cannot be used"),
    ):
        with pytest.raises(ServingError, match=words):
            server.check_tls(wrong)


# --- the command line


@pytest.fixture
def started(monkeypatch) -> list:
    """What `cutaway serve` would have served."""
    apps: list = []
    monkeypatch.setattr(server, "serve", lambda app, **options: apps.append((app, options)))
    return apps


@pytest.fixture
def unlogged() -> Iterator[None]:
    """Leaves the loggers of this process as they were."""
    loggers = [logging.getLogger(name) for name in ("", "cutaway.serve.requests", "cutaway.serve.watching")]
    before = [(list(each.handlers), each.level) for each in loggers]
    yield
    for each, (handlers, level) in zip(loggers, before, strict=True):
        each.handlers[:] = handlers
        each.setLevel(level)


def test_a_public_server_without_keys_or_encryption_is_warned_of(model_path, started, tmp_path, tls, capsys) -> None:
    (tmp_path / "keys").write_text(KEY)
    public = [str(model_path), "--no-page", "--host", "0.0.0.0"]
    run_serve([str(model_path), "--no-page"])
    assert capsys.readouterr().err == ""
    run_serve(public)
    assert "nothing asks them for a key" in capsys.readouterr().err
    with_keys = [*public, "--api-key-file", str(tmp_path / "keys")]
    run_serve(with_keys)
    assert "unencrypted" in capsys.readouterr().err
    run_serve([*with_keys, "--tls-cert", str(tls.certificate), "--tls-key", str(tls.key)])
    assert capsys.readouterr().err == ""
    assert started[-1][1]["tls"] == tls


def test_who_may_use_the_server_is_said_on_the_command_line(model_path, started, tmp_path) -> None:
    (tmp_path / "keys").write_text(KEY)
    words = "--host localhost --port 8080 --allowed-hosts public.example --cors-origins https://friend.example"
    closed = [*words.split(), "--root-path", "/tools", "--api-key-file", str(tmp_path / "keys")]
    run_serve([str(model_path), "--no-page", *closed])
    ((app, options),) = started
    assert (options["host"], options["port"]) == ("localhost", 8080)
    with TestClient(app, base_url=URL) as client:
        assert client.get("/v1/model").status_code == 401
        for headers in ({"host": "public.example"}, {"origin": "https://friend.example"}):
            assert client.get("/tools/v1/model", headers=BEARER | headers).status_code == 200
        assert client.get("/v1/model", headers=BEARER | {"host": "evil.example"}).status_code == 400
        assert client.get("/config", headers=BEARER).status_code == 404  # without the page


def test_a_public_server_answers_to_the_name_that_it_listens_on_and_to_its_machine_s(
    model_path, started, monkeypatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "this-machine")
    run_serve([str(model_path), "--no-page", "--host", "classify.example"])
    with TestClient(started[0][0], base_url=URL) as client:
        for host, status in (("classify.example", 200), ("this-machine", 200), ("other-machine", 400)):
            assert client.get("/readyz", headers={"host": host}).status_code == status


def test_requests_are_logged_where_that_is_asked_for(model_path, started, capsys, unlogged) -> None:
    for words, num_lines in (([], 0), (["--log-requests"], 1)):
        run_serve([str(model_path), "--no-page", *words])
        with TestClient(started[-1][0], base_url=URL) as client:
            client.get("/healthz")
        lines = capsys.readouterr().err.splitlines()
        assert [json.loads(line)["path"] for line in lines] == ["/healthz"] * num_lines


def test_limits_are_set_on_the_command_line(model_path, started) -> None:
    words = "--max-mb 1.5 --max-megapixels 2 --max-images 3 --concurrency 4 --queue 0 --time-limit 0.5 --name colours"
    run_serve([str(model_path), "--no-page", *words.split()])
    limits = started[0][0].state.limits
    assert (limits.max_body_bytes, limits.image.max_bytes, limits.image.max_pixels) == (1572864, 1572864, 2_000_000)
    assert (limits.max_images, limits.running, limits.waiting, limits.time_limit) == (3, 4, 0, 0.5)


def test_as_many_requests_work_at_once_as_fill_the_micro_batches_that_run(model_path, started) -> None:
    words = "--concurrency 2 --micro-batch 8 --micro-batch-wait-ms 5"
    run_serve([str(model_path), "--no-page", *words.split()])
    run_serve([str(model_path), "--no-page"])
    with_batches, without = (app.state for app, _ in started)
    assert (with_batches.limits.running, without.limits.running) == (16, 2)
    (batching,), (plain,) = with_batches.models, without.models
    assert isinstance(plain.now.classifier._graph, OwnGraph)
    assert batching.now.classifier._graph._batching == MicroBatching(most=8, wait=0.005, runs=2)


def test_of_several_models_the_one_that_cannot_be_served_is_named(model_path, tmp_path, started) -> None:
    (tmp_path / "torn.onnx").write_bytes(model_path.read_bytes()[:50])
    with pytest.raises(ServingError, match=r"^model torn: The ONNX file"):
        run_serve(["--model", f"whole={model_path}", "--model", f"torn={tmp_path / 'torn.onnx'}", "--no-page"])
    assert not started


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        ("--tls-cert a.pem", SettingsError, "belong together"),
        ("--tls-cert a.pem --tls-key b.pem", ServingError, "no file a.pem"),
        ("--api-key-file none", ServingError, "cannot be read"),
        ("--time-limit 0", SettingsError, "--time-limit"),
        ("--max-mb nan", SettingsError, "--max-mb"),
        ("--queue -1", SettingsError, "--queue"),
        ("--micro-batch 0", SettingsError, "--micro-batch"),
        ("--micro-batch-wait-ms -1", SettingsError, "--micro-batch-wait-ms"),
        ("--cors-origins *", ServingError, "not an origin"),
        ("--root-path x", ServingError, "not a path"),
        ("--allowed-hosts https://www.example.org", ServingError, "not the name of a host"),
        ("--allowed-hosts www.example.org:8443", ServingError, "not the name of a host"),
        ("--allowed-hosts *", ServingError, "not the name of a host"),
    ],
)
def test_what_is_said_wrongly_is_told(model_path, started, words, error, said) -> None:
    with pytest.raises(error, match=said):
        run_serve([str(model_path), "--no-page", *words.split()])
    assert not started
