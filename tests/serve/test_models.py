"""Several models in one server: each under its name, in the API, in the metrics and on a page of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from cutaway.cli.serving import run_serve
from cutaway.errors import ServingError, SettingsError
from cutaway.images import encode_png
from cutaway.serve import server
from cutaway.serve.api import create_app
from cutaway.serve.classifier import Classifier
from cutaway.serve.client import Client, RefusedError
from cutaway.serve.models import Loaded, Models, Served
from cutaway.serve.page.classify import NO_CLASS

URL = "http://127.0.0.1"
FRENCH = ("rouge", "vert", "bleu", "gris")
KEY = "a-key-of-the-tests-0123"


@pytest.fixture(scope="module")
def two(make_model) -> list[Served]:
    plain = make_model(classes=FRENCH, network="couleurs", target_layer=None, method=None, bundle="cd" * 32)
    return [
        Served("colours", Loaded(Classifier(make_model(), provider="cpu"))),
        Served("couleurs", Loaded(Classifier(plain, provider="cpu"))),
    ]


@pytest.fixture(scope="module")
def client(two) -> Iterator[TestClient]:
    with TestClient(create_app(two), base_url=URL, follow_redirects=False) as client:
        yield client


@pytest.fixture(scope="module")
def closed(two) -> Iterator[TestClient]:
    with TestClient(create_app(two, keys=[KEY]), base_url=URL) as client:
        yield client


def best(client: TestClient, body: bytes, query: str = "") -> dict[str, str]:
    answer = client.post(f"/v1/classify{query}", files={"images": body}).json()
    return {"label": answer["results"][0]["top"][0]["label"], "model": answer["model"], "bundle": answer["bundle"][:2]}


def test_a_request_chooses_its_model_and_gets_the_first_where_it_names_none(client, pictures) -> None:
    body = encode_png(pictures("blue"))
    assert best(client, body) == {"label": "blue", "model": "colours", "bundle": "ab"}
    assert best(client, body, "?model=colours") == best(client, body)
    assert best(client, body, "?model=couleurs") == {"label": "bleu", "model": "couleurs", "bundle": "cd"}
    described = client.get("/v1/model?model=couleurs").json()
    assert (described["name"], described["network"], described["version"]) == ("couleurs", "couleurs", "1")
    assert described["models"] == ["colours", "couleurs"]
    assert client.get("/v1/model").json()["name"] == "colours"


def test_the_client_chooses_too(two, pictures) -> None:
    with server.running(create_app(two, page=False)) as url, Client(url) as client:
        assert [client.model(name).name for name in (None, "couleurs")] == ["colours", "couleurs"]
        answers = [client.classify([pictures("red")], model=name) for name in (None, "couleurs")]
        assert [answer[0].top[0].label for answer in answers] == ["red", "rouge"]
        with pytest.raises(RefusedError, match="no model 'x'"):
            client.classify([pictures("red")], model="x")


@pytest.mark.parametrize("path", ["/v1/model?model=x", "/v2/models/x", "/v2/models/x/ready", "/v2/models/x/versions/1"])
def test_an_unknown_model_is_not_found_and_those_there_are_named(client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == "There is no model 'x', but 'colours' and 'couleurs'."


def test_an_unknown_model_is_told_to_who_sends_pictures_and_for_an_empty_name_too(client, pictures) -> None:
    for name in ("x", ""):
        assert client.post(f"/v1/classify?model={name}", files={"images": b""}).status_code == 404


def test_what_one_model_cannot_is_refused_for_that_one(client, pictures) -> None:
    body = {"images": encode_png(pictures("blue"))}
    assert client.post("/v1/classify?explain=overlay", files=body).status_code == 200
    refused = client.post("/v1/classify?explain=overlay&model=couleurs", files=body)
    assert (refused.status_code, "without heat-maps" in refused.json()["detail"]) == (422, True)


def test_the_open_inference_protocol_has_each_under_its_name(client) -> None:
    sent = {"inputs": [{"name": "images", "datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [0, 0, 255]}]}
    wanted = {"outputs": [{"name": "probabilities", "parameters": {"classification": 1}}]}
    for name, label in (("colours", "blue"), ("couleurs", "bleu")):
        answer = client.post(f"/v2/models/{name}/versions/1/infer", json=sent | wanted).json()
        assert (answer["model_name"], answer["model_version"]) == (name, "1")
        assert answer["outputs"][0]["data"][0].endswith(f":2:{label}")
        assert client.get(f"/v2/models/{name}").json()["versions"] == ["1"]
    assert (
        client.get("/v2/models/couleurs/versions/2").json()["detail"] == "Model 'couleurs' has no version '2', but 1."
    )


def test_nothing_is_ready_before_the_server_is_and_on_its_way_down(two) -> None:
    app = create_app(two, page=False)
    paths = ["/readyz", "/v2/health/ready", "/v2/models/colours/ready", "/v2/models/couleurs/versions/1/ready"]
    outside = TestClient(app, base_url=URL)
    assert [outside.get(path).status_code for path in paths] == [503] * 4
    with TestClient(app, base_url=URL) as client:
        assert [client.get(path).status_code for path in paths] == [200] * 4
    assert [outside.get(path).status_code for path in paths] == [503] * 4


def test_metrics_tell_the_models_apart(two, pictures) -> None:
    with TestClient(create_app(two, page=False), base_url=URL) as client:
        best(client, encode_png(pictures("blue")), "?model=couleurs")
        text = client.get("/metrics").text
    assert 'cutaway_work_seconds_count{model="colours"} 0.0' in text
    assert 'cutaway_work_seconds_count{model="couleurs"} 1.0' in text
    assert re.search('cutaway_model_info{.*model="couleurs",network="couleurs".*} 1.0', text)


@pytest.mark.parametrize("root", ["", "/tools"])
def test_each_has_a_page_with_links_to_the_others(two, pictures, root: str) -> None:
    app = create_app(two, keys=[KEY], root_path=root)
    with TestClient(app, base_url=URL, follow_redirects=False, headers={"X-API-Key": KEY}) as client:
        for path, leads in (("/", "colours"), ("/models/couleurs", "couleurs")):
            assert client.head(f"{root}{path}").status_code == 303
            answer = client.get(f"{root}{path}")
            assert (answer.status_code, answer.headers["location"]) == (303, f"{root}/models/{leads}/")
        for name, label, unlike in (("colours", "blue", "bleu"), ("couleurs", "bleu", "blue")):
            page = f"{root}/models/{name}"
            shown = client.get(f"{page}/").text
            assert f'"root":"{URL}{page}"' in shown
            assert f'href=\\"{root}/models/couleurs/\\"' in shown
            assert re.search(rf"bdi(>|\\u003e){label}\b", shown)
            assert not re.search(rf"bdi(>|\\u003e){unlike}\b", shown)
            assert f'"title":"cutaway · {name}"' in shown
            (path,) = client.post(
                f"{page}/gradio_api/upload", files={"files": ("a.png", encode_png(pictures("blue")))}
            ).json()
            data = [{"path": path, "meta": {"_type": "gradio.FileData"}}, -1, NO_CLASS]
            client.post(f"{page}/gradio_api/queue/join", json={"data": data, "fn_index": 0, "session_hash": name})
            assert f"<bdi>{label}<" in client.get(f"{page}/gradio_api/queue/data?session_hash={name}").text


@pytest.mark.parametrize(
    "path",
    [
        "/models/couleurs/",
        "/models/couleurs/config",
        "/models/couleurs/gradio_api/queue/data?session_hash=a",
        "/models/x/",
    ],
)
def test_the_gate_stands_before_every_page(closed, path: str) -> None:
    assert closed.get(path).status_code == 401
    assert closed.get(path, headers={"X-API-Key": KEY, "host": "evil.example"}).status_code == 400
    assert closed.get(path, headers={"X-API-Key": KEY, "origin": "https://evil.example"}).status_code == 403


@pytest.mark.parametrize(
    "path", ["gradio_api/info", "gradio_api/call/x", "gradio_api/proxy=x", "proxy=x", "monitoring", "x"]
)
def test_the_gate_shuts_the_doors_of_every_page(client, path: str) -> None:
    assert client.get(f"/models/couleurs/{path}").status_code == 404
    assert client.get(f"/models/nobody/{path}").status_code == 404


def test_uploads_to_every_page_make_room_and_are_never_run(client, monkeypatch) -> None:
    monkeypatch.setattr("cutaway.serve.uploads.QUOTA_BYTES", 3000)
    for number in range(6):
        file = ("a.svg", bytes([number]) * 1000)
        (path,) = client.post("/models/couleurs/gradio_api/upload", files={"files": file}).json()
    from cutaway.serve.uploads import upload_folder

    assert sum(each.stat().st_size for each in upload_folder().rglob("*.svg")) <= 4000
    shown = client.get(f"/models/couleurs/gradio_api/file={path}")
    assert "sandbox" in shown.headers["content-security-policy"]
    assert shown.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "-a", "é", "a" * 129])
def test_names_that_fit_no_address_are_refused_in_words(two, name: str) -> None:
    with pytest.raises(ServingError, match="cannot be a model's name"):
        Models([Served(name, two[0].now)])


def test_two_of_one_name_and_none_at_all_are_refused_in_words(two) -> None:
    with pytest.raises(ServingError, match="Two models are named 'a'"):
        Models([Served("a", two[0].now), Served("b", two[0].now), Served("a", two[1].now)])
    with pytest.raises(ServingError, match="no model"):
        Models([])


def test_the_command_line_names_each(make_model, monkeypatch) -> None:
    served: list[Models] = []
    monkeypatch.setattr(server, "serve", lambda app, **_: served.append(app.state.models))
    first, second = make_model(), make_model(classes=FRENCH)

    run_serve(["--no-page", "--model", f"a={first}", "--model", f"b={second}"])
    run_serve(["--no-page", str(first), "--name", "c"])
    run_serve(["--no-page", str(first)])

    assert [models.names for models in served] == [["a", "b"], ["c"], ["model"]]
    assert served[0].named("b")[1].classifier.classes == FRENCH
    assert served[0].named(None)[0] == "a"
    assert [each.watch for each in served[0]] == [None, None]

    run_serve(["--no-page", "--watch", "--model", f"a={first}", "--model", f"b={second}"])
    watches = [each.watch for each in served[-1]]
    assert [watch.load().path for watch in watches] == [first, second]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "no model to serve"),
        ("m.onnx --model a=m.onnx", "both say what to serve"),
        ("--model m.onnx", "not of the form NAME=MODEL"),
        ("--model =m.onnx", "not of the form NAME=MODEL"),
        ("--model a=m.onnx --name b", "--name is the name of one model"),
        ("--model a=m.onnx --model b=m.onnx --classes x,y", "here are several"),
    ],
)
def test_what_is_said_wrongly_of_models_is_told(words: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        run_serve(words.split())


def test_one_model_has_its_page_where_it_was(model_path: Path) -> None:
    with server.running(create_app([Served("a", Loaded(Classifier(model_path)))])) as url:
        assert f'"root":"{url}"' in httpx.get(url).text
        assert 'aria-label=\\"Models\\"' not in httpx.get(url).text
        for path in ("/models/a/", "/models/a/config", "/models/a/gradio_api/queue/data?session_hash=a", "/models/a"):
            assert httpx.get(f"{url}{path}").status_code == 404
